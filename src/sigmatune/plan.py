"""A plan: a schedule and a solver compiled to a linear state machine, and how images are sampled with it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sigmatune import card, noise, soundness
from sigmatune.denoiser import Denoiser
from sigmatune.errors import PlanMismatch, SigmaTuneError
from sigmatune.machine import Coefficients, Step, run
from sigmatune.pixels import first_unsound
from sigmatune.schedule import Schedule, drawing_of, family_of, levels_of, rows_of, whole

logger = logging.getLogger(__name__)

REPR_WIDTH = 160
"""Most characters of a line of ``repr``."""

MOST_ROWS = 2**20
"""Most rows per network call: more than any memory holds, and few enough to be counted in."""

MICRO_BATCH = 16
"""Rows per network call unless said otherwise; recorded in plans, because images are bit-equal only at equal sizes."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A schedule and a solver, compiled: what is tuned, saved, exported and run.

    Args:
        schedule: The noise levels.
        solver: Name of the solver that made the coefficients, or ``"custom"``.
        coefficients: The linear state machine.
        path: The noise path of the model that it was made for (:meth:`NoisePath.spec`), if any.
        fingerprint: Fingerprint of that model, if any.
        tuned_for: What the plan was tuned for: calls, solver, guidance, resolution.
        evidence: The guard's report.
        cost: What finding the plan cost.
        micro_batch: Rows per network call.
        solver_options: The solver's options.
        pairs: Levels and the network's t at them as the plan's file states them, (P, 2): what the network receives wherever
            its own path agrees, on whatever machine the file was made.
    """

    schedule: Schedule
    solver: str
    coefficients: Coefficients
    path: Mapping[str, Any] | None = None
    fingerprint: str | None = None
    tuned_for: Mapping[str, Any] | None = None
    evidence: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None
    micro_batch: int = MICRO_BATCH
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    pairs: noise.Array | None = None

    def __repr__(self) -> str:
        told = card.line(self._verdict() or "none, this plan was not tuned", REPR_WIDTH)
        return f"Plan: {self._heading()}\n  sigmas: {levels_of(self.schedule)}\n  evidence: {told}"

    def _repr_html_(self) -> str:
        """The card that a notebook shows."""
        of = self.cost.get("network_evaluations") if isinstance(self.cost, Mapping) else None
        spent = of.get("total") if isinstance(of, Mapping) else None
        facts = {
            "family": family_of(self.schedule),
            "rows": rows_of(self.schedule),
            "sigmas": levels_of(self.schedule),
            "tuned for": card.options(self.tuned_for or {}),
            "evidence": self._verdict() or "none, this plan was not tuned",
            "cost of tuning": f"{spent:,} network evaluations" if isinstance(spent, int) else None,
            "model": self.fingerprint,
        }
        return card.card(f"Plan: {self._heading()}", drawing_of(self.schedule), facts)

    def _heading(self) -> str:
        known = card.options(self.solver_options)
        counts = f"{card.count(self.steps, 'step')}, {card.count(self.calls, 'call')}"
        return card.line(f"{self.solver}, {counts}{f', {known}' if known else ''}", REPR_WIDTH)

    def _verdict(self) -> str | None:
        """The guard's words, if the plan was tuned; a file may hold anything in their place."""
        said = self.evidence.get("verdict") if isinstance(self.evidence, Mapping) else None
        return said if isinstance(said, str) else None

    @property
    def steps(self) -> int:
        """N, the number of steps."""
        return self.schedule.steps

    @property
    def calls(self) -> int:
        """K, the number of network calls (guidance may double some: :meth:`network_calls`)."""
        return self.coefficients.calls

    def network_calls(self, denoiser: Denoiser) -> int:
        """Network evaluations per image with this denoiser, guidance counted."""
        q = self.coefficients.q
        return max(sum(denoiser.calls_at(level) for level in row) for row in q.reshape(-1, q.shape[-1]).tolist())

    def evaluations(self, denoiser: Denoiser, rows: int, micro_batch: int | None = None) -> int:
        """Network evaluations of single images that some rows take: guidance counted, and the padding of micro-batches."""
        size = micro_batch or self.micro_batch
        return -(-rows // size) * size * self.network_calls(denoiser)

    def with_notes(self, **notes: Any) -> Plan:
        """Returns a copy with other ``path``, ``fingerprint``, ``tuned_for``, ``evidence`` or ``cost``."""
        if notes.get("path", self.path) != self.path:
            notes["pairs"] = None  # they are of the old path
        return replace(self, **notes)

    def noise_path(self) -> noise.NoisePath | None:
        """The noise path that the plan was made for, if any; at the plan's own levels its t are those of the plan's file."""
        return None if self.path is None else noise.paired(noise.from_spec(self.path), self.pairs)

    def save(self, path: str | Path) -> None:
        """Writes the plan file, atomically; see :mod:`sigmatune.plan_file`."""
        from sigmatune.plan_file import write

        write(self, path)


class Rule(Protocol):
    """Makes one schedule per sample from (seed, index); see :mod:`sigmatune.rules`."""

    def plan(self, seed: int, indices: Sequence[int], denoiser: Denoiser | None = None) -> Plan:
        """The plan with one row per index; a row depends on the seed and its own index alone."""
        ...

    def together(self, seed: int, indices: Sequence[int], denoiser: Denoiser) -> tuple[Denoiser, Plan]:
        """The plan, and the denoiser that has been told what the rule decides about every row."""
        ...


def check_fit(plan: Plan, denoiser: Denoiser) -> None:
    """Refuses a plan that a model cannot run and warns about one that was made for another model.

    Raises:
        SigmaTuneError: if a level is outside the model's range, or between the timesteps of a network of whole timesteps, or
            one of the two is of phase space and the other is not.
    """
    if plan.coefficients.ports != denoiser.ports:
        of = {1: "position only", 2: "position and momentum"}
        raise SigmaTuneError(
            f"the plan's network is one of {of.get(plan.coefficients.ports)} and this one is of {of.get(denoiser.ports)}; "
            "make the plan for this model."
        )
    q = plan.coefficients.q.numpy()
    denoiser.path.check(q)
    if denoiser.integer_time and not denoiser.path.agrees(q, np.rint(denoiser.path.time(q))).all():
        raise SigmaTuneError(
            "this network knows whole timesteps only and the plan's levels lie between them; make the plan for this model."
        )
    if plan.fingerprint is not None and not denoiser.is_model_of(plan.fingerprint):
        warnings.warn(
            "this plan was made for another model; its evidence does not carry over.", PlanMismatch, stacklevel=3
        )


def sample(  # noqa: PLR0913 (the library's main function: each is something that users need)
    denoiser: Denoiser,
    plan: Plan | Rule,
    n: int | None = None,
    *,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    x0: torch.Tensor | None = None,
    micro_batch: int | None = None,
    on_step: Callable[[Step], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Samples images with a plan or a rule. Row i depends on (seed, index i) alone, bit for bit, for any requested batch.

    Args:
        denoiser: The model.
        plan: The plan, deterministic or stochastic, shared or one per row; or a rule, which makes one per row.
        n: How many rows, with indices 0..n-1. Give either ``n`` or ``indices``.
        seed: Seed of all noise.
        indices: The rows' indices in the noise.
        x0: Images to start from (at the plan's first level) instead of pure noise, (n, *shape).
        micro_batch: The network is always called with this many rows, padded with zeros; the plan's own by default.
        on_step: Sees every network call.
        progress: Called with (calls done, calls in all), in units of one micro-batch's call.

    Returns:
        Clean data in the model's scale, (n, *shape), on the model's device.

    Raises:
        SigmaTuneError: if the plan does not fit the model, the arguments do not fit together, or the model draws or couples
            rows as far as that shows without more calls (:mod:`sigmatune.soundness`); if the model returns NaN or infinity,
            with the call, the row and what to try.
    """
    if (n is None) == (indices is None):
        raise SigmaTuneError("give either n, the number of images, or indices.")
    rows = list(range(whole(n, "n"))) if indices is None else list(indices)
    if not isinstance(plan, Plan):
        denoiser, plan = plan.together(seed, rows, denoiser)
    size = plan.micro_batch if micro_batch is None else whole(micro_batch, "micro_batch", most=MOST_ROWS)
    if soundness.suspicious(denoiser):
        soundness.check(soundness.bare(denoiser), rows[0] if rows else 0)
    check_fit(plan, denoiser)
    if plan.coefficients.rows not in (None, len(rows)):
        raise SigmaTuneError(
            f"the plan has one schedule for each of {plan.coefficients.rows} rows, but {len(rows)} are asked."
        )
    if x0 is not None and tuple(x0.shape) != (len(rows), *denoiser.shape):
        raise SigmaTuneError(f"x0 must have shape {(len(rows), *denoiser.shape)}, not {tuple(x0.shape)}.")
    if x0 is not None and (bad := first_unsound(x0)) is not None:
        raise SigmaTuneError(f"image {bad} of x0 holds NaN or infinity; leave it out or mend it.")
    path = noise.paired(denoiser.path, plan.pairs)
    if path is not denoiser.path:
        denoiser = denoiser.with_path(path)
    logger.debug(
        "sampling %d rows: %s, %d steps, %d calls, seed %d", len(rows), plan.solver, plan.steps, plan.calls, seed
    )
    out = torch.empty(len(rows), *denoiser.shape, dtype=denoiser.dtype, device=denoiser.device)
    with torch.no_grad():
        for part in _parts(len(rows), size):

            def sampled(hook: Callable[[Step], None] | None, part: range = part) -> torch.Tensor:
                own, given = [rows[i] for i in part], None if x0 is None else x0[part.start : part.stop].to(out)
                table = plan.coefficients.at(part)
                return run(table, denoiser, seed=seed, indices=own, x0=given, micro_batch=size, on_step=hook)

            found = sampled(_placed(on_step, progress, part, len(rows), plan.calls, size))
            if (bad := first_unsound(found)) is not None:
                raise _unsound(denoiser, sampled, plan.calls, bad, rows[part.start + bad])
            out[part.start : part.stop] = found
    return out


def _unsound(
    denoiser: Denoiser, sampled: Callable[[Callable[[Step], None]], Any], calls: int, bad: int, row: int
) -> SigmaTuneError:
    """The error for a row that became NaN or infinite; runs it again to say in which call, so that no sound run pays."""

    def look(step: Step) -> None:
        if not bool(torch.isfinite(step.x0[bad]).all()):
            raise denoiser.unsound(
                f"in call {step.call + 1} of {calls} (sigma {float(step.sigma[bad]):.4g}), image {row}"
            )

    try:
        sampled(look)
    except SigmaTuneError as error:
        return error
    return denoiser.unsound(f"in image {row}, whose calls were all finite")


def _parts(rows: int, size: int) -> Iterator[range]:
    return (range(first, min(first + size, rows)) for first in range(0, rows, size))


def _placed(
    on_step: Callable[[Step], None] | None,
    progress: Callable[[int, int], None] | None,
    part: range,
    rows: int,
    calls: int,
    size: int,
) -> Callable[[Step], None]:
    """Turns a run's own row numbers into those of the whole request, and reports progress."""

    def hook(step: Step) -> None:
        if on_step is not None:
            on_step(replace(step, rows=part))
        if progress is not None:
            progress(part.start // size * calls + step.call + 1, -(-rows // size) * calls)

    return hook
