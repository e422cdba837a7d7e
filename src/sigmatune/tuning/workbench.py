r"""The workbench: disjoint noises, the converged solution that plans are measured against, and what it all cost.

The error of a plan on row i is the distance of its end point to the end point of the model's own probability-flow ODE
from the same unit noise,

.. math:: e_i = \lVert x_i^{plan} - x_i^{*} \rVert_2 / \sqrt{d},

where :math:`x^*` runs from the model's own sigma_max to its sigma_min and takes one denoise, with a step so small that
the answer no longer changes - whatever the plan's own ends are.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from sigmatune import identity, solvers, soundness
from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.noise import Array
from sigmatune.plan import MICRO_BATCH, MOST_ROWS, Plan, sample
from sigmatune.reference import reference_plan
from sigmatune.schedule import Schedule, whole
from sigmatune.statistics.pieces import give_back, pieces
from sigmatune.threads import side_by_side
from sigmatune.tuning.store import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")
Split = Literal["tuning", "validation", "held_out"]
SPLITS: tuple[Split, ...] = ("tuning", "validation", "held_out")
LAYOUT = 2
"""Part of the name of everything in a store; to be raised when the same name would come to mean other numbers."""

MOST_REFERENCE_STEPS = 512

PER_CALL = 2**23
"""Numbers in the rows of one network call where nobody said how many rows: 16 of 3 x 256 x 256, 2 of 3 x 1024 x 1024."""

KEPT, FEWEST = 2**28, 4
"""End points of held-out noises that a workbench keeps at most, in bytes, and how many sets whatever their size: those that
one comparison of two plans takes with two references."""


@dataclass(frozen=True)
class Settings:
    """How much work tuning may do.

    Attributes:
        tuning, validation, held_out: Noises (rows) of each kind; their index ranges follow one another.
        evaluations: Plans that one stage may try on the tuning noises, its starts not counted; some try fewer.
        reference_steps: Steps of the first reference; the guard doubles it until it has converged.
        micro_batch: Rows per network call; 0, the default, for 16, or fewer that have :data:`PER_CALL` numbers together.
        seed: Seed of the noises, the search and the bootstrap.
    """

    tuning: int = 48
    validation: int = 48
    held_out: int = 96
    evaluations: int = 60
    reference_steps: int = 48
    micro_batch: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tuning", "validation", "held_out", "evaluations", "reference_steps"):
            whole(getattr(self, name), name)
        if self.micro_batch != 0:
            whole(self.micro_batch, "micro_batch", most=MOST_ROWS)
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise SigmaTuneError(f"the seed must be a whole number in [0, 2^64), not {self.seed!r}.")
        if self.held_out < 8:
            raise SigmaTuneError(f"the guard needs at least 8 held-out noises, not {self.held_out}.")

    def of(self, shape: tuple[int, ...]) -> Settings:
        """The same with the rows per network call that images of a shape get, if nobody said how many."""
        most = max(min(MICRO_BATCH, PER_CALL // int(np.prod(shape))), 1)
        return self if self.micro_batch else replace(self, micro_batch=most)

    def rows(self, split: Split) -> range:
        """The noise indices of a split."""
        first = {"tuning": 0, "validation": self.tuning, "held_out": self.tuning + self.validation}[split]
        return range(first, first + int(getattr(self, split)))


def rounding(model: Denoiser, exact: torch.Tensor) -> float:
    r"""The error that counts as none, because plans and reference may differ by so much in rounding alone.

    .. math:: e_{least} = \sqrt{\overline{x^{*2}}} \; \max(512 \, \epsilon_{states}, \; \epsilon_{network})

    With D(x) = x every plan is exact and every error is rounding, which solvers of high order make larger, for they weigh old
    outputs with large numbers of both signs; it stays below this. What a network of half precision says is rounded to its own
    :math:`\epsilon`. Half-precision states, which no loader of ours makes, would lie beyond every plan's error at 512
    :math:`\epsilon`; they get 8.

    Args:
        model: The denoiser.
        exact: The reference's end points, (rows, *shape).
    """
    states = torch.finfo(model.dtype)
    relative = max(states.eps * (512 if states.bits > 16 else 8), torch.finfo(model.network_dtype or model.dtype).eps)
    power = sum(float(part.double().square().mean()) * (len(part) / len(exact)) for part in pieces(exact))
    return float(relative * max(power**0.5, 1e-30))


Digest = Callable[[torch.Tensor], Array]
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, units done, units in all)."""


