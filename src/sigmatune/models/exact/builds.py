"""Storage of exact denoisers: arrays as safetensors, a card as JSON, in a cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from sigmatune.models.exact.class_mixture import Basis, ClassMixture, Gaussians
from sigmatune.models.exact.empirical import ClassEmpirical
from sigmatune.models.exact_names import Exact
from sigmatune.support.errors import SigmaTuneError, of_memory
from sigmatune.support.json_file import Strict, parse
from sigmatune.support.json_file import read as read_file

Exactly = ClassMixture | ClassEmpirical
FORMAT: Literal["sigmatune/exact"] = "sigmatune/exact"
VERSION: Literal[1] = 1
ARRAYS, CARD = "denoiser.safetensors", "card.json"


class Source(Strict):
    """Where the data come from."""

    name: str
    origin: str
    licence: str
    file: str
    sha256: str


class Fit(Strict):
    """How a mixture's covariances were estimated.

    Attributes:
        full_modes: m, the modes with full covariance, of all.
        all_modes: d.
        full_rings: The last ring of modes with full covariance; None where all are full.
        shrinkage: Share of the diagonal in each class's full covariance.
        floor: Power added to every variance: that of rounding to 8 bits.
    """

    full_modes: int
    all_modes: int
    full_rings: int | None
    shrinkage: dict[str, float]
    floor: float


class Card(Strict):
    """The card of an exact denoiser.

    Attributes:
        shape: (C, H, W).
        n: Number of images.
        classes: Images in each class.
        sha256: Digest of its arrays.
        path: Its noise path.
        fit: Its fit; none for an empirical denoiser.
        command: The command that built it.
        versions: The versions that built it.
    """

    format: Literal["sigmatune/exact"]
    version: Literal[1]
    name: str
    kind: Literal["mixture", "empirical"]
    shape: list[int]
    n: int
    classes: dict[str, int]
    source: Source
    sha256: str
    path: dict[str, Any]
    fit: Fit | None
    command: str
    versions: dict[str, str]


def write(folder: Path, arrays: Mapping[str, torch.Tensor], **fields: Any) -> Card:
    """Writes arrays and card into a folder that exists.

    Args:
        folder: The destination.
        arrays: The arrays for :func:`read`.
        fields: Those of :class:`Card` that do not follow from the arrays.
    """
    from safetensors.torch import save_file

    save_file({name: array.contiguous() for name, array in arrays.items()}, folder / ARRAYS)
    card = Card(format=FORMAT, version=VERSION, sha256=sha256(folder / ARRAYS), **fields)
    (folder / CARD).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return card


def read_card(folder: Path) -> Card:
    """Reads a card.

    Raises:
        SigmaTuneError: if it is missing or invalid.
    """
    return read_file(
        folder / CARD, lambda text: parse(text, Card, kind="exact denoiser's card", form=FORMAT, version=VERSION),
        kind="card",
    )  # fmt: skip


def read(
    exact: Exact,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    folder: Path | None = None,
) -> Exactly:
    """Reads a built denoiser.

    Args:
        exact: The denoiser's description.
        dtype: Of products and states.
        device: Their device.
        folder: Its folder; in the cache by default.

    Raises:
        SigmaTuneError: if it is not built, or its files are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from sigmatune.noise import from_spec

    folder = folder or exact.folder
    if not (folder / CARD).is_file():
        raise SigmaTuneError(f"exact:{exact.name} is not built in {folder.parent}; run {exact.command} once.")
    card, again = read_card(folder), f"run {exact.command} again"
    try:
        if sha256(folder / ARRAYS) != card.sha256:
            raise SigmaTuneError(f"{folder / ARRAYS} is not the file that its card describes; {again}.")
        arrays = load_file(folder / ARRAYS)
    except (OSError, SafetensorError) as error:
        if of_memory(error):
            raise
        raise SigmaTuneError(f"{folder / ARRAYS} cannot be read ({error}); {again}.") from None
    how: dict[str, Any] = {
        "path": from_spec(card.path),
        "dtype": dtype,
        "device": device,
        "classes": tuple(card.classes),
    }
    model: Exactly
    if card.kind == "empirical":
        model = ClassEmpirical(arrays["images"], list(card.classes.values()), **how)
    else:
        basis = Basis(arrays["colours"], arrays["rows"], arrays["columns"], arrays["order"])
        gaussians = Gaussians(arrays["weights"], arrays["means"], arrays["variances"], arrays["axes"], basis)
        model = ClassMixture(gaussians, **how)
    model.digest = card.sha256
    return model


def sha256(file: Path) -> str:
    """The digest of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
