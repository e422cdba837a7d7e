"""One function loads everything."""

from __future__ import annotations

import subprocess
import sys
from logging import Handler

import numpy as np
import pytest
import torch

from sigmatune.core.rng import START, noise
from sigmatune.models import bundled_names, load
from sigmatune.models.analytic import GaussianSpectrum
from sigmatune.support.errors import SigmaTuneError


def test_a_denoiser_passes_through():
    model = GaussianSpectrum(np.ones((4, 4)), (1, 4, 4))
    assert load(model) is model
    with pytest.raises(SigmaTuneError, match="no options such as device="):
        load(model, device="cpu")


def test_a_function_needs_a_shape():
    assert load(lambda x, sigma: x, shape=(2,)).shape == (2,)
    with pytest.raises(SigmaTuneError, match="needs the shape"):
        load(lambda x, sigma: x)
    with pytest.raises(TypeError, match="sigma_mim"):
        load(lambda x, sigma: x, shape=(2,), sigma_mim=1)
    with pytest.raises(
        TypeError, match="no option data_at= of a function that returns the data; other kinds pass predicts="
    ):
        load(lambda x, t: x, shape=(2,), data_at=1)
    with pytest.raises(TypeError, match="times= of a function with predicts='velocity'; it knows shape, path, data_at"):
        load(lambda x, t: x, shape=(2,), predicts="velocity", times=1000)


def test_unknown_names_get_the_nearest():
    with pytest.raises(SigmaTuneError, match="did you mean 'digits'"):
        load("digit")
    with pytest.raises(
        SigmaTuneError, match=r"no bundled model, folder or hub id \(owner/name\) 'zzz'; the known ones are"
    ):
        load("zzz")


@pytest.mark.parametrize("source", [3, None, [1.0]])
def test_what_is_no_model_is_refused(source):
    with pytest.raises(SigmaTuneError, match="a model is"):
        load(source)


def test_importing_and_drawing_leave_the_large_libraries_alone():
    """Models need diffusers only for networks, spectra scikit-learn only for fits, and the local engine no Ray."""
    code = (
        "import sys, sigmatune.models, sigmatune.models.analytic; from sigmatune.models.bundled import bundled_folder; "
        "from sigmatune.spectra.mixture import Mixture; Mixture.load(bundled_folder('digits') / 'spectra.json').draw(0, [1]); "
        "assert not {'diffusers', 'sklearn'} & set(sys.modules); "
        "import sigmatune.cli.bench, sigmatune.evaluation.leaderboard, sigmatune.tuning; "
        "from sigmatune.support.engine import engine; engine('local'); assert 'ray' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loading_prints_nothing(tiny):
    """diffusers has warnings of its own, and a handler that is no part of pytest's."""
    from diffusers.utils import logging

    said = []

    class Listening(Handler):
        def emit(self, record):
            said.append(record.getMessage())

    listening = Listening()
    logging.add_handler(listening)
    try:
        load(tiny)
    finally:
        logging.remove_handler(listening)
    assert said == []


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_models_are_half_precision_diffusers_pipelines_with_a_card(name):
    from safetensors import safe_open

    from sigmatune.models.bundled import bundled_folder

    folder = bundled_folder(name)
    weights = list(folder.glob("*/diffusion_pytorch_model.safetensors"))
    largest = {"digits": 1e6, "cifar10-latent": 2e6}.get(name, 20e6)
    assert 0 < sum(file.stat().st_size for file in weights) < largest
    for part in weights:
        with safe_open(part, "pt") as file:
            assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118
    assert len((folder / "README.md").read_text()) > 500
    assert not list(folder.rglob("*.pt"))


def test_the_card_of_digits_quotes_its_training():
    import json

    from sigmatune.models.bundled import bundled_folder

    folder = bundled_folder("digits")
    training, card = json.loads((folder / "training.json").read_text()), (folder / "README.md").read_text()
    for figure in (f"{training['steps']} steps", f"{training['images']} images", f"{training['loss']:.3f}"):
        assert figure in card


def test_digits_denoises_digits():
    """The bundled model is well below the best linear estimate per pixel, on its own data."""
    from sklearn.datasets import load_digits

    model = load("digits")
    assert model.shape == (1, 8, 8)
    x0 = torch.from_numpy(load_digits().images[:200, None] / 8 - 1).float()
    eps = noise(0, range(200), START, model.shape)
    for sigma, share in ((0.2, 0.5), (0.5, 0.5), (1.5, 0.8)):
        with torch.no_grad():
            error = (model((x0 + sigma * eps) / np.hypot(1, sigma), sigma) - x0).square().mean()
        wiener = 1 / (1 / x0.var(0) + sigma**-2)  # the best that one mean and one variance per pixel can do
        assert error < share * wiener.nan_to_num().mean(), (sigma, error)
    assert model(eps, model.path.sigma_max).isfinite().all()
