r"""Fitting a mixture over spectra: every image is reduced to a few numbers, and BIC chooses their Gaussian mixture.

.. math:: \mathrm{BIC}(J) = p_J \log n - 2 \log L_J

with L the likelihood of J Gaussians with full covariances and p their number of parameters. Images pass by in batches
and only their features are kept: two numbers for a power law, one per ring until the principal components are known.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch

from sigmatune.core.schedule import whole
from sigmatune.noise import Array
from sigmatune.spectra.mixture import Mixture, Part
from sigmatune.spectra.rapsd import rapsd
from sigmatune.spectra.rings import binning
from sigmatune.spectra.spectrum import QUANTISATION
from sigmatune.support.errors import SigmaTuneError

Labels = Sequence[Any] | torch.Tensor | None
Batches = torch.Tensor | Iterable[torch.Tensor | tuple[torch.Tensor, Labels]]

LEAST = 2
"""Fewest images of a class, or in all, that have a covariance."""

ROOM = 5
"""Images per component and free direction that a mixture needs at least; with fewer, the mixture would overfit."""

SPREAD = 1e-4
"""Added to the variance of standardised features, so that equal images do not give a component of zero width."""


def fit(
    images: Batches,
    labels: Labels = None,
    *,
    reduction: Literal["law", "pca"] = "law",
    components: int = 4,
    most: int = 6,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Mixture:
    """Fits a mixture to the spectra of images, one over all of them and one per class.

    Args:
        images: (n, C, H, W), or batches of it, each alone or with its labels; floating point, of one size.
        labels: The classes of a single tensor of images, n names or numbers.
        reduction: ``"law"``, log amplitude and slope, or ``"pca"``, principal components of the log-spectrum.
        components: q, how many principal components, at most.
        most: Largest number of Gaussians to try.
        seed: Seed of the fit.
        progress: Called with the number of images seen.

    Raises:
        SigmaTuneError: for fewer than two images in all or in a class, images too small to have a slope, labels that do
            not fit, or if scikit-learn is not installed.
    """
    check_reduction(reduction)
    seen = _Seen(reduction)
    for batch, names in _labelled(images, labels):
        seen.add(batch, names)
        if progress is not None:
            progress(len(seen.names))
    centre, basis, features = seen.reduced(whole(components, "components"))
    check(seen.names, seen.size, reduction)
    groups: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(seen.names):
        if name is not None:
            groups[name].append(i)
    everything = _part(features, seen.sums[None] / len(features), most, seed)
    classes = {
        name: _part(features[rows], seen.sums[name] / len(rows), most, seed) for name, rows in sorted(groups.items())
    }
    return Mixture(reduction, seen.size, centre, basis, everything, classes)


def check_reduction(reduction: str) -> None:
    """Refuses an unknown reduction, and a machine without scikit-learn.

    Raises:
        SigmaTuneError: in one sentence.
    """
    _mixtures()
    if reduction not in ("law", "pca"):
        raise SigmaTuneError(f"a reduction is 'law' or 'pca', not {reduction!r}.")


def check(names: Sequence[str | None], size: tuple[int, int], reduction: str = "law") -> None:
    """Refuses data to which no mixture can be fitted; call it before long work that ends with a fit.

    Args:
        names: The class of each image, None for images without one.
        size: (H, W).
        reduction: As for :func:`fit`.

    Raises:
        SigmaTuneError: as :func:`fit` does.
    """
    check_reduction(reduction)
    if min(size) // 2 + 1 < (3 if reduction == "law" else 2):
        raise SigmaTuneError(f"images of {size[0]} x {size[1]} pixels have too few rings for a fit; use larger images.")
    counts = Counter(name for name in names if name is not None)
    small = next((name for name, count in sorted(counts.items()) if count < LEAST), None)
    if len(names) < LEAST or small is not None:
        where = f"of class {small!r}" if small is not None else "in all"
        raise SigmaTuneError(f"a mixture needs at least two images {where}; pass more or leave that class out.")


class _Seen:
    """Keeps the images' classes, their reduced log-spectra, and sums."""

    def __init__(self, reduction: str) -> None:
        self.reduction = reduction
        self.names: list[str | None] = []
        self.rows: list[Array] = []
        self.size = (0, 0)
        self.sums: dict[str | None, Array] = defaultdict(lambda: np.zeros(1))
        self.dc = 0.0

    def add(self, images: torch.Tensor, names: list[str | None]) -> None:
        power = rapsd(images).double().cpu().numpy()
        size = (int(images.shape[-2]), int(images.shape[-1]))
        if self.rows and size != self.size:
            raise SigmaTuneError(f"images of size {size} follow images of size {self.size}; bring all to one size.")
        self.size = size
        if power.shape[-1] < (3 if self.reduction == "law" else 2):
            raise SigmaTuneError(
                f"images of {size[0]} x {size[1]} pixels have too few rings for a fit; use larger images."
            )
        logs = np.log(np.maximum(power, QUANTISATION))
        self.rows.append(logs[:, 1:] @ _law(size)[0] if self.reduction == "law" else logs[:, 1:])
        self.dc += logs[:, 0].sum()
        self.names.extend(names)
        for name in {None, *names}:
            chosen = power if name is None else power[[other == name for other in names]]
            self.sums[name] = self.sums[name] + chosen.sum(axis=0)

    def reduced(self, components: int) -> tuple[Array, Array, Array]:
        """The centre (K,), the basis (q, K) and the features (n, q)."""
        if not self.rows:
            raise SigmaTuneError("there are no images; a mixture needs at least two.")
        rows, dc = np.concatenate(self.rows), self.dc / len(self.names)
        if self.reduction == "law":
            basis = _law(self.size)[1]
            centre, features = np.zeros(basis.shape[1]), rows
        else:
            centre = rows.mean(axis=0)
            basis = np.linalg.svd(rows - centre, full_matrices=False)[2][:components]
            features = (rows - centre) @ basis.T
        pad = np.zeros((len(basis), 1))
        return np.append(dc, centre), np.concatenate([pad, basis], axis=1), features