class Workbench:
    """Measures plans of one model on fixed noises, and remembers what it has measured.

    References are shared by all budgets and solvers. With a ``store`` every measurement is also kept on disk; since
    tuning is deterministic, a run that was killed repeats its decisions from the store and goes on where it was.

    Args:
        model: The denoiser. What its rows are conditioned on, if anything, is kept as disjoint as the noises.
        settings: How much work to do.
        store: A folder for measurements, made with the first one; several processes may share it.
        study: URL of a database for black-box searches; by default they live in the store.
        progress: Sees what is being done.
    """

    def __init__(
        self,
        model: Denoiser,
        settings: Settings | None = None,
        *,
        store: Path | None = None,
        study: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.settings = (settings or Settings()).of(model.shape)
        self.model = model.split({split: self.settings.rows(split) for split in SPLITS})
        self.progress = progress
        self.store, self.study = store, study
        self._kept = Store(store)
        if store is not None:
            logger.info("measurements are kept in %s, which holds %d by now", store, len(self._kept))
        self._memory: dict[str, Array] = {}
        self._spent: dict[str, int] = {}
        self._made: dict[str, Any] = {}
        self._digests: dict[str, Digest] = {}
        self._names: dict[str, str] = {}
        self._checked, self._renewing = False, self.model.renew()
        self._held_out: list[str] = []
        self._lock = Lock()
        self._turns: dict[str, Lock] = {}

    @property
    def name(self) -> str:
        """What the model is called in the store (:func:`sigmatune.identity.name_in`)."""
        own = identity.name(self.model)
        if own not in self._names:
            self._names[own] = identity.name_in(self.store, own)
        return self._names[own]

    def check(self) -> None:
        """Refuses a model on which nothing can be measured, before anything is measured on it; the first time it is called.

        Raises:
            SigmaTuneError: naming what to do; see :mod:`sigmatune.soundness`.
        """
        if not self._checked:
            self.spend("check", soundness.check(self.model, self.settings.rows("tuning")[0]) + self._renewing)
            self._checked = True

    def plan(self, schedule: Schedule, solver: str) -> Plan:
        """Compiles a schedule for this workbench's model."""
        return solvers.compile_plan(schedule, solver, self.model)

    def outputs(self, plan: Plan, split: Split, *, rows: int | None = None, purpose: str = "search") -> torch.Tensor:
        """The end points of a plan on a split's noises, or on its first few; (rows, *shape), on the CPU.

        They are remembered: meant for references and for the few plans that are looked at, not for a search's trials. Of
        the held-out noises' the oldest are forgotten where they are large, and sampled again when they are asked for.
        """
        if split == "held_out":
            self._make_room(self._key("x", plan, split, rows))
        return torch.from_numpy(self._remember({"x": lambda x: x.numpy()}, plan, split, rows, purpose)[0])

    def _make_room(self, key: str) -> None:
        """Forgets end points of held-out noises, those first that were used longest ago, before others come."""
        with self._lock:
            self._held_out = [*(known for known in self._held_out if known != key), key]
            kept = [known for known in self._held_out if known in self._memory]
            size = sum(self._memory[known].nbytes for known in kept)
            while size > KEPT and len(kept) >= FEWEST and kept[0] != key:
                size -= self._memory.pop(kept.pop(0)).nbytes

    def prefetch(self, plans: Sequence[Plan], split: Split, *, rows: int | None = None, purpose: str) -> None:
        """Samples several plans side by side, so that :meth:`outputs` finds them; worth it where each has few rows."""
        with self._spread(len(plans)) as spread:
            found = spread(lambda plan: self.outputs(plan, split, rows=rows, purpose=purpose), plans)
            for done, _ in enumerate(found, start=1):
                if self.progress is not None:
                    self.progress(purpose, done, len(plans))

    def _spread(self, parts: int) -> AbstractContextManager[Callable[..., Iterator[Any]]]:
        return side_by_side(parts, self.model)

    def _sampled(self, plan: Plan, indices: range, purpose: str) -> torch.Tensor:
        size, seed = self.settings.micro_batch, self.settings.seed
        parts = [indices[i : i + size] for i in range(0, len(indices), size)]
        done = 0

        def report(*_: int) -> None:
            nonlocal done
            done += 1
            if self.progress is not None and purpose == "reference":
                self.progress("reference solution", done, len(parts) * plan.calls)

        dtype = torch.float64 if self.model.dtype == torch.float64 else torch.float32  # numpy knows no bfloat16
        x = torch.empty(len(indices), *self.model.shape, dtype=dtype)  # filled as parts come: no second copy

        def sampled(part: range) -> None:
            place = slice(part.start - indices.start, part.stop - indices.start)
            x[place] = sample(self.model, plan, seed=seed, indices=part, micro_batch=size, progress=report)

        logger.log(
            logging.INFO if purpose == "reference" else logging.DEBUG,
            "%s: %d noises, %d calls by %s", purpose, len(indices), plan.calls, plan.solver,
        )  # fmt: skip
        with self._spread(len(parts)) as spread:
            for _ in spread(sampled, parts):
                pass
        return x

    def reference(self, split: Split, steps: int | None = None) -> torch.Tensor:
        """The end points of the fine solution of a split, (rows, *shape)."""
        return self.outputs(self.reference_plan(steps), split, purpose="reference")

    def reference_plan(self, steps: int | None = None) -> Plan:
        """The fine plan over the model's whole range."""
        steps = steps or self.settings.reference_steps
        return self.once(f"reference plan of {steps}", lambda: reference_plan(self.model, steps))

    def errors(
        self,
        plan: Plan,
        split: Split,
        *,
        rows: int | None = None,
        reference_steps: int | None = None,
        purpose: str = "search",
    ) -> Array:
        """The paired errors e_i of a plan on a split's noises, or on its first few; (rows,), positive.

        An error at the rounding of the arithmetic is none and counts as that rounding (:func:`rounding`).
        """
        steps = reference_steps or self.settings.reference_steps
        exact = self.reference(split, steps)[:rows]
        least = rounding(self.model, exact)

        def root_mean_square(x: torch.Tensor) -> Array:
            e = [
                (a.double() - b.double()).flatten(1).square().mean(dim=1).sqrt()
                for a, b in zip(pieces(x), pieces(exact), strict=True)
            ]
            return np.asarray(torch.cat(e).clamp(min=least).numpy())

        if split == "held_out":  # looked at again: distances, pictures, finer references
            return root_mean_square(self.outputs(plan, split, rows=rows, purpose=purpose))
        digests: dict[str, Digest] = {f"e{steps}": root_mean_square}
        if split == "tuning" and rows is None:
            digests |= self._digests
        return self._remember(digests, plan, split, rows, purpose)[0]

    def watch(self, name: str, digest: Digest) -> None:
        """From now on also keeps this of the end points of every plan that is measured on all tuning noises.

        Args:
            name: Its name; :meth:`watched` returns it.
            digest: Of end points, (rows, *shape).
        """
        self._digests[name] = digest

    def watched(self, plan: Plan, name: str) -> Array:
        """What is kept of a plan's end points on the tuning noises; measures the plan if that has not been done."""
        return self._remember({name: self._digests[name]}, plan, "tuning", None, "search")[0]

    def padded(self, rows: int) -> int:
        """How many rows the network is called with for some rows: whole micro-batches."""
        size = self.settings.micro_batch
        return -(-rows // size) * size

    def score(self, plan: Plan, split: Split, *, rows: int | None = None, purpose: str = "search") -> float:
        """The mean log error of a plan, which search minimises."""
        return float(np.mean(np.log(self.errors(plan, split, rows=rows, purpose=purpose))))

    def scores(
        self, plans: Sequence[Plan], split: Split, *, rows: int | None = None, purpose: str = "search"
    ) -> list[float]:
        """The :meth:`score` of several plans, measured side by side where the model allows it."""
        self.reference(split)  # before threads ask for it at once
        with self._spread(len(plans)) as spread:
            return list(spread(lambda plan: self.score(plan, split, rows=rows, purpose=purpose), plans))

    def knows(self, plan: Plan, split: Split) -> bool:
        """Whether a plan's errors on a split have been measured by now."""
        return self._key(f"e{self.settings.reference_steps}", plan, split, None) in self._memory

    def has(self, name: str) -> bool:
        """Whether something has been made under a name by :meth:`once`."""
        return name in self._made

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Returns what was made under a name before on this workbench, or makes it."""
        if name not in self._made:
            self._made[name] = make()
        found: T = self._made[name]
        return found

    def array(self, name: str, make: Callable[[], Array], *, purpose: str, evaluations: int) -> Array:
        """Returns numbers that were made under a name before, or makes them; they also live in the store.

        Args:
            name: Names them among those of this model and these settings.
            make: Makes them.
            purpose, evaluations: What making them costs. It is counted once in a run, even if they are found in the store:
                then the run that was stopped has paid, and this one has to decide like it.
        """
        self.check()
        text = f"{LAYOUT}|{name}|{self.name}|{self.settings}"
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        if key not in self._memory:
            self.spend(purpose, evaluations)
            value = self._kept.read(key)
            if value is None:
                value = make()
                give_back(int(np.prod(self.model.shape)))
                self._kept.write(key, value)
            self._memory[key] = value
        return self._memory[key]

    def spend(self, purpose: str, evaluations: int) -> None:
        """Counts network evaluations of single images that were done for a purpose."""
        with self._lock:
            self._spent[purpose] = self._spent.get(purpose, 0) + evaluations

    def spent(self, *purposes: str) -> int:
        """The network evaluations so far for some purposes."""
        return sum(self._spent.get(purpose, 0) for purpose in purposes)

    def peak_memory(self) -> int:
        """The most memory that was in use so far, MiB: of the accelerator, or of the whole process; 0 where it is not told."""
        if self.model.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.model.device)) >> 20
        if sys.platform == "win32":
            return 0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak >> (20 if sys.platform == "darwin" else 10)  # bytes there, KiB on Linux

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Starts to count and returns a function that reads the cost of one plan.

        Evaluations are network evaluations of single images, padding included, by purpose. The references of tuning and
        validation are shared by all plans of a workbench and stand in the cost of each; the seconds are those of this run.
        """
        before, began = dict(self._spent), time.monotonic()
        shared = before.get("reference", 0)

        def read() -> dict[str, Any]:
            spent = {purpose: count - before.get(purpose, 0) for purpose, count in self._spent.items()}
            spent["reference"] = spent.get("reference", 0) + shared
            return {
                "network_evaluations": {**spent, "total": sum(spent.values())},
                "seconds": round(time.monotonic() - began, 1),
                "device": str(self.model.device),
                "threads": torch.get_num_threads(),
                "peak_memory_mib": self.peak_memory(),
            }

        return read

    def _remember(
        self, digests: Mapping[str, Digest], plan: Plan, split: Split, rows: int | None, purpose: str
    ) -> list[Array]:
        """Returns what each digest makes of a plan's end points: from memory, from the store, or by sampling once."""
        self.check()
        indices = self.settings.rows(split)[:rows]
        keys = {kind: self._key(kind, plan, split, rows) for kind in digests}
        with self._turn(next(iter(keys.values()))):
            if not all(key in self._memory for key in keys.values()):
                # What is found in the store was paid for as well, by the run that was stopped.
                self.spend(purpose, self.padded(len(indices)) * plan.network_calls(self.model))
                self._memory.update(self._measured(digests, keys, plan, indices, purpose))
            return [self._memory[key] for key in keys.values()]

    def _turn(self, key: str) -> Lock:
        """The lock of one measurement: of two equal plans side by side, as two families may make them, one waits."""
        with self._lock:
            return self._turns.setdefault(key, Lock())

    def _measured(
        self, digests: Mapping[str, Digest], keys: Mapping[str, str], plan: Plan, indices: range, purpose: str
    ) -> dict[str, Array]:
        """What each digest makes of a plan's end points, by its key: from the store, or by sampling once."""
        kept = {key: self._kept.read(key) for key in keys.values()}
        if all(value is not None for value in kept.values()):
            return {key: value for key, value in kept.items() if value is not None}
        x = self._sampled(plan, indices, purpose)
        give_back(x[0].numel())
        values = {keys[kind]: digest(x) for kind, digest in digests.items()}
        give_back(x[0].numel())
        for key, value in values.items():
            self._kept.write(key, value)
        return values

    def _key(self, kind: str, plan: Plan, split: Split, rows: int | None) -> str:
        """Names what is kept of a plan's end points on a split's first rows."""
        about = f"{self.settings.seed}|{self.settings.rows(split)[:rows]}|{self.settings.micro_batch}"
        text = f"{LAYOUT}|{kind}|{self.name}|{about}|".encode()
        return hashlib.sha256(text + plan.coefficients.digits()).hexdigest()[:32]
