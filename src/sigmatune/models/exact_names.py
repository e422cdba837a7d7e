"""The names of the exact denoisers, and where each is kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sigmatune.support.registry import Registry

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


def exact_folder(source: str) -> Path:
    """The folder of an exact denoiser by its whole name, such as ``exact:cifar10-mixture-16``; built or not.

    Raises:
        SigmaTuneError: for an unknown name.
    """
    return EXACT[source.removeprefix(PREFIX)].folder


def is_exact(source: object) -> bool:
    """Whether a source reads as the name of an exact denoiser."""
    return isinstance(source, str) and source.startswith(PREFIX)


def cache() -> Path:
    """The folder of built denoisers: $SIGMATUNE_CACHE, else sigmatune in $XDG_CACHE_HOME, else in ~/.cache."""
    chosen = os.environ.get("SIGMATUNE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sigmatune"


__all__ = ["EXACT", "PREFIX", "Exact", "cache", "exact_folder", "is_exact"]
