r"""Spectra drawn at random: a Gaussian mixture over a few numbers per image.

The log-spectra of a data set lie close to a plane of few dimensions,

.. math:: \log P(k) = \mu_k + \sum_j h_j \, b_{jk}

with features h of one image and a basis b that all share: a power law (h is log amplitude and slope, :math:`b_k = (1,
-\log k)`) or principal components. A mixture of Gaussians over h, per class and over all data, is fitted once
(:mod:`sigmatune.spectra.mixture_fit`); this module holds, draws from, saves and loads it. A draw is a function of
(seed, index) alone and needs only numpy.

Reference: Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), https://arxiv.org/abs/2603.19222
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.special import ndtr
from torch import float64

from sigmatune.core.rng import START, noise
from sigmatune.noise import Array
from sigmatune.support import json_file, outputs
from sigmatune.support.errors import SigmaTuneError, unknown_name
from sigmatune.support.json_file import Strict
from sigmatune.support.options import number

FORMAT: Final = "sigmatune/spectra"
VERSION: Final = 1

SPECTRUM = 0x59EC
"""Noise channel of drawn spectra, so that a draw never repeats the start noise of the same seed and index."""


class PartFields(Strict):
    """One mixture: J Gaussians over q features, and where they come from."""

    weights: list[float] = Field(description="of the J components, summing to 1")
    means: list[list[float]] = Field(description="(J, q)")
    covariances: list[list[list[float]]] = Field(description="(J, q, q)")
    mean_power: list[float] = Field(description="mean of P(k) over the images, (K,)")
    images: int = Field(ge=1)
    bic: list[float] = Field(description="Bayesian information criterion of 1, 2, ... components; the least was chosen")


class MixtureFields(Strict):
    """What a mixture over spectra is as JSON."""

    reduction: Literal["law", "pca"]
    size: tuple[int, int] = Field(description="(H, W) of the images in pixels", strict=False)
    centre: list[float] = Field(description="(K,), log-power at features of 0")
    basis: list[list[float]] = Field(description="(q, K), log-power per unit of each feature")
    everything: PartFields
    classes: dict[str, PartFields] = Field(default_factory=dict)


class MixtureFile(MixtureFields):
    """The fields of a file of spectra, version 1."""

    format: Literal["sigmatune/spectra"]
    version: Literal[1]


@dataclass(frozen=True, eq=False)
class Part:
    """A Gaussian mixture over the features of one class or of all data.

    Attributes:
        weights, means, covariances: (J,), (J, q) and (J, q, q).
        mean_power: Mean of P(k) over the images, (K,).
        images: How many images it was fitted to.
        bic: Bayesian information criterion of 1, 2, ... components.
    """

    weights: Array
    means: Array
    covariances: Array
    mean_power: Array
    images: int
    bic: Sequence[float] = ()

    @cached_property
    def roots(self) -> Array:
        """Cholesky factors of the covariances, (J, q, q)."""
        try:
            return np.asarray(np.linalg.cholesky(self.covariances), dtype=np.float64)
        except np.linalg.LinAlgError:
            raise SigmaTuneError(
                "a covariance of the mixture is not positive definite; fit the mixture again."
            ) from None

    def check(self, features: int, rings: int) -> None:
        """Raises SigmaTuneError unless the arrays fit together and are a mixture."""
        count = len(self.weights)
        shapes = (self.means.shape, self.covariances.shape, self.mean_power.shape)
        if not count or shapes != ((count, features), (count, features, features), (rings,)):
            raise SigmaTuneError(f"a mixture of {count} components over {features} features has arrays of {shapes}.")
        arrays = (self.weights, self.means, self.covariances, self.mean_power)
        if not all(np.isfinite(array).all() for array in arrays) or (self.mean_power < 0).any():
            raise SigmaTuneError("a mixture's numbers must be finite and its mean power at least 0.")
        if not (self.weights > 0).all() or abs(self.weights.sum() - 1) > 1e-6:
            raise SigmaTuneError("the weights of a mixture must be positive and sum to 1.")
        if not np.allclose(self.covariances, self.covariances.transpose(0, 2, 1), rtol=1e-6, atol=0):
            raise SigmaTuneError("the covariances of a mixture must be symmetric.")
        _ = self.roots

    def features(self, normals: Array) -> Array:
        """Features of one row from 1 + q standard normals: the first chooses the component."""
        edges = np.cumsum(self.weights)
        chosen = min(int(np.searchsorted(edges, edges[-1] * ndtr(normals[0]), side="right")), len(edges) - 1)
        return np.asarray(self.means[chosen] + (self.roots[chosen] * normals[1:]).sum(axis=-1))


@dataclass(frozen=True, eq=False)
class Mixture:
    """Draws spectra like those of a data set, or of one of its classes.

    Attributes:
        reduction: ``"law"`` or ``"pca"``.
        size: (H, W) of the images.
        centre, basis: The plane of the log-spectra, (K,) and (q, K).
        everything: The mixture over all images.
        classes: One mixture per class, by name.

    Raises:
        SigmaTuneError: if the arrays do not fit together.
    """

    reduction: str
    size: tuple[int, int]
    centre: Array
    basis: Array
    everything: Part
    classes: Mapping[str, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.centre.ndim != 1 or self.basis.shape[1:] != self.centre.shape or not len(self.basis):
            raise SigmaTuneError(
                f"a basis of shape {self.basis.shape} does not fit a centre of shape {self.centre.shape}."
            )
        for part in (self.everything, *self.classes.values()):
            part.check(*self.basis.shape)

    @property
    def rings(self) -> int:
        """K, the number of rings, DC included."""
        return len(self.centre)

    def part(self, label: str | None = None) -> Part:
        """The mixture of a class, or of all data.

        Raises:
            SigmaTuneError: for an unknown class.
        """
        if label is None:
            return self.everything
        if label not in self.classes:
            raise unknown_name("class", label, self.classes)
        return self.classes[label]

    def draw(self, seed: int, indices: Sequence[int], label: str | None = None) -> Array:
        """Draws one spectrum per row; row i is a function of (seed, indices[i]) alone, bit for bit.

        Args:
            seed: Seed of the noise, [0, 2^64).
            indices: The rows' indices in the noise.
            label: A class; all data by default.

        Returns:
            P(k), (R, K), k = 0 first; DC is the data's typical value, which no schedule uses.

        Raises:
            SigmaTuneError: for an unknown class or an invalid index.
        """
        part = self.part(label)
        normals = noise(seed, indices, START, (1 + len(self.basis),), channel=SPECTRUM, dtype=float64).numpy()
        # Row by row: the bits of a product of matrices depend on how many rows there are.
        rows = [self.centre + (part.features(row)[:, None] * self.basis).sum(axis=0) for row in normals]
        return np.asarray(np.exp(np.array(rows, dtype=np.float64).reshape(len(indices), self.rings)))

    def mean(self, label: str | None = None) -> Array:
        """The mean of P(k) over the images of a class or of all data, (K,)."""
        return self.part(label).mean_power

    def fields(self) -> MixtureFields:
        """The mixture as JSON has it; :meth:`from_fields` is its inverse."""
        return MixtureFields(
            reduction=self.reduction,  # type: ignore[arg-type]  # pydantic checks it
            size=self.size,
            centre=self.centre.tolist(),
            basis=self.basis.tolist(),
            everything=_written(self.everything),
            classes={name: _written(part) for name, part in self.classes.items()},
        )

    @classmethod
    def from_fields(cls, fields: MixtureFields) -> Mixture:
        """Reads what :meth:`fields` gave.

        Raises:
            SigmaTuneError: if the numbers do not fit together.
        """
        classes = {name: _read(part) for name, part in fields.classes.items()}
        centre, basis = np.array(fields.centre, dtype=np.float64), np.array(fields.basis, dtype=np.float64)
        return cls(fields.reduction, fields.size, centre, basis, _read(fields.everything), classes)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes a JSON file, atomically; replaces a file of another kind only with ``force``."""
        fields = MixtureFile(format=FORMAT, version=VERSION, **dict(self.fields()))
        named = {"format": FORMAT, "version": VERSION, **fields.model_dump(mode="json")}  # what it is comes first
        text = json.dumps(named, indent=2, allow_nan=False) + "\n"
        outputs.save(path, text, "spectra", force=force)

    @classmethod
    def load(cls, path: str | Path) -> Mixture:
        """Reads what :meth:`save` wrote, bit for bit.

        Raises:
            SigmaTuneError: in one sentence, for anything that is not a file of spectra of a known version.
        """

        def loads(text: str) -> Mixture:
            fields = json_file.guarded(
                lambda: json_file.parse(text, MixtureFile, kind="spectra", form=FORMAT, version=VERSION), kind="spectra"
            )
            return json_file.guarded(lambda: cls.from_fields(fields), kind="spectra")

        return json_file.read(path, loads, kind="spectra")


