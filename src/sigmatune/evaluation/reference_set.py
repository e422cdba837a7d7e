"""References: the statistics of a data set in the spaces of some extractors, for comparison with generated images.

Moments cover all images, computed in one pass in float64. Distances between single images (kernels, neighbours, sorted
projections) use at most ``ROWS`` images, chosen by a fixed seed. The file is an ``.npz`` of plain arrays; for wide
spaces it may hold only the span of the first principal components.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sigmatune.evaluation.extractors import Extractor, Subspace
from sigmatune.evaluation.extractors.base import Features, principal
from sigmatune.evaluation.shards import featured
from sigmatune.noise import Array
from sigmatune.spectra import npz
from sigmatune.spectra.images import Images
from sigmatune.statistics.frechet import Gaussian
from sigmatune.statistics.moments import Moments
from sigmatune.support import json_file, outputs
from sigmatune.support.engine import LOCAL, Engine
from sigmatune.support.errors import SigmaTuneError, reason, shown
from sigmatune.support.json_file import Strict
from sigmatune.support.progress import Progress, quiet
from sigmatune.support.reading import parsed

ROWS = 10_000
FORMAT = "sigmatune/reference"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Statistics:
    """The statistics of a data set in one space.

    Attributes:
        moments: Of all images.
        rows: The features of some of them, (m, d).
        basis: (D, d), applied to an image's features first; None for the identity.
    """

    moments: Moments
    rows: Features
    basis: Array | None = None

    @cached_property
    def gaussian(self) -> Gaussian:
        """The Gaussian with these moments."""
        return Gaussian.of(self.moments)

    def projected(self, components: int) -> Statistics:
        """The span of the first principal components.

        Raises:
            SigmaTuneError: if it holds fewer.
        """
        width = len(self.moments.mean)
        if components > width:
            raise SigmaTuneError(f"the reference has {width} components of this space, fewer than {components}.")
        basis = principal(self.moments.covariance, components)
        whole = basis if self.basis is None else self.basis @ basis
        return Statistics(self.moments.projected(basis), (self.rows @ basis).astype(np.float32), whole)

    def seen(self, features: Features) -> Array:
        """Features of other images in these coordinates, (n, d) of float64.

        Raises:
            SigmaTuneError: for features of another width.
        """
        values = np.asarray(features, dtype=np.float64)
        width = len(self.moments.mean) if self.basis is None else len(self.basis)
        if values.shape[-1] != width:
            raise SigmaTuneError(
                f"the reference has {width} features an image and these have {values.shape[-1]}; measure it again."
            )
        return values if self.basis is None else values @ self.basis


@dataclass(frozen=True, eq=False)
class Reference:
    """The statistics of a data set.

    Attributes:
        name: Where it comes from.
        n: How many images it holds.
        shape: Of one image, (C, H, W).
        extractors: The :meth:`~sigmatune.evaluation.extractors.Extractor.spec` of each extractor by name.
        statistics: By (extractor, space).
        about: The source and how it was read, if the images themselves were measured.
    """

    name: str
    n: int
    shape: tuple[int, ...]
    extractors: Mapping[str, Mapping[str, Any]]
    statistics: Mapping[tuple[str, str], Statistics]
    about: Mapping[str, Any] = field(default_factory=dict)
    _spaces: dict[tuple[str, str], Statistics] = field(default_factory=dict, repr=False)

    def check(self, extractor: Extractor, shape: tuple[int, ...]) -> None:
        """Refuses images of another shape or features of another extractor.

        Raises:
            SigmaTuneError: naming the difference.
        """
        if tuple(shape) != tuple(self.shape):
            raise SigmaTuneError(
                f"the reference {self.name} holds images of shape (C, H, W) = {tuple(self.shape)} and these are "
                f"{tuple(shape)}; take another reference, or --size."
            )
        stored = self.extractors.get(extractor.name)
        if stored != extractor.spec():
            have = "; ".join(
                f"{s.get('name')} version {s.get('version')}, {s.get('resize')}" for s in self.extractors.values()
            )
            required = extractor.spec()
            raise SigmaTuneError(
                f"the reference {self.name} has statistics of {have}, not of {required['name']} version "
                f"{required['version']}, {required['resize']}; pass the images themselves as the reference."
            )

    def space(self, extractor: str, wanted: Subspace) -> Statistics:
        """The statistics in a space or in the span of its first principal components.

        Raises:
            SigmaTuneError: if the reference holds less of the space.
        """
        key = extractor, wanted.name
        if key not in self._spaces:
            stored = self.statistics.get((extractor, wanted.base))
            if stored is None or (wanted.components is None and stored.basis is not None):
                have = ", ".join(
                    _described(space, s) for (name, space), s in self.statistics.items() if name == extractor
                )
                raise SigmaTuneError(
                    f"the reference {self.name} has {have or 'nothing'} of {extractor}, not {wanted.name}; "
                    "pass the images themselves as the reference."
                )
            self._spaces[key] = stored if wanted.components is None else stored.projected(wanted.components)
        return self._spaces[key]

    def spec(self) -> dict[str, Any]:
        """The identity of the reference, JSON-ready; stated with every figure."""
        return {"name": self.name, "n": self.n, "shape": list(self.shape)}

    def save(
        self,
        path: str | Path,
        *,
        most: int = ROWS,
        components: Mapping[str, int] | None = None,
        half: bool = False,
        force: bool = False,
    ) -> None:
        """Writes the statistics atomically.

        Args:
            path: The ``.npz`` file.
            most: At most that many rows.
            components: Keep only this many principal components of these spaces.
            half: Rows in float16 and covariances in float32.
            force: Replace a file of another kind or of another program, too.

        Raises:
            SigmaTuneError: if a number does not fit or is not finite, or another file is there.
        """
        arrays: dict[str, npt.NDArray[Any]] = {}
        for (name, space), full in self.statistics.items():
            kept = full.projected(components[space]) if components and space in components else full
            place = f"{name}/{space}"
            arrays[f"{place}/mean"] = kept.moments.mean
            with np.errstate(over="ignore"):  # looked at below
                arrays[f"{place}/covariance"] = kept.moments.covariance.astype(np.float32 if half else np.float64)
                arrays[f"{place}/rows"] = kept.rows[:most].astype(np.float16 if half else np.float32)
            if kept.basis is not None:
                arrays[f"{place}/basis"] = kept.basis.astype(np.float32)
        unsound = next((place for place, array in arrays.items() if not np.isfinite(array).all()), None)
        if unsound is not None:
            how = "does not fit into half precision; save it with half=False" if half else "is not finite"
            raise SigmaTuneError(f"{unsound} of the reference {self.name} {how}.")
        header = {
            "format": FORMAT, "version": VERSION, "name": self.name, "n": self.n, "shape": list(self.shape),
            "extractors": self.extractors,
        }  # fmt: skip
        buffer = io.BytesIO()
        np.savez_compressed(buffer, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
        outputs.save(path, outputs.archive(buffer.getvalue(), "reference"), "reference", force=force)


def _described(space: str, statistics: Statistics) -> str:
    return space if statistics.basis is None else f"{space}-pca{len(statistics.moments.mean)}"


def measure(
    images: Images,
    extractors: Sequence[Extractor],
    *,
    name: str | None = None,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
) -> Reference:
    """Measures the statistics of images in one pass; memory does not grow with their number.

    Args:
        images: The data.
        extractors: What features to take.
        name: What to call it; the images' own name by default.
        progress: Sees the images done.
        engine: Where features are taken; the images are read here.

    Raises:
        SigmaTuneError: if there are fewer than two, or they are not images or cannot be read.
    """
    if images.count < 2:
        raise SigmaTuneError(f"{images.name} holds one image; a reference needs at least two, preferably thousands.")
    chosen = np.random.default_rng(0).permutation(images.some(ROWS))
    place = np.full(images.count, -1)
    place[chosen] = np.arange(len(chosen))
    moments, rows = dict[tuple[str, str], Moments](), dict[tuple[str, str], Features]()
    done, shape = 0, (0, 0, 0)
    for pixels, by_extractor in featured(images, extractors, engine):
        shape, places = (pixels.shape[3], *pixels.shape[1:3]), place[done : done + len(pixels)]
        for extractor, spaces in zip(extractors, by_extractor, strict=True):
            for space, features in spaces.items():
                if extractor.spaces[space].kind == "logits":  # of scores, which need no reference
                    continue
                key = extractor.name, space
                if key not in rows:
                    rows[key] = np.empty((len(chosen), features.shape[1]), np.float32)
                rows[key][places[places >= 0]] = features[places >= 0]
                part = Moments.of(features.astype(np.float64))
                moments[key] = moments[key] + part if key in moments else part
        done += len(pixels)
        (progress or quiet)("reference", done, images.count)
    statistics = {key: Statistics(moments[key], rows[key]) for key in moments}
    specs = {one.name: one.spec() for one in extractors}
    return Reference(name or images.name, images.count, shape, specs, statistics, images.about())


def load(path: str | Path) -> Reference:
    """Reads statistics that :meth:`Reference.save` has written; nothing is ever unpickled.

    Raises:
        SigmaTuneError: if it is no such file.
    """
    path = Path(path)
    stored = npz.whole(path)
    with npz.reading(path):
        try:
            header = parsed(str(stored["header"]))
            if not isinstance(header, dict):
                raise SigmaTuneError(f"its header must be an object, not {shown(header)}.")
            if header["format"] != FORMAT or header["version"] != VERSION:
                raise SigmaTuneError(
                    f"{path} is of {header['format']} {header['version']}; known is {FORMAT} {VERSION}."
                )
            fields = json_file.validated(header, HeaderFields, "its header")
            n = fields.n
            statistics = {}
            for place in [key.removesuffix("/mean") for key in stored if key.endswith("/mean")]:
                extractor, _, space = place.rpartition("/")
                moments = Moments(
                    n, stored[f"{place}/mean"], stored[f"{place}/covariance"].astype(np.float64) * (n - 1)
                )
                basis = stored[f"{place}/basis"].astype(np.float64) if f"{place}/basis" in stored else None
                rows = stored[f"{place}/rows"].astype(np.float32)
                if not all(np.isfinite(array).all() for array in (moments.mean, moments.scatter, rows)):
                    raise SigmaTuneError(f"NaN or infinity in {place}; measure the reference again.")
                _check_shapes(place, moments, rows, basis)
                statistics[extractor, space] = Statistics(moments, rows, basis)
            return Reference(fields.name, n, tuple(fields.shape), fields.extractors, statistics)
        except SigmaTuneError as error:
            raise SigmaTuneError(f"{path} holds no statistics of a reference: {error}") from None
        except (KeyError, TypeError) as error:
            raise SigmaTuneError(f"{path} holds no statistics of a reference ({reason(error)}).") from None


class HeaderFields(Strict):
    """The header of a file of statistics."""

    format: Literal["sigmatune/reference"]
    version: Literal[1]
    name: str
    n: int = Field(ge=2)
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=3, max_length=3)
    extractors: dict[str, dict[str, Any]]


def _check_shapes(place: str, moments: Moments, rows: Features, basis: Array | None) -> None:
    """Refuses arrays of a space that do not fit together: mean (d,), covariance (d, d), rows (m, d), basis (D, d)."""
    shapes = {"covariance": moments.scatter.shape, "rows": rows.shape, "basis": () if basis is None else basis.shape}
    width = moments.mean.shape[-1] if moments.mean.ndim == 1 else -1
    fits = {
        "covariance": (width, width),
        "rows": (*rows.shape[:1], width),
        "basis": () if basis is None else (*basis.shape[:1], width),
    }
    wrong = next((name for name, shape in shapes.items() if shape != fits[name]), None)
    if wrong is not None or moments.mean.dtype.kind != "f":
        raise SigmaTuneError(
            f"{wrong or 'mean'} of {place} is of another kind or shape than the rest; measure it again."
        )


def is_statistics(path: Path) -> bool:
    """Whether a file holds statistics rather than images; never fails."""
    try:
        return path.suffix.lower() == ".npz" and path.is_file() and "header" in npz.arrays(path)
    except SigmaTuneError:
        return False
