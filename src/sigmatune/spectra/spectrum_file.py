"""Spectra on disk: JSON, ``"format": "sigmatune/spectrum"``, one spectrum of everything and those of classes."""

from __future__ import annotations

import json
from pathlib import Path

from sigmatune.spectra.measured_spectra import Measured
from sigmatune.spectra.spectrum import Spectrum
from sigmatune.support import outputs, reading
from sigmatune.support.errors import SigmaTuneError, shown

FORMAT, VERSION = "sigmatune/spectrum", 1


def save_measured(measured: Measured, path: str | Path, *, force: bool = False) -> None:
    """Writes spectra atomically; :func:`load_measured` reads them back bit for bit.

    Args:
        measured: The spectra.
        path: The file. A spectrum file that is there is replaced.
        force: Replace any other file, too.

    Raises:
        SigmaTuneError: if the file cannot be written, or another file is there.
    """
    classes = {name: one.to_dict() for name, one in measured.classes.items()}
    fields = {"format": FORMAT, "version": VERSION, "all": measured.all.to_dict(), "classes": classes}
    outputs.save(path, json.dumps(fields) + "\n", "spectrum", force=force)


def load_measured(path: str | Path) -> Measured:
    """Reads a spectrum file.

    Raises:
        SigmaTuneError: if the file does not exist, is not a spectrum file, or is of another version.
    """
    fields = reading.json_of(path, kind="spectrum")
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise SigmaTuneError(f"{path} is not a spectrum file; give one that `sigmatune spectrum --out` wrote.")
    if fields.get("version") != VERSION:
        raise SigmaTuneError(
            f"{path} has version {shown(fields.get('version'))} and this program reads version {VERSION}."
        )
    everything, classes = fields.get("all"), fields.get("classes")
    if not isinstance(everything, dict) or not isinstance(classes, dict):
        raise SigmaTuneError(f"{path} lacks its spectra; measure them again.")
    try:
        return Measured(
            Spectrum.from_dict(everything), {name: Spectrum.from_dict(one) for name, one in classes.items()}
        )
    except SigmaTuneError as error:
        raise SigmaTuneError(f"{path}: {error}") from None
