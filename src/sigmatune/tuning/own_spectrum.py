"""The spectrum of the data behind a model: from the file beside its weights, or measured on images."""

from __future__ import annotations

from sigmatune.models.bundled import spectra_file
from sigmatune.spectra.measured_spectra import measure
from sigmatune.spectra.mixture import FORMAT, Mixture
from sigmatune.spectra.rings import binning
from sigmatune.spectra.spectrum_file import load_measured
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.json_file import format_of
from sigmatune.tuning.gaussian_optimum import Modes


def own_modes(source: str, data: str = "", *, values: str = "auto") -> Modes:
    """Finds the spectrum of a model's data.

    Args:
        source: What the model was loaded from: a bundled name or a folder, beside whose weights ``spectra.json`` may lie.
        data: Images, or a file of fitted spectra, to use instead.
        values: The range of black and white in the images (:mod:`sigmatune.spectra.values`).

    Raises:
        SigmaTuneError: if neither exists, or the images cannot be read.
    """
    file = data or spectra_file(source)
    if file is None:
        raise SigmaTuneError(f"the spectrum of {source}'s data is not known; pass its training images with --data.")
    if str(file).endswith(".json"):
        if format_of(file) == FORMAT:
            mixture = Mixture.load(file)
            power = mixture.mean()
            return Modes.of_rings(power, binning(*mixture.size, "fft", corners=False).count[: len(power)])
        spectrum = load_measured(file).all
    else:
        spectrum = measure(data, values=values).all
    return Modes.of_rings(spectrum.power.reshape(-1, spectrum.rings).mean(axis=0), spectrum.count)
