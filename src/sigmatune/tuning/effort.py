"""How much work tuning is, in one word: how many noises, and how many network evaluations its search may take.

======== ============================== ================== =====================================
effort   noises: tuning, choice, guard  reference's steps  search, evaluations for one budget
======== ============================== ================== =====================================
low      16, 16, 48                     24                 1,500
normal   32, 32, 48                     32                 4,000
high     48, 48, 96                     48                 no limit
======== ============================== ================== =====================================

A limit is for one number of calls and is shared by all that are tuned together. It applies to the method "auto"; a stage that
was asked for by name, and coefficients, may take what they need. ``benchmarks/effort.py`` measures what each brings and costs.
"""

from __future__ import annotations

from dataclasses import dataclass

from sigmatune.support.registry import Registry
from sigmatune.tuning.settings import TuningSettings


@dataclass(frozen=True)
class Effort:
    """An amount of work.

    Attributes:
        settings: The noises.
        search: Network evaluations that search may take for one number of calls; infinite without a limit.
    """

    settings: TuningSettings
    search: float

    def budget(self, numbers: int, *, method: str, coefficients: bool) -> int | None:
        """The limit for several numbers of calls together, None for none."""
        limited = numbers > 0 and self.search < float("inf") and method == "auto" and not coefficients
        return int(self.search) * numbers if limited else None


EFFORTS: Registry[Effort] = Registry(
    "effort",
    {
        "low": Effort(TuningSettings(tuning=16, validation=16, held_out=48, reference_steps=24), 1500),
        "normal": Effort(TuningSettings(tuning=32, validation=32, held_out=48, reference_steps=32), 4000),
        "high": Effort(TuningSettings(), float("inf")),
    },
)
"""All efforts by name."""
