r"""DDPM: the network's time uniform on its own table.

.. math:: t = (T - 1) u, \qquad \lambda(u) = -2 \log \sigma(t)

with the levels of a beta table, log sigma linear between its entries, restricted to the model's range.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, vp
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.laws.base import Domain, LawKind, Shared


def ddpm(domain: Domain, *, table: str = "linear") -> Shared:
    """Draws the timestep uniformly.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020)
        | https://arxiv.org/abs/2006.11239

    Args:
        domain: The model and data.
        table: The beta table, "linear", "scaled_linear" or "cosine" of 1000 entries.

    Raises:
        SigmaTuneError: for an unknown table, or one without a level inside the model's range.
    """
    path = vp(table)  # type: ignore[arg-type]  # vp refuses other names
    t = np.arange(path.levels, dtype=np.float64)
    values = -2 * np.log(path.sigma(t))
    high, low = domain.logsnr
    first, last = np.interp([-high, -low], -values, t)
    if not first < last:
        raise SigmaTuneError(f"the table {table!r} has no level in the model's range; choose another law.")
    inside = (t > first) & (t < last)
    knots = np.concatenate([[first], t[inside], [last]])
    curve = np.interp(knots, t, values)

    def logsnr(u: Array) -> Array:
        return np.asarray(np.interp(first + (last - first) * u, knots, curve))

    def slope(u: Array) -> Array:
        place = np.clip(np.searchsorted(knots, first + (last - first) * u, side="right") - 1, 0, len(knots) - 2)
        fall = np.diff(curve) / np.diff(knots)
        return np.asarray(-fall[place] * (last - first))

    return Shared(logsnr, slope)


KIND = LawKind("ddpm", ddpm, "timesteps uniform on a beta table")
