"""What a fine-tuning will cost before it begins, stage by stage; the stages are also the parts of its one progress bar."""

from __future__ import annotations

from dataclasses import dataclass

from sigmatune import schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.evaluation.generation import evaluations
from sigmatune.models.imagined import Imagined
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan.estimate import CostEstimate, call_seconds
from sigmatune.plan.tuned_for import solver_of
from sigmatune.solvers import SOLVERS
from sigmatune.training.distillation import walks_of
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.error_table import TableSize
from sigmatune.tuning.error_table import evaluations as table_evaluations
from sigmatune.tuning.estimates import TuningJob
from sigmatune.workflows.evaluation_estimates import FEATURES
from sigmatune.workflows.finetune_round import PASSES, TABLE_IMAGES, TABLE_LEVELS
from sigmatune.workflows.finetune_settings import KEEP, FinetuneSettings

CANDIDATES = 4
"""Plans that a round ranks: as it was, two by discretisation, tuned."""

STAGES = ("training", "error tables", "tuning", "candidates' images")
"""The stages of every round."""


@dataclass(frozen=True)
class ImageNumbers:
    """How many images a fine-tuning takes.

    Attributes:
        training: There are to train on.
        candidate: Of a candidate plan, which ranks it.
        verdict: Of each side, for the verdict.
    """

    training: int
    candidate: int
    verdict: int


def finetune_estimate(
    model: Denoiser,
    plan: Plan | int,
    settings: FinetuneSettings,
    numbers: ImageNumbers,
    *,
    solver: str = "dpmpp2m",
    each: float | None = None,
) -> CostEstimate:
    """What a fine-tuning costs.

    Args:
        model: The old model; it is called a few times unless ``each`` is given.
        plan: The plan to start from, or a number of calls for which one is tuned first.
        settings: Rounds, images, budget and so on.
        numbers: How many images there are to train on, and are drawn.
        solver: The solver, if ``plan`` is a number of calls.
        each: Seconds of a network evaluation of a single image.
    """
    per_image = call_seconds(model, settings.noises.of(model.shape).micro_batch) if each is None else each
    if isinstance(plan, Plan):
        calls, name, drawn = plan.network_calls(model), solver_of(plan), plan
    else:
        calls, name = plan, solver
        family = "log-uniform" if model.path.sigma_max < float("inf") else "uniform-trailing"
        drawn = compile_plan(schedules.build(family, SOLVERS[name].steps_for(plan), model.path), name, model)
    method = "auto" if settings.method == KEEP else settings.method
    tuning = TuningJob([calls], name, method, budget=Budget.of(settings.budget))
    choice = tuning.estimate(model, settings.noises, per_image)
    rounds, keeps = settings.rounds, settings.method == KEEP
    tables = 2 * table_evaluations(model, min(TABLE_IMAGES, numbers.training), TableSize(TABLE_LEVELS))
    ranked = 0 if keeps else CANDIDATES * evaluations(model, drawn, numbers.candidate)
    defaults = len(schedules.rivals(drawn.steps, model.path, model.default_schedule))
    verdict = 3 * evaluations(model, drawn, numbers.verdict) + defaults * evaluations(model, drawn, numbers.candidate)
    parts = {
        "first plan": 0 if isinstance(plan, Plan) else choice.total,
        "training": rounds * _training(settings, len(drawn.coefficients.q)),
        "error tables": rounds * tables,
        "tuning": 0 if keeps else rounds * choice.total,
        "candidates' images": rounds * ranked,
        "verdict": verdict,
    }
    shown = (
        (0 if keeps else rounds * CANDIDATES * numbers.candidate) + 3 * numbers.verdict + defaults * numbers.candidate
    )
    where = "in all" if isinstance(model, Imagined) else f"on {model.device.type}"
    return CostEstimate(parts, per_image, choice.besides * rounds + FEATURES * shown, where)


def _training(settings: FinetuneSettings, levels: int) -> int:
    """Network evaluations of one round of training on a plan of some levels, a teacher's included."""
    training = settings.training
    taught = training.images / training.batch * walks_of(training.batch, levels) * settings.distil
    return round(PASSES * training.images + taught)


def work_of(estimate: CostEstimate, rounds: int) -> list[float]:
    """The work of the parts in the order in which they run: the first plan, the stages of every round, the verdict."""
    share = dict(zip(estimate.evaluations, estimate.work, strict=True))
    return [share["first plan"], *[share[stage] / rounds for stage in STAGES] * rounds, share["verdict"]]
