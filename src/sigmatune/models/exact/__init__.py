"""Exact denoisers of real data by name, ``exact:cifar10-mixture-16``: models whose converged samples are data.

A ``mixture`` has one Gaussian for each class (:mod:`~sigmatune.models.exact.mixture`), an ``empirical`` is the data set
itself (:mod:`~sigmatune.models.exact.empirical`). They are built from fetched data by one command, kept in a cache
folder, and run on DDPM's linear betas, so that they have timesteps like most networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigmatune.errors import SigmaTuneError
from sigmatune.registry import Registry

if TYPE_CHECKING:
    import torch

    from sigmatune.denoiser import Denoiser

PREFIX = "exact:"


@dataclass(frozen=True)
class Exact:
    """The exact denoiser behind a name.

    Attributes:
        name: The name, without the prefix.
        data: The data set.
        kind: ``"mixture"`` or ``"empirical"``.
        size: Height and width in pixels.
    """

    name: str
    data: str
    kind: str
    size: int

    @property
    def folder(self) -> Path:
        """Its folder, built or not."""
        from sigmatune.models.exact.store import cache

        return cache() / "exact" / self.name

    @property
    def command(self) -> str:
        """The command that builds it."""
        return f"python tools/build_exact.py {self.name}"


EXACT: Registry[Exact] = Registry(
    "exact denoiser",
    {
        name: Exact(name, data, kind, size)
        for data in ("cifar10", "emoji")
        for kind in ("mixture", "empirical")
        for size in (16, 32)
        for name in [f"{data}-{kind}-{size}"]
    },
)


def is_exact(source: object) -> bool:
    """Whether a source reads as the name of an exact denoiser."""
    return isinstance(source, str) and source.startswith(PREFIX)


def exact_folder(source: str) -> Path:
    """The folder of an exact denoiser by its whole name, such as ``exact:cifar10-mixture-16``; built or not.

    Raises:
        SigmaTuneError: for an unknown name.
    """
    return EXACT[source.removeprefix(PREFIX)].folder


def load_exact(
    source: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    label: str | None = None,
    labels: Sequence[str | int] | None = None,
    guidance: float | None = None,
    interval: tuple[float, float] = (0.0, float("inf")),
) -> Denoiser:
    """Loads an exact denoiser that has been built.

    Args:
        source: Its name, ``exact:cifar10-mixture-16``.
        device: Where to run: None for the CPU, "auto" for a CUDA device if there is one.
        dtype: Dtype of products and states, float32 by default.
        label: The class of all rows; without one the data are all classes.
        labels: Classes by name or number; row i takes entry i, and the list repeats.
        guidance: Scale of classifier-free guidance; none by default.
        interval: (a, b], the noise levels at which guidance is on.

    Raises:
        SigmaTuneError: for an unknown name or class, a device without float64, or one that is not built or damaged; one
            sentence says what to do.
    """
    import torch

    from sigmatune.models.conditional import conditional
    from sigmatune.models.exact.store import read
    from sigmatune.models.network import pick_device

    where = pick_device(device)
    if where.type == "mps":
        if device != "auto":
            raise SigmaTuneError("exact denoisers need float64, which mps does not have; pass the device cpu.")
        where = torch.device("cpu")
    options: dict[str, Any] = {"device": where, "dtype": dtype or torch.float32}
    model = read(EXACT[source.removeprefix(PREFIX)], **options)
    return conditional(model, label=label, labels=labels, guidance=guidance, interval=interval)


__all__ = ["EXACT", "PREFIX", "Exact", "exact_folder", "is_exact", "load_exact"]
