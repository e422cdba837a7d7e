"""Where a model came from, so that another process can load the same (:mod:`sigmatune.models.travel`).

:func:`sigmatune.load` notes the source and the options, :func:`derived` what was done to the denoiser since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Origin:
    """How a denoiser came to be.

    Attributes:
        source: What :func:`sigmatune.load` took; None for a thing in memory, which no other process has.
        about: What that thing is, for messages.
        options: The options of :func:`sigmatune.load`.
        steps: The methods of the denoiser that were called since, with their arguments.
    """

    source: str | None
    about: str = ""
    options: Mapping[str, Any] | None = None
    steps: tuple[tuple[str, tuple[Any, ...]], ...] = ()


def derived(model: Any, method: str, *arguments: Any) -> Any:
    """Calls a method that returns another denoiser (``split``, ``conditioned``), and notes it in that one's origin."""
    other = getattr(model, method)(*arguments)
    if other is not model and model.origin is not None:
        other.origin = replace(model.origin, steps=(*model.origin.steps, (method, arguments)))
    return other
