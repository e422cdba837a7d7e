"""What Python saves replaces a file of its own kind and nothing else, as the command line does."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from exact import gaussian
from sigmatune import SigmaTuneError, build_schedule, compile_plan
from sigmatune.analysis.stepwise import analyze, chain
from sigmatune.evaluation.record import save as save_figures
from sigmatune.noise import vp
from sigmatune.rules import SpectralRule
from sigmatune.spectra.measured_spectra import measure
from sigmatune.spectra.mixture_fit import fit
from sigmatune.spectra.spectrum_file import save_measured
from sigmatune.support.outputs import kind_of
from sigmatune.tuning.error_table import ErrorTable


def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 16, 16, 1), dtype=np.uint8)


def mixture():
    return fit([torch.from_numpy(pixels().transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)])


SAVES = {
    "plan": lambda: compile_plan(build_schedule("karras", 3, vp()), "euler").save,
    "rule": lambda: SpectralRule("spectral-mixed", 3, vp(), mixture()).save,
    "spectrum": lambda: partial(save_measured, measure(pixels())),
    "spectra": lambda: mixture().save,
    "error-table": lambda: ErrorTable(np.array([0.1, 1.0]), np.array([0.1, 0.2]), np.full(2, 0.01), 4).save,
    "evaluation": lambda: partial(save_figures, []),
}


@pytest.mark.parametrize("kind", SAVES)
def test_python_replaces_no_more_than_the_command_line(tmp_path, kind):
    save = SAVES[kind]()
    file = tmp_path / "mine.json"
    save(file)
    assert kind_of(file) == kind
    first = file.read_bytes()
    save(file)
    assert file.read_bytes() == first
    for foreign in ('{"mine": 1}', '{"format": "sigmatune/report"}'):
        file.write_text(foreign)
        with pytest.raises(SigmaTuneError, match=r"exists and is no .*pass force=True to replace it"):
            save(file)
        assert file.read_text() == foreign
    save(file, force=True)
    assert file.read_bytes() == first


def test_an_analysis_replaces_neither_of_its_two_files_unless_both_are_its_own(tmp_path):
    stepwise = analyze(gaussian(), 8, plan=chain(gaussian(), 4))
    stepwise.save(tmp_path / "a.npz")
    stepwise.save(tmp_path / "a.npz")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.npz").write_bytes(b"")  # may be replaced
    with pytest.raises(SigmaTuneError, match="exists and is no analysis"):
        stepwise.save(tmp_path / "a.npz")
    assert (tmp_path / "a.json").read_text() == "{}"
    assert (tmp_path / "a.npz").read_bytes() == b""
