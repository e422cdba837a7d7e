"""The models that come with the package."""

from __future__ import annotations

from pathlib import Path

from sigmatune.models.exact_names import exact_folder, is_exact
from sigmatune.support.errors import unknown_name

WEIGHTS = Path(__file__).parent / "weights"


def bundled_names() -> list[str]:
    """Returns the names of the bundled models."""
    return sorted(file.parent.name for file in WEIGHTS.glob("*/model_index.json"))


def bundled_folder(name: str) -> Path:
    """Returns the diffusers pipeline folder of a bundled model.

    Raises:
        SigmaTuneError: for an unknown name, with the nearest known ones.
    """
    if name not in bundled_names():
        raise unknown_name("bundled model, folder or hub id (owner/name)", name, bundled_names())
    return WEIGHTS / name


def spectra_file(source: str) -> Path | None:
    """Returns the file of a model's spectra, a mixture of them, if one lies beside its weights."""
    return _beside(source, "spectra.json")


def reference_file(source: str) -> Path | None:
    """Returns the file of the statistics of a model's training images, if one lies beside its weights."""
    return _beside(source, "reference.npz")


def _beside(source: str, name: str) -> Path | None:
    """A file in the folder of a model (a bundled name, an exact denoiser or a folder); None for other sources."""
    if is_exact(source):
        file = exact_folder(source) / name
    else:
        file = (WEIGHTS if source in bundled_names() else Path()) / source / name
    return file if file.is_file() else None
