"""Engines by name: where independent pieces of work run. ``local`` imports none of the others."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

from sigmatune.support.engine.base import Engine, Held, Lazily, Loader, Tick
from sigmatune.support.engine.local import LOCAL
from sigmatune.support.errors import SigmaTuneError, shown

MISSING = "the engine ray needs the package ray; pip install 'sigmatune[ray]'."


def engine(name: str | Engine) -> AbstractContextManager[Engine]:
    """The engine of a name, as a context that stops its workers at the end; an engine that the caller has stays open.

    Args:
        name: ``local``; ``ray``, the Ray cluster of ``RAY_ADDRESS``, or that of this machine, or a new one on it alone;
            ``ray://host:10001``, a cluster elsewhere; or an engine.

    Raises:
        SigmaTuneError: for another name, or a cluster that cannot be reached.
    """
    if isinstance(name, Engine):
        return nullcontext(name)
    check(name)
    if name == "local":
        return LOCAL
    try:
        from sigmatune.support.engine.ray_cluster import Ray
    except ImportError:
        raise SigmaTuneError(MISSING) from None
    return Ray(None if name == "ray" else name)


def check(name: str) -> None:
    """Refuses the name of an engine that is none, or whose package is not installed; starts and reaches nothing.

    Raises:
        SigmaTuneError: as :func:`engine`, but for a cluster that cannot be reached.
    """
    if name == "local":
        return
    if not isinstance(name, str) or (name != "ray" and not name.startswith("ray://")):
        raise SigmaTuneError(
            f"an engine is local, ray, or ray://host:10001, not {shown(name)}; for a cluster at host:6379 set "
            "RAY_ADDRESS and take ray."
        )
    if find_spec("ray") is None:
        raise SigmaTuneError(MISSING)


__all__ = ["LOCAL", "Engine", "Held", "Lazily", "Loader", "Tick", "check", "engine"]
