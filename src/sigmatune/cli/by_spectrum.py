"""``sigmatune tune`` for solvers that add noise or sample in phase space: the spectrum proposes, images decide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigmatune.cli.already import kept, replaced
from sigmatune.cli.before import check_spectrum
from sigmatune.cli.common import check_run, measuring, progress_bar
from sigmatune.cli.dry_run import counted, show
from sigmatune.cli.evaluation_options import Measuring, left_out
from sigmatune.support.progress import Parts, say

if TYPE_CHECKING:
    from sigmatune.plan import Plan

OF_REFERENCE = 0.02
"""The work of reading the reference, beside that of one plan."""


def by_spectrum(
    source: str,
    files: Mapping[int, Path],
    solver: str,
    *,
    images: int,
    reference: str,
    data: str,
    values: str,
    seed: int,
    device: str,
    work: Path,
    as_json: bool,
    given: dict[str, Any],
    dry_run: bool,
    each: float | None,
    engine: str = "local",
) -> None:
    """Tunes and writes one plan for each number of calls, or only says what this would cost.

    Raises:
        SigmaTuneError: if the spectrum or the reference is not known, or there are too few images; nothing is written.
    """
    from sigmatune.plan.file import dumps
    from sigmatune.support.engine import engine as engine_of
    from sigmatune.tuning.own_spectrum import own_modes
    from sigmatune.workflows.judge import ReferenceData, check_enough
    from sigmatune.workflows.tune_by_spectrum import by_spectrum_estimate, tune_by_spectrum

    check_run(work)
    asked = Measuring("fd", "", "", reference or data, 0, device, values)
    asked.check(source, seed, engine, dry_run=dry_run)
    check_enough(images)
    if not dry_run:
        check_spectrum(source, data, values)
    model, remarks = counted(source, device, given, each if dry_run else None)
    estimate = by_spectrum_estimate(model, list(files), solver, images, each=each)
    if dry_run:
        show(estimate.noting([*remarks, *kept(work), *replaced(files.values())]), model, as_json=as_json, engine=engine)
        return
    modes = own_modes(source, data, values=values)
    wanted = asked.wanted(tuple(model.shape))
    for line in replaced(files.values()):
        say(line)
    plans = {}
    with (
        measuring(work),
        engine_of(engine) as running,
        progress_bar("tuning", quiet=as_json, estimate=estimate.on(running, model).noting(kept(work))) as bar,
    ):
        parts = Parts(bar, [OF_REFERENCE, *[1.0] * len(files)])
        known = asked.data(source, wanted, parts.take())
        assert known is not None  # fd needs one
        compared = ReferenceData(known, wanted.extractor, images, seed, work, running)
        for calls, file in files.items():
            plans[calls] = tune_by_spectrum(model, calls, solver, modes, compared, progress=parts.take())
            plans[calls].save(file, force=True)  # may_write has decided
    if as_json:
        texts = [dumps(plan).rstrip() for plan in plans.values()]
        print(texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]")
        return
    for line in left_out([known.about]):
        print(line)
    for calls, file in files.items():
        print("\n".join(_summary(plans[calls], file)))
    print(f"features: {work} (a later tune resumes from them; may be deleted)")


def _summary(plan: Plan, file: Path) -> list[str]:
    evidence, cost = plan.evidence or {}, plan.cost or {}
    return [
        str(evidence["verdict"]),
        f"{evidence['chosen']}: {plan.steps} steps, {plan.calls} calls, {plan.solver}",
        f"cost: {cost['network_evaluations']['total']:,} network evaluations of single images, {cost['seconds']:.0f} s",
        f"written to {file}",
    ]
