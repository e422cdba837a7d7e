"""The estimate of a tuning before it begins, from its forecast and a measured call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sigmatune.core.denoiser import Denoiser
from sigmatune.models.imagined import Imagined
from sigmatune.plan.calls import most_per_call, steps_for
from sigmatune.plan.estimate import CostEstimate, call_seconds
from sigmatune.solvers import SOLVERS
from sigmatune.support import card
from sigmatune.support.durations import about
from sigmatune.tuning.budget import Budget
from sigmatune.tuning.forecast import forecast
from sigmatune.tuning.settings import TuningSettings
from sigmatune.tuning.stage_choice import stages_of
from sigmatune.tuning.time_budget import BESIDES, SHARE, falling
from sigmatune.tuning.workbench import Workbench

OWN = 2.5e-4
"""Seconds of the stages' own arithmetic for each network evaluation, as measured on the bundled models."""


@dataclass(frozen=True)
class TuningJob:
    """What is to be tuned.

    Attributes:
        calls: Network evaluations per image, several perhaps.
        solver: The solver.
        method, coefficients: Which stages.
        budget: The limit.
    """

    calls: Sequence[int]
    solver: str
    method: str = "auto"
    coefficients: bool = False
    budget: Budget = field(default_factory=Budget)

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages."""
        return stages_of(self.method, coefficients=self.coefficients)

    @property
    def timed(self) -> bool:
        """Whether the limit is a time."""
        return self.budget.seconds < float("inf")

    def settings(self, model: Denoiser, wanted: TuningSettings, each: float) -> TuningSettings:
        """The noises: those that were wanted, or as many of them as a limit in time allows; the fewest if it allows none.

        Args:
            model: The model; it is not called.
            wanted: The most noises.
            each: Seconds of a network evaluation of a single image.
        """
        if not self.timed:
            return wanted
        twin, tried = Imagined.of(model), wanted
        for tried in falling(wanted):
            bench = Workbench(twin, tried)
            least = forecast(bench, self.calls, solver=self.solver, stages=self.stages, budget=Budget(), least=True)
            if sum(least.values()) * each + BESIDES * len(self.calls) <= SHARE * self.budget.seconds:
                break
        return tried

    def estimate(self, model: Denoiser, wanted: TuningSettings, each: float | None = None) -> CostEstimate:
        """What it will cost.

        Args:
            model: The model; it is called a few times unless ``each`` is given.
            wanted: The noises.
            each: Seconds of a network evaluation of a single image; by default they are measured.
        """
        rows = wanted.of(model.shape).micro_batch
        each = call_seconds(model, rows) if each is None else each
        chosen = self.settings(model, wanted, each)
        bench = Workbench(Imagined.of(model), chosen)
        parts = forecast(bench, self.calls, solver=self.solver, stages=self.stages, budget=self.budget)
        besides = BESIDES * len(self.calls) + OWN * sum(parts.values())
        whole = CostEstimate(
            parts, each, besides, f"on {model.device.type}" if not isinstance(model, Imagined) else "in all"
        )
        return self._limited(replace(whole, notes=tuple(self.unused(model))), chosen, wanted)

    def unused(self, model: Denoiser) -> list[str]:
        """A sentence for each number of calls that whole steps do not use up."""
        known, per_call = SOLVERS[self.solver], most_per_call(model)
        steps = {n: steps_for(known, n, model) for n in self.calls}
        under = ", two for each call under guidance" if per_call > 1 else ""
        return [
            f"of {n} calls {used} are used: {card.count(count, 'step')} of {known.name}{under}"
            for n, count in steps.items()
            if (used := known.calls(count) * per_call) < n
        ]

    def _limited(self, whole: CostEstimate, chosen: TuningSettings, wanted: TuningSettings) -> CostEstimate:
        """The estimate under a limit in time, which scales what the search takes."""
        if not self.timed:
            return whole
        seconds = self.budget.seconds
        notes = [*whole.notes, f"stops after {about(seconds)}, all in"]
        if chosen != wanted:
            notes.append(
                f"with fewer noises than without a limit: {chosen.tuning} for tuning, {chosen.validation} for validation, "
                f"{chosen.held_out} held out"
            )
        fixed = whole.total - whole.evaluations["search"]
        free = (seconds - whole.besides) / max(whole.call_seconds, 1e-12) - fixed
        search = round(max(min(whole.evaluations["search"], free), 0))
        return replace(whole, evaluations={**whole.evaluations, "search": search}, notes=tuple(notes), limit=seconds)
