r"""A rule that draws a spectrum for every sample.

.. math:: (\text{seed}, i) \;\to\; P_i(k) \;\to\; \lambda_i(v) \;\to\; \sigma_{i,0} > \dots > \sigma_{i,N} = 0
    \;\to\; \text{coefficients}

The spectrum comes from a mixture (:mod:`sigmatune.spectra.mixture`), the curve from a spectral family
(:mod:`sigmatune.schedules.spectral`), the coefficients from any solver. What is drawn can be steered: another class's
mixture, the data's mean instead of a draw, or an edit of every spectrum. Whether an image follows the spectrum that its levels
were made for is up to the model: one that is not told the spectrum has only the levels to go by.

Reference: Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), https://arxiv.org/abs/2603.19222
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.noise import Array, NoisePath
from sigmatune.options import plain
from sigmatune.plan import MICRO_BATCH, Plan
from sigmatune.schedule import Schedule, whole
from sigmatune.schedules import FAMILIES, build
from sigmatune.schedules.spectral import LAW
from sigmatune.solvers import SOLVERS, compile_plan
from sigmatune.spectra.mixture import Mixture, edited

DRAWN = frozenset({"spectrum", *LAW})
"""The options of a spectral family that say what the spectrum is."""


@dataclass(frozen=True)
class Control:
    """What steers the spectra of a rule.

    Args:
        label: Draw from this class's mixture; from that of all data by default.
        mean: Use the mean spectrum of the class or the data in every row instead of a draw.
        texture: Tilt every spectrum, P(k) k^texture; above 0 the fine rings gain power.
        amplitude: Multiply every spectrum, > 0.
    """

    label: str | None = None
    mean: bool = False
    texture: float = 0.0
    amplitude: float = 1.0


@dataclass(frozen=True, eq=False)
class SpectralRule:
    """Draws a spectrum per (seed, index) and yields the plan with its schedules, one row each.

    Args:
        family: A family that reads a spectrum: spectral-frequency, spectral-power, spectral-mixed.
        steps: N.
        path: The model's noise path.
        spectra: Where spectra are drawn from.
        solver: A name from the registry.
        control: What steers the spectra.
        options: The family's other options, and sigma_min or sigma_max to fix an end.
        solver_options: The solver's own options.
        fingerprint: Of the model that it is for, if any; another one warns.
        micro_batch: Rows per network call.

    Raises:
        SigmaTuneError: for an unknown family, solver, option or class, or a control that is none.
    """

    family: str
    steps: int
    path: NoisePath
    spectra: Mixture
    solver: str = "dpmpp2m"
    control: Control = Control()
    options: Mapping[str, Any] = field(default_factory=dict)
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None
    micro_batch: int = MICRO_BATCH

    def __post_init__(self) -> None:
        if "spectrum" not in FAMILIES[self.family].defaults:
            able = ", ".join(name for name, family in FAMILIES.items() if "spectrum" in family.defaults)
            raise SigmaTuneError(f"a rule needs a family that reads a spectrum: {able}, not {self.family}.")
        taken = DRAWN & set(self.options)
        if taken:
            raise SigmaTuneError(
                f"a rule draws its spectra, so the family's option {min(taken)} is not free; leave it out."
            )
        # Complete, so that a file means the same when a default changes.
        defaults = {name: value for name, value in FAMILIES[self.family].defaults.items() if name not in DRAWN}
        object.__setattr__(self, "options", plain({**defaults, **self.options}))
        object.__setattr__(self, "family", FAMILIES[self.family].name)
        object.__setattr__(self, "solver_options", plain(SOLVERS[self.solver].options(self.solver_options)))
        object.__setattr__(self, "solver", SOLVERS[self.solver].name)
        whole(self.micro_batch, "micro_batch")
        build(self.family, self.steps, self.path, spectrum=self._edited(self._mean()), **self.options)

    @classmethod
    def of(cls, model: Denoiser, family: str, steps: int, spectra: Mixture, **rest: Any) -> SpectralRule:
        """Makes a rule for a model: its noise path and its fingerprint; the rest as for the class."""
        return cls(family, steps, model.path, spectra, fingerprint=model.fingerprint(), **rest)

    def edited(self, **control: Any) -> SpectralRule:
        """Returns the rule with other controls: ``label``, ``mean``, ``texture`` or ``amplitude``.

        Raises:
            SigmaTuneError: for a control or class that there is none of.
        """
        unknown = set(control) - set(Control.__dataclass_fields__)
        if unknown:
            raise SigmaTuneError(f"a rule has the controls label, mean, texture and amplitude, not {min(unknown)!r}.")
        return replace(self, control=replace(self.control, **control))

    def power(self, seed: int, indices: Sequence[int]) -> Array:
        """The spectra of some rows after the controls, (R, K); row i is a function of (seed, indices[i]) alone."""
        if self.control.mean:
            return np.repeat(self._edited(self._mean())[None], len(indices), axis=0)
        return self._edited(self.spectra.draw(seed, indices, self.control.label))

    def schedule(self, seed: int, indices: Sequence[int]) -> Schedule:
        """The schedules of some rows, one grid each; the spectra are left out of the provenance, for they can be drawn again.

        Raises:
            SigmaTuneError: for no row at all.
        """
        if not len(indices):
            raise SigmaTuneError("a rule makes a schedule per row and needs at least one index.")
        made = build(self.family, self.steps, self.path, spectrum=self.power(seed, indices), **self.options)
        return replace(made, options={**made.options, "spectrum": {"seed": seed, "indices": list(indices)}})

    def plan(self, seed: int, indices: Sequence[int], denoiser: Denoiser | None = None) -> Plan:
        """The plan of some rows.

        Args:
            seed: Seed of the spectra and of the noise.
            indices: The rows' indices.
            denoiser: The model; a network of whole timesteps gets levels that it knows.

        Raises:
            SigmaTuneError: if levels of a row fall on one timestep.
        """
        snapping = denoiser if denoiser is not None and denoiser.integer_time else None
        made = compile_plan(self.schedule(seed, indices), self.solver, snapping, **self.solver_options)
        return replace(made, path=self.path.spec(), fingerprint=self.fingerprint, micro_batch=self.micro_batch)

    def save(self, path: str | Path) -> None:
        """Writes the rule file, atomically; see :mod:`sigmatune.rules.rule_file`."""
        from sigmatune.rules.rule_file import write

        write(self, path)

    def _mean(self) -> Array:
        return self.spectra.mean(self.control.label)

    def _edited(self, power: Array) -> Array:
        return edited(power, texture=self.control.texture, amplitude=self.control.amplitude)
