"""The definition of a solver: a function from noise levels to coefficients of the linear state machine, with declarations."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sigmatune.core.schedule import MOST_STEPS
from sigmatune.core.table import Coefficients
from sigmatune.support.errors import SigmaTuneError, shown
from sigmatune.support.options import full_options, known_options


@dataclass(frozen=True)
class Solver:
    """A solver and its declarations, all of which the law tests check.

    Attributes:
        name: Its name in the registry.
        build: ``build(sigmas, *, previous=None, option=default, ...)`` returns the coefficients. sigmas are float64
            levels, (..., N + 1), descending, the last 0 or positive; previous are levels of earlier calls whose outputs
            the state already holds, (..., p), descending, for a multistep solver that starts with its full order.
        calls: Network calls as a function of the number of steps N, for a schedule that ends in 0.
        width: Tensors that the state holds, with the default options.
        order: Order of convergence with exact starting history, on levels that end above 0; of the mean and covariance
            (weak order) where noise is added. 0 for a solver that converges for distilled models alone.
        cold_order: Order of convergence from a cold start.
        summary: One line for listings.
        history: Number of earlier outputs that it uses.
        noise: The option that scales the added noise; plans are deterministic only if it is 0. None for a solver
            without noise.
        remembers: The kind of the earlier outputs in its state: estimates of the data or of the noise.
        grid: What the steps must be even in for the order to hold: any smooth grid ("any") or sigma itself.
        noisy: It adds noise with any options.
        highest: The largest level that it can start from, as a function of its options.
        augmented: It samples position and momentum (:mod:`sigmatune.phase_space`): it starts from two noises and from a
            finite level, so its end points are not those of the probability-flow ODE of the same noise.
        between: It also asks the network inside its steps, between the levels of the schedule.
        tapers: Its order falls towards the last step, so a step depends on how many follow.
    """

    name: str
    build: Callable[..., Coefficients]
    calls: Callable[[int], int]
    width: int
    order: int
    cold_order: int
    summary: str
    history: int = 0
    noise: str | None = None
    remembers: Literal["data", "noise"] = "data"
    grid: Literal["any", "sigma"] = "any"
    noisy: bool = False
    highest: Callable[..., float] = lambda **options: float("inf")
    augmented: bool = False
    between: bool = False
    tapers: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """The solver's options with their default values."""
        return known_options(self.build, without=["previous", "order"])

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Completes options with the defaults.

        Raises:
            SigmaTuneError: for an unknown option, or a value that is not a finite number where one is needed.
        """
        return full_options(self.name, self.defaults, given)

    def deterministic(self, **options: Any) -> bool:
        """Whether plans with these options add no noise."""
        if self.noisy:
            return False
        return self.noise is None or self.options(options)[self.noise] == 0

    def paired(self, **options: Any) -> bool:
        """Whether its end points can be compared, noise by noise, with the exact solution's."""
        return self.deterministic(**options) and not self.augmented

    def steps_for(self, calls: int) -> int:
        """The largest number of steps whose calls fit into a budget.

        Raises:
            SigmaTuneError: if not even one step fits, or more fit than ``sigmatune.core.schedule.MOST_STEPS``.
        """
        least = self.calls(1)
        if least > calls:
            said = f"{least} network call{'s' * (least > 1)}"
            raise SigmaTuneError(f"{self.name} needs at least {said}, but the budget is {calls}.")
        if calls >= self.calls(MOST_STEPS + 1):
            raise SigmaTuneError(f"a schedule has at most {MOST_STEPS:,} steps, and {shown(calls)} calls pay for more.")
        return bisect_right(range(1, calls + 1), calls, key=self.calls)  # no step is free


def one_call_each(steps: int) -> int:
    """Calls of a solver with one network call per step."""
    return steps
