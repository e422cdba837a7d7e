"""Tuning where no row has one right answer: plans that add noise, and plans of phase space.

The amount of noise and the levels are chosen for the data's spectrum in closed form (:mod:`sigmatune.tuning.by_spectrum`), at
the cost of no network call. Then pictures decide, in two ranges of noise that share nothing:

1. **validation** (seed): every candidate and every default draws pictures; the best of each kind goes on;
2. **held out** (seed + 1), once: both draw pictures of the same noises, and a bootstrap of pairs compares their Frechet
   distances to data in a space of textures and in one of meanings. There is a gain only if the interval lies below zero in
   one of them and above zero in none.

Without a gain the default is returned, with the words "no gain".
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sigmatune import schedules
from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.evaluation.evaluate import Wanted, check
from sigmatune.evaluation.extractors import Extractor
from sigmatune.evaluation.generation import Progress, Sample, generate
from sigmatune.evaluation.guard import Difference, compare
from sigmatune.evaluation.reference import Reference
from sigmatune.plan import Plan
from sigmatune.schedule import whole
from sigmatune.solvers import SOLVERS, compile_plan
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.moments import Moments
from sigmatune.tuning.by_spectrum import STRENGTH, Levels, Measure, choose
from sigmatune.tuning.spectral import Modes

KINDS: tuple[tuple[Levels, Measure, bool], ...] = (
    ("curve", "relative", True),
    ("curve", "wasserstein", True),
    ("curve", "relative", False),
    ("free", "relative", False),
)
"""What is chosen: how free the levels are, how the error of a mode counts, and whether the amount of noise is chosen, too."""

LEAST = 64
"""Fewest pictures that a comparison is made of."""

Named = tuple[str, Plan]


@dataclass(frozen=True)
class Data:
    """What pictures are compared with.

    Attributes:
        reference: The data's statistics.
        extractor: Whose features; the distances are taken in its default spaces.
        n: Pictures of each held-out set; a quarter of it, at least 64, of each validation set.
        seed: Of the validation noise; the held-out noise has the next one.
        folder: Keeps features, so that a stopped run goes on where it was.
    """

    reference: Reference
    extractor: Extractor
    n: int = 1000
    seed: int = 0
    folder: Path | None = None


def tune_by_spectrum(
    model: Denoiser, calls: int, solver: str, modes: Modes, data: Data, *, progress: Progress | None = None
) -> Plan:
    """Chooses noise and levels by the spectrum and lets pictures judge.

    Args:
        model: The model.
        calls: Network calls per picture; guidance counts.
        solver: A solver of the registry.
        modes: The spectrum of the model's data.
        data: What the pictures are compared with.
        progress: Sees the pictures done.

    Returns:
        The plan, with evidence and cost; the chosen one, or the best default where there is no gain.

    Raises:
        SigmaTuneError: if the calls pay for no step, there are fewer than 64 pictures, or the data do not fit the model.
    """
    if whole(data.n, "the number of pictures") < LEAST:
        raise SigmaTuneError(f"sets of fewer than {LEAST} pictures cannot be told apart; ask for 1000 or more.")
    wanted = Wanted.of(["fd"], data.extractor)
    check(wanted, data.reference, tuple(model.shape))
    name = SOLVERS[solver].name
    steps = SOLVERS[name].steps_for(calls // max(model.calls_at(1.0), 1))
    began, spent = time.monotonic(), 0
    candidates = _candidates(model, name, steps, modes)
    judge = _Judge(model, wanted, data, progress)
    few = max(data.n // 4, LEAST)
    ranked = {}
    for kind, plans in (("default", _defaults(model, name, steps)), ("chosen", candidates)):
        scores = [judge.score(plan, few) for _, plan in plans]
        spent += sum(few * plan.network_calls(model) for _, plan in plans)
        ranked[kind] = [(label, plan, score) for (label, plan), score in zip(plans, scores, strict=True)]
    best = {kind: min(found, key=lambda entry: entry[2]) for kind, found in ranked.items()}
    differences = judge.differences(best["chosen"][1], best["default"][1])
    spent += sum(data.n * plan.network_calls(model) for _, plan, _ in best.values())
    gain = any(d.gain for d in differences) and not any(d.low > 0 for d in differences)
    label, plan, _ = best["chosen" if gain else "default"]
    evidence = {
        "verdict": _verdict(differences, best["default"][0], gain=gain),
        "gain": gain,
        "baseline": best["default"][0],
        "chosen": label,
        "differences": [d.to_dict() for d in differences],
        "validation": [
            {"label": name, "kind": kind, "mean_log_frechet_distance": score}
            for kind, found in ranked.items() for name, _, score in found
        ],
        "rows": {"validation": [data.seed, 0, few], "held_out": [data.seed + 1, 0, data.n]},
        "reference": data.reference.spec(),
        "extractor": data.extractor.spec(),
        "dtype": model.arithmetic(),
    }  # fmt: skip
    cost = {"network_evaluations": {"pictures": spent, "total": spent}, "seconds": time.monotonic() - began}
    tuned_for = {"calls": calls, "solver": name, "guidance": model.guidance, "resolution": list(model.shape[1:])}
    return plan.with_notes(evidence=evidence, cost=cost, tuned_for=tuned_for)


def _candidates(model: Denoiser, solver: str, steps: int, modes: Modes) -> list[Named]:
    found: list[Named] = []
    known = SOLVERS[solver].defaults
    for levels, measure, noise in KINDS:
        kept = {} if noise else {name: value for name, value in known.items() if name in STRENGTH}
        made = choose(solver, steps, modes, model.path, levels=levels, measure=measure, **kept)
        strength = {key: value for key, value in made.options.items() if key in STRENGTH}
        said = ", ".join(
            [f"{levels} by the spectrum, {measure} error", *(f"{key}={value:.3g}" for key, value in strength.items())]
        )
        found.append((said, compile_plan(made.schedule, solver, model, **made.options)))
    return found


def _defaults(model: Denoiser, solver: str, steps: int) -> list[Named]:
    """The published settings: the papers' two grids in phase space, the static list elsewhere."""
    if SOLVERS[solver].augmented:
        high = min(model.path.sigma_max, SOLVERS[solver].highest())
        listed: Sequence[tuple[str, str, dict[str, float]]] = [
            (f"{said} grid, lambda_s=1", "phase-time", {"power": power, "sigma_max": high})
            for said, power in (("quadratic", 2.0), ("uniform", 1.0))
        ]
    else:
        listed = schedules.defaults(model.path, model.default_schedule)
    return [
        (label, compile_plan(schedules.build(family, steps, model.path, **options), solver, model))
        for label, family, options in listed
    ]


