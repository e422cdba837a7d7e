"""``sigmatune evaluate``: figures of a plan's images, with all their settings."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sigmatune.cli.common import may_write, measuring, progress_bar
from sigmatune.cli.dry_run import CallSeconds, DryRun, assumed, counted, show
from sigmatune.cli.evaluation_options import Measuring, check_numbers, check_source, left_out, listed, loaded, table
from sigmatune.cli.shard_options import Division, Merge, MergeCommand, Shard
from sigmatune.cli.shared_options import (
    Device,
    EngineName,
    Force,
    ImagesRun,
    JsonOfFile,
    ReferenceSize,
    ReferenceSource,
    SeedOrDraw,
    Values,
)
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Parts
from sigmatune.support.remote_folder import shown as shown_folder

if TYPE_CHECKING:
    from sigmatune.core.denoiser import Denoiser
    from sigmatune.evaluation.evaluate import Wanted
    from sigmatune.evaluation.record import Figure
    from sigmatune.evaluation.reference_set import Reference
    from sigmatune.evaluation.sample import Sample
    from sigmatune.evaluation.stochastic_guard import Difference
    from sigmatune.evaluation.verdict import Beside
    from sigmatune.plan import Plan
    from sigmatune.plan.estimate import CostEstimate
    from sigmatune.support.engine import Engine
    from sigmatune.support.progress import Progress
    from sigmatune.workflows.sharded import ShardedJob


COMMAND = MergeCommand
MANY = 10_000
"""Default number of a plan's images."""


def evaluate(
    model: str = typer.Argument("", help="emoji, digits, a diffusers folder, or a hub id; none with --images."),
    plan: Path | None = typer.Option(None, help="Plan file whose images are evaluated."),
    images: str = typer.Option("", help="Existing images, instead of a model and a plan."),
    n: int | None = typer.Option(
        None,
        "--n",
        "-n",
        help="Number of images, with indices 0 to n - 1 (10000); of --images, a random draw by class (all).",
    ),
    metrics: str = typer.Option("", help="fd,kid,is,prdc,sw,spectrum,fd-infinite,paired; by default the first six."),
    against: str = typer.Option(
        "", help="Plan file, or a schedule such as karras:rho=7, to compare the plan with on the same noises."
    ),
    reference: ReferenceSource = "",
    extractor: str = typer.Option(
        "", help="efficientnet-lite0 (default), efficientnet-lite0-224, inception, pixels, or module:function."
    ),
    spaces: str = typer.Option("", help="Spaces of the extractor, such as block10,head,head-pca64."),
    size: ReferenceSize = 0,
    values: Values = "auto",
    seed: SeedOrDraw = 0,
    batch: int | None = typer.Option(
        None, help="Images sampled at once, 256 by default, fewer if they are large; does not change any figure."
    ),
    run: ImagesRun = None,
    features_only: bool = typer.Option(False, "--features-only", help="Keep the features but not the images."),
    out: Path = typer.Option(Path("evaluation.json"), "--out", "-o", help="JSON with the figures and all settings."),
    shard: Shard = "",
    merge: Merge = [],
    save_reference: Path | None = typer.Option(None, help="Also write the reference's statistics to this .npz."),
    dry_run: DryRun = False,
    each: CallSeconds = None,
    as_json: JsonOfFile = False,
    force: Force = False,
    device: Device = "auto",
    engine: EngineName = "local",
) -> None:
    """Measure the quality of a plan's images: distances to data, with intervals, resumable.

    With --against, a second plan runs on the same noises, the table shows the figures of both, and they give one verdict:
    a gain is some figure significantly better and none worse. Unlike the error that `tune` reports, this also works for plans
    that add noise.
    """
    from sigmatune.evaluation.record import save
    from sigmatune.support.engine import engine as engine_of

    division = Division.of(shard, merge)
    check_numbers(n, batch, save_reference, shard)
    check_source(model, plan, images, divided=bool(division), compared=bool(against or "paired" in listed(metrics)))
    work = division.folder(run or out.with_name(f"{out.stem}.run"))
    may_write(
        *division.outputs((out, "evaluation"), (save_reference, "reference")), model=model,
        inputs=(plan, images, against, reference, *division.folders), folders=[work] if plan else [], force=force,
    )  # fmt: skip
    asked = Measuring(metrics, extractor, spaces, reference, size, device, values)
    assumed(each, dry_run=dry_run)
    if dry_run and plan is None:
        raise SigmaTuneError("existing images take no network evaluations, so there is nothing to estimate.")
    known, job = loaded(plan, work, against, listed(metrics)), None
    asked.check(model, seed, engine, dry_run=dry_run)
    if plan is not None:
        denoiser, remarks = counted(model, device, {}, each, known)
        job = _Job(denoiser, plan, n or MANY, seed, work, not features_only, batch)
        job.estimate = division.estimate(job.cost(against, metrics, each))
        if dry_run:
            show(replace(job.estimate, notes=remarks), job.model, as_json=as_json, engine=engine)
            return
    with measuring(work) if plan else nullcontext(), engine_of(engine) as asked.engine:
        estimate = None if job is None else job.on(asked.running)
        with progress_bar("evaluation", quiet=as_json, estimate=estimate) as progress:
            if job is None:
                done = _of_pictures(images, n, seed, asked, progress)
            elif division.divided(
                lambda: job.sharded(against, asked, listed(metrics)), work, as_json=as_json, keep=job.keep, batch=batch,
                progress=progress, engine=asked.running,
            ):  # fmt: skip
                return
            else:
                done = _of_plan(job, model, against, asked, listed(metrics), progress)
        save(done.figures, out, force=force, **done.record(against))
        if save_reference is not None and done.data is not None:
            done.data.save(save_reference, force=force)
    if as_json:
        print(out.read_text(encoding="utf-8").rstrip())
        return
    done.show(against)
    done.say_where(out, work if model else None)


