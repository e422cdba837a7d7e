r"""Builds the exact denoisers of real data: images by class, one Gaussian each, the reference set and the spectra beside them.

A class has thousands of images, but a full covariance at 32 x 32 has millions of entries. So, in a cosine transform,
only the rings of low frequency have a full covariance (``benchmarks/exact.py`` compares limits),

.. math:: C = (1 - a) S + a \operatorname{diag} S + \text{floor}

with the share a that maximises the likelihood of held-out images. The modes beyond are independent, each with its own
power, shrunk towards the mean of its ring where images are few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy.fft import dct

from sigmatune.models.exact import EXACT, Exact
from sigmatune.models.exact.builds import Exactly, Fit, Source, read, sha256, write
from sigmatune.models.exact.class_mixture import Basis
from sigmatune.models.exact.empirical import in_range
from sigmatune.noise import vp
from sigmatune.spectra.rings import rings
from sigmatune.spectra.sources import open_images
from sigmatune.spectra.spectrum import QUANTISATION
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.folders import whole_folder
from sigmatune.support.pixels import to_pixels

Tensor = torch.Tensor
Progress = Callable[[str], None]

FULL_RINGS = {16: None, 32: 8}
"""The last ring with full covariance by size; None for all. Measured on held-out images by ``benchmarks/exact.py``."""

SHARES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Candidate shares of the diagonal in a full covariance."""

LEAN = 20
"""The weight of a ring's mean power in the power of each of its modes, in images."""

ROWS, COMPONENTS = 5000, {"head": 128}
"""The parts of a reference to keep, as for the bundled models."""


@dataclass(frozen=True)
class Data:
    """A downloadable data set.

    Attributes:
        key: Its array in the archive.
        classes: Names of the labels; empty where the labels are names.
        origin, licence: For the card.
    """

    key: str
    classes: tuple[str, ...]
    origin: str
    licence: str


DATA = {
    "cifar10": Data(
        "train",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009), https://www.cs.toronto.edu/~kriz/cifar.html",
        "none stated; collected for research",
    ),
    "emoji": Data(
        "images",
        (),
        "Noto Emoji (Google) and Twemoji (Twitter), https://github.com/iamcal/emoji-data",
        "Apache-2.0 and CC BY 4.0",
    ),
}


@dataclass(frozen=True)
class Sorted:
    """8-bit images sorted by class.

    Attributes:
        images: (n, C, H, W), uint8.
        counts: Images of each class, by name.
    """

    images: Tensor
    counts: dict[str, int]


def build(
    name: str,
    data: Path | None = None,
    *,
    reference: int = 10_000,
    progress: Progress = print,
) -> Exact:
    """Builds an exact denoiser into the cache, whole or not at all; an older one is replaced.

    Args:
        name: A name of ``sigmatune.models.exact.EXACT``, with or without the prefix ``exact:``.
        data: The fetched archive; data/<data set>.npz by default.
        reference: Number of exact draws whose statistics become the reference set; 0 for none. An empirical denoiser
            uses all images.
        progress: Receives the current action.

    Raises:
        SigmaTuneError: for an unknown name, missing data, or a cache that cannot be written.
    """
    exact = EXACT[name.removeprefix("exact:")]
    file = data or Path("data") / f"{exact.data}.npz"
    if not file.is_file():
        raise SigmaTuneError(f"there is no {file}; fetch it with python tools/fetch_{exact.data}.py, or pass its path.")
    known = DATA[exact.data]
    progress(f"reading {file}")
    images = sorted_images(file, known, exact.size)
    source = Source(
        name=exact.data, origin=known.origin, licence=known.licence, file=file.name, sha256=sha256(file)
    )  # fmt: skip
    fit, arrays = None, {"images": images.images}
    if exact.kind == "mixture":
        arrays, fit = fit_mixture(images, full_rings=FULL_RINGS[exact.size], progress=progress)
    with whole_folder(exact.folder) as folder:
        write(
            folder, arrays, name=exact.name, kind=exact.kind, shape=list(images.images.shape[1:]), n=len(images.images),
            classes=images.counts, source=source, path=dict(vp().spec()), fit=fit, command=exact.command,
            versions={package: version(package) for package in ("sigmatune", "torch", "numpy", "scipy")},
        )  # fmt: skip
        if reference:
            beside(folder, exact, read(exact, folder=folder), images, reference, progress)
    return exact


