"""Elementwise functions whose result for one element depends on that element alone, to the bit.

torch computes some functions, powers among them, by one formula in the body of an array and by another, whose last bit can
differ, in its tail (seen on AVX2: powers, hypot, sinh, the absolute value of complex numbers). A row of a batch would then
depend on the batch's size. exp, log and log1p do not, and IEEE 754 rounds sums, products, quotients and square roots alike
everywhere.
"""

from __future__ import annotations

import torch

EXACT = (0, 0.5, 1, 2, 3)
"""Exponents that torch computes by roots and products."""


def power(base: torch.Tensor, exponent: float | torch.Tensor) -> torch.Tensor:
    r"""Computes :math:`b^e = e^{e \log b}`.

    Args:
        base: b > 0 (or inf), of any shape.
        exponent: e, a number or a tensor that broadcasts with b.

    Returns:
        The power, in the shape of both together.
    """
    if not isinstance(exponent, torch.Tensor) and exponent in EXACT:
        return base**exponent
    return torch.exp(exponent * torch.log(base))


def unit_hypot(x: torch.Tensor) -> torch.Tensor:
    r"""Computes :math:`\sqrt{1 + x^2}`; infinite where x is, or from 1.4e154 on.

    Args:
        x: A tensor of any shape.
    """
    return torch.sqrt(1 + x.square())


def magnitude(x: torch.Tensor) -> torch.Tensor:
    r"""Computes :math:`|x| = \sqrt{(\Re x)^2 + (\Im x)^2}`.

    Args:
        x: A complex tensor whose squares neither overflow nor vanish.
    """
    return x.real.square().add_(x.imag.square()).sqrt_()


def logaddexp(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    r"""Computes :math:`\log(e^a + e^b) = \max(a, b) + \log(1 + e^{-|a - b|})`; infinite where one of them is.

    Args:
        a, b: Tensors that broadcast together; not both infinite.

    Returns:
        The logarithm, in the shape of both together.
    """
    return torch.maximum(a, b) + torch.log1p(torch.exp(-(a - b).abs()))
