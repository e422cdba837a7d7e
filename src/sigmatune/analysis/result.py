r"""The result of a stepwise analysis: log-magnitude spectra along a chain, and their changes.

With :math:`L_\tau(k)` the mean of log|F| over samples, channels and the modes of ring k, at position :math:`\tau`,

.. math:: R_\tau(k) = L_\tau(k) - L_\tau(0), \quad \Delta_\tau(k) = R_\tau(k) - R_{\tau'}(k), \quad
          c(\tau) = \frac{\sum_k |\Delta_\tau(k)|}{\tau' - \tau}

for the step that arrives at :math:`\tau` from the noisier :math:`\tau'`. The change is positive where a frequency grows
against the mean colour (k = 0) while the image is denoised. Summed over steps it telescopes, whatever the chain.

Reference: Beta Sampling is All You Need (Lee et al., 2024), https://arxiv.org/abs/2407.12173
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sigmatune.core.schedule import validate
from sigmatune.noise import Array
from sigmatune.support import outputs, reading
from sigmatune.support.errors import SigmaTuneError, shown

Of = Literal["x", "x0"]
"""The state x in the model's own scaling, or the network's estimate of the clean image."""

Band = Literal["low", "high"]
FORMAT, VERSION = "sigmatune/analysis", 1
_ARRAYS = ("taus", "sigmas", "sums_x", "sums_x0", "counts", "modes")


@dataclass(frozen=True, eq=False)
class Stepwise:
    """Log-magnitude spectra along a chain of N network calls, as sums over folds of samples.

    Args:
        taus: Position of every point on the noise path, (N + 1,), falling from at most ``levels`` to 0, the clean image.
        sigmas: Their noise levels, (N + 1,), ending in 0.
        sums_x: Sum over a fold's samples of L(k) of the state, (G, N + 1, K); sample i is in fold i modulo G.
        sums_x0: The same for the network's estimate; at sigma = 0 it is the image itself.
        counts: Samples in each fold, (G,).
        modes: n_k, modes in each ring, (K,).
        levels: T, the positions of the path.
        about: Its provenance: model, path, shape, family, solver, n, seed, micro_batch. JSON-ready.

    Raises:
        SigmaTuneError: if the arrays do not fit together or hold anything that is not a number.
    """

    taus: Array
    sigmas: Array
    sums_x: Array
    sums_x0: Array
    counts: Array
    modes: Array
    levels: int
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        validate(self.sigmas)
        expected = (len(self.counts), len(self.sigmas), len(self.modes))
        if self.taus.shape != self.sigmas.shape or not self.sums_x.shape == self.sums_x0.shape == expected:
            raise SigmaTuneError(
                f"an analysis of {expected[0]} folds, {expected[1]} points and {expected[2]} rings does not have "
                f"sums of shape {self.sums_x.shape} and {self.sums_x0.shape}."
            )
        if not all(np.isfinite(getattr(self, name)).all() for name in _ARRAYS if name != "sigmas"):
            raise SigmaTuneError("an analysis holds a value that is not a finite number; run it again.")
        falls = bool((np.diff(self.taus) < 0).all()) and self.taus[-1] == 0 and self.taus[0] <= self.levels * (1 + 1e-6)
        if not falls or (self.counts < 1).any() or len(self.modes) < 3:
            raise SigmaTuneError(
                "an analysis needs positions that fall from at most the path's levels to 0, samples in every fold, "
                "and images of at least 4 x 4 pixels."
            )

    @property
    def n(self) -> int:
        """How many samples."""
        return int(self.counts.sum())

    @property
    def steps(self) -> int:
        """N."""
        return len(self.taus) - 1

    @property
    def folds(self) -> int:
        """G, the parts that the samples are split into for intervals."""
        return len(self.counts)

    @property
    def shares(self) -> Array:
        """Share of the way from the clean image (0) to noise (1) of every point, tau / T, (N + 1,)."""
        return self.taus / self.levels

    def log_magnitude(self, of: Of = "x") -> Array:
        """L(k) at every point, (N + 1, K)."""
        sums = {"x": self.sums_x, "x0": self.sums_x0}[of]
        return np.asarray(sums.sum(axis=0) / self.counts.sum())

    def rlm(self, of: Of = "x") -> Array:
        """The relative log magnitude L(k) - L(0) at every point, (N + 1, K)."""
        magnitude = self.log_magnitude(of)
        return magnitude - magnitude[:, :1]

    def change(self, of: Of = "x", *, relative: bool = True) -> Array:
        """Delta of every step, (N, K), of the relative log magnitude, or of L itself; row i arrives at ``taus[i + 1]``."""
        return np.diff(self.rlm(of) if relative else self.log_magnitude(of), axis=0)

    def rings(self, band: Band | None = None) -> npt.NDArray[np.intp]:
        """The rings of a band: 0 < k < k_max / 3 (k = 1 at least), k > 2 k_max / 3, or all but k = 0."""
        k, k_max = np.arange(len(self.modes)), len(self.modes) - 1
        if band is None:
            return k[1:]
        return k[(k > 0) & (k < max(k_max / 3, 1.5))] if band == "low" else k[k > 2 * k_max / 3]

    def density(self, of: Of = "x", *, band: Band | None = None, relative: bool = True) -> Array:
        """The change density c of every step, (N,), per unit of tau, over all rings or those of a band."""
        change = np.abs(self.change(of, relative=relative))[:, self.rings(band)].sum(axis=1)
        return np.asarray(change / -np.diff(self.taus))

    def parts(self, of: Of = "x", *, band: Band | None = None, relative: bool = True) -> tuple[Array, Array]:
        """The change density as shares of the whole change in bins of the way, clean end first.

        Returns:
            Edges of the bins in [0, 1], rising, (N + 1,), and the share of the change in each bin, (N,), summing to 1.

        Raises:
            SigmaTuneError: if nothing changes, as on a white spectrum, where all frequencies change like k = 0.
        """
        mass = (self.density(of, band=band, relative=relative) * -np.diff(self.taus))[::-1]
        if mass.sum() < 1e-9:
            raise SigmaTuneError(
                "no frequency changes against the mean colour along this chain, so there is no change density; "
                "take a model whose spectrum is not white."
            )
        return self.shares[::-1].copy(), mass / mass.sum()

    def median(self, of: Of = "x", *, band: Band | None = None, relative: bool = True) -> float:
        """The tau at which half of the change is done, interpolated linearly inside a step.

        Raises:
            SigmaTuneError: if nothing changes.
        """
        edges, parts = self.parts(of, band=band, relative=relative)
        return float(np.interp(0.5, np.append(0, parts.cumsum()), edges)) * self.levels

    def without(self, fold: int) -> Stepwise:
        """The analysis without one fold's samples, for intervals."""
        kept = {name: np.delete(getattr(self, name), fold, axis=0) for name in ("sums_x", "sums_x0", "counts")}
        return replace(self, **kept)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the arrays to an .npz and everything else to a .json beside it, each atomically.

        Args:
            path: The ``.npz`` file. Files of an analysis that are there are replaced.
            force: Replace any other files, too.

        Raises:
            SigmaTuneError: if the name does not end in .npz or cannot be written to, or another file is there.
        """
        path, buffer = _npz(path), io.BytesIO()
        np.savez(buffer, **{name: getattr(self, name) for name in _ARRAYS})
        arrays, beside = outputs.archive(buffer.getvalue(), "analysis"), path.with_suffix(".json")
        for file in (path, beside):
            outputs.refuse_foreign(file, "analysis", force=force)
        fields = {"format": FORMAT, "version": VERSION, "arrays": path.name, "levels": self.levels}
        outputs.save(path, arrays, "analysis", force=force)
        digest = hashlib.sha256(arrays).hexdigest()
        text = json.dumps({**fields, "sha256": digest, "about": dict(self.about)}, indent=1)
        outputs.save(beside, text + "\n", "analysis", force=force)

    @classmethod
    def load(cls, path: str | Path) -> Stepwise:
        """Reads what :meth:`save` wrote.

        Raises:
            SigmaTuneError: if one of the two files is missing or broken, they are of different runs, or the version is
                unknown.
        """
        path = _npz(path)
        beside = path.with_suffix(".json")
        fields = reading.json_of(beside, kind="analysis")
        data = reading.data_of(path, most=reading.ARRAYS)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise SigmaTuneError(
                f"{beside} does not describe an analysis; give the .npz that `sigmatune analyze` wrote."
            )
        if fields.get("version") != VERSION:
            raise SigmaTuneError(
                f"{beside} has version {shown(fields.get('version'))}, but only version {VERSION} is known; update SigmaTune."
            )
        if hashlib.sha256(data).hexdigest() != fields.get("sha256"):
            raise SigmaTuneError(f"{path} and {beside} are not from one run; run the analysis again.")
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in _ARRAYS}, levels=fields["levels"], about=fields["about"])
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            if isinstance(error, SigmaTuneError):
                raise
            raise SigmaTuneError(f"{path} is not an analysis ({type(error).__name__}); run it again.") from None


def _npz(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise SigmaTuneError(f"an analysis is an .npz file; give a name that ends in .npz, not {path.name!r}.")
    return path
