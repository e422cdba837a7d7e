"""The budget of tuning: network evaluations of single images for the search, or seconds for everything."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import timedelta

from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.workbench import Workbench

TUNING = ("search", "table", "trajectory", "gradient")
"""The purposes that a budget in evaluations pays for. Reference and guard are the price of the evidence and come on top."""

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """A limit on what tuning may spend.

    Attributes:
        evaluations: Network evaluations of single images that search may take, padding included; a backward pass counts as
            two. The references and the guard come on top.
        seconds: Time on the clock for everything, references and guard included (:mod:`sigmatune.tuning.time_budget`). The
            result then depends on the machine.
    """

    evaluations: float = float("inf")
    seconds: float = float("inf")

    @classmethod
    def of(cls, budget: Budget | int | str | timedelta | None) -> Budget:
        """Reads a budget: 20000 evaluations, "20000", "300s", "5min", "1.5h", a timedelta, or None for no limit.

        Raises:
            SigmaTuneError: for anything else, or a limit of 0 or less.
        """
        if isinstance(budget, Budget):
            return budget
        if budget is None:
            return cls()
        if isinstance(budget, timedelta):
            budget = f"{budget.total_seconds()}s"
        match = re.fullmatch(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?)\s*(s|min|h|)\s*", str(budget))
        number = float(re.sub("[_,]", "", match[1])) if match else 0.0
        if isinstance(budget, bool | float) or match is None or number <= 0 or not (match[2] or number.is_integer()):
            raise SigmaTuneError(
                f"a budget is a number of network evaluations such as 20000, or a time such as '300s', '5min' or '1h', "
                f"not {budget!r}."
            )
        return cls(seconds=number * UNITS[match[2]]) if match[2] else cls(evaluations=number)

    def since(self, began: float) -> Budget:
        """What is left of it after the time since ``time.monotonic()`` was ``began``."""
        return Budget(self.evaluations, self.seconds - (time.monotonic() - began))


class Allowance:
    """The rest of a budget, or of a part of it.

    Args:
        bench: The workbench that counts.
        budget: The limit, from now on.
        reserve: Network evaluations that have to be paid from the time besides, such as the guard's.
    """

    def __init__(self, bench: Workbench, budget: Budget, reserve: int = 0) -> None:
        self._bench, self.budget, self.reserve = bench, budget, reserve
        self._before, self._began = bench.spent(*TUNING), time.monotonic()

    @property
    def evaluations(self) -> float:
        """Network evaluations that are left; infinite without a limit on them."""
        return self.budget.evaluations - (self._bench.spent(*TUNING) - self._before)

    @property
    def seconds(self) -> float:
        """Seconds that are left."""
        return self.budget.seconds - (time.monotonic() - self._began)

    @property
    def timed(self) -> bool:
        """Whether the limit is a time."""
        return self.budget.seconds < float("inf")

    def pays(self, evaluations: int) -> bool:
        """Whether the rest pays for this cost, and a limit in time also for the reserve, at the pace of the network so far."""
        if not self.timed:
            return evaluations <= self.evaluations
        needed = (evaluations + self.reserve) * self._bench.costs.pace
        return evaluations <= self.evaluations and self.seconds > needed

    def share(self, part: float, besides: int = 0) -> Allowance:
        """Splits off a part of the rest as a separate allowance, after reserving another cost.

        Args:
            part: 0 to 1.
            besides: Network evaluations that are set aside first and then added to the part.
        """
        left = max(self.evaluations - besides, 0) * part + besides
        if not self.timed:
            return Allowance(self._bench, Budget(min(left, self.evaluations)))
        free = max(self.seconds - self.reserve * self._bench.costs.pace, 0.0) * part
        kept = self.reserve * self._bench.costs.pace
        return Allowance(self._bench, Budget(min(left, self.evaluations), free + kept), self.reserve)
