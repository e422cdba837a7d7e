"""What a workbench reports while it works: the present stage, and how much of the expected evaluations is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sigmatune.plan import Plan
from sigmatune.support.engine import Tick
from sigmatune.support.progress import Progress, quiet, stage
from sigmatune.support.trackers import Track
from sigmatune.tuning.costs import Costs

ALMOST = 0.97
"""The share that is reported at most until the end: the guard may need finer references than expected."""


class Reporter:
    """Turns the counts of stages into one count of network evaluations, once the whole is known.

    Args:
        progress: Receives the present stage, and the work of the whole; None to report to no one.
        costs: What counts.

    Attributes:
        expected: Network evaluations in all, from when the job began; 0 while unknown: then each stage reports its own count.
        before: Network evaluations when the job began.
        track: Receives the errors after every stage, with the network evaluations so far as the step.
        on_stage: Receives the log of every stage (``plan.cost["stages"]``) with its steps, and the best plan by then.
    """

    def __init__(self, progress: Progress | None, costs: Costs) -> None:
        self.progress, self.costs, self.expected, self.before, self.what = progress or quiet, costs, 0, 0, ""
        self.track: Track = lambda values, step: None
        self.on_stage: Callable[[Mapping[str, Any], Plan], None] = lambda log, best: None

    def expect(self, evaluations: int) -> None:
        """From now on the whole is so many network evaluations."""
        self.expected, self.before = evaluations, self.costs.done

    def __call__(self, what: str, done: int, total: int) -> None:
        """Reports a stage with its own count."""
        self.what = stage(what, done, total)
        if self.expected:
            self.tick()
        else:
            self.progress(what, done, total)

    def of_calls(self, tick: Tick, price: int, calls: int, what: str) -> Tick:
        """What to call after each of some calls of the network that cost a price together; names a stage if ``what`` does."""
        done = 0

        def report(some: int) -> None:
            nonlocal done
            done += some
            tick(some * (price // calls))
            if what:
                self(what, done, calls)
            else:
                self.tick()

        return report

    def finish(self) -> None:
        """Reports that the whole is done."""
        if self.expected:
            self.progress("done", self.expected, self.expected)
            self.expected = 0

    def tick(self) -> None:
        """Reports what is done by now."""
        if self.expected:
            done = self.costs.done - self.before
            self.progress(self.what, min(done, round(ALMOST * self.expected)), self.expected)