def _law(size: tuple[int, int]) -> tuple[Array, Array]:
    r"""Weighted least squares of log P on log k, k >= 1, with the mode counts as weights: the map to features and back.

    Returns:
        (K - 1, 2), from log P to (log amplitude, slope), and (2, K - 1), from features to log P.
    """
    count = binning(*size, "fft", corners=False).count[1:]
    basis = np.stack([np.ones(len(count)), -np.log(np.arange(1.0, len(count) + 1))])
    weighted = basis * count
    return np.linalg.solve(weighted @ basis.T, weighted).T, basis


def _labelled(images: Batches, labels: Labels) -> Iterator[tuple[torch.Tensor, list[str | None]]]:
    """Batches with one name or None per image."""
    if not isinstance(images, torch.Tensor) and labels is not None:
        raise SigmaTuneError("labels belong to a single tensor of images; for batches, yield (images, labels) pairs.")
    for item in [(images, labels)] if isinstance(images, torch.Tensor) else images:
        batch, batch_labels = item if isinstance(item, tuple) else (item, None)
        plain = batch_labels.tolist() if hasattr(batch_labels, "tolist") else batch_labels
        names: list[str | None] = [None] * len(batch) if plain is None else [str(name) for name in plain]
        if len(names) != len(batch):
            raise SigmaTuneError(f"{len(names)} labels do not fit {len(batch)} images; give one each.")
        yield batch, names


def _part(features: Array, mean_power: Array, most: int, seed: int) -> Part:
    """Fits 1, 2, ... Gaussians to standardised features and keeps the number with the least BIC."""
    n, q = features.shape
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    scores, fits = [], []
    for count in range(1, 1 + min(whole(most, "most"), max(n // (ROOM * (q + 1)), 1))):
        model = _mixtures()(count, reg_covar=SPREAD, n_init=3, max_iter=500, tol=1e-4, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence: the BIC of a fit that goes on is an upper bound
            model.fit((features - centre) / scale)
        fits.append(model)
        scores.append(float(model.bic((features - centre) / scale)))
    best = fits[int(np.argmin(scores))]
    covariances = best.covariances_ * np.outer(scale, scale)
    means = best.means_ * scale + centre
    return Part(best.weights_ / best.weights_.sum(), means, covariances, mean_power, n, scores)


def _mixtures() -> Any:
    """scikit-learn's GaussianMixture.

    Raises:
        SigmaTuneError: if it is not installed.
    """
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise SigmaTuneError(
            "fitting spectra needs scikit-learn; install the extra: pip install sigmatune[spectra]."
        ) from None
    return GaussianMixture
