r"""A rule that draws a spectrum for every sample.

.. math:: (\text{seed}, i) \;\to\; P_i(k) \;\to\; \lambda_i(v) \;\to\; \sigma_{i,0} > \dots > \sigma_{i,N} = 0
    \;\to\; \text{coefficients}

The spectrum comes from a mixture (:mod:`sigmatune.spectra.mixture`), the curve from a spectral family
(:mod:`sigmatune.schedules.spectral`), the coefficients from any solver. Controls steer the draw: another class's
mixture, the data's mean instead of a draw, or an edit of every spectrum. Whether an image follows the spectrum behind
its levels depends on the model: a model that is not conditioned on the spectrum sees only the levels.

Reference: Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), https://arxiv.org/abs/2603.19222
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr
from torch import float64

from sigmatune import solvers
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.origin import derived
from sigmatune.core.rng import START, noise
from sigmatune.core.schedule import Schedule, whole
from sigmatune.noise import Array, NoisePath
from sigmatune.plan import MICRO_BATCH, MOST_ROWS, Plan, compile_plan
from sigmatune.rules.rule_document import FORMAT, VERSION, ControlFields, RuleFile
from sigmatune.schedules import FAMILIES, build
from sigmatune.schedules.spectral import LAW
from sigmatune.spectra.mixture import Mixture, edited
from sigmatune.support import outputs
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.options import plain

DRAWN = frozenset({"spectrum", *LAW})
"""The options of a spectral family that define the spectrum."""


@dataclass(frozen=True)
class Control:
    """The controls of a rule's spectra.

    Args:
        label: Draw from this class's mixture, and condition a network with classes on it; all data by default.
        mean: Use the mean spectrum of the label or the data in every row instead of a draw.
        texture: Tilt every spectrum, P(k) k^texture; above 0 the fine rings gain power.
        amplitude: Multiply every spectrum, > 0.
        by_class: Draw a class for every row, with its frequency in the data, for a class-conditional network.
        shuffled: With by_class, draw the spectrum from another class than the network's condition: a control
            experiment.
    """

    label: str | None = None
    mean: bool = False
    texture: float = 0.0
    amplitude: float = 1.0
    by_class: bool = False
    shuffled: bool = False


@dataclass(frozen=True, eq=False)
class SpectralRule:
    """Draws a spectrum per (seed, index) and yields the plan with its schedules, one row each.

    Args:
        family: A family that reads a spectrum: spectral-frequency, spectral-power, spectral-mixed.
        steps: N.
        path: The model's noise path.
        spectra: The mixture of spectra.
        solver: A name from the registry.
        control: The controls of the spectra.
        options: The family's other options, and sigma_min or sigma_max to fix an end.
        solver_options: The solver's own options.
        fingerprint: Of its model, if any; use with another model warns.
        micro_batch: Rows per network call.

    Raises:
        SigmaTuneError: for an unknown family, solver, option or class, or an invalid control.
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
            raise SigmaTuneError(f"a rule draws its spectra, so leave out the family's option {min(taken)}.")
        # Complete, so that a file keeps its meaning when a default changes.
        defaults = {name: value for name, value in FAMILIES[self.family].defaults.items() if name not in DRAWN}
        object.__setattr__(self, "options", plain({**defaults, **self.options}))
        object.__setattr__(self, "family", FAMILIES[self.family].name)
        object.__setattr__(self, "solver_options", plain(solvers.solver(self.solver).options(self.solver_options)))
        object.__setattr__(self, "solver", solvers.solver(self.solver).name)
        whole(self.micro_batch, "micro_batch", most=MOST_ROWS)
        if self.control.by_class and (self.control.label is not None or not self.spectra.classes):
            raise SigmaTuneError("by_class needs spectra of classes, and no label; leave one of the two out.")
        if self.control.shuffled and (not self.control.by_class or len(self.spectra.classes) < 2):
            raise SigmaTuneError("shuffled goes with by_class, and needs at least two classes.")
        build(self.family, self.steps, self.path, spectrum=self._edited(self._mean()), **self.options)

    @classmethod
    def of(cls, model: Denoiser, family: str, steps: int, spectra: Mixture, **rest: Any) -> SpectralRule:
        """Builds a rule for a model, with its noise path and fingerprint; the rest as for the class."""
        return cls(family, steps, model.path, spectra, fingerprint=model.fingerprint(), **rest)

    @classmethod
    def trained(cls, model: Denoiser, steps: int, spectra: Mixture, **rest: Any) -> SpectralRule:
        """Builds the rule that a model was trained for: its own curve, between its own ends, and its classes.

        Args:
            model: A model of a spectral noise law, guided or not.
            steps: N.
            spectra: The mixture that was saved with it.
            rest: As for the class; ``control`` draws a class for every row unless it is given.

        Raises:
            SigmaTuneError: for a model whose noise law is not a spectral curve.
        """
        inner: Any = getattr(model, "conditional", model)
        family = trained_curve(model)
        if family is None:
            raise SigmaTuneError(
                "this model was not trained on a spectral curve; name a family and use SpectralRule.of."
            )
        curve = inner.conditioner.curve
        options = {"kappa_min": curve["kappa_min"], "kappa_max": curve["kappa_max"], "widen": 0.0}
        rest.setdefault("control", Control(by_class=bool(inner.classes) and bool(spectra.classes)))
        return cls.of(model, family, steps, spectra, options=options, **rest)

    def edited(self, **control: Any) -> SpectralRule:
        """Returns the rule with other controls, see :class:`Control`.

        Raises:
            SigmaTuneError: for an unknown control or class.
        """
        unknown = set(control) - set(Control.__dataclass_fields__)
        if unknown:
            known = ", ".join(Control.__dataclass_fields__)
            raise SigmaTuneError(f"a rule has the controls {known}, not {min(unknown)!r}.")
        return replace(self, control=replace(self.control, **control))

    def power(self, seed: int, indices: Sequence[int]) -> Array:
        """The spectra of some rows after the controls, (R, K); row i is a function of (seed, indices[i]) alone."""
        if self.control.mean:
            return np.repeat(self._edited(self._mean())[None], len(indices), axis=0)
        labels = self.labels(seed, indices)
        if labels is None:
            return self._edited(self.spectra.draw(seed, indices))
        if self.control.shuffled:
            names = list(self.spectra.classes)
            steps = 1 + np.floor(_shares(seed, indices, 1) * (len(names) - 1)).astype(int)
            labels = [
                names[(names.index(label) + step) % len(names)] for label, step in zip(labels, steps, strict=True)
            ]
        rows = [self.spectra.draw(seed, [i], label)[0] for i, label in zip(indices, labels, strict=True)]
        return self._edited(np.array(rows).reshape(len(indices), self.spectra.rings))

    def labels(self, seed: int, indices: Sequence[int]) -> list[str] | None:
        """The class of some rows, each a function of (seed, index) alone; None where no class is drawn."""
        if not self.control.by_class:
            return None if self.control.label is None else [self.control.label] * len(indices)
        names = list(self.spectra.classes)
        edges = np.cumsum([part.images for part in self.spectra.classes.values()], dtype=np.float64)
        chosen = np.searchsorted(edges / edges[-1], _shares(seed, indices, 0), side="right")
        return [names[min(int(i), len(names) - 1)] for i in chosen]

    def schedule(self, seed: int, indices: Sequence[int]) -> Schedule:
        """The schedules of some rows, one grid each; the provenance omits the spectra, which can be drawn again.

        Raises:
            SigmaTuneError: for no row at all.
        """
        if not len(indices):
            raise SigmaTuneError("a rule makes a schedule per row and needs at least one index.")
        schedule = build(self.family, self.steps, self.path, spectrum=self.power(seed, indices), **self.options)
        return replace(schedule, options={**schedule.options, "spectrum": {"seed": seed, "indices": list(indices)}})

    def plan(self, seed: int, indices: Sequence[int], denoiser: Denoiser | None = None) -> Plan:
        """The plan of some rows.

        Args:
            seed: Seed of the spectra and of the noise.
            indices: The rows' indices.
            denoiser: The model; a whole-timestep network gets levels on its timesteps.

        Raises:
            SigmaTuneError: if levels of a row fall on one timestep.
        """
        snapping = denoiser if denoiser is not None and denoiser.integer_time else None
        plan = compile_plan(self.schedule(seed, indices), self.solver, snapping, **self.solver_options)
        return replace(plan, path=self.path.spec(), fingerprint=self.fingerprint, micro_batch=self.micro_batch)

    def together(self, seed: int, indices: Sequence[int], denoiser: Denoiser) -> tuple[Denoiser, Plan]:
        """The plan of some rows, and the denoiser conditioned on their classes and the ends of their curves.

        The conditions are those of training: the ends of the spectrum's own curve (``widen`` 0) in the model's range.
        """
        narrow = {**self.options, "widen": 0.0}
        ends = build(self.family, 2, self.path, spectrum=self.power(seed, indices), **narrow).sigmas[:, 1::-1]
        conditioned, plan = (
            derived(denoiser, "conditioned", indices, self.labels(seed, indices), ends),
            self.plan(seed, indices, denoiser),
        )
        guided_model = getattr(denoiser, "conditional", denoiser)  # guided or not
        mine = self.fingerprint is not None and guided_model.is_model_of(self.fingerprint)
        return conditioned, replace(plan, fingerprint=conditioned.fingerprint()) if mine else plan

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the rule file, atomically; see :mod:`sigmatune.rules.rule_file`.

        Args:
            path: The file. A rule file that is there is replaced.
            force: Replace any other file, too.

        Raises:
            SigmaTuneError: if the folder does not exist or cannot be written to, or another file is there.
        """
        outputs.save(path, self.document().text(), "rule", force=force)

    def document(self) -> RuleFile:
        """The fields of the rule's file."""
        return RuleFile(
            format=FORMAT,
            version=VERSION,
            family=self.family,
            options=dict(self.options),
            steps=self.steps,
            solver=self.solver,
            solver_options=dict(self.solver_options),
            spectra=self.spectra.fields(),
            control=ControlFields(**asdict(self.control)),
            noise_path=self.path.spec(),
            model=self.fingerprint,
            micro_batch=self.micro_batch,
        )

    def _mean(self) -> Array:
        return self.spectra.mean(self.control.label)

    def _edited(self, power: Array) -> Array:
        return edited(power, texture=self.control.texture, amplitude=self.control.amplitude)


def trained_curve(model: Denoiser) -> str | None:
    """The spectral family that a model was trained on, guided or not; None for any other noise law."""
    curve = getattr(getattr(getattr(model, "conditional", model), "conditioner", None), "curve", None)
    return None if curve is None else f"spectral-{curve['curve']}"


CLASS = 0xC1A55
"""Noise channel of drawn classes."""


def _shares(seed: int, indices: Sequence[int], which: int) -> Array:
    """A number in (0, 1) per row, a function of (seed, index) alone."""
    return np.asarray(ndtr(noise(seed, indices, START, (2,), channel=CLASS, dtype=float64).numpy()[:, which]))