def sorted_images(file: Path, known: Data, size: int) -> Sorted:
    """Reads an archive, resizes its images, rounds them to 8 bits again, and sorts them by class.

    Raises:
        SigmaTuneError: if it holds no labelled images.
    """
    images = open_images(file, key=known.key, size=size)
    batches, labels = [], []
    for values, names in images:
        if names is None:
            raise SigmaTuneError(f"{file} holds no labels; the mixture needs classes.")
        batches.append(torch.from_numpy(to_pixels(values)).permute(0, 3, 1, 2))
        labels += [known.classes[int(name)] if known.classes else name for name in names]
    classes = known.classes or images.classes
    place = np.array([classes.index(label) for label in labels])
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place, minlength=len(classes)).tolist()
    return Sorted(torch.cat(batches)[order].contiguous(), dict(zip(classes, counts, strict=True)))


# ----------------------------------------------------------------------------------------------------------- mixture


def fit_mixture(
    data: Sorted, *, full_rings: int | None, lean: float = LEAN, progress: Progress = print
) -> tuple[dict[str, Tensor], Fit]:
    """Estimates one Gaussian for each class.

    Args:
        data: The images.
        full_rings: The last ring whose modes have a full covariance; None for all.
        lean: The weight of a ring's mean power in that of each of its modes, in images.
        progress: Receives the current class.

    Returns:
        The arrays of a :class:`~sigmatune.models.exact.class_mixture.ClassMixture`, and their fit.
    """
    shape = tuple(data.images.shape[1:])
    ring = rings(shape[1], shape[2], "dct")
    basis = basis_of(data.images, ring)
    cells = cells_of(shape[0], ring)[basis.order]
    m = int((ring <= (ring.max() if full_rings is None else full_rings)).sum()) * shape[0]
    means, variances, axes, shrinkage = [], [], [], {}
    for name, x in zip(data.counts, torch.split(data.images, list(data.counts.values())), strict=True):
        progress(f"{name}: {len(x)} images, {m} of {basis.order.numel()} modes with full covariance")
        values = in_range(x, torch.float64)
        means.append(values.mean(0))
        variance, axis, shrinkage[name] = gaussian(basis.modes(values - means[-1]), m, cells, lean)
        variances.append(variance)
        axes.append(axis)
    weights = torch.tensor(list(data.counts.values()), dtype=torch.float64)
    arrays = {
        "weights": weights / weights.sum(), "means": torch.stack(means), "variances": torch.stack(variances),
        "axes": torch.stack(axes), "colours": basis.colours, "rows": basis.rows, "columns": basis.columns,
        "order": basis.order,
    }  # fmt: skip
    fit = Fit(
        full_modes=m, all_modes=basis.order.numel(), full_rings=full_rings, shrinkage=shrinkage, floor=QUANTISATION
    )
    return arrays, fit


def gaussian(a: Tensor, m: int, cells: Tensor, lean: float) -> tuple[Tensor, Tensor, float]:
    """Variances along the axes, (d,), axes (m, m), and the share of the diagonal, of a class.

    Args:
        a: Centred modes, (n, d), those with full covariance first.
        m: How many these are.
        cells: The groups of modes that share a mean, (d,): the number of a ring and a colour.
        lean: The weight of that mean, in images.
    """
    measured = a.square().mean(0)
    count = torch.bincount(cells)
    mean = torch.zeros(len(count), dtype=a.dtype).index_add_(0, cells, measured) / count.clamp(min=1)
    power = (len(a) * measured + lean * mean[cells]) / (len(a) + lean)
    floored = power + QUANTISATION
    low = a[:, :m]
    share = best_share(low, power[:m]) if m else 1.0
    covariance = (1 - share) * (low.T @ low) / len(a) + torch.diag(share * power[:m])
    values, axes = torch.linalg.eigh(covariance + QUANTISATION * torch.eye(m, dtype=a.dtype))
    # Rounding leaves eigenvalues slightly below the floor if there are fewer images than modes.
    return torch.cat([values.clamp(min=QUANTISATION), floored[m:]]), axes, share


