"""Native networks of phase space, loaded from diffusers folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from sigmatune import load
from sigmatune.plan import compile_plan, sample
from sigmatune.processes import PSLD
from sigmatune.schedules import build
from sigmatune.support.errors import SigmaTuneError

CONFIG = {"_class_name": "PSLDScheduler", "prediction": "hsm-lower", "eps": 0.002, "time_scale": 999.0,
          "process": {"gamma": 0.02, "nu": 4.02}}  # fmt: skip


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip


def folder(path, network, config):
    network.save_pretrained(path / "unet")
    (path / "scheduler").mkdir()
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return path


def test_a_folder_that_says_so_is_a_network_of_phase_space(unet, tmp_path):
    model = load(folder(tmp_path, unet, CONFIG))
    assert (model.ports, model.shape) == (2, (2, 4, 4))
    assert model.process == PSLD(gamma=0.02, nu=4.02)
    assert model.path.time(model.path.sigma_min) == pytest.approx(0.002)
    seen = []
    model.network.unet.register_forward_pre_hook(lambda _, args: seen.append((args[0].shape, float(args[1][0]))))
    plan = compile_plan(build("phase-time", 3, model.path, gamma=0.02, nu=4.02, eps=0.002), "reduced-oba", model)
    model.fingerprint()  # a network with a hook is probed once
    seen.clear()
    images = sample(model, plan, 3, seed=1, micro_batch=2)
    assert images.shape == (3, 2, 4, 4)
    assert images.isfinite().all()
    assert seen[0][0] == (2, 4, 4, 4)  # position and momentum side by side, in the channels
    times = PSLD(gamma=0.02, nu=4.02).time(plan.coefficients.q) * 999.0
    np.testing.assert_allclose([t for _, t in seen[: plan.calls]], times, rtol=1e-6)
    assert torch.equal(sample(model, plan, 1, seed=1, micro_batch=2)[0], images[0])


def test_the_fingerprint_knows_weights_and_process(unet, tmp_path):
    first = load(folder(tmp_path / "a", unet, CONFIG))
    again = load(folder(tmp_path / "b", unet, CONFIG))
    other = load(folder(tmp_path / "c", unet, {**CONFIG, "process": {"gamma": 0.01}}))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction": "eps"}, "predicts one of"),
        ({"eps": 1.0}, "eps must lie between 0 and T"),
        ({"process": {"kappa": 0}}, "kappa must be positive"),
        ({"process": {"gamma": 0, "nu": 0}}, "differ"),
        ({"process": {"mu": 0}}, "cannot be read"),
        ({"betas": "linear"}, "not 'betas'"),
    ],
)
def test_a_configuration_that_is_none(unet, tmp_path, change, said):
    with pytest.raises(SigmaTuneError, match=said):
        load(folder(tmp_path, unet, {**CONFIG, **change}))


def test_channels_that_are_no_pair(tmp_path):
    odd = UNet2DModel(
        sample_size=4, in_channels=3, out_channels=3, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    with pytest.raises(SigmaTuneError, match="twice the channels"):
        load(folder(tmp_path, odd, CONFIG))
