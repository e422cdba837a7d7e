"""The best Beta timesteps for a spectrum, in closed form: what the Beta sampling paper picked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize

from sigmatune import schedules
from sigmatune.core.schedule import Schedule, whole
from sigmatune.noise import Array, NoisePath
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.gaussian_optimum import NEGLIGIBLE, Modes, error


def optimal_beta(
    solver: str,
    steps: int,
    modes: Modes,
    path: NoisePath,
    *,
    family: str = "beta",
    symmetric: bool = False,
    **options: Any,
) -> Schedule:
    """Finds the Beta(a, b) timesteps with the smallest closed-form error for a spectrum.

    Args:
        solver: A solver of the registry.
        steps: N, at least 3 for "beta", whose ends do not depend on (a, b).
        modes: The spectrum.
        path: The model's noise path, in whose time the Beta distribution is.
        family: "beta", both ends included, or "beta-open", without the clean end.
        symmetric: Only a = b, as the Beta sampling paper takes them.
        options: The solver's options.

    Returns:
        The schedule, of that family, with its a and b among the options.

    Raises:
        SigmaTuneError: for too few steps, or an unknown solver or family.
    """
    if whole(steps, "steps") < 3 and family == "beta":
        raise SigmaTuneError(
            "with fewer than 3 steps every Beta distribution gives the same levels; ask for 3 or more."
        )

    def built(x: Array) -> Schedule:
        a, b = np.exp(np.clip(np.broadcast_to(x, 2), -3, 3))
        return schedules.build(family, steps, path, a=float(a), b=float(b))

    def objective(x: Array) -> float:
        try:
            return float(np.log(error(solver, built(x).sigmas, modes, **options) + NEGLIGIBLE))
        except SigmaTuneError:  # so uneven that two levels meet
            return float("inf")

    built(np.zeros(2))  # an unknown family is refused before the search takes refusals for bad points
    start = np.log([0.6] if symmetric else [0.6, 0.6])
    minimum = minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-8, "maxiter": 400})
    return built(minimum.x)
