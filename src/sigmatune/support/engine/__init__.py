"""Engines by name: where independent pieces of work run. ``local`` imports none of the others."""

from __future__ import annotations

from sigmatune.support.engine.base import Engine, Held, Recipe, Tick
from sigmatune.support.engine.local import LOCAL
from sigmatune.support.errors import SigmaTuneError, shown


def engine(name: str | Engine) -> Engine:
    """The engine of a name; use it as a context, which stops its workers at the end.

    Args:
        name: ``local``; ``ray``, the Ray cluster of this machine (the one of ``RAY_ADDRESS``, one that runs here, or a new one);
            ``ray://host:10001``, a cluster elsewhere; or an engine.

    Raises:
        SigmaTuneError: for another name, or a cluster that cannot be reached.
    """
    if isinstance(name, Engine):
        return name
    if name == "local":
        return LOCAL
    if name == "ray" or name.startswith("ray://"):
        try:
            from sigmatune.support.engine.ray_cluster import Ray
        except ImportError:
            raise SigmaTuneError("the engine ray needs the package ray; pip install 'sigmatune[ray]'.") from None
        return Ray(None if name == "ray" else name)
    raise SigmaTuneError(f"an engine is local, ray, or ray://host:10001, not {shown(name)}.")


__all__ = ["LOCAL", "Engine", "Held", "Recipe", "Tick", "engine"]