def edited(power: ArrayLike, *, texture: float = 0.0, amplitude: float = 1.0) -> Array:
    r"""Edits spectra: :math:`P(k) \leftarrow A \, P(k) \, k^t`, ring 1 keeping its power but for A.

    Args:
        power: P(k), (..., K).
        texture: t; above 0 the fine rings gain power ("more texture"), and a power law's slope falls by t.
        amplitude: A, > 0.

    Raises:
        SigmaTuneError: if texture is not a finite number or amplitude is not positive.
    """
    texture, amplitude = number(texture, "texture"), number(amplitude, "amplitude")
    if not amplitude > 0:
        raise SigmaTuneError(f"amplitude must be a positive number, not {amplitude!r}.")
    values = np.asarray(power, dtype=np.float64)
    rings = np.maximum(np.arange(values.shape[-1], dtype=np.float64), 1.0)
    return np.asarray(values * (amplitude * rings**texture))


def _written(part: Part) -> PartFields:
    arrays = {name: getattr(part, name).tolist() for name in ("weights", "means", "covariances", "mean_power")}
    return PartFields(**arrays, images=part.images, bic=list(part.bic))


def _read(fields: PartFields) -> Part:
    arrays = (fields.weights, fields.means, fields.covariances, fields.mean_power)
    weights, means, covariances, mean_power = (np.array(array, dtype=np.float64) for array in arrays)
    return Part(weights, means, covariances, mean_power, fields.images, tuple(fields.bic))
