"""Evaluations in shards: several machines generate the images of some plans, one of them measures.

The images of a plan and the end points of paired errors are independent pieces by (seed, index). A machine does its share
of them (:mod:`sigmatune.support.share`) in a run folder of its own; joining puts the pieces of all shares into one run folder,
from which an ordinary evaluation of the same job resumes and finds everything. So the result is that of one run, bit for bit.

A paired error doubles the steps of its reference until the typical error of *all* noises settles. A share knows its own noises
only and stops when these have settled; where all together need another doubling, the evaluation after joining computes it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sigmatune import measures
from sigmatune.core import identity
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.schedule import whole
from sigmatune.evaluation import generation
from sigmatune.evaluation.execution import Execution
from sigmatune.evaluation.extractors import Extractor
from sigmatune.evaluation.paired_distance import FIRST, MOST_DOUBLINGS, ErrorMeasure, settle
from sigmatune.evaluation.record import versions
from sigmatune.evaluation.shards import shards_of
from sigmatune.plan import Plan
from sigmatune.plan.reference import reference_plan
from sigmatune.support import share as shares
from sigmatune.support.engine import LOCAL, Engine
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Parts, Progress
from sigmatune.support.share import Share
from sigmatune.workflows.evaluation_estimates import SETTLED


@dataclass(frozen=True)
class Piece:
    """A piece of a job.

    Attributes:
        rows: The indices of its noises.
        cost: Network evaluations of single rows.
        place: The number of the plan whose images they are; None for the end points of paired errors.
    """

    rows: range
    cost: int
    place: int | None


@dataclass(frozen=True, eq=False)
class ShardedJob:
    """What all machines of an evaluation work on; each builds the same.

    Attributes:
        pairs: The plans whose images are measured, each with its model.
        n: Images of each plan, with indices 0 to n - 1.
        extractors: What features to take; none for paired errors alone.
        seed: Seed of the noise.
        compared: The plans whose paired errors are measured, with the first pair's model.
        noises: The indices of the noises of paired errors.
        measure: Their measure; None for the root mean square, "default" for that of the model's samples.

    Example:
        >>> from sigmatune import compile_plan, load, schedules
        >>> from sigmatune.evaluation.extractors import extractor
        >>> model = load("digits")
        >>> plan = compile_plan(schedules.build("karras", 4, model.path), "euler", model)
        >>> job = ShardedJob([(model, plan)], 1000, [extractor("pixels", model.shape)])
        >>> [piece.rows for piece in job.share(Share(1, 2))]
        [range(0, 256), range(512, 768)]
    """

    pairs: Sequence[tuple[Denoiser, Plan]]
    n: int
    extractors: Sequence[Extractor]
    seed: int = 0
    compared: Sequence[Plan] = ()
    noises: range = range(0)
    measure: ErrorMeasure | Literal["default"] | None = None

    @property
    def model(self) -> Denoiser:
        """The model of the first plan."""
        return self.pairs[0][0]

    @cached_property
    def pieces(self) -> list[Piece]:
        """All pieces, in the order of one run."""
        drawn = [
            Piece(rows, plan.evaluations(model, len(rows)), place)
            for place, (model, plan) in enumerate(self.pairs if self.extractors else ())
            for rows in generation.pieces(model, plan, whole(self.n, "n"))
        ]
        return [*drawn, *self._blocks()]

    def _blocks(self) -> list[Piece]:
        """The pieces of paired errors: noises that every plan's end points keep together."""
        if not self.compared:
            return []
        first = reference_plan(self.model, FIRST)
        size = math.lcm(*(generation.ends_at_once(self.model, plan) for plan in (first, *self.compared)))
        calls = SETTLED * first.network_calls(self.model)
        calls += sum(plan.network_calls(self.model) for plan in self.compared)
        return [Piece(rows, len(rows) * calls, None) for rows in shards_of(self.noises, size)]

    def share(self, share: Share) -> list[Piece]:
        """The pieces of a share.

        Raises:
            SigmaTuneError: if there are fewer pieces than shares.
        """
        return [self.pieces[place] for place in share.take([piece.cost for piece in self.pieces])]

    def run(
        self,
        share: Share,
        folder: Path,
        *,
        keep: bool = True,
        batch: int | None = None,
        progress: Progress | None = None,
        engine: Engine = LOCAL,
    ) -> None:
        """Does a share of the job; a share that was stopped resumes where it was.

        Args:
            share: Which one.
            folder: Its own run folder.
            keep, batch, progress, engine: As for :func:`~sigmatune.evaluation.generation.generate`.

        Raises:
            SigmaTuneError: as :func:`~sigmatune.evaluation.generation.generate`, or if there are fewer pieces than shares.
        """
        mine = self.share(share)
        by_plan = {place: [piece for piece in mine if piece.place == place] for place in range(len(self.pairs))}
        blocks = [piece for piece in mine if piece.place is None]
        groups = [*(group for group in by_plan.values() if group), *([block] for block in blocks)]
        parts = Parts(progress, [sum(piece.cost for piece in group) for group in groups])
        for place, group in by_plan.items():
            if group:
                generation.generate(
                    *self.pairs[place], self.n, self.extractors, seed=self.seed, folder=folder, keep=keep, batch=batch,
                    only=[piece.rows for piece in group], progress=parts.take(), engine=engine,
                )  # fmt: skip
        for block in blocks:
            self._settle(block.rows, Execution(self.seed, folder, progress=parts.take(), engine=engine))
        shares.finish(folder, share, self.identity, self._homes(folder))

    def _settle(self, rows: range, execution: Execution) -> None:
        measure = self._fitted(rows, execution.folder) if self.measure == "default" else self.measure
        settle(self.model, self.compared, rows, measure=measure, execution=execution)

    def _fitted(self, rows: range, folder: Path | None) -> ErrorMeasure | None:
        """The default measure of some rows: close to that of all, and it only decides when to stop."""
        exact = generation.end_points(self.model, reference_plan(self.model, FIRST), rows, Execution(self.seed, folder))
        try:
            return measures.fit(measures.default_measure(tuple(self.model.shape)), exact, self.model)
        except SigmaTuneError:  # too few rows
            return None

    def merge(self, folders: Sequence[Path], target: Path) -> None:
        """Puts the results of all shares into one run folder, from which the evaluation then resumes.

        Args:
            folders: The run folders of the shares, in any order.
            target: The run folder of the whole job.

        Raises:
            SigmaTuneError: if a share is missing, unfinished, there twice, damaged, or of another job.
        """
        known = shares.manifests(folders, self.identity, _same)
        for folder, manifest in zip(folders, known, strict=True):
            names = dict(zip(self._homes(folder), self._homes(target), strict=True))
            shares.join(folder, manifest, target, names)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What shares must agree on, JSON-ready; the names are those that messages use."""
        fixed = self.measure if self.measure is None or isinstance(self.measure, str) else self.measure.digest()
        compared = {
            "noises": [self.noises.start, self.noises.stop], "measure": fixed, "plans": [_named(p) for p in self.compared]
        }  # fmt: skip
        said = {
            "model": list(dict.fromkeys(identity.name(model) for model, _ in self.pairs)),
            "kind of device": self.model.device.type,
            "arithmetic": self.model.arithmetic(),
            "seed": self.seed,
            "number of images": self.n,
            "plan": [_named(plan) for _, plan in self.pairs],
            "extractor": [extractor.spec() for extractor in self.extractors],
            "set of paired errors": compared if self.compared else None,
            **{f"version of {name}": text for name, text in versions().items()},
        }
        return dict(json.loads(json.dumps(said)))

    def _homes(self, folder: Path) -> list[str]:
        """What the inner folders of a run folder are called that hold this job's results."""
        references = [reference_plan(self.model, FIRST * 2**k) for k in range(MOST_DOUBLINGS + 1)]
        used = [*self.pairs, *((self.model, plan) for plan in (*self.compared, *references) if self.compared)]
        return [generation.digest(model, plan, self.seed, folder) for model, plan in used]


def _named(plan: Plan) -> str:
    return hashlib.sha256(f"{plan.micro_batch}|".encode() + plan.coefficients.digits()).hexdigest()[:16]


def _same(name: str, theirs: Any, ours: Any) -> bool:
    """Whether an entry of two identities agrees; outputs of models up to the tolerance of stores."""
    if name != "model":
        return bool(theirs == ours)
    try:
        return all(
            identity.same(str(one), str(other), identity.STRICT) for one, other in zip(theirs, ours, strict=True)
        )
    except (TypeError, ValueError):  # a file may hold anything
        return False


__all__ = ["Piece", "ShardedJob", "Share"]
