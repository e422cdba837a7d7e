"""The data options of ``sigmatune schedule``: a mean spectrum, or a rule that draws one per image."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sigmatune.cli.common import progress_bar
from sigmatune.support.errors import SigmaTuneError, unknown_name

if TYPE_CHECKING:
    from sigmatune.noise import Array
    from sigmatune.spectra.mixture import Mixture

MEASURED = ".json"
"""The ending of files of measured spectra and fitted mixtures."""


@dataclass(frozen=True)
class DataOptions:
    """The command's options about data; empty means not given.

    Attributes:
        source: Folder, file of images, a measured spectrum or a fitted mixture.
        label: One class of it.
        size: Crop and resize to this many pixels, 0 for no change.
        texture: Tilt of the spectrum.
        per_image: Fit a mixture and write a rule.
        mean: Every row of the rule has the mean spectrum.
        reduction: The features of the mixture.
        values: The range of black and white in the images.
    """

    source: str
    label: str
    size: int
    texture: float
    per_image: bool
    mean: bool
    reduction: str
    values: str = "auto"

    def check(self, family: str, family_options: Collection[str], plan: Path | None, out: Path | None) -> None:
        """Refuses contradictory options before any work.

        Raises:
            SigmaTuneError: naming the first.
        """
        from sigmatune.schedules import FAMILIES
        from sigmatune.schedules.spectral import LAW
        from sigmatune.spectra.mixture import edited

        edited([1.0], texture=self.texture)
        needs = {"label": self.label, "size": self.size, "texture": self.texture, "per-image": self.per_image}
        alone = next((name for name, value in needs.items() if value and not self.source), None)
        if alone:
            raise SigmaTuneError(f"--{alone} needs data; also pass --data, a folder of images or a file.")
        if self.mean and not self.per_image:
            raise SigmaTuneError(
                "--mean is for rules; leave it out, because without --per-image --data gives the mean spectrum anyway."
            )
        if self.reduction not in ("law", "pca"):
            raise SigmaTuneError(f"--reduction is law or pca, not {self.reduction!r}.")
        if self.source and "spectrum" not in FAMILIES[family].defaults:
            able = ", ".join(name for name, member in FAMILIES.items() if "spectrum" in member.defaults)
            raise SigmaTuneError(f"{family} uses no spectrum, so leave --data out or take one of {able}.")
        taken = next((name for name in ("spectrum", *LAW) if name in family_options), None)
        if self.source and taken:
            raise SigmaTuneError(f"--data defines the spectrum; leave out the option {taken}, or --data.")
        if self.per_image and plan is None:
            raise SigmaTuneError("--per-image makes a rule; pass --plan, the file to write it to.")
        if self.per_image and out is not None:
            raise SigmaTuneError(
                "--out is for the levels of one schedule; a rule has one per image and goes to --plan."
            )
        if self.source.endswith(MEASURED) and (self.size or (self.per_image and not self._fitted)):
            raise SigmaTuneError(
                f"{self.source} holds a measured spectrum and no images; pass the images for --per-image or --size."
            )

    def power(self, *, quiet: bool) -> Array:
        """Measures the mean power of the data or of one class, and edits it, (K,)."""
        from sigmatune.spectra.measured_spectra import measure
        from sigmatune.spectra.mixture import Mixture, edited
        from sigmatune.spectra.rings import whole_rings
        from sigmatune.spectra.spectrum_file import load_measured

        if self._fitted:
            return edited(Mixture.load(self.source).mean(self.label or None), texture=self.texture)
        if self.source.endswith(MEASURED):
            measured = load_measured(self.source)
        else:
            with progress_bar("reading images", quiet=quiet) as progress:
                measured = measure(
                    self.source,
                    by_class=bool(self.label),
                    progress=progress,
                    size=self.size or None,
                    values=self.values,
                )
            _say(measured.about, quiet=quiet)
        if self.label and self.label not in measured.classes:
            raise unknown_name("class", self.label, measured.classes)
        spectrum = measured.classes[self.label] if self.label else measured.all
        rings = spectrum.power.reshape(-1, spectrum.rings).mean(axis=0)[: whole_rings(*spectrum.size)]
        return edited(rings, texture=self.texture)

    def mixture(self, *, quiet: bool) -> Mixture:
        """Fits the mixture that a rule draws from, or reads it."""
        from sigmatune.spectra.mixture import Mixture
        from sigmatune.spectra.mixture_fit import fit
        from sigmatune.spectra.sources import open_images
        from sigmatune.spectra.values import checked

        if self._fitted:
            mixture = Mixture.load(self.source)
            if self.label and self.label not in mixture.classes:
                raise unknown_name("class", self.label, mixture.classes)
            return mixture
        images = open_images(self.source, size=self.size or None, values=checked(self.values))
        if self.label and self.label not in images.classes:
            raise unknown_name("class", self.label, images.classes)
        reduction: Literal["law", "pca"] = "pca" if self.reduction == "pca" else "law"
        with progress_bar("reading images", quiet=quiet) as progress:
            mixture = fit(images, reduction=reduction, progress=lambda done: progress("spectra", done, images.count))
        _say(images.about(), quiet=quiet)
        return mixture

    @property
    def _fitted(self) -> bool:
        """Whether the source is the file of a mixture."""
        from sigmatune.spectra.mixture import FORMAT
        from sigmatune.support.json_file import format_of

        return self.source.endswith(MEASURED) and format_of(self.source) == FORMAT

    @property
    def control(self) -> dict[str, Any]:
        """The controls of the rule."""
        return {"label": self.label or None, "mean": self.mean, "texture": self.texture}


def _say(about: Mapping[str, Any], *, quiet: bool) -> None:
    """Reports skipped files of a folder, beside the command's output."""
    from sigmatune.spectra.images import left_out_told

    if not quiet and (text := left_out_told(about)):
        print(text, file=sys.stderr)
