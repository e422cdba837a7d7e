r"""Frequencies: the spectrum of images that a visitor brings, and a sampling as a film, step by step.

A frame of the film is one network call at level :math:`\sigma`: the state :math:`x_t = x_0 + \sigma \epsilon`, shown as
:math:`x_t / \sqrt{1 + \sigma^2}`, the estimate of :math:`x_0`, and the spectra of both beside that of the final images. The
state's spectrum is the images' plus the flat one of the noise, :math:`\sigma^2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sigmatune.analysis.spectrum_facts import facts_of
from sigmatune.analysis.spectrum_picture import of_measured
from sigmatune.core.loop import Step
from sigmatune.plan import sample
from sigmatune.report.charts import power_chart
from sigmatune.report.html import p, table, three
from sigmatune.report.residual import residual
from sigmatune.spectra.advice import EDM, Density
from sigmatune.spectra.measured_spectra import Measured, measure
from sigmatune.studio.explore import plan_of
from sigmatune.studio.held_models import HeldModel, is_image, shows
from sigmatune.studio.page_state import PageState
from sigmatune.studio.turns import TaskTurn
from sigmatune.studio.views import image_row
from sigmatune.support.card import count
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.reading import size

SHOWN = 4
"""Noises of a film."""

MOST_FILES, MOST_PIXELS = 500, 4096


@dataclass(frozen=True, eq=False)
class Frame:
    """One network call: its level, the unit state and the estimate, (n, *shape)."""

    sigma: float
    z: torch.Tensor
    x0: torch.Tensor

    @property
    def state(self) -> torch.Tensor:
        """x_t = x0 + sigma eps; the unit state where sigma is infinite."""
        return self.z * (1 + self.sigma**2) ** 0.5 if np.isfinite(self.sigma) else self.z


@dataclass(eq=False)
class Film:
    """A sampling step by step.

    Attributes:
        held: The model.
        frames: Its network calls.
        final: The samples.
    """

    held: HeldModel
    frames: Sequence[Frame]
    final: torch.Tensor
    _pages: dict[int, str] = field(default_factory=dict)

    def page(self, number: int) -> str:
        """A frame as HTML; number counts from 1."""
        number = min(max(number, 1), len(self.frames))
        if number not in self._pages:
            self._pages[number] = self._drawn(number)
        return self._pages[number]

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The least and the highest power of all frames, so that their charts have one axis."""
        powers = [residual(x).power for frame in self.frames for x in (frame.x0, frame.state)]
        every = np.concatenate([*powers, residual(self.final).power])
        return max(float(every.min()), float(every.max()) * 1e-12) / 1.5, float(every.max()) * 1.5

    def _drawn(self, number: int) -> str:
        frame, model = self.frames[number - 1], self.held.model
        at = "∞" if np.isinf(frame.sigma) else three(frame.sigma)
        spectra = [("estimate of the image", residual(frame.x0).power), ("noisy state", residual(frame.state).power)]
        chart = power_chart(residual(self.final).power, spectra, f"frame{number}", self.limits)
        rows = "".join(
            f"<figcaption><b>{escape(name)}</b></figcaption>{image_row(model.decode(x), model, f'{name}, call {number}')}"
            for name, x in (("noisy state", frame.z), ("estimate of the image", frame.x0))
        )
        title = f"<b>call {number} of {len(self.frames)}</b>, sigma {at}"
        figure = f'<figure class="samples film"><figcaption>{title}</figcaption>{rows}</figure>'
        return f'<div class="halves charted filmed">{figure}<div>{chart}</div></div>'


