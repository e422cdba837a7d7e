r"""Stepwise spectral analysis: which frequencies a sampler decides at which noise level.

A long chain is run, and at every network call the spectrum of the state and of the network's estimate is recorded as

.. math:: L(k) = \frac{1}{C \, n_k} \sum_c \sum_{\mathrm{round}(r) = k} \log |F_c|, \qquad F = \mathrm{fft2}(x) / \sqrt{HW}

the radial mean of the log-magnitude spectrum: the mean of the log, as in the paper, not the log of the mean. For a
Gaussian mode of variance v the two differ by a constant, :math:`E \log |F|^2 = \log v - \gamma` for complex modes and
:math:`\log v - \gamma - \log 2` for the few real ones (:math:`\gamma = 0.577`), which cancels in changes. The state is
in the model's own scaling, which adds one constant to all of L and leaves L(k) - L(0) unchanged.

Only sums over samples are kept, never an image: memory does not depend on the number of samples.

Reference: Beta Sampling is All You Need: Efficient Image Generation Strategy for Diffusion Models using Stepwise Spectral
Analysis (Lee et al., 2024), https://arxiv.org/abs/2407.12173
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sigmatune.analysis.result import Stepwise
from sigmatune.core import identity, soundness
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.loop import Step
from sigmatune.core.schedule import MOST_STEPS, whole
from sigmatune.noise import Array, close
from sigmatune.plan import Plan, compile_plan, sample
from sigmatune.schedules import FAMILIES, build
from sigmatune.solvers import solver as solver_of
from sigmatune.spectra.rings import binning, rings, whole_rings
from sigmatune.statistics.pieces import pieces
from sigmatune.support.elementwise import magnitude
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder, write_bytes
from sigmatune.support.pixels import first_unsound
from sigmatune.support.reading import sealed, unsealed

STEPS = 200
FOLDS = 10
"""Number of folds for intervals; sample i is in fold i modulo this; fewer samples make fewer folds."""

FLOOR = 1e-6
"""Magnitudes of modes of the unit state below this are the rounding of float32 images and count as this."""

SMALLEST = 4
"""Smallest side in pixels with a low and a high band."""


def chain(
    model: Denoiser, steps: int | None = None, *, solver: str = "euler", family: str = "uniform-trailing"
) -> Plan:
    """Compiles the long chain on which a model is analysed.

    Args:
        model: The model.
        steps: N; 200 by default, or all levels of the path if they are fewer.
        solver: A solver with one network call per step: ``"euler"`` (DDIM), ``"ancestral"`` (DDPM), ``"dpmpp2m"``...
        family: A schedule family; the uniform families sample the model's own time evenly.

    Raises:
        SigmaTuneError: for a family or solver that is unknown or does not fit the model.
    """
    steps = min(STEPS, model.path.levels) if steps is None else whole(steps, "steps")
    return compile_plan(build(family, steps, model.path), solver, model)


def check(n: int, steps: int, solver: str, family: str) -> None:
    """Refuses an analysis that no model allows; takes what :func:`chain` and :func:`analyze` take.

    Raises:
        SigmaTuneError: for too few samples, impossible steps, or a family or solver that is unknown or unsuitable.
    """
    _enough(n)
    whole(steps, "steps", most=MOST_STEPS)
    FAMILIES[family]
    chosen = solver_of(solver)
    if chosen.augmented or chosen.between or chosen.calls(2) != 2:
        raise _other_calls(chosen.name)


def analyze(
    model: Denoiser,
    n: int = 64,
    *,
    plan: Plan | None = None,
    seed: int = 0,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Stepwise:
    """Runs a long chain and records the log-magnitude spectra of state and estimate at every network call.

    Args:
        model: A denoiser of images (C, H, W) of at least 4 x 4 pixels.
        n: How many samples, at least 2; sample i starts from the noise of (seed, i).
        plan: The chain, one network call per step; :func:`chain` of the model by default.
        seed: Seed of all noise.
        store: A folder for the sums so far: a killed run resumes there and loses at most one micro-batch.
        progress: Called with (calls done, calls in all), in units of one micro-batch's call.

    Raises:
        SigmaTuneError: if the data is not an image, the plan does not fit, or the model returns NaN.
    """
    plan = chain(model) if plan is None else plan
    n = _checked(model, plan, n)
    checked = soundness.check(model) + model.renew()
    bins, folds, size = binning(*model.shape[-2:], "fft", corners=False), min(FOLDS, n), plan.micro_batch
    kept = None if store is None else _Kept(store, _key(identity.name_in(store, identity.name(model)), plan, n, seed))
    sums = np.zeros((2, folds, plan.steps + 1, len(bins.count)))
    done = 0 if kept is None else kept.read(sums)
    batches = -(-n // size)
    for batch in range(done, batches):
        rows = range(batch * size, min((batch + 1) * size, n))
        _add(model, plan, seed, rows, sums, _moved(progress, batch * plan.calls, batches * plan.calls))
        if kept is not None:
            kept.write(sums, batch + 1)
    sigmas = plan.schedule.sigmas
    taus = np.append(model.path.position(sigmas[:-1]), 0.0)
    counts = np.bincount(np.arange(n) % folds, minlength=folds).astype(np.float64)
    about = _about(model, plan, n, seed, checked)
    return Stepwise(taus, sigmas, sums[0], sums[1], counts, bins.count, model.path.levels, about)


def analyze_groups(
    models: Mapping[str, Denoiser],
    n: int = 64,
    *,
    plan: Plan | None = None,
    seed: int = 0,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Stepwise], Stepwise]:
    """Analyses one model under several conditions, such as classes or prompts, on the same noises.

    Args:
        models: A denoiser for each condition, of equal shape and path.
        n, plan, seed, store, progress: As for :func:`analyze`, for each of them.

    Returns:
        The analysis of each condition, and their :func:`mean`.

    Raises:
        SigmaTuneError: as :func:`analyze`, or if there is no model or they differ in shape or path.
    """
    if len({(tuple(m.shape), str(m.path.spec())) for m in models.values()}) != 1:
        raise SigmaTuneError("give at least one denoiser, all of equal shape and noise path.")
    plan = None if plan is None else plan.with_notes(fingerprint=None)
    analyses: dict[str, Stepwise] = {}
    for name, model in models.items():
        chained = chain(model) if plan is None else plan
        batches = -(-whole(n, "n") // chained.micro_batch)
        shown = _moved(progress, len(analyses) * batches * chained.calls, len(models) * batches * chained.calls)
        analyses[name] = analyze(model, n, plan=chained, seed=seed, store=store, progress=shown)
    return analyses, mean(analyses)


def mean(analyses: Mapping[str, Stepwise]) -> Stepwise:
    """Averages analyses of the same noises; a fold of the mean holds the same noises of all of them.

    Raises:
        SigmaTuneError: without an analysis, or if they differ in chain, noises or size of image.
    """
    parts = list(analyses.values())
    if not parts:
        raise SigmaTuneError("a mean needs at least one analysis.")
    first = parts[0]
    for part in parts[1:]:
        same = part.sums_x.shape == first.sums_x.shape and part.about.get("seed") == first.about.get("seed")
        if not (same and np.allclose(part.taus, first.taus) and np.array_equal(part.counts, first.counts)):
            raise SigmaTuneError("a mean needs analyses of one chain, one seed and one number of samples.")
    sums = {name: sum(getattr(part, name) for part in parts) for name in ("sums_x", "sums_x0", "counts")}
    spent = sum(int(part.about.get("network_evaluations", 0)) for part in parts)
    about = {
        **first.about,
        "n": first.n * len(parts),
        "network_evaluations": spent,
        "mean_of": {k: dict(v.about) for k, v in analyses.items()},
    }
    return replace(first, **sums, about=about)


def log_magnitudes(images: torch.Tensor) -> Array:
    """The radial mean of log|F| of every image, averaged over channels.

    Args:
        images: (B, C, H, W).

    Returns:
        (B, K), float64, K = floor(min(H, W) / 2) + 1. A row's bits do not depend on the other rows.

    Raises:
        SigmaTuneError: if an image holds NaN or an infinite value.
    """
    return np.concatenate([_log_magnitudes(part) for part in pieces(images.detach())])


def _log_magnitudes(images: torch.Tensor) -> Array:
    wide = images.to("cpu", torch.float64)
    height, width = wide.shape[-2:]
    logs = magnitude(torch.fft.fft2(wide, norm="ortho")).clamp_(min=FLOOR).log_().mean(dim=1).flatten(1)
    kept, ring = whole_rings(height, width), torch.from_numpy(_ring_of_modes(height, width))
    sums = logs.new_zeros(len(logs), kept + 1).index_add_(1, ring, logs)[:, :kept].numpy()
    if not np.isfinite(sums).all():
        raise SigmaTuneError("the model returned NaN or infinity; it cannot be analysed.")
    return np.asarray(sums / binning(height, width, "fft", corners=False).count)


@lru_cache(maxsize=32)
def _ring_of_modes(height: int, width: int) -> NDArray[np.int64]:
    """The whole ring of every mode, or K for modes in the corners, (H W,); cached because every call needs it."""
    return np.minimum(rings(height, width), whole_rings(height, width)).ravel()


def _add(
    model: Denoiser, plan: Plan, seed: int, rows: range, sums: Array, progress: Callable[[int, int], None] | None
) -> None:
    """Runs one micro-batch and adds its spectra to the sums, (2, G, N + 1, K)."""
    fold = np.array(rows) % sums.shape[1]
    scale = np.log(model.path.state_scale(plan.schedule.sigmas[:-1]))

    def record(step: Step) -> None:
        if (bad := first_unsound(step.x0)) is not None:
            raise model.unsound(
                f"in call {step.call + 1} of {plan.calls} (sigma {step.sigma[bad]:.4g}), image {rows[bad]}"
            )
        # One row after the other: the same bits for any micro-batches.
        np.add.at(sums[0, :, step.call], fold, log_magnitudes(step.z) + scale[step.call])
        np.add.at(sums[1, :, step.call], fold, log_magnitudes(step.x0))

    images = sample(model, plan, seed=seed, indices=rows, on_step=record, progress=progress)
    last = log_magnitudes(images)  # in every scaling: at sigma = 0 the state is the image
    for part in sums:
        np.add.at(part[:, -1], fold, last)


def _checked(model: Denoiser, plan: Plan, n: int) -> int:
    if len(model.shape) != 3 or min(model.shape[-2:]) < SMALLEST:
        raise SigmaTuneError(
            f"an analysis needs images (C, H, W) of at least {SMALLEST} x {SMALLEST} pixels, not {tuple(model.shape)}."
        )
    _enough(n)
    q = plan.coefficients.q.numpy()
    levels = plan.schedule.sigmas[..., :-1]
    if q.shape != levels.shape or not close(q, levels).all() or q.ndim != 1:
        raise _other_calls(plan.solver)
    return n


def _enough(n: int) -> None:
    if whole(n, "n") < 2:
        raise SigmaTuneError("an analysis needs at least 2 samples to estimate its uncertainty.")


def _other_calls(solver: str) -> SigmaTuneError:
    return SigmaTuneError(
        f"an analysis follows one network call per step and {solver} makes others; take euler, dpmpp2m or ancestral."
    )


def _moved(progress: Callable[[int, int], None] | None, before: int, total: int) -> Callable[[int, int], None] | None:
    """Maps the progress of a part to progress of the whole."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def _about(model: Denoiser, plan: Plan, n: int, seed: int, checked: int) -> dict[str, object]:
    return {
        "model": model.fingerprint(),
        "path": model.path.spec(),
        "shape": list(model.shape),
        "guidance": model.guidance,
        "family": plan.schedule.family,
        "family_options": dict(plan.schedule.options),
        "solver": plan.solver,
        "solver_options": dict(plan.solver_options),
        "n": n,
        "seed": seed,
        "micro_batch": plan.micro_batch,
        "network_evaluations": checked + plan.evaluations(model, n),
    }


def _key(name: str, plan: Plan, n: int, seed: int) -> str:
    text = f"stepwise|{FOLDS}|{FLOOR}|{name}|{seed}|{n}|{plan.micro_batch}|".encode()
    return hashlib.sha256(text + plan.coefficients.digits()).hexdigest()[:32]


class _Kept:
    """The sums so far, in one file that is replaced after every micro-batch."""

    def __init__(self, folder: Path, key: str) -> None:
        self.file = folder / f"{key}.npz"
        make_folder(folder)

    def read(self, sums: Array) -> int:
        """Fills in the sums and returns how many micro-batches they hold; 0 if there is no whole file."""
        data = unsealed(self.file)
        if data is None:
            return 0
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            stored, done = arrays["sums"], int(arrays["done"])
        if stored.shape != sums.shape:
            return 0
        sums[...] = stored
        return done

    def write(self, sums: Array, done: int) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, sums=sums, done=done)
        write_bytes(self.file, sealed(buffer.getvalue()))
