"""The metrics, the extractor and the data of a measurement, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sigmatune.core.schedule import whole
from sigmatune.evaluation import reference_set
from sigmatune.evaluation.evaluate import Wanted, check
from sigmatune.evaluation.extractors import EXTRACTORS, Extractor, extractor
from sigmatune.evaluation.extractors.own_function import function_of
from sigmatune.evaluation.metrics import METRICS
from sigmatune.evaluation.reference_set import Reference
from sigmatune.models.bundled import reference_file
from sigmatune.models.network import pick_device
from sigmatune.spectra.images import Images
from sigmatune.spectra.sources import open_images
from sigmatune.spectra.values import checked
from sigmatune.support.engine import LOCAL, Engine
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.progress import Progress

EXTRACTOR = "efficientnet-lite0"


@dataclass(frozen=True)
class ReferenceSource:
    """Where the data of a measurement come from.

    Attributes:
        place: A folder or file of images, or a file of statistics; "" for the data of a bundled model.
        size: Crop and resize images to this many pixels; 0 for as they are.
        values: Their range of black and white (:mod:`sigmatune.spectra.values`).
    """

    place: str = ""
    size: int = 0
    values: str = "auto"


def listed(text: str) -> list[str]:
    """The names in a text, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def check_names(metrics: str, name: str) -> None:
    """Refuses metrics and an extractor that do not exist, without loading anything.

    Args:
        metrics: Names, separated by commas.
        name: The extractor; "" for :data:`EXTRACTOR`.

    Raises:
        SigmaTuneError: naming the first.
    """
    for metric in listed(metrics):
        METRICS[metric]
    if ":" in name:
        function_of(name)
    else:
        EXTRACTORS[name or EXTRACTOR]


def compares(metrics: str) -> bool:
    """Whether any of some metrics, named with commas, or of the default ones for "", needs data to compare with."""
    chosen = [METRICS[name] for name in listed(metrics)]
    return any(metric.needs_reference for metric in chosen or [one for one in METRICS.values() if one.default])


def wanted_of(metrics: str, name: str | Extractor, spaces: str, shape: tuple[int, ...], device: str) -> Wanted:
    """The requested metrics for images of a shape.

    Args:
        metrics, spaces: Names, separated by commas.
        name: The extractor, or its name; "" for :data:`EXTRACTOR`.
        shape: Of one image, (C, H, W).
        device: Where the extractor runs.

    Raises:
        SigmaTuneError: for an unknown or unsuitable name.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise SigmaTuneError(f"metrics need images, not data of shape {tuple(shape)}.")
    features = extractor(name or EXTRACTOR, shape, device=pick_device(device))
    return Wanted.of(listed(metrics), features, listed(spaces))


def open_data(source: ReferenceSource, model: str) -> Reference | Images | None:
    """The reference, opened but not yet measured: statistics, or images; a bundled model's own; None if there is none.

    Args:
        source: Images or statistics, or the model's own.
        model: What the model is loaded from.

    Raises:
        SigmaTuneError: if it cannot be opened.
    """
    limits, side = checked(source.values), whole(source.size, "size") if source.size else None
    if not source.place:
        bundled = reference_file(model)
        return None if bundled is None else reference_set.load(bundled)
    if reference_set.is_statistics(Path(source.place)):
        return reference_set.load(source.place)
    return open_images(source.place, size=side, values=limits)


def data_of(
    source: ReferenceSource | Reference | Images,
    model: str,
    wanted: Wanted,
    progress: Progress,
    *,
    engine: Engine = LOCAL,
) -> Reference | None:
    """The reference: given, or a bundled model's own; None if nothing needs one.

    Args:
        source: Images or statistics, or what :func:`open_data` has opened; or the model's own.
        model: What the model was loaded from.
        wanted: The metrics.
        progress: Receives the present action.
        engine: Where features are taken.

    Raises:
        SigmaTuneError: if it cannot be read or is missing.
    """
    if not wanted.needs_reference:
        return None
    opened = open_data(source, model) if isinstance(source, ReferenceSource) else source
    if opened is None:
        check(wanted, None, ())
    if not isinstance(opened, Images):
        return opened
    return reference_set.measure(opened, wanted.extractors, progress=progress, engine=engine)
