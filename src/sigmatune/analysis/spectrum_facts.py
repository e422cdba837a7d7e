"""Everything that a spectrum implies about noise, in one JSON-ready dictionary."""

from __future__ import annotations

import math
from typing import Any

from sigmatune.noise import Array
from sigmatune.spectra.advice import EDM, Density, coverage, training_density
from sigmatune.spectra.bounds import at_resolution, kappa_ends, lost_variance, prior_mismatch, tight_ends
from sigmatune.spectra.measured_spectra import Measured
from sigmatune.spectra.power_laws import broken_power_law, power_law
from sigmatune.spectra.spectrum import Spectrum
from sigmatune.support.errors import SigmaTuneError

BUDGETS = (5, 10, 20, 50)
"""Numbers of steps for which ends are proposed."""


def facts_of(
    measured: Measured,
    *,
    order: int = 1,
    trained: Density | None = None,
    levels: Array | None = None,
    resolution: int | None = None,
) -> dict[str, Any]:
    """Sums up measured spectra: laws, ends, training constants, classes.

    Args:
        measured: The spectra, corners included.
        order: Order of the solver for which the ends are proposed.
        trained: Density of training noise with which a plan is compared; EDM's by default.
        levels: Positive levels of a plan.
        resolution: Another short side in pixels.

    Raises:
        SigmaTuneError: if the data has no power or does not vary.
    """
    spectrum = measured.all
    # An image of one pixel has no frequencies for a density.
    density, by_modes = (
        training_density(spectrum, by=by) if min(spectrum.size) > 1 else None for by in ("rings", "modes")
    )
    paper = kappa_ends(spectrum, order=order)
    facts: dict[str, Any] = {
        "images": spectrum.images,
        "channels": spectrum.channels,
        "size": list(spectrum.size),
        "measured": dict(spectrum.measured),
        "power": spectrum.power.tolist(),
        "count": spectrum.count.tolist(),
        "mean": spectrum.mean,
        "sigma_data": spectrum.deviation,
        "laws": _laws(spectrum),
        "ends": _ends(spectrum, order),
        "ends_in_the_paper_s_form": {"sigma_max": paper.sigma_max, "sigma_min": paper.sigma_min},
        "training": {
            name: None if one is None else {"P_mean": one.mean, "P_std": one.std}
            for name, one in (("by_rings", density), ("by_modes", by_modes))
        },
        "edm": {
            **EDM,
            "prior_mismatch_nats": float(prior_mismatch(spectrum, EDM["sigma_max"])),
            "lost_variance_share": float(lost_variance(spectrum, EDM["sigma_min"]))
            / max(spectrum.deviation**2, 1e-300),
        },
        "classes": {
            name: {"images": one.images, "sigma_data": one.deviation, "power": one.power.tolist()}
            for name, one in measured.classes.items()
        },
    }
    if resolution is not None:
        facts["resolution"] = _other_resolution(spectrum, resolution, order)
    if levels is not None:
        trained = trained or Density(EDM["P_mean"], EDM["P_std"])
        facts["plan"] = {
            "levels": [level if math.isfinite(level) else "inf" for level in levels.tolist()],
            "trained": {"P_mean": trained.mean, "P_std": trained.std, **coverage(trained, levels).to_dict()},
            "proposed": None if density is None else coverage(density, levels).to_dict(),
        }
    return facts


def _laws(spectrum: Spectrum) -> dict[str, Any]:
    """The laws for which there are enough rings."""
    laws = {}
    for name, fit in (("power", power_law), ("broken", broken_power_law)):
        try:
            laws[name] = fit(spectrum).to_dict()
        except SigmaTuneError:  # too few rings
            continue
    return laws


def _ends(spectrum: Spectrum, order: int) -> list[dict[str, Any]]:

    rows = []
    for steps in BUDGETS:
        ends = tight_ends(spectrum, steps, order=order)
        rows.append(
            {"steps": steps, "sigma_max": ends.sigma_max, "sigma_min": ends.sigma_min,
             "prior_mismatch_nats": float(prior_mismatch(spectrum, ends.sigma_max)),
             "lost_variance_share": float(lost_variance(spectrum, ends.sigma_min)) / spectrum.deviation**2}
        )  # fmt: skip
    return rows


def _other_resolution(spectrum: Spectrum, side: int, order: int) -> dict[str, Any]:

    law = power_law(spectrum)
    other = at_resolution(spectrum, side, law.exponent)
    density = training_density(other)
    rows = []
    for steps in BUDGETS:
        ends = tight_ends(other, steps, order=order)
        rows.append({"steps": steps, "sigma_max": ends.sigma_max, "sigma_min": ends.sigma_min})
    return {
        "side": side,
        "shift": side / min(spectrum.size),
        "P_mean": density.mean,
        "P_std": density.std,
        "ends": rows,
    }
