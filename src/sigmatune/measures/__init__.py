"""Measures by name: what the error of a plan is. A new one is a file with a ``MEASURE`` and an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.measures import features, rms, whitened
from sigmatune.measures.base import Fitted, Measure, Shape, frozen
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.json_file import Strict, validated
from sigmatune.support.pixels import first_unsound
from sigmatune.support.registry import Registry

MEASURES: Registry[Measure] = Registry(
    "measure", {measure.name: measure for measure in (whitened.MEASURE, rms.MEASURE, features.MEASURE)}
)
"""All measures by name."""


def default_measure(shape: Shape) -> str:
    """The name of the measure for samples of a shape: ``whitened`` on a grid, else ``rms``."""
    return whitened.MEASURE.name if whitened.MEASURE.suits(tuple(shape)) is None else rms.MEASURE.name


def fit(name: str, exact: torch.Tensor, model: Denoiser | None = None, **options: Any) -> Fitted:
    """Fits a measure to converged end points.

    Args:
        name: A name in :data:`MEASURES`.
        exact: The end points, (n, *shape), n >= 1.
        model: The model that they are of; needed where samples have to be decoded.
        options: The measure's own options.

    Raises:
        SigmaTuneError: for an unknown name or option, samples that the measure does not suit, NaN, or samples that are all 0.
    """
    measure, shape = MEASURES[name], tuple(exact.shape[1:])
    complete = measure.complete(options)
    if len(exact) < 1 or not shape:
        raise SigmaTuneError(f"a measure is fitted to samples, (n, *shape), not to a tensor {tuple(exact.shape)}.")
    if (why := measure.suits(shape)) is not None:
        raise SigmaTuneError(why)
    if (bad := first_unsound(exact)) is not None:
        raise SigmaTuneError(f"end point {bad} holds NaN or infinity; a measure cannot be fitted to it.")
    if not bool(exact.any()):
        raise SigmaTuneError("all end points are 0, so that nothing says how large an error is; look at the model.")
    return measure.fit(exact, model, **complete)


class _Fields(Strict):
    """A fitted measure in a file."""

    name: str
    options: dict[str, float | int | str]
    shape: list[int]
    arrays: dict[str, list[Any]]


def from_dict(stated: Any) -> Fitted:
    """Reads what :meth:`Fitted.to_dict` wrote; call :meth:`Fitted.bound` where samples have to be decoded.

    Raises:
        SigmaTuneError: if it is no measure.
    """
    read = validated(stated, _Fields, "this is no measure")
    measure, shape = MEASURES[read.name], tuple(read.shape)
    if not shape or min(shape) < 1:
        raise SigmaTuneError(f"a measure is of samples of some shape, not of {list(shape)}; fit it again.")
    if (why := measure.suits(shape)) is not None:
        raise SigmaTuneError(why)
    options = measure.complete(read.options)
    return measure.fitted(shape, options, **_arrays(measure, read.arrays))


def _arrays(measure: Measure, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a file, finite and of as many axes as the measure's."""
    ranks = measure.fitted.ranks
    if set(stated) != set(ranks):
        raise SigmaTuneError(f"the measure {measure.name} has the arrays {sorted(ranks)}, not {sorted(stated)}.")
    return {name: _array(stated[name], rank, f"{name} of the measure {measure.name}") for name, rank in ranks.items()}


def _array(stated: Any, rank: int, what: str) -> Any:
    try:
        array = frozen(
            stated if stated else np.zeros((0,) * rank)
        )  # a list without rows does not say how many axes it has
    except (TypeError, ValueError):  # ragged, or no numbers
        array = frozen(np.nan)
    if array.ndim != rank or not np.isfinite(array).all():
        raise SigmaTuneError(f"{what} is no array of finite numbers with {rank} axes; fit the measure again.")
    return array


__all__ = ["MEASURES", "Fitted", "Measure", "default_measure", "fit", "from_dict"]
