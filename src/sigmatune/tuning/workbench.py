r"""The workbench: disjoint noises, the converged solution that plans are measured against, and what it all cost.

The error of a plan on row i is the distance of its end point to the end point of the model's own probability-flow ODE
from the same unit noise,

.. math:: e_i = \lVert x_i^{plan} - x_i^{*} \rVert_2 / \sqrt{d},

where :math:`x^*` runs from the model's own sigma_max to its sigma_min and takes one denoise, with a step so small that
the answer no longer changes - whatever the plan's own ends are.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from sigmatune import schedules, solvers
from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.files import write_bytes
from sigmatune.noise import Array
from sigmatune.plan import MICRO_BATCH, Plan, sample
from sigmatune.schedule import Schedule, whole

T = TypeVar("T")
Split = Literal["tuning", "validation", "held_out"]
REFERENCE_FAMILY, REFERENCE_SOLVER = "log-uniform", "dpmpp2m"
"""Of the published families and the solvers, this pair has the smallest error at 48-384 calls on 1/f^a spectra."""

MOST_REFERENCE_STEPS = 512
HIGHEST = 1e3
"""Largest finite level on a path that starts at sigma = inf: of searches, and of the reference's log-uniform part."""


@dataclass(frozen=True)
class Settings:
    """How much work tuning may do.

    Attributes:
        tuning, validation, held_out: Noises (rows) of each kind; their index ranges follow one another.
        evaluations: Plans that the search may try on the tuning noises, the static candidates not counted.
        budget: Network evaluations of single images that static candidates and search may spend together; instead of
            ``evaluations``.
        reference_steps: Steps of the first reference; the guard doubles it until it has converged.
        micro_batch: Rows per network call.
        seed: Seed of the noises, the search and the bootstrap.
    """

    tuning: int = 48
    validation: int = 48
    held_out: int = 96
    evaluations: int = 60
    reference_steps: int = 48
    micro_batch: int = MICRO_BATCH
    seed: int = 0
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.budget is not None:
            whole(self.budget, "budget")
        for name in ("tuning", "validation", "held_out", "evaluations", "reference_steps", "micro_batch"):
            whole(getattr(self, name), name)
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise SigmaTuneError(f"the seed must be a whole number in [0, 2^64), not {self.seed!r}.")
        if self.held_out < 8:
            raise SigmaTuneError(f"the guard needs at least 8 held-out noises, not {self.held_out}.")

    def rows(self, split: Split) -> range:
        """The noise indices of a split."""
        first = {"tuning": 0, "validation": self.tuning, "held_out": self.tuning + self.validation}[split]
        return range(first, first + int(getattr(self, split)))


Progress = Callable[[str, int, int], None]
"""Called with (what is being done, units done, units in all)."""


