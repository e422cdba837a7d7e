"""What work costs before it is done: network evaluations, and from a measured call of this model on this device the time.

The call is measured as the work will be done: whole micro-batches, side by side on a CPU, the loop's own arithmetic included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from sigmatune import schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.models.imagined import Imagined
from sigmatune.models.travel import device_of
from sigmatune.plan.compiler import compile_plan
from sigmatune.plan.sampling import sample
from sigmatune.support.durations import about, rounded
from sigmatune.support.engine import Engine
from sigmatune.support.progress import Progress, Shown, say
from sigmatune.support.progress import shown as shown_plainly
from sigmatune.support.threads import side_by_side

MEASURED = 0.05
"""Seconds of measuring after the first call, which warms up; the fastest call counts, as other processes only slow down."""

SLOW = 2.0
"""Seconds from which on the first call is the measurement, because another one would cost too much."""

LONG = 10.0
"""Seconds from which on work is announced."""


@dataclass(frozen=True)
class CostEstimate:
    """What some work will cost.

    Attributes:
        evaluations: Network evaluations of single images, by purpose.
        call_seconds: Seconds of one of them.
        besides: Seconds that no network takes.
        where: The device, as text.
        notes: Further sentences.
        limit: Seconds after which the work stops.
        speed: How many evaluations of that duration run at a time, on the workers of an engine.
    """

    evaluations: Mapping[str, int]
    call_seconds: float
    besides: float = 0.0
    where: str = "here"
    notes: tuple[str, ...] = ()
    limit: float = float("inf")
    speed: float = 1.0

    @property
    def total(self) -> int:
        """Network evaluations of single images in all."""
        return sum(self.evaluations.values())

    def plus(self, purpose: str, evaluations: int) -> CostEstimate:
        """The same with evaluations for another purpose."""
        return replace(self, evaluations={**self.evaluations, purpose: evaluations})

    def noting(self, notes: Iterable[str]) -> CostEstimate:
        """The same with further sentences."""
        return replace(self, notes=(*self.notes, *notes))

    def on(self, engine: Engine, model: Denoiser, *, besides: bool = True) -> CostEstimate:
        """The same on an engine's workers; an engine that works in this process changes nothing.

        A call was measured on all threads of this process, and a worker on CPUs has its own number of them; a duration that was
        stated, of a model that is not here, is that of one worker.

        Args:
            engine: Where the work runs.
            model: The model.
            besides: Whether the workers also do what takes no network, such as features.
        """
        stated = isinstance(model, Imagined)
        workers, threads = engine.crew(accelerated=stated or device_of(model) != "cpu")
        if not workers:
            return self
        speed = workers * threads / torch.get_num_threads() if threads and not stated else float(workers)
        return replace(
            self, speed=speed, besides=self.besides / speed if besides else self.besides,
            where=f"on {workers} worker{'s' if workers > 1 else ''}",
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        """Seconds in all, at most the limit."""
        return min(self.total * self.call_seconds / self.speed + self.besides, self.limit)

    @property
    def work(self) -> list[float]:
        """The evaluations of each purpose, at least one in a thousand of all: the work of a job's parts."""
        return [max(float(count), self.total / 1000) for count in self.evaluations.values()]

    @property
    def sentence(self) -> str:
        """The estimate in one line."""
        if self.seconds >= self.limit:
            return f"as many network evaluations of single images as {about(self.limit)} pay for {self.where}"
        return f"about {rounded(self.total)} network evaluations of single images, about {about(self.seconds)} {self.where}"

    def lines(self) -> list[str]:
        """The estimate with its parts, a line each."""
        parts = ", ".join(f"{purpose} {rounded(count)}" for purpose, count in self.evaluations.items() if count)
        rate = f"{self.call_seconds:.2g} s per network evaluation of one image"
        return [self.sentence, f"network evaluations: {parts}", f"assumed: {rate}", *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return {
            "network_evaluations": {**self.evaluations, "total": self.total},
            "seconds_per_evaluation": self.call_seconds,
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


def call_seconds(model: Denoiser, rows: int) -> float:
    """Measures the seconds of a network evaluation of a single image.

    Args:
        model: The denoiser.
        rows: Rows per call.
    """
    path = model.path
    family = "log-uniform" if path.sigma_max < float("inf") else "uniform-trailing"
    plan = compile_plan(schedules.build(family, 1, path), "euler", model)
    threads = torch.get_num_threads() if model.device.type == "cpu" else 1
    jobs = threads if model.concurrent else 1
    parts = [range(first * rows, (first + 1) * rows) for first in range(jobs)]

    def sampled(part: range) -> None:
        sample(model, plan, indices=part, micro_batch=rows).cpu()  # waits for the device

    with side_by_side(jobs, model) as spread:
        took = [_timed(lambda: list(spread(sampled, parts)))]  # allocates and compiles
        if took[0] < SLOW:
            took = []
            while sum(took) < MEASURED:
                took.append(_timed(lambda: list(spread(sampled, parts))))
    return min(took) / (jobs * rows * plan.network_calls(model))


def _timed(work: Callable[[], Any]) -> float:
    """Seconds of some work."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def shown(progress: Shown, title: str, *, estimate: CostEstimate | None = None) -> Iterator[Progress]:
    """Shows the progress of a job (:func:`sigmatune.support.progress.shown`), after its estimate if it takes long.

    Args:
        progress: What the caller asked for.
        title: What the job is, such as "tuning".
        estimate: What it will cost.
    """
    if progress is True and estimate is not None and estimate.seconds >= LONG:
        say(f"{title}: {'; '.join([estimate.sentence, *estimate.notes])}")
    known = {} if estimate is None else {"seconds": estimate.seconds, "limit": estimate.limit}
    with shown_plainly(progress, title, **known) as report:
        yield report