def best_share(a: Tensor, power: Tensor) -> float:
    """The share of the diagonal that maximises the likelihood of every tenth image under the others' covariance."""
    held = torch.arange(len(a)) % 10 == 9
    if not held.any():
        return 1.0
    scale = (power + QUANTISATION).sqrt()  # so that every mode counts the same and nothing is too small
    known, left = (part / scale for part in (a[~held], a[held]))
    values, axes = torch.linalg.eigh(known.T @ known / len(known))  # one basis for every share of the identity
    square = (left @ axes).square().mean(0)

    def cost(share: float) -> float:
        variance = ((1 - share) * values + share).clamp(min=1e-9)
        return float((square / variance + variance.log()).sum())

    return min(SHARES, key=cost)


def basis_of(images: Tensor, ring: np.ndarray) -> Basis:
    """A cosine transform and the principal axes of the colours, low frequencies first."""
    x = in_range(images[:: max(1, len(images) // 5000)], torch.float64)
    covariance = torch.cov((x - x.mean(0)).transpose(0, 1).flatten(1)).reshape(x.shape[1], x.shape[1])
    _, colours = torch.linalg.eigh(covariance)
    order = np.argsort(np.broadcast_to(ring, (x.shape[1], *ring.shape)).ravel(), kind="stable")
    rows, columns = (torch.from_numpy(dct(np.eye(n), norm="ortho", axis=0)) for n in ring.shape)
    return Basis(colours.T.contiguous(), rows, columns, torch.from_numpy(order))


def cells_of(channels: int, ring: np.ndarray) -> Tensor:
    """The number of the ring and colour of each mode, (d,)."""
    each = ring.ravel()[None] + (ring.max() + 1) * np.arange(channels)[:, None]
    return torch.from_numpy(each.ravel())


# ------------------------------------------------------------------------------------------------------ what lies beside


def beside(folder: Path, exact: Exact, model: Exactly, images: Sorted, n: int, progress: Progress) -> None:
    """Writes the files beside a bundled model's weights: the reference set's statistics and the spectra."""
    from sigmatune.evaluation.extractors import extractor
    from sigmatune.evaluation.extractors.raw_pixels import Projections, Rings
    from sigmatune.evaluation.reference_set import measure
    from sigmatune.spectra.mixture_fit import fit

    x, labels, name = drawn(model, exact, images, n)
    progress(f"spectra and statistics of {name}")
    fit(x, labels).save(folder / "spectra.json")
    used = [extractor("efficientnet-lite0", tuple(model.shape)), Projections(), Rings()]
    # Draws are images once they are clipped to their range, as samples are before they are compared with them.
    statistics = measure(open_images(to_pixels(x, model.value_range)), used, name=name)
    statistics.save(folder / "reference.npz", most=ROWS, components=COMPONENTS, half=True)


def drawn(model: Exactly, exact: Exact, images: Sorted, n: int) -> tuple[Tensor, Sequence[str], str]:
    """The reference set, its classes and its name: exact draws, or all images of an empirical denoiser."""
    if exact.kind == "empirical":
        labels = [name for name, count in images.counts.items() for _ in range(count)]
        return in_range(images.images, torch.float32), labels, f"all {len(labels):,} images of exact:{exact.name}"
    labels = [model.classes[k] for k in model.components(n)]
    return model.draw(n).float(), labels, f"{n:,} exact draws of exact:{exact.name}"
