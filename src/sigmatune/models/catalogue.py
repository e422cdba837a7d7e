"""The models that can be loaded by name, with what they draw and their size."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from sigmatune.models.bundled import WEIGHTS, bundled_names
from sigmatune.models.exact_names import EXACT, PREFIX

SIZE = 8
"""Bytes at the start of a safetensors file that say how long its header is."""


@dataclass(frozen=True)
class Listed:
    """A model that has a name.

    Attributes:
        name: The argument of :func:`sigmatune.load`.
        shape: Of one sample; empty where it is known only after building.
        parameters: Weights; 0 for an exact denoiser.
        about: What it draws.
        here: Whether it can be loaded now.
        get: The command that makes it loadable; empty if it is.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    about: str
    here: bool = True
    get: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields, JSON-ready."""
        return asdict(self)


def listed() -> list[Listed]:
    """Every model with a name: the bundled ones, then exact denoisers, built or not."""
    return [*(_bundled(name) for name in bundled_names()), *(_exact(name) for name in EXACT)]


def _bundled(name: str) -> Listed:
    folder = WEIGHTS / name
    network = next(file for file in sorted(folder.glob("*/config.json")) if file.parent.name in ("unet", "transformer"))
    config = json.loads(network.read_text(encoding="utf-8"))
    size = config["sample_size"]
    shape = (config["in_channels"], *(size if isinstance(size, list) else (size, size)))
    weights = sum(_weights(file) for file in network.parent.glob("*.safetensors"))
    card = (folder / "README.md").read_text(encoding="utf-8").split("---", 2)[-1]
    text = next(part for part in card.split("\n\n") if part.strip() and not part.strip().startswith("#"))
    return Listed(name, shape, weights, " ".join(text.split()).split(". ")[0].rstrip(".") + ".")


def _weights(file: Any) -> int:
    """The numbers in a safetensors file, by its header alone."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(SIZE), "little")))
    return sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _exact(name: str) -> Listed:
    known = EXACT[name]
    kind = (
        "the exact denoiser of a Gaussian mixture fitted to"
        if known.kind == "mixture"
        else "the exact denoiser of all images of"
    )
    here = known.folder.is_dir()
    about = f"No network: {kind} {known.data}."
    return Listed(f"{PREFIX}{name}", (3, known.size, known.size), 0, about, here, "" if here else known.command)