@dataclass
class _Done:
    """The measurements."""

    figures: list[Figure]
    data: Reference | None
    origin: dict[str, Any]
    compared: list[Difference] = field(default_factory=list)
    pairs: list[Beside] = field(default_factory=list)

    def record(self, against: str) -> dict[str, Any]:
        """The record beside the figures in the file."""
        from sigmatune.evaluation.verdict import RULE, verdict

        known = dict(self.data.about) if self.data is not None else {}
        compared: dict[str, Any] = {}
        if against:
            beside = {
                "rule": RULE,
                "verdict": verdict(self.pairs, against),
                "figures": [one.to_dict() for one in self.pairs],
            }
            compared = {"against": against, "beside": beside, "differences": [one.to_dict() for one in self.compared]}
        return {**self.origin, **compared, **({"reference_about": known} if known else {})}

    def say_where(self, out: Path, work: Path | None) -> None:
        """Prints where the figures and the images are."""
        kept = "" if work is None else f"; images and features: {shown_folder(work)} (a later run resumes from them)"
        print(f"written to {out}{kept}")

    def show(self, against: str) -> None:
        """Prints the figures, the skipped files, hints, and one verdict."""
        from sigmatune.evaluation.verdict import hints, verdict

        table(self.figures, self.pairs)
        for line in left_out((self.origin.get("about"), None if self.data is None else self.data.about)):
            print(line)
        for hint in hints(self.figures):
            print(f"note: {hint}")
        if self.pairs:
            print(verdict(self.pairs, against))