@dataclass
class _Judge:
    """Draws pictures of plans and compares them."""

    model: Denoiser
    wanted: Wanted
    data: Data
    progress: Progress | None

    def _sample(self, plan: Plan, n: int, seed: int) -> Sample:
        return generate(
            self.model, plan, n, self.wanted.extractors, seed=seed, folder=self.data.folder, keep=False,
            progress=self.progress,
        )  # fmt: skip

    @property
    def _places(self) -> list[tuple[str, Any]]:
        return self.wanted.places(self.wanted.metrics["fd"])

    def score(self, plan: Plan, n: int) -> float:
        """Mean over the spaces of the log Frechet distance on the validation noises."""
        sample, found = self._sample(plan, n, self.data.seed), []
        for name, space in self._places:
            known = self.data.reference.space(name, space)
            rows = known.seen(sample.rows(name, space.base))
            found.append(np.log(max(Gaussian.of(Moments.of(rows)).distance(known.gaussian), 1e-12)))
        return float(np.mean(found))

    def differences(self, plan: Plan, rival: Plan) -> list[Difference]:
        """Plan minus rival on the held-out noises, in every space."""
        ours, theirs = (self._sample(one, self.data.n, self.data.seed + 1) for one in (plan, rival))
        return [
            compare(
                ours.rows(name, space.base), theirs.rows(name, space.base), self.data.reference.space(name, space), "fd",
                space=space.name, seed=self.data.seed,
            )
            for name, space in self._places
        ]  # fmt: skip


def _verdict(differences: list[Difference], rival: str, *, gain: bool) -> str:
    spans = "; ".join(
        f"{d.space} {d.plan:.3g} against {d.rival:.3g}, differs by {d.value:.3g} "
        f"({d.confidence:.0%} interval {d.low:.3g} to {d.high:.3g})"
        for d in differences
    )
    n = differences[0].n
    if gain:
        return f"gain: on {n} held-out noises the Frechet distances beat those of the best default, {rival}: {spans}."
    return (
        f"no gain: on {n} held-out noises the choice is not beyond noise better than {rival}, "
        f"so this is that default: {spans}."
    )
