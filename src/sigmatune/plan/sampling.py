"""Samples images with a plan or a rule: row i depends on (seed, index i) alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from sigmatune.core import soundness
from sigmatune.core.denoiser import Denoiser, check_denoiser
from sigmatune.core.loop import Step, run
from sigmatune.core.schedule import whole
from sigmatune.noise import paired
from sigmatune.plan.document import MOST_ROWS
from sigmatune.plan.plan import NoiseKind, Plan, Rule, check_fit
from sigmatune.support.errors import SigmaTuneError, check_kind, shown
from sigmatune.support.pixels import first_unsound

logger = logging.getLogger(__name__)

MOST_IMAGES = 2**40
"""More than any memory holds."""


def sample(  # noqa: PLR0913 (the library's main function: each is something that users need)
    denoiser: Denoiser,
    plan: Plan | Rule,
    n: int | None = None,
    *,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    x0: torch.Tensor | None = None,
    micro_batch: int | None = None,
    noise: NoiseKind | None = None,
    on_step: Callable[[Step], None] | None = None,
    progress: Callable[[int, int], None] | Literal[False] | None = None,
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
        noise: Draw the noise of stochastic steps by "call" or by "level" (:meth:`Plan.with_noise
            <sigmatune.plan.plan.Plan.with_noise>`); the plan's own kind by default.
        on_step: Sees every network call.
        progress: Called with (calls done, calls in all), in units of one micro-batch's call; None or False for quiet.

    Returns:
        Clean data in the model's scale, (n, *shape), on the model's device.

    Raises:
        SigmaTuneError: if the plan does not fit the model, the arguments do not fit together, or the model visibly
            draws random numbers or couples rows (:mod:`sigmatune.core.soundness`); if the model returns NaN or infinity,
            with the call, the row and a cure.
    """
    if (n is None) == (indices is None):
        raise SigmaTuneError("give either n, the number of images, or indices.")
    rows = range(whole(n, "n", most=MOST_IMAGES)) if indices is None else list(indices)
    report = _reporting(progress)
    check_denoiser(denoiser)
    check_kind(plan, (Plan, Rule), "the plan must be a plan or a rule; read a file with st.load_plan or st.load_rule")
    if not isinstance(plan, Plan):
        denoiser, plan = plan.together(seed, rows, denoiser)
    if noise is not None:
        plan = plan.with_noise(noise)
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
        raise SigmaTuneError(f"image {bad} of x0 holds NaN or infinity; leave it out or repair it.")
    path = paired(denoiser.path, plan.pairs)
    if path is not denoiser.path:
        denoiser = denoiser.with_path(path)
    logger.debug(
        "sampling %d rows: %s, %d steps, %d calls, seed %d", len(rows), plan.solver, plan.steps, plan.calls, seed
    )
    out = _room(len(rows), denoiser)
    with torch.no_grad():
        for part in _parts(len(rows), size):

            def sampled(hook: Callable[[Step], None] | None, part: range = part) -> torch.Tensor:
                part_indices = [rows[i] for i in part]
                given = None if x0 is None else x0[part.start : part.stop].to(out)
                table = plan.coefficients.at(part)
                return run(table, denoiser, seed=seed, indices=part_indices, x0=given, micro_batch=size, on_step=hook)

            images = sampled(_placed(on_step, report, part, len(rows), plan.calls, size))
            if (bad := first_unsound(images)) is not None:
                raise _unsound(denoiser, sampled, plan.calls, bad, rows[part.start + bad])
            out[part.start : part.stop] = images
    return out


def _reporting(progress: Any) -> Callable[[int, int], None] | None:
    """What sees the progress, None for quiet.

    Raises:
        SigmaTuneError: if it is no function.
    """
    if progress is None or progress is False:
        return None
    if not callable(progress):
        raise SigmaTuneError(f"progress is a function of the calls done and all calls, or None, not {shown(progress)}.")
    seen: Callable[[int, int], None] = progress
    return seen


def _room(n: int, denoiser: Denoiser) -> torch.Tensor:
    """An empty tensor for n images.

    Raises:
        SigmaTuneError: if the device has not enough memory.
    """
    try:
        return torch.empty(n, *denoiser.shape, dtype=denoiser.dtype, device=denoiser.device)
    except RuntimeError:  # both devices' error for too little memory
        raise SigmaTuneError(
            f"{n:,} images of shape {tuple(denoiser.shape)} do not fit in the memory of {denoiser.device}; sample them in "
            "parts, such as indices=range(0, 1000)."
        ) from None


def _unsound(
    denoiser: Denoiser, sampled: Callable[[Callable[[Step], None]], Any], calls: int, bad: int, row: int
) -> SigmaTuneError:
    """The error for a row that became NaN or infinite; reruns it to find the call, so that a sound run costs nothing."""

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