class Workbench:
    """Measures plans of one model on fixed noises, and remembers what it has measured.

    References are shared by all budgets and solvers. With a ``store`` every measurement is also kept on disk; since
    tuning is deterministic, a run that was killed repeats its decisions from the store and goes on where it was.

    Args:
        model: The denoiser.
        settings: How much work to do.
        store: A folder for measurements, made with the first one; several processes may share it.
        progress: Sees what is being done.
    """

    def __init__(
        self,
        model: Denoiser,
        settings: Settings | None = None,
        *,
        store: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.model = model
        self.settings = settings or Settings()
        self.progress = progress
        self._store = store
        self._memory: dict[str, Array] = {}
        self._spent: dict[str, int] = {}
        self._made: dict[str, Any] = {}
        self._lock = Lock()

    def plan(self, schedule: Schedule, solver: str) -> Plan:
        """Compiles a schedule for this workbench's model."""
        return solvers.compile_plan(schedule, solver, self.model)

    def outputs(self, plan: Plan, split: Split, *, rows: int | None = None, purpose: str = "search") -> torch.Tensor:
        """The end points of a plan on a split's noises, or on its first few; (rows, *shape), on the CPU.

        They are remembered: meant for references and for the few plans that are looked at, not for a search's trials.
        """
        return torch.from_numpy(self._remember("x", plan, split, rows, purpose, lambda x: x.numpy()))

    def prefetch(self, plans: Sequence[Plan], split: Split, *, rows: int | None = None, purpose: str) -> None:
        """Samples several plans side by side, so that :meth:`outputs` finds them; worth it where each has few rows."""
        with self._spread(len(plans)) as spread:
            found = spread(lambda plan: self.outputs(plan, split, rows=rows, purpose=purpose), plans)
            for done, _ in enumerate(found, start=1):
                if self.progress is not None:
                    self.progress(purpose, done, len(plans))

    def _spread(self, parts: int) -> AbstractContextManager[Callable[..., Iterator[Any]]]:
        return _workers(parts if self.model.concurrent and self.model.device.type == "cpu" else 1)

    def _sampled(self, plan: Plan, indices: range, purpose: str) -> torch.Tensor:
        size, seed = self.settings.micro_batch, self.settings.seed
        parts = [indices[i : i + size] for i in range(0, len(indices), size)]
        done = 0

        def report(*_: int) -> None:
            nonlocal done
            done += 1
            if self.progress is not None and purpose == "reference":
                self.progress("reference solution", done, len(parts) * plan.calls)

        def sampled(part: range) -> torch.Tensor:
            return sample(self.model, plan, seed=seed, indices=part, micro_batch=size, progress=report)

        with self._spread(len(parts)) as spread:
            x = torch.cat(list(spread(sampled, parts)))
        if not torch.isfinite(x).all():
            raise SigmaTuneError("the model returned NaN or infinity; it cannot be tuned.")
        return x.cpu()

    def reference(self, split: Split, steps: int | None = None) -> torch.Tensor:
        """The end points of the fine solution of a split, (rows, *shape)."""
        return self.outputs(self.reference_plan(steps), split, purpose="reference")

    def reference_plan(self, steps: int | None = None) -> Plan:
        """The fine plan over the model's whole range."""
        steps, path = steps or self.settings.reference_steps, self.model.path
        if np.isinf(path.sigma_max):
            tail = schedules.build(REFERENCE_FAMILY, steps - 1, path, sigma_max=HIGHEST)
            grid = Schedule(np.insert(tail.sigmas, 0, np.inf), REFERENCE_FAMILY)
        else:
            grid = schedules.build(REFERENCE_FAMILY, steps, path)
        if self.model.integer_time:
            # Where the grid is finer than the network's timesteps, the reference takes every timestep once.
            t = np.unique(np.rint(path.time(grid.sigmas[:-1])))[::-1]
            grid = grid.moved(path.sigma(t), "every whole timestep")
        return self.plan(grid, REFERENCE_SOLVER)

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

        An error below the rounding of the model's dtype says nothing and counts as that rounding.
        """
        steps = reference_steps or self.settings.reference_steps
        exact = self.reference(split, steps)[:rows].double()
        rounding = torch.finfo(self.model.dtype).eps * max(float(exact.square().mean().sqrt()), 1e-30)

        def root_mean_square(x: torch.Tensor) -> Array:
            e = (x.double() - exact).flatten(1).square().mean(dim=1).sqrt()
            return np.asarray(e.clamp(min=rounding).numpy())

        if split == "held_out":  # looked at again: distances, pictures, finer references
            return root_mean_square(self.outputs(plan, split, rows=rows, purpose=purpose))
        return self._remember(f"e{steps}", plan, split, rows, purpose, root_mean_square)

    def padded(self, rows: int) -> int:
        """How many rows the network is called with for some rows: whole micro-batches."""
        size = self.settings.micro_batch
        return -(-rows // size) * size

    def score(self, plan: Plan, split: Split, *, rows: int | None = None) -> float:
        """The mean log error of a plan, which search minimises."""
        return float(np.mean(np.log(self.errors(plan, split, rows=rows))))

    def scores(self, plans: Sequence[Plan], split: Split, *, rows: int | None = None) -> list[float]:
        """The :meth:`score` of several plans, measured side by side where the model allows it."""
        self.reference(split)  # before threads ask for it at once
        with self._spread(len(plans)) as spread:
            return list(spread(lambda plan: self.score(plan, split, rows=rows), plans))

    def once(self, name: str, make: Callable[[], T], load: Callable[[Path], T] | None = None) -> T:
        """Returns what was made under a name before, or makes it; with ``load``, it also lives in the store.

        Args:
            name: Names the thing among those of this model, these settings and this workbench.
            make: Makes it; with ``load`` it has a method ``save(path)``.
            load: Reads it from a file; what it refuses is made anew.
        """
        if name in self._made:
            found: T = self._made[name]
            return found
        settings = f"{self.model.fingerprint()}|{self.settings}"
        key = f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.json"
        file = None if self._store is None or load is None else self._store / key
        value: T | None = None
        if file is not None and load is not None and file.exists():
            with suppress(SigmaTuneError):
                value = load(file)
        if value is None:
            value = make()
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                value.save(file)  # type: ignore[attr-defined]
        self._made[name] = value
        return value

    def spend(self, purpose: str, evaluations: int) -> None:
        """Counts network evaluations of single images that were done for a purpose."""
        with self._lock:
            self._spent[purpose] = self._spent.get(purpose, 0) + evaluations

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
            }

        return read

    def _remember(
        self,
        kind: str,
        plan: Plan,
        split: Split,
        rows: int | None,
        purpose: str,
        digest: Callable[[torch.Tensor], Array],
    ) -> Array:
        """Returns what ``digest`` makes of a plan's end points: from memory, from the store, or by sampling."""
        indices, size = self.settings.rows(split)[:rows], self.settings.micro_batch
        key = _key(kind, self.model, plan, self.settings.seed, indices, size)
        if key in self._memory:
            return self._memory[key]
        # What is found in the store was paid for as well, by the run that was stopped.
        spent = self.padded(len(indices)) * plan.network_calls(self.model)
        self.spend(purpose, spent)
        value = self._stored(key)
        if value is None:
            value = digest(self._sampled(plan, indices, purpose))
            self._keep(key, value)
        self._memory[key] = value
        return value

    def _stored(self, key: str) -> Array | None:
        if self._store is None:
            return None
        try:
            return np.asarray(np.load(self._store / f"{key}.npy", allow_pickle=False))
        except (OSError, ValueError, EOFError):  # not there, or not whole: measure it again
            return None

    def _keep(self, key: str, value: Array) -> None:
        if self._store is None:
            return
        buffer = io.BytesIO()
        np.save(buffer, value)
        try:
            self._store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SigmaTuneError(f"cannot make the folder {self._store}: {error.strerror or error}.") from None
        write_bytes(self._store / f"{key}.npy", buffer.getvalue())


@contextmanager
def _workers(most: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yields a ``map`` that shares torch's threads out to up to ``most`` plans or micro-batches at a time.

    On a CPU, work side by side on one thread each is faster than one after the other on all of them, and,
    unlike threads that wait for one another, they do not suffer from another busy process.
    """
    threads = torch.get_num_threads()
    jobs = min(threads, most)
    if jobs <= 1:
        yield map
        return
    torch.set_num_threads(threads // jobs)
    try:
        with ThreadPoolExecutor(jobs) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def _key(kind: str, model: Denoiser, plan: Plan, seed: int, indices: range, size: int) -> str:
    table = plan.coefficients
    parts = [getattr(table, name).numpy().tobytes() for name in ("q", "A", "b", "c", "start", "G")]
    text = f"{kind}|{model.fingerprint()}|{seed}|{indices}|{size}|".encode()
    return hashlib.sha256(text + b"|".join(parts)).hexdigest()[:32]
