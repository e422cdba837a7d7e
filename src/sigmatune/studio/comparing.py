"""Compare: several plans on the same noises, their errors with intervals, and the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import torch

from sigmatune import measures
from sigmatune.evaluation import leaderboard
from sigmatune.evaluation.evaluate import check
from sigmatune.evaluation.execution import Execution
from sigmatune.evaluation.leaderboard import Entry
from sigmatune.evaluation.measuring import ReferenceSource, data_of, wanted_of
from sigmatune.evaluation.paired_distance import UNSETTLED, together
from sigmatune.evaluation.record import Figure
from sigmatune.plan import Plan
from sigmatune.report import leaderboard_page
from sigmatune.report.charts import calls_chart, edges_of, power_chart
from sigmatune.report.comparison import over
from sigmatune.report.html import p, table, three
from sigmatune.report.residual import residual
from sigmatune.report.svg import DEFAULT, FG, OTHER, PLAN
from sigmatune.studio.explore import plan_of
from sigmatune.studio.held_models import REFERENCE_STEPS, HeldModel, is_image, shows
from sigmatune.studio.page_state import PageState
from sigmatune.studio.turns import TaskTurn
from sigmatune.studio.views import addresses, image_row
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Parts
from sigmatune.workflows.paired_errors import with_errors

MOST = 4
EXPLORED, TUNED = "levels of Explore", "plan of Tune"
"""The names under which the page's other plans are compared."""

COLOURS = (DEFAULT, PLAN, FG, OTHER)


@dataclass(frozen=True, eq=False)
class Compared:
    """Plans on the same noises.

    Attributes:
        names, plans: What was compared.
        ends: The end points of each, (n, *shape).
        exact: Those of the converged solution.
        figures: The paired error of each; None where it has none, with the reason in ``whys``.
    """

    names: Sequence[str]
    plans: Sequence[Plan]
    ends: Sequence[torch.Tensor]
    exact: torch.Tensor
    figures: Sequence[Figure | None]
    whys: Sequence[str]


def chosen(names: Sequence[str], state: PageState, held: HeldModel, known: dict[str, Plan | None]) -> list[Plan]:
    """The plans of two to four names: families with options, or plans that the page knows.

    Raises:
        SigmaTuneError: for fewer or more, or a name that is none.
    """
    if not 2 <= len(set(names)) <= MOST:
        raise SigmaTuneError(f"choose two to {MOST} different plans or families to compare, not {len(set(names))}.")
    plans = []
    for name in names:
        plan = known.get(name)
        if plan is None and name in known:
            raise SigmaTuneError(f"there is no {name} yet; make it in its tab first.")
        plan = plan or plan_of(replace(state, family=name, levels=()), held.model)
        plans.append(plan.with_notes(micro_batch=state.noises))
    return plans


def compare(
    held: HeldModel, names: Sequence[str], plans: Sequence[Plan], state: PageState, noises: int, turn: TaskTurn
) -> Compared:
    """Samples the plans on the page's noises, and measures their paired errors on ``noises`` noises of the seed."""
    parts = Parts(turn.report, [1.0, 3.0])
    first = TaskTurn(turn.turns, turn.stop, turn.overall, turn.ticket)
    shown = parts.take()
    ends = [held.ends(plan, state.seed, state.noises, first, name) for name, plan in zip(names, plans, strict=True)]
    exact = held.converged(state.seed, state.noises, first)
    shown("samples", 1, 1)
    measure = measures.fit(measures.default_measure(tuple(held.model.shape)), exact, held.model)
    paired = [plan for plan in plans if plan.coefficients.deterministic]
    how = Execution(state.seed, progress=parts.take())
    measured = iter(together(held.model, paired, range(noises), measure=measure, execution=how))
    figures = [next(measured) if plan.coefficients.deterministic else None for plan in plans]
    whys = [
        "" if figure is not None else UNSETTLED if plan.coefficients.deterministic else "it adds noise"
        for plan, figure in zip(plans, figures, strict=True)
    ]
    return Compared(names, plans, ends, exact, figures, whys)


def comparison_view(compared: Compared, held: HeldModel) -> str:
    """The table, the levels, and the errors by frequency."""
    text = _table(compared, held)
    levels = [(name, plan.coefficients.q.numpy()) for name, plan in zip(compared.names, compared.plans, strict=True)]
    edges = edges_of(levels, held.model.path.sigma_min)
    text += calls_chart(
        levels, COLOURS, edges, ("compared-levels", "Noise levels of the compared plans on a log axis.")
    )
    paired = [
        (name, x)
        for name, plan, x in zip(compared.names, compared.plans, compared.ends, strict=True)
        if plan.coefficients.deterministic  # others have no error of their own
    ]
    if is_image(held.model) and paired:
        errors = [(f"error of {name}", residual(x, compared.exact).power) for name, x in paired]
        text += power_chart(residual(compared.exact).power, errors, "compared-errors")
    return text


