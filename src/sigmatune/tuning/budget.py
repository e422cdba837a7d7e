"""The budget of tuning: network evaluations of single images, or seconds."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import timedelta

from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.workbench import Workbench

TUNING = ("search", "table", "trajectory", "gradient")
"""The purposes that a budget pays for. The reference and the guard are the price of the evidence and come on top."""

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """A limit on what tuning may spend, the reference and the guard not counted.

    Attributes:
        evaluations: Network evaluations of single images, padding included; a backward pass counts as two.
        seconds: Time on the clock. The result then depends on the machine.
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


class Allowance:
    """The rest of a budget, or of a part of it.

    Args:
        bench: The workbench that counts.
        budget: The limit, from now on.
    """

    def __init__(self, bench: Workbench, budget: Budget) -> None:
        self._bench, self.budget = bench, budget
        self._before, self._began = bench.spent(*TUNING), time.monotonic()

    @property
    def evaluations(self) -> float:
        """Network evaluations that are left; infinite without a limit on them."""
        return self.budget.evaluations - (self._bench.spent(*TUNING) - self._before)

    @property
    def seconds(self) -> float:
        """Seconds that are left."""
        return self.budget.seconds - (time.monotonic() - self._began)

    def pays(self, evaluations: int) -> bool:
        """Whether the rest pays for this cost."""
        return evaluations <= self.evaluations and self.seconds > 0

    def share(self, part: float, besides: int = 0) -> Allowance:
        """Splits off a part of the rest as a separate allowance, after reserving another cost.

        Args:
            part: 0 to 1.
            besides: Network evaluations that are set aside first and then added to the part.
        """
        left = max(self.evaluations - besides, 0) * part + besides
        return Allowance(self._bench, Budget(min(left, self.evaluations), self.seconds * part))
