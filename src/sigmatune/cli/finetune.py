"""``sigmatune finetune``: trains a model's weights at the levels of a plan, and tunes the plan for the weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmatune.cli.common import may_write, measure_of, progress_bar
from sigmatune.cli.dry_run import DryRun, show
from sigmatune.cli.evaluation_options import Measuring, left_out
from sigmatune.cli.shared_options import (
    EngineName,
    Force,
    JsonOfEvidence,
    MeasureOption,
    TrainingData,
    TrainingDevice,
    TrainingReference,
    TrainingSeed,
    Values,
)
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Parts

if TYPE_CHECKING:
    from sigmatune.evaluation.evaluate import Wanted
    from sigmatune.evaluation.reference_set import Reference
    from sigmatune.plan.estimate import CostEstimate
    from sigmatune.training.data import Pictures
    from sigmatune.training.recipe import Training
    from sigmatune.workflows.finetune import FinetuneSettings, Result

SHARES = (0.01, 0.01, 0.98)
"""The work of reading the data, of measuring the reference and of fine-tuning, as shares of the whole."""

MOST = 10_000
"""How many training images serve as the reference if none is given."""


def finetune(
    model: Annotated[
        str, typer.Argument(help="A bundled name, a diffusers folder, or a hub id; its files are only read.")
    ],
    data: TrainingData,
    plan: Path | None = typer.Option(None, help="Plan file, tuned for this model."),
    calls: int | None = typer.Option(
        None, help="Instead of a plan: network calls per image, for which to tune one (8)."
    ),
    solver: str = typer.Option("dpmpp2m", help="Solver of that plan."),
    rounds: int = typer.Option(2, help="How often to train and then choose the levels again."),
    images: int = typer.Option(32_000, help="Images seen in one round."),
    batch: int = typer.Option(64, help="Images per step."),
    rate: float = typer.Option(2e-4, help="Learning rate; it falls to 0 over a round."),
    elsewhere: float = typer.Option(0.1, help="Share of the images trained at levels off the plan."),
    flip: bool = typer.Option(False, "--flip", help="Mirror images at random."),
    precision: str = typer.Option("no", help="Arithmetic of training: no (float32), bf16, fp16."),
    dtype: str = typer.Option(
        "float32", help="Arithmetic of the network for tuning and sampling: float32 or bfloat16."
    ),
    method: str = typer.Option("auto", help="How to choose the levels again: auto, a tuning stage, or keep."),
    measure: MeasureOption = "",
    budget: str = typer.Option("20000", help="Budget of each choice: network evaluations, or a time (300s, 10min)."),
    distil: int = typer.Option(
        0, help="Distil: learn from the old model's result after this many calls, such as 32, instead of from images."
    ),
    lora: int = typer.Option(0, help="Train adapters of this rank instead of the weights, for large networks."),
    key: str | None = typer.Option(None, help="Array of an .npz."),
    labels: str | None = typer.Option(None, help="File of class labels, one per image."),
    size: int | None = typer.Option(None, help="Crop and resize the images to this many pixels."),
    values: Values = "auto",
    out: Path = typer.Option(Path("finetuned"), "--out", "-o", help="Folder of all results; a run in it resumes."),
    pictures: int = typer.Option(1000, help="Images that decide the verdict."),
    reference: TrainingReference = "",
    seed: TrainingSeed = 0,
    device: TrainingDevice = "auto",
    engine: EngineName = "local",
    dry_run: DryRun = False,
    as_json: JsonOfEvidence = False,
    force: Force = False,
) -> None:
    """Fine-tune a model on the levels of a plan, choose the levels again, and let held-out images decide.

    Writes OUT/model (a folder like the old one), OUT/plan.json and OUT/evidence.json. If the new weights are not
    significantly better, there is no OUT/model, and the verdict is "no gain". A stopped run resumes where it was.

    --engine distributes tuning, error tables and images; the training itself stays in this process.
    """
    from sigmatune.spectra.values import checked
    from sigmatune.support.engine import engine as engine_of
    from sigmatune.support.run_folder import held
    from sigmatune.training.data import Reading, load
    from sigmatune.workflows.finetune import FinetuneJob, FinetuneSettings, check_folder
    from sigmatune.workflows.finetune import finetune as run
    from sigmatune.workflows.judge import ReferenceData, check_enough

    if plan is not None and calls is not None:
        raise SigmaTuneError("give a plan or a number of calls, not both.")
    if device not in ("auto", "cpu"):
        raise SigmaTuneError(f"--device is auto or cpu, not {device!r}; CUDA_VISIBLE_DEVICES chooses among several.")
    if dtype not in ("float32", "bfloat16"):
        raise SigmaTuneError(f"--dtype is float32 or bfloat16, not {dtype!r}.")
    training = training_of(images=images, batch=batch, rate=rate, precision=precision, seed=seed)
    settings = FinetuneSettings(
        rounds=rounds, training=training, elsewhere=elsewhere, flip=flip, method=method, distil=distil, lora=lora,
        budget=int(budget) if budget.isdigit() else budget, dtype=dtype, **measure_of(measure),
    )  # fmt: skip
    may_write(model=model, inputs=(data, plan, labels, reference), homes=[out], force=force)
    check_folder(out)
    check_enough(pictures)
    start, measuring = start_of(plan, calls, solver), Measuring("fd", "", "", reference, 0, device, values)
    measuring.check(model, seed, engine, dry_run=dry_run, needed=False)
    reading = Reading(key=key, labels=labels, size=size, values=checked(values))
    if dry_run:
        estimate = estimate_of(model, start, load(data, reading), settings, pictures, solver)
        show(estimate, as_json=as_json)
        return
    with held(out), engine_of(engine) as running, progress_bar("fine-tuning", quiet=as_json) as shown:
        parts = Parts(shown, SHARES)
        seen, bar = load(data, reading, progress=parts.take()), parts.take()
        measuring.engine = running
        wanted = measuring.wanted(seen.shape)
        known = reference_of(model, measuring, wanted, seen, bar)
        compared = ReferenceData(known, wanted.extractor, pictures, seed, out / "pictures", running)
        job = FinetuneJob(model, seen, out, compared, settings, device=device, progress=parts.take())
        result = run(job, start, solver=solver)
    if as_json:
        print(json.dumps(result.evidence, indent=1))
        return
    print("\n".join([*left_out([seen.about, known.about]), *summary(result, out)]))


def estimate_of(
    model: str, start: Any, images: Pictures, settings: FinetuneSettings, pictures: int, solver: str
) -> CostEstimate:
    """What the fine-tuning would cost, by a measured call of the model."""
    import numpy as np

    from sigmatune.training.plan_levels import Levelled, Trainable, objective_of
    from sigmatune.workflows.finetune_cost import ImageNumbers, finetune_estimate
    from sigmatune.workflows.judge import LEAST

    numbers = ImageNumbers(len(images), max(pictures // 4, LEAST), pictures)
    weights = Trainable.of(model)
    objective_of(weights, images, Levelled(np.array(weights.ends), np.ones(2)))  # refuses images that do not fit
    return finetune_estimate(weights.model, start, settings, numbers, solver=solver)


def start_of(plan: Path | None, calls: int | None, solver: str) -> Any:
    """The plan to start from, or the number of calls for which to tune one.

    Raises:
        SigmaTuneError: for a file that is no plan, or a solver or number of calls for which none can be tuned.
    """
    from sigmatune.plan import load_plan
    from sigmatune.tuning.tuner import check_solver

    if plan is not None:
        return load_plan(plan)
    check_solver(solver, [8 if calls is None else calls])
    return 8 if calls is None else calls


def training_of(**given: Any) -> Training:
    """The settings of a round.

    Raises:
        SigmaTuneError: naming every invalid value.
    """
    from pydantic import ValidationError

    from sigmatune.workflows.finetune import TRAINING

    try:
        return TRAINING.model_validate(TRAINING.model_dump() | given)
    except ValidationError as error:
        problems = (f"--{problem['loc'][0]} {problem['input']}: {problem['msg']}" for problem in error.errors())
        raise SigmaTuneError(f"{'; '.join(problems)}.") from None


def reference_of(
    model: str, measuring: Measuring, wanted: Wanted, images: Pictures, progress: Callable[[str, int, int], None]
) -> Reference:
    """The reference data: given, a bundled model's own, or the training images."""
    from sigmatune.evaluation.reference_set import measure
    from sigmatune.models.bundled import reference_file
    from sigmatune.spectra.sources import open_images

    if measuring.reference or reference_file(model) is not None:
        known = measuring.data(model, wanted, progress)
        assert known is not None
        return known
    some = images.some(MOST)
    values = images.values[some].permute(0, 2, 3, 1).numpy()
    name = images.name if len(some) == len(images) else f"{images.name}, {len(some)} drawn"
    data = open_images(values, layout="NHWC")
    return measure(data, wanted.extractors, name=name, progress=progress, engine=measuring.running)


def summary(result: Result, out: Path) -> list[str]:
    """The final summary, in lines."""
    cost: dict[str, Any] = dict(result.plan.cost or {})
    lines = [result.evidence["verdict"]]
    for number, record in enumerate(result.evidence["rounds"], start=1):
        levels = ", ".join(f"{sigma:.4g}" for sigma in record["plan"])
        loss = record["loss"]
        lines.append(f"round {number}: loss {loss['first']:.4g} to {loss['last']:.4g}; sigmas {levels}")
    spent = dict(cost["network_evaluations"])
    total, parts = spent.pop("total"), ", ".join(f"{purpose} {count:,}" for purpose, count in spent.items() if count)
    lines.append(
        f"cost: {cost['images_seen']:,} images seen, {total:,} network evaluations of single images ({parts}), "
        f"{cost['seconds']:.0f} s"
    )
    if result.model is None:
        return [*lines, f"evidence: {out / 'evidence.json'}; the unchanged plan: {out / 'plan.json'}"]
    return [*lines, f"model: {result.model}; its plan: {out / 'plan.json'}; evidence: {out / 'evidence.json'}"]
