"""What SDXL and FID on 50,000 images would cost on many workers: ``python benchmarks/scale_costs.py``.

Nothing is measured here. The network evaluations are those that ``tune --dry-run`` and ``evaluate --dry-run`` count for latents
of 4 x 128 x 128 under guidance; a duration of an evaluation is assumed. A job on W workers takes as many rounds as its pieces
need: a reference or a plan of the guard consists of whole micro-batches, an evaluation of pieces of 64 images. The search is
counted as if the command did all of it alone, because gradients and the surrogate have no pieces, so more than one worker
may be faster than this. A micro-batch returns its end points once, so an upper bound of what comes back is that of plans alone.
"""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path
from typing import Any

from sigmatune import schedules
from sigmatune.evaluation.shards import PIECE
from sigmatune.models.imagined import Imagined
from sigmatune.plan import compile_plan
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.effort import EFFORTS
from sigmatune.tuning.estimates import TuningJob
from sigmatune.tuning.forecast import FINEST, doubled
from sigmatune.workflows.evaluation_estimates import FEATURES, evaluation_estimate

SHAPE, PER_CALL, SECONDS = (4, 128, 128), 2, 0.1
STEPS, WORKERS, IMAGES = (4, 6, 8, 10), (1, 8, 64), 50_000
RESULTS = Path(__file__).parent / "results"


def hours(jobs: list[tuple[int, float]], workers: int) -> float:
    """Hours of jobs, one after the other, each of so many equal pieces of so many seconds."""
    return sum(math.ceil(pieces / workers) * seconds for pieces, seconds in jobs) / 3600


def tuned(model: Imagined, steps: tuple[int, ...]) -> dict[str, Any]:
    """The cost of tuning for some numbers of steps together."""
    effort, calls = EFFORTS["normal"], [PER_CALL * n for n in steps]
    job = TuningJob(calls, "dpmpp2m", budget=Budget.of(effort.budget(len(steps), method="auto", coefficients=False)))
    parts = dict(job.estimate(model, effort.settings, SECONDS).evaluations)
    settings = effort.settings.of(SHAPE)
    size, first = settings.micro_batch, settings.reference_steps
    last = next(n for n in doubled(first) if n >= FINEST * max(steps))
    seconds, jobs = SECONDS * size, list[tuple[int, float]]()
    references = [(settings.tuning, first), (settings.validation, first), (settings.held_out, first)]
    references += [(settings.held_out, n) for n in doubled(first) if n <= last]
    counted = 0
    for rows, n in references:
        pieces = math.ceil(rows / size)
        jobs.append((pieces, seconds * PER_CALL * n))
        counted += pieces * size * PER_CALL * n
    each = PER_CALL * max(steps)
    jobs.append((math.ceil(parts["guard"] / (size * each)), seconds * each))
    jobs.append((1, SECONDS * (parts["search"] + parts["check"] + max(parts["reference"] - counted, 0))))
    ends = sum(rows for rows, _ in references) + (parts["guard"] + parts["search"]) / (PER_CALL * min(steps))
    return {
        "steps": list(steps), "calls": calls, "evaluations": parts, "references_counted": counted,
        "bytes_back": ends * math.prod(SHAPE) * 4, "hours": {n: hours(jobs, n) for n in WORKERS},
    }  # fmt: skip


def evaluated(model: Imagined, steps: int) -> dict[str, Any]:
    """The cost of 50,000 images with their features."""
    plan = compile_plan(schedules.build("uniform-trailing", steps, model.path), "dpmpp2m", model)
    total = evaluation_estimate([(model, plan)], IMAGES, sampled=True, paired=False, each=SECONDS).total
    pieces = math.ceil(IMAGES / PIECE)
    moved = json.loads((RESULTS / "engine_overhead.json").read_text())["bytes_per_image"]
    each = SECONDS * total / pieces + FEATURES * PIECE
    return {
        "steps": steps, "calls": PER_CALL * steps, "evaluations": {"images": total},
        "bytes_back": IMAGES * moved["received"], "hours": {n: hours([(pieces, each)], n) for n in WORKERS},
    }  # fmt: skip


def main() -> None:
    """Counts."""
    model = Imagined(SHAPE, per_call=PER_CALL)
    result = {
        "benchmark": "benchmarks/scale_costs.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "shape": SHAPE, "call_seconds": SECONDS, "images": IMAGES, "workers": WORKERS,
        "tune": [tuned(model, steps) for steps in (*((n,) for n in STEPS), STEPS)],
        "evaluate": [evaluated(model, steps) for steps in (8, 50)],
    }  # fmt: skip
    (RESULTS / "scale_costs.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
