r"""What a measure is: a map to a space in which the root mean square is the error.

A plan's end point on a noise, :math:`x_i`, is compared with that of the converged solution from the same noise, :math:`x^*_i`:

.. math:: e_i = \operatorname{RMS} \left( M(x_i) - M(x^*_i) \right) .

The map M is fitted once to converged end points, which say how large what is compared is, and never changes after that: then
it is a *fitted* measure, small arrays and the options that they were made with, and the same bits after saving and loading.
Where M is linear and the data lie on a grid it is a filter, one weight per mode, and everything that minimises a squared
distance can minimise this one: filter what is compared, or weigh its modes.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.noise import Array
from sigmatune.statistics.pieces import pieces
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import full_options, known_options

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Fitted(ABC):
    """A measure that was fitted to converged end points; immutable.

    A subclass adds its arrays as further fields, each a float64 array of numpy that cannot be changed.

    Attributes:
        name: That of its measure.
        linear: Whether the map is linear.
        ranks: The fields that are arrays, and how many axes each has.
        shape: Shape of one sample.
        options: What it was fitted with, all options of its measure.
    """

    name: ClassVar[str]
    linear: ClassVar[bool]
    ranks: ClassVar[Mapping[str, int]]
    shape: Shape
    options: Mapping[str, Any]

    @abstractmethod
    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Maps samples, (n, *shape), to the measure's space, (n, ...); differentiable where :attr:`linear`."""

    @abstractmethod
    def rounding(self, relative: float) -> float:
        """The error of samples that are rounded: white noise of this share of the samples' root mean square."""

    def squares(self, x: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        """The squared errors :math:`e_i^2` of samples, both (n, *shape), as (n,) in float64."""
        return (self.apply(x).double() - self.apply(exact).double()).flatten(1).square().mean(dim=1)

    def errors(self, x: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
        """The errors :math:`e_i` of samples.

        Args:
            x, exact: A plan's end points and the converged ones on the same noises, (n, *shape).

        Returns:
            Errors of shape (n,) in float64 that are not negative. For ``rms`` they have the unit of the data, for the others
            they are shares of the size of the data.
        """
        parts = zip(pieces(x), pieces(exact), strict=True)
        return torch.cat([self.squares(part, of_exact) for part, of_exact in parts]).sqrt()

    def weights(self) -> Array | None:
        """The weight of every squared mode in the squared error.

        Returns:
            Weights in the shape ``(C, *grid)``, float64, in the order of the full Fourier transform, of the channels turned by
            :meth:`axes`; None where every mode weighs 1, or where the measure is not linear.
        """
        return None

    def axes(self) -> Array | None:
        """The channel axes that :meth:`weights` are of, rows of an orthonormal (C, C); None for the channels themselves."""
        return None

    def at(self, sigma: float) -> Fitted:
        """The measure for unit states at a level, which are still to be solved to the end; itself, without a filter.

        Args:
            sigma: The level; 0 is that of the end points.
        """
        return self

    def bound(self, model: Denoiser) -> Self:
        """The same measure for a model's samples, where it has to know how they become images."""
        return self

    def arrays(self) -> dict[str, Array]:
        """Its arrays by name."""
        return {name: getattr(self, name) for name in self.ranks}

    def to_dict(self) -> dict[str, Any]:
        """The measure as JSON has it; :func:`sigmatune.measures.from_dict` is its inverse, bit for bit."""
        arrays = {name: array.tolist() for name, array in self.arrays().items()}
        return {"name": self.name, "options": dict(self.options), "shape": list(self.shape), "arrays": arrays}

    def digest(self) -> str:
        """A text that changes with every bit of the measure; names what was measured with it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


Fit = Callable[..., Fitted]


@dataclass(frozen=True)
class Measure:
    """A measure by name.

    Attributes:
        fit: ``fit(exact, model, *, option=default, ...)`` fits it to converged end points, (n, *shape), of a model or None.
        fitted: The class of what ``fit`` returns: its fields are the arrays that are saved.
        summary: One line for listings.
        suits: Whether it can measure samples of a shape, and in one sentence why not.
        check: ``check(option=value, ...)`` refuses values of its options that are out of range.
    """

    fit: Fit
    fitted: type[Fitted]
    summary: str
    suits: Callable[[Shape], str | None] = lambda shape: None
    check: Callable[..., None] = lambda **options: None

    @property
    def name(self) -> str:
        """Its name in the registry."""
        return self.fitted.name

    @property
    def linear(self) -> bool:
        """Whether its map is linear."""
        return self.fitted.linear

    @property
    def defaults(self) -> dict[str, Any]:
        """Its options with their default values."""
        return known_options(self.fit)

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Completes options with the defaults.

        Raises:
            SigmaTuneError: for an unknown option, a value that is not a finite number where one is needed, or one out of range.
        """
        options = full_options(self.name, self.defaults, given)
        self.check(**options)
        return options


def frozen(array: Any) -> Array:
    """A float64 copy that no one can change."""
    kept = np.array(array, dtype=np.float64, order="C")
    kept.setflags(write=False)
    return kept


def floats(x: torch.Tensor) -> torch.Tensor:
    """Samples in a precision that can be transformed: half ones as float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def size_of(array: Array, what: str) -> float:
    """The one positive number of an array.

    Raises:
        SigmaTuneError: if it holds something else.
    """
    if array.shape != (1,) or not array[0] > 0:
        raise SigmaTuneError(f"{what} of a measure is one positive number, not {array.tolist()}; fit it again.")
    return float(array[0])
