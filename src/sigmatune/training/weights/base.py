r"""The definition of a loss weight: a function of the noise level on the error of the clean image.

.. math:: L = E \; w(\sigma) \, [-d\lambda/du] \; \lVert D(x_0 + \sigma\epsilon; \sigma) - x_0 \rVert^2 / (C H W)

Weights on other errors are weights on this one: :math:`\lVert \hat\epsilon - \epsilon \rVert^2 = \lVert D - x_0
\rVert^2 /
\sigma^2` and, on the circle, :math:`\lVert \hat v - v \rVert^2 = \lVert D - x_0 \rVert^2 (1 + \sigma^2) / \sigma^2`. Only
the shape of w matters to the optimum, and to Adam; :func:`sigmatune.training.objective.scale_of` fixes its size, so
that learning rates and gradient clipping mean the same for all.

A new weight is one file: a function from :class:`DataFacts` and options to a function of sigma, and a line in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sigmatune.noise import Array
from sigmatune.spectra.spectrum import Spectrum
from sigmatune.support.options import full_options, known_options

Function = Callable[[Array], Array]


@dataclass(frozen=True)
class DataFacts:
    """The statistics of the data for a weight.

    Attributes:
        sigma_data: Standard deviation of the pixels.
        spectrum: The training data's, if it was measured.
    """

    sigma_data: float
    spectrum: Spectrum | None = None


@dataclass(frozen=True)
class Weight:
    """A weight's entry in the registry.

    Args:
        name: As in recipes.
        build: (data, keyword-only options) -> w(sigma), sigma > 0 in float64.
        summary: In one line.
    """

    name: str
    build: Callable[..., Function]
    summary: str

    def with_options(self, data: DataFacts, given: Mapping[str, Any]) -> Function:
        """The weight with its options completed.

        Raises:
            SigmaTuneError: for an unknown option or one that is out of range.
        """
        return self.build(data, **full_options(self.name, known_options(self.build), given))
