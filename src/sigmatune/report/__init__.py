"""The report: one HTML file with the result of tuning, its uncertainty, its cost, and its use.

The file loads nothing: styles, charts (SVG), images and the script of its slider are inside it,
and its policy forbids everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sigmatune.analysis.result import Stepwise
from sigmatune.analysis.stepwise import SMALLEST, analyze, chain
from sigmatune.plan import Plan
from sigmatune.report import measurements as measure
from sigmatune.report import page
from sigmatune.report.usage import IN_CODE, PlanUse
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_text
from sigmatune.tuning.workbench import Workbench

__all__ = ["glance", "write"]

GLANCE_SAMPLES, GLANCE_STEPS = 8, 40
"""The size of an analysis that is cheap beside a tuning run."""


def write(
    path: str | Path,
    bench: Workbench,
    plans: Plan | Sequence[Plan],
    *,
    rows: int = 16,
    use: PlanUse = IN_CODE,
    analysis: Stepwise | None = None,
) -> None:
    """Writes the report on tuned plans, atomically.

    Measuring starts after the guard's verdict; the guard's measurements come from the workbench's memory. The rest
    costs about rows x 48 calls x (static defaults + 1) per solver.

    Args:
        path: The HTML file to write.
        bench: The workbench on which the plans were tuned.
        plans: A plan of :func:`sigmatune.tuning.tune_on`, or several.
        rows: Held-out noises for error against calls; at most all of them are used.
        use: What the page's code refers to.
        analysis: A stepwise analysis of the model, such as :func:`glance`; without it the page has no such section.

    Raises:
        SigmaTuneError: if a plan was not tuned on this workbench, the numbers of plans and files differ, or the file
            cannot be written.
    """
    plans = [plans] if isinstance(plans, Plan) else list(plans)
    if use.files is not None and len(use.files) != len(plans):
        raise SigmaTuneError(f"give one file for each of the {len(plans)} plans, not {len(use.files)}.")
    write_text(path, page.page(measure.measure(bench, plans, rows=rows), use, analysis))


def glance(bench: Workbench) -> Stepwise | None:
    """A small stepwise analysis of a workbench's model for its report, or None if its data is too small or no image.

    Args:
        bench: Provides the model, the seed, the micro-batch and the progress; its noises and its memory are not used.
    """
    model = bench.model
    if len(model.shape) != 3 or min(model.shape[-2:]) < SMALLEST:
        return None
    plan = replace(chain(model, min(GLANCE_STEPS, model.path.levels)), micro_batch=bench.settings.micro_batch)

    def shown(done: int, total: int) -> None:
        bench.progress("which frequencies change when", done, total)

    return analyze(model, GLANCE_SAMPLES, plan=plan, seed=bench.settings.seed, progress=shown)