def film(held: HeldModel, state: PageState, turn: TaskTurn) -> Film:
    """Samples the stated plan and keeps every step of its first noises.

    Raises:
        SigmaTuneError: if the model's samples are no images.
    """
    if not is_image(held.model) or not shows(held.model):
        raise SigmaTuneError("a film needs a model of images with one or three channels.")
    noises = min(state.noises, SHOWN)
    plan, frames = plan_of(replace(state, noises=noises), held.model), list[Frame]()

    def keep(step: Step) -> None:
        frames.append(
            Frame(float(step.sigma.flatten()[0]), step.z[:noises].cpu().clone(), step.x0[:noises].cpu().clone())
        )

    final = sample(
        held.model, plan, noises, seed=state.seed, micro_batch=noises, on_step=keep,
        progress=lambda *done: turn.report("sampling", *done),
    ).cpu()  # fmt: skip
    return Film(held, frames, final)


@dataclass(frozen=True)
class SpectrumPage:
    """What images imply: a figure as PNG, and tables as HTML."""

    figure: bytes
    text: str
    label: str


def spectrum_page(source: Path | Sequence[Path], name: str, turn: TaskTurn) -> SpectrumPage:
    """Measures the spectrum of a folder, of an array file, or of uploaded images, as ``sigmatune spectrum`` does.

    Raises:
        SigmaTuneError: for what is no image, or images of several sizes.
    """
    data = source if isinstance(source, Path) else stacked(source)
    measured = measure(data, corners=True, progress=turn.report)
    density = Density(EDM["P_mean"], EDM["P_std"])
    facts = facts_of(measured, trained=density)
    label = f"Power of {name} against frequency, and the noise levels that it implies; the tables hold the numbers."
    return SpectrumPage(of_measured(measured, name, density), facts_view(facts, measured), label)


def stacked(files: Sequence[Path]) -> Any:
    """Uploaded images as one array, (n, H, W, C), or the only file where it is an array.

    Raises:
        SigmaTuneError: if there are none or too many, or they are no images of one size.
    """
    if len(files) == 1 and files[0].suffix.lower() in (".npz", ".npy"):
        return files[0]
    if not 1 <= len(files) <= MOST_FILES:
        raise SigmaTuneError(f"upload 1 to {MOST_FILES} images, or one .npz or .npy file, not {len(files)}.")
    arrays = [_pixels(file) for file in files]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise SigmaTuneError("the uploaded images differ in size; crop them to one size first.")
    return np.stack(arrays)


def _pixels(file: Path) -> Any:
    try:
        with Image.open(file) as image:
            if max(image.size) > MOST_PIXELS:
                raise SigmaTuneError(f"{file.name} is larger than {MOST_PIXELS} pixels; shrink it first.")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, SigmaTuneError):
            raise
        raise SigmaTuneError(f"{file.name} is not an image that can be read ({size(file.stat().st_size)}).") from None


def facts_view(facts: Mapping[str, Any], measured: Measured) -> str:
    """The training constants and the noise ranges as tables."""
    training, ends = facts["training"], facts["ends"]
    rows = [("", ["sigma_data", three(facts["sigma_data"]), f"{EDM['sigma_data']:g}"])]
    for key, words in (("by_rings", "every ring the same"), ("by_modes", "every mode the same")):
        rows += [
            ("", [f"{constant}, {words}", f"{training[key][constant]:.3f}", f"{EDM[constant]:g}"])
            for constant in (("P_mean", "P_std") if training[key] else ())
        ]
    ranges = [
        ("", [str(row["steps"]), three(row["sigma_max"]), three(row["sigma_min"]), f"{row['lost_variance_share']:.2%}"])
        for row in ends
    ]
    height, width = measured.all.size
    law = facts["laws"].get("power")
    said = "" if law is None else f" Power law: P(k) goes like k^{-law['exponent']:.2f}."
    return (
        p(f"{count(measured.all.images, 'image')} of {height} x {width}.{said}")
        + '<div class="halves"><div>'
        + table(["training constant", "this data", "EDM"], rows)
        + "</div><div>"
        + table(["steps", "sigma_max", "sigma_min", "variance lost"], ranges)
        + "</div></div>"
    )