@dataclass
class _Job:
    """The plan, model and settings of sampling."""

    model: Denoiser
    plan: Path
    n: int
    seed: int
    work: Path
    keep: bool
    batch: int | None
    estimate: CostEstimate | None = None

    def cost(self, against: str, metrics: str, each: float | None) -> CostEstimate:
        """What the evaluation costs."""
        from sigmatune.workflows.evaluation_estimates import evaluation_estimate

        pairs = [self.loaded(self.plan)]
        pairs += [self.rival(against, pairs[0][1])] if against else []
        sampled, compared = listed(metrics) != ["paired"], "paired" in listed(metrics)
        return evaluation_estimate(pairs, self.n, sampled=sampled, paired=compared, each=each)

    def on(self, engine: Engine) -> CostEstimate | None:
        return self.estimate and self.estimate.on(engine, self.model)

    def sample(self, pair: tuple[Denoiser, Plan], wanted: Wanted, progress: Progress, engine: Engine) -> Sample:
        from sigmatune.evaluation.generation import generate

        return generate(
            *pair, self.n, wanted.extractors, seed=self.seed, folder=self.work, keep=self.keep,
            batch=self.batch, progress=progress, engine=engine,
        )  # fmt: skip

    def sharded(self, against: str, asked: Measuring, metrics: list[str]) -> ShardedJob:
        """The work of all shards."""
        from sigmatune.evaluation.paired_distance import MOST
        from sigmatune.tuning.measure_choice import of_evidence
        from sigmatune.workflows.sharded import ShardedJob

        pair = self.loaded(self.plan)
        extractors = [] if metrics == ["paired"] else asked.wanted(tuple(self.model.pixel_shape)).extractors
        pairs = [pair, self.rival(against, pair[1])] if against and extractors else [pair]
        if "paired" not in metrics:
            return ShardedJob(pairs, self.n, extractors, self.seed)
        measure, noises = of_evidence(pair[1].evidence, pair[0]), range(min(self.n, MOST))
        return ShardedJob(pairs, self.n, extractors, self.seed, [pair[1]], noises, measure)

    def loaded(self, file: Path) -> tuple[Denoiser, Plan]:
        """A plan and the model that runs it; a rule conditions the model on its choices for every row."""
        from sigmatune.plan import Plan
        from sigmatune.rules.rule_file import load_any

        loaded = load_any(file)
        return (
            (self.model, loaded) if isinstance(loaded, Plan) else loaded.together(self.seed, range(self.n), self.model)
        )

    def rival(self, text: str, plan: Plan) -> tuple[Denoiser, Plan]:
        """The plan of a file, or of a schedule with the solver and the calls of the first plan."""
        from sigmatune import schedules, solvers
        from sigmatune.plan import compile_plan
        from sigmatune.plan.calls import largest

        if Path(text).is_file():
            return self.loaded(Path(text))
        solver = (
            plan.solver if solvers.SOLVERS.knows(plan.solver) else str((plan.tuned_for or {}).get("solver", "euler"))
        )
        family, given = schedules.named(text)
        options = plan.solver_options if plan.solver == solver else {}

        def build(steps: int) -> Plan:
            return compile_plan(schedules.build(family, steps, self.model.path, **given), solver, self.model, **options)

        return self.model, largest(build, solvers.solver(solver), plan.network_calls(self.model), self.model)


def _of_pictures(images: str, n: int | None, seed: int, asked: Measuring, progress: Progress) -> _Done:
    """Measures existing images: n of them, drawn by the seed, or all."""
    from sigmatune.evaluation.evaluate import check, figures
    from sigmatune.evaluation.generation import pictures
    from sigmatune.spectra.sources import open_images
    from sigmatune.spectra.values import checked

    source = open_images(images, values=checked(asked.values))
    shape = tuple(next(iter(source))[0].shape[1:])
    wanted = asked.wanted(shape)
    data = asked.data("", wanted, progress)
    check(wanted, data, shape)
    sample = pictures(source, wanted.extractors, n, seed=seed, engine=asked.running)
    return _Done(figures(sample, wanted, data, progress=progress, engine=asked.running), data, sample.origin)


def _of_plan(job: _Job, model: str, against: str, asked: Measuring, metrics: list[str], progress: Progress) -> _Done:
    """Measures a plan's images, and their difference from a second plan's."""
    from sigmatune.evaluation.evaluate import check, figures
    from sigmatune.evaluation.execution import Execution
    from sigmatune.evaluation.paired_distance import paired
    from sigmatune.evaluation.stochastic_guard import compare_all
    from sigmatune.evaluation.verdict import beside
    from sigmatune.tuning.measure_choice import of_evidence

    pair = job.loaded(job.plan)
    rival = job.rival(against, pair[1]) if against else None
    parts = Parts(progress, job.estimate.work if job.estimate else [1.0] * 4)
    of_reference, of_plan, of_rival, of_pairs = (parts.take() for _ in range(4))
    done = _Done([], None, {"model": model, "plan": str(job.plan)})
    if metrics != ["paired"]:
        wanted = asked.wanted(tuple(job.model.pixel_shape))
        done.data = asked.data(model, wanted, of_reference)
        check(wanted, done.data, tuple(job.model.pixel_shape))
        sample = job.sample(pair, wanted, of_plan, asked.running)
        done.origin["origin"] = sample.origin
        done.figures += figures(sample, wanted, done.data, engine=asked.running)
        if rival is not None and done.data is not None:
            theirs = job.sample(rival, wanted, of_rival, asked.running)
            done.compared = compare_all(sample, theirs, wanted, done.data, seed=job.seed, engine=asked.running)
            done.pairs = beside(done.figures, figures(theirs, wanted, done.data, engine=asked.running))
    if "paired" in metrics:
        measure = of_evidence(pair[1].evidence, pair[0])
        execution = Execution(job.seed, job.work, progress=of_pairs, engine=asked.running)
        done.figures.append(paired(*pair, job.n, measure=measure, execution=execution))
    return done