def _table(compared: Compared, held: HeldModel) -> str:
    figures = [figure for figure in compared.figures if figure is not None]
    best = min(figures, key=lambda figure: figure.estimate.value) if figures else None
    rows = []
    for name, plan, figure, why in zip(compared.names, compared.plans, compared.figures, compared.whys, strict=True):
        cells = [escape(name), escape(plan.solver), str(plan.network_calls(held.model))]
        rows.append(("own" if figure is best and best else "", [*cells, *_cells(figure, best, why)]))
    if not figures:
        return table(["plan", "solver", "calls", "error", "against the best"], rows)
    settings = figures[0].settings
    reference = (settings.reference or {}).get("steps", REFERENCE_STEPS)
    note = (
        f"Typical error over n = {settings.n} noises of seed {settings.seeds['seed']}, {settings.space}, to the solution in "
        f"{reference} steps, with 95% intervals; the last column compares on the same noises."
    )
    return table(["plan", "solver", "calls", "error", "against the best"], rows, "figures") + p(note, "note")


def _cells(figure: Figure | None, best: Figure | None, why: str) -> list[str]:
    if figure is None or best is None:
        return [f'<span class="low">none: {escape(why)}</span>', ""]
    low, high = figure.estimate.interval
    value = f'{three(figure.estimate.value)} <span class="low">{three(low)} to {three(high)}</span>'
    if figure is best:
        return [value, "the smallest"]
    gap, significant = leaderboard.worse(figure, best)
    words = "significantly worse" if significant else "not significantly worse"
    return [value, f'+{three(gap.value)} <span class="low">{words}</span>']


def slider_view(compared: Compared, held: HeldModel, left: str, right: str) -> str:
    """Two of the plans over each other, with a slider between them."""
    if not shows(held.model):
        return p("This model's samples are not images with one or three channels, so there is nothing to show.")
    at = [list(compared.names).index(name) for name in (left, right) if name in compared.names]
    if len(at) < 2:
        return p("Choose two of the compared plans for the slider.", "note")
    a, b, exact = (
        addresses(held.model.decode(x[:4]), held.model) for x in (*(compared.ends[i] for i in at), compared.exact)
    )
    small = max(held.model.pixel_shape[1:]) <= 256
    return over((left, a), (right, b), ("converged", exact), pixelated=small)


def rows_view(compared: Compared, held: HeldModel) -> str:
    """Every plan's samples in a row."""
    if not shows(held.model):
        return ""
    named = [*zip(compared.names, compared.ends, strict=True), ("converged", compared.exact)]
    return "".join(
        f'<figure class="samples"><figcaption><b>{escape(name)}</b></figcaption>{row}</figure>'
        for name, row in ((name, image_row(held.model.decode(x), held.model, name)) for name, x in named)
    )


def board(
    held: HeldModel, names: Sequence[str], plans: Sequence[Plan], state: PageState, n: int, turn: TaskTurn
) -> str:
    """The leaderboard's page of ``sigmatune bench`` for these plans, as HTML: Frechet distance to the model's data of n images.

    Raises:
        SigmaTuneError: where the model has no data of its own to compare with, or the metrics' packages are missing.
    """
    wanted = wanted_of("fd", "", "", tuple(held.model.pixel_shape), "cpu")
    data = data_of(ReferenceSource(), held.source, wanted, turn.report)
    check(wanted, data, tuple(held.model.pixel_shape))
    competitors = [
        competitor(name, plan.with_notes(micro_batch=16), state.calls) for name, plan in zip(names, plans, strict=True)
    ]
    parts = Parts(turn.report, [float(n * sum(plan.calls for plan in plans)), 48.0 * n])
    how = Execution(state.seed, progress=parts.take())
    rows = leaderboard.measured(held.model, competitors, wanted, data, n=n, execution=how)
    rows = with_errors(held.model, rows, min(n, 32), how.reporting(parts.take()))
    result = leaderboard.to_dict(rows, held.model, source=held.source, n=n, seed=state.seed)
    return leaderboard_page.page(result, [], held.model.value_range)


def competitor(name: str, plan: Plan, calls: int) -> Entry:
    """An entry of the leaderboard: a family competes among the requested calls, a tuned plan or a file among its own."""
    made_before = name == TUNED or name.endswith(".json")
    return Entry.of(name, plan) if made_before else Entry(name, plan.solver, calls, plan)
