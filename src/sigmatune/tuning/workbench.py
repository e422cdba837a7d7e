r"""The workbench: disjoint noises, the converged solution for comparison, and the cost of all measurements.

The error of a plan on row i is the distance of its end point to the end point of the model's own probability-flow ODE
from the same unit noise,

.. math:: e_i = \operatorname{RMS} \left( M(x_i^{plan}) - M(x_i^{*}) \right),

where :math:`x^*` runs from the model's own sigma_max to its sigma_min and takes one denoise, with a step so small that
the result no longer changes, whatever the plan's own ends, and M is the workbench's measure (:mod:`sigmatune.measures`),
fitted to :math:`x^*` of the tuning noises alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from sigmatune.core import identity, soundness
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.origin import derived
from sigmatune.core.schedule import Schedule
from sigmatune.measures import Fitted
from sigmatune.models.travel import held
from sigmatune.noise import Array
from sigmatune.plan import Plan, compile_plan, sample
from sigmatune.plan.reference import reference_plan
from sigmatune.statistics.pieces import give_back
from sigmatune.support.engine import LOCAL, Engine, Tick
from sigmatune.support.progress import Progress
from sigmatune.tuning.cache import Cache
from sigmatune.tuning.costs import Costs
from sigmatune.tuning.measure_choice import MeasureChoice, opened, precision
from sigmatune.tuning.reporter import Reporter
from sigmatune.tuning.settings import SPLITS, Split, TuningSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")
LAYOUT = 2
"""Part of the name of everything in a store; raise it when the same name would mean other numbers."""

MOST_REFERENCE_STEPS = 512

Digest = Callable[[torch.Tensor], Array]


class Workbench:
    """Measures plans of one model on fixed noises, and remembers its measurements.

    References are shared by all budgets and solvers. With a ``store`` every measurement is also kept on disk. Tuning is
    deterministic, so a killed run repeats its decisions from the store and resumes where it was.

    Args:
        model: The denoiser. The conditions of its rows, if any, are as disjoint as the noises.
        settings: The amount of work.
        store: A folder for measurements, created with the first one; several processes may share it.
        study: URL of a database for black-box searches; by default they live in the store.
        progress: Receives the current action.
        measure: What the error of a plan is, a name in :data:`sigmatune.measures.MEASURES`;
            :func:`sigmatune.measures.default_measure` of the samples' shape by default.
        measure_options: Options of that measure.
        engine: Where the network's calls for references and candidates run.

    Raises:
        SigmaTuneError: for an unknown measure or option, or a measure that does not suit the model's samples.
    """

    def __init__(
        self,
        model: Denoiser,
        settings: TuningSettings | None = None,
        *,
        store: str | Path | None = None,
        study: str | None = None,
        progress: Progress | None = None,
        measure: str | None = None,
        measure_options: Mapping[str, Any] | None = None,
        engine: Engine = LOCAL,
    ) -> None:
        self.measure_choice = MeasureChoice.of(model.shape, measure, measure_options)
        self.settings = TuningSettings.chosen(settings, TuningSettings()).of(model.shape)
        self.model: Denoiser = derived(model, "split", {split: self.settings.rows(split) for split in SPLITS})
        self.engine, self.store, self.study = engine, None if store is None else Path(store), study
        self._cache = Cache(self.store)
        if store is not None:
            logger.info("measurements are kept in %s, which holds %d by now", store, len(self._cache.store))
        self.costs = Costs(self.model.device)
        self.progress = Reporter(progress, self.costs)
        self._digests: dict[str, Digest] = {}
        self._checked, self._renewing = False, self.model.renew()

    @property
    def name(self) -> str:
        """What the model is called in the store (:func:`sigmatune.core.identity.name_in`)."""
        identified = identity.name(self.model)
        return self.once(f"name of {identified}", lambda: identity.name_in(self.store, identified))

    def check(self) -> None:
        """Refuses a model on which no measurement would hold; checks at the first call only.

        Raises:
            SigmaTuneError: naming what to do; see :mod:`sigmatune.core.soundness`.
        """
        if not self._checked:
            self.spend("check", soundness.check(self.model, self.settings.rows("tuning")[0]) + self._renewing)
            self._checked = True

    @property
    def measure(self) -> Fitted:
        """What errors are measured with, fitted to the reference of the tuning noises and to nothing else."""
        return self.once("measure", lambda: self._fitted(self.measure_choice))

    @property
    def linear_measure(self) -> Fitted:
        """The measure, or the usual one for the samples' shape where that is not linear, for what estimates errors."""
        usual = MeasureChoice.of(self.model.shape, None, None)
        return self.measure if self.measure.linear else self.once("linear measure", lambda: self._fitted(usual))

    def _fitted(self, choice: MeasureChoice) -> Fitted:
        exact, name = self.reference("tuning"), f"measure {choice.to_dict()}"
        kept = self.array(name, lambda: choice.fitted(exact, self.model), purpose="reference", evaluations=0)
        return opened(kept, self.model)

    @property
    def least(self) -> float:
        """The error that counts as zero, because rounding alone can make plans and reference differ by this much."""
        return self.measure.rounding(precision(self.model))

    def plan(self, schedule: Schedule, solver: str) -> Plan:
        """Compiles a schedule for this workbench's model."""
        return compile_plan(schedule, solver, self.model)

    def outputs(self, plan: Plan, split: Split, *, rows: int | None = None, purpose: str = "search") -> torch.Tensor:
        """The end points of a plan on a split's noises, or on its first few; (rows, *shape), on the CPU.

        They are cached, not for a search's trials. Large ones of held-out noises are evicted and sampled again on request.
        """
        if split == "held_out":
            self._cache.make_room(self._key("x", plan, split, rows))
        return torch.from_numpy(self._remember({"x": lambda x: x.numpy()}, plan, split, rows, purpose)[0])

    def prefetch(self, plans: Sequence[Plan], split: Split, *, rows: int | None = None, purpose: str) -> None:
        """Samples several plans in parallel for :meth:`outputs`; worthwhile if each has few rows."""
        with self.engine.abreast(len(plans), self.model) as spread:
            outputs = spread(lambda plan: self.outputs(plan, split, rows=rows, purpose=purpose), plans)
            for done, _ in enumerate(outputs, start=1):
                self.progress(purpose, done, len(plans))

    def _sampled(self, plan: Plan, indices: range, purpose: str) -> torch.Tensor:
        size, seed = self.settings.micro_batch, self.settings.seed
        parts = [indices[i : i + size] for i in range(0, len(indices), size)]
        dtype = torch.float64 if self.model.dtype == torch.float64 else torch.float32  # numpy has no bfloat16
        x = torch.empty(len(indices), *self.model.shape, dtype=dtype)  # filled as parts come: no second copy

        logger.log(
            logging.INFO if purpose == "reference" else logging.DEBUG,
            "%s: %d noises, %d calls by %s", purpose, len(indices), plan.calls, plan.solver,
        )  # fmt: skip
        price, what = self._price(plan, len(indices)), "reference solution" if purpose == "reference" else ""
        with self.costs.working(price) as tick:
            report = self.progress.of_calls(tick, price, len(parts) * plan.calls, what)
            pieces = [(plan, seed, part, size) for part in parts]
            ends = self.engine.run(_ends, [held(self.model)], pieces, at_once=len(parts), tick=report)
            for part, rows in zip(parts, ends, strict=True):
                x[part.start - indices.start : part.stop - indices.start] = rows
        return x

    def _price(self, plan: Plan, rows: int) -> int:
        return self.padded(rows) * plan.network_calls(self.model)

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

        An error below the rounding of the arithmetic is raised to that rounding (:attr:`least`).
        """
        steps = reference_steps or self.settings.reference_steps
        exact, measure, least = self.reference(split, steps)[:rows], self.measure, self.least

        def measured(x: torch.Tensor) -> Array:
            return np.asarray(measure.errors(x, exact).clamp(min=least).numpy())

        if split == "held_out":  # used again: distances, images, finer references
            return measured(self.outputs(plan, split, rows=rows, purpose=purpose))
        digests: dict[str, Digest] = {self.by_measure(f"e{steps}"): measured}
        if split == "tuning" and rows is None:
            digests |= self._digests
        return self._remember(digests, plan, split, rows, purpose)[0]

    def watch(self, name: str, digest: Digest) -> None:
        """From now on also keeps a digest of the end points, (rows, *shape), of every plan measured on all tuning noises."""
        self._digests[self.by_measure(name)] = digest

    def watched(self, plan: Plan, name: str) -> Array:
        """The digest of a plan's end points on the tuning noises; measures the plan if necessary."""
        name = self.by_measure(name)
        return self._remember({name: self._digests[name]}, plan, "tuning", None, "search")[0]

    def padded(self, rows: int) -> int:
        """Rows of network calls for some rows: whole micro-batches."""
        size = self.settings.micro_batch
        return -(-rows // size) * size

    def score(self, plan: Plan, split: Split, *, rows: int | None = None, purpose: str = "search") -> float:
        """The mean log error of a plan, which search minimises."""
        return float(np.mean(np.log(self.errors(plan, split, rows=rows, purpose=purpose))))

    def scores(
        self, plans: Sequence[Plan], split: Split, *, rows: int | None = None, purpose: str = "search"
    ) -> list[float]:
        """The :meth:`score` of several plans, measured in parallel if the model allows it."""
        if plans:  # before threads request them concurrently
            self.reference(split)
            self.measure  # noqa: B018
        with self.engine.abreast(len(plans), self.model) as spread:
            return list(spread(lambda plan: self.score(plan, split, rows=rows, purpose=purpose), plans))

    def knows(self, plan: Plan, split: Split) -> bool:
        """Whether a plan's errors on a split have been measured."""
        return self._key(self.by_measure(f"e{self.settings.reference_steps}"), plan, split, None) in self._cache

    def by_measure(self, name: str) -> str:
        """The name of what depends on the measure: by what that is fitted to, as its last bits depend on the processor."""
        if self.measure_choice.name == "rms":
            return name
        return f"{name}|{self.measure_choice}|{self.settings.rows('tuning')}|{self.settings.reference_steps}"

    def has(self, name: str) -> bool:
        """Whether :meth:`once` has a result under a name."""
        return name in self._cache

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Returns the cached result of a name on this workbench, or computes it."""
        return self._cache.once(name, make)

    def array(self, name: str, make: Callable[[], Array], *, purpose: str, evaluations: int) -> Array:
        """Returns the cached numbers of a name, or computes them; they are also kept in the store.

        Args:
            name: Their name, unique for this model and these settings.
            make: Computes them.
            purpose, evaluations: Their cost, counted even if they come from the store, so that decisions stay the same.
        """
        self.check()
        text = f"{LAYOUT}|{name}|{self.name}|{self.settings}"
        key = hashlib.sha256(text.encode()).hexdigest()[:32]

        def measured() -> list[Array]:
            with self.costs.working(evaluations):
                value = make()
            give_back(int(np.prod(self.model.shape)))
            return [value]

        return self._cache.arrays([key], measured, lambda: self.spend(purpose, evaluations))[0]

    def spend(self, purpose: str, evaluations: int) -> None:
        """Counts network evaluations of single images for a purpose."""
        self.costs.spend(purpose, evaluations)

    def spent(self, *purposes: str) -> int:
        """The network evaluations so far for some purposes."""
        return self.costs.total(*purposes)

    def meter(self) -> Callable[[], dict[str, Any]]:
        """Starts counting and returns a function that reads the cost (:meth:`sigmatune.tuning.costs.Costs.meter`)."""
        return self.costs.meter()

    def _remember(
        self, digests: Mapping[str, Digest], plan: Plan, split: Split, rows: int | None, purpose: str
    ) -> list[Array]:
        """Returns each digest of a plan's end points: from memory, from the store, or by sampling once."""
        self.check()
        indices, name = self.settings.rows(split)[:rows], self.name  # which looks at all weights
        keys = [self._key(kind, plan, split, rows, name) for kind in digests]

        def sampled() -> list[Array]:
            x = self._sampled(plan, indices, purpose)
            give_back(x[0].numel())
            values = [digest(x) for digest in digests.values()]
            give_back(x[0].numel())
            return values

        def pay() -> None:
            self.spend(purpose, self._price(plan, len(indices)))

        return self._cache.arrays(keys, sampled, pay)

    def _key(self, kind: str, plan: Plan, split: Split, rows: int | None, name: str | None = None) -> str:
        """The key of a digest of a plan's end points on a split's first rows."""
        about = f"{self.settings.seed}|{self.settings.rows(split)[:rows]}|{self.settings.micro_batch}"
        text = f"{LAYOUT}|{kind}|{name or self.name}|{about}|".encode()
        return hashlib.sha256(text + plan.coefficients.digits()).hexdigest()[:32]


def _ends(model: Denoiser, piece: tuple[Plan, int, range, int], tick: Tick) -> torch.Tensor:
    """The end points of a plan on some noises of a seed, so many at a time; ticks at every call."""
    plan, seed, rows, size = piece
    return sample(model, plan, seed=seed, indices=rows, micro_batch=size, progress=lambda *_: tick(1)).cpu()
