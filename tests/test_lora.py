"""Adapters change nothing at first, everything that they learn is in few numbers, and these fold into ordinary weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sigmatune as st
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import checkpoint
from sigmatune.training.export import averaged, denoiser_of, save_model
from sigmatune.training.lora import adapt, adapted, merged, save_adapter
from sigmatune.training.run import prepare
from sigmatune.training.run_log import lines
from sigmatune.training.run_options import RunOptions
from sigmatune.training.trainer import Trainer
from training import recipe, written

ONE = {
    "unet": {"channels": [8, 16], "groups": 4, "attention": [False, True], "head": 8},
    "transformer": {"kind": "transformer", "head": 8, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return written(tmp_path_factory.mktemp("data"))


def made(source, kind="unet", **sections):
    return prepare(recipe(model=ONE[kind], **sections), source)


def trainer(folder: Path, job, network=None) -> Trainer:
    one = job.recipe
    return Trainer(
        job.network if network is None else network, job.objective, job.data, one.training, folder,
        RunOptions(one.averages, one.saving, identity=job.identity, device="cpu"),
    )  # fmt: skip


def answer(network):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(3, 3, 8, 8, generator=generator)
    with torch.no_grad():
        return network.eval()(
            x, torch.tensor([-3.0, 0.5, 2.0]), torch.tensor([0, 1, 3]), torch.tensor([[0.05, 5.0]] * 3)
        )


def learned(network):
    """Trained adapters, without training."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in network.parameters():
            if value.requires_grad:
                value.normal_(std=0.3, generator=generator)
    return network


def trained(network):
    return {name for name, value in network.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("kind", ONE)
def test_adapters_start_as_the_identity_and_are_few(source, kind):
    job = made(source, kind)
    before, size = answer(job.network), sum(value.numel() for value in job.network.parameters())
    names = set(dict(job.network.named_parameters()))
    layers = [m for m in job.network.backbone.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    state = torch.get_rng_state()
    assert adapt(job.network, 1) is job.network
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(answer(job.network), before, rtol=0, atol=1e-6)
    found = trained(job.network)
    assert len(found) == 2 * len(layers) > 20
    assert not found & names
    assert sum(value.numel() for value in job.network.parameters() if value.requires_grad) < 0.25 * size
    again = adapt(made(source, kind).network, 1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in job.network.state_dict().items())
    other = adapt(made(source, kind).network, 1, seed=1).state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in job.network.state_dict().items())


def test_the_factor_is_alpha_over_rank(source):
    plain = answer(made(source).network)
    one, two = (learned(adapt(made(source).network, 2, alpha=a, targets=["conv_out"])) for a in (2.0, 6.0))
    assert torch.equal(answer(one), answer(learned(adapt(made(source).network, 2, targets=["conv_out"]))))
    torch.testing.assert_close(answer(two) - plain, 3 * (answer(one) - plain), rtol=1e-4, atol=1e-5)
    assert trained(one) == {f"backbone.conv_out.lora_{x}.default.weight" for x in "AB"}


@pytest.mark.parametrize("kind", ONE)
def test_merged_is_an_ordinary_network_that_says_the_same(source, kind, tmp_path):
    import diffusers

    job = made(source, kind)
    names, plain = set(job.network.state_dict()), answer(job.network)
    network = learned(adapt(job.network, 2))
    said = answer(network)
    one = merged(network)
    assert (said - plain).abs().max() > 0.1
    torch.testing.assert_close(answer(one), said, rtol=0, atol=1e-5)
    assert set(one.state_dict()) == names
    assert adapted(network)
    assert torch.equal(answer(network), said)
    assert not adapted(one)
    save_model(tmp_path / "model", network, job.scheduler, job.recipe)
    z = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(
        st.load(tmp_path / "model")(z, 0.7), denoiser_of(network, job.scheduler)(z, 0.7), rtol=0, atol=1e-5
    )
    place, cls = ("unet", "UNet2DModel") if kind == "unet" else ("transformer", "SD3Transformer2DModel")
    alone = getattr(diffusers, cls).from_pretrained(tmp_path / "model" / place)
    for name, value in one.backbone.state_dict().items():
        assert torch.equal(alone.state_dict()[name], value)
    plain_copy = merged(one)
    assert plain_copy is not one
    assert torch.equal(answer(plain_copy), answer(one))


@pytest.mark.parametrize("kind", ONE)
def test_saved_adapters_come_back_in_peft(source, kind, tmp_path):
    import peft

    network = learned(adapt(made(source, kind).network, 2, alpha=3.0))
    save_adapter(network, tmp_path / "new" / "adapter")
    folder = tmp_path / "new" / "adapter"
    assert {file.name for file in folder.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    theirs = made(source, kind).network
    theirs.backbone = peft.PeftModel.from_pretrained(theirs.backbone, folder)
    torch.testing.assert_close(answer(theirs), answer(network), rtol=0, atol=1e-5)
    assert len(load_file(folder / "adapter_model.safetensors")) == len(trained(network))


def test_training_changes_the_adapters_only(source, tmp_path):
    job = made(source)
    adapt(job.network, 2)
    before = {name: value.clone() for name, value in job.network.state_dict().items()}
    run = trainer(tmp_path, job)
    run.run()
    after = job.network.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == trained(job.network)
    assert all(set(average.values) == changed for average in run.averages)
    mean = averaged(job.network, run.averages[0]).state_dict()
    for name, value in mean.items():
        expected = run.averages[0].values[name] if name in changed else before[name]
        assert torch.equal(value, expected)
    kept = load_file(tmp_path / checkpoint.FILE)
    assert {name.removeprefix("network.") for name in kept if name.startswith("network.")} == changed
    assert (tmp_path / checkpoint.FILE).stat().st_size < 10 * sum(
        4 * before[name].numel() for name in changed
    ) + 100_000


def test_a_run_that_goes_on_is_the_undisturbed_one(source, tmp_path):
    def job():
        one = made(source)
        adapt(one.network, 2)
        return one

    trainer(tmp_path / "whole", job()).run()
    trainer(tmp_path / "parts", job()).run(until=5)
    trainer(tmp_path / "parts", job()).run()
    ours, theirs = (load_file(tmp_path / name / checkpoint.FILE) for name in ("whole", "parts"))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert lines(tmp_path / "whole")[-1]["losses"] == lines(tmp_path / "parts")[-1]["losses"]
    other = job()
    with torch.no_grad():
        next(value for value in other.network.parameters() if not value.requires_grad).add_(1e-3)
    with pytest.raises(SigmaTuneError, match="a training of another network"):
        trainer(tmp_path / "parts", other)
    with pytest.raises(SigmaTuneError, match="a training of another network"):
        trainer(tmp_path / "parts", made(source))


def test_a_checkpoint_that_holds_all_weights_is_gone_on_from(source, tmp_path):
    """Files of before: a frozen parameter was stored like any other."""
    job = made(source)
    trainer(tmp_path, job).run(until=5)
    whole = load_file(tmp_path / checkpoint.FILE)
    later = made(source)
    later.network.backbone.conv_in.weight.requires_grad_(False).zero_()
    run = trainer(tmp_path, later)
    assert run.step == 5
    assert all(torch.equal(value, whole[f"network.{name}"]) for name, value in later.network.state_dict().items())
    run.run()
    assert torch.equal(later.network.backbone.conv_in.weight, whole["network.backbone.conv_in.weight"])


def test_what_cannot_be_adapted_or_loaded_is_refused(source, tmp_path, monkeypatch):
    network = made(source).network
    before = answer(network)
    with pytest.raises(SigmaTuneError, match=r"no linear layer or convolution 'to_qq'; did you mean 'to_q'"):
        adapt(network, 2, targets=["to_k", "to_qq"])
    with pytest.raises(SigmaTuneError, match="at least one layer"):
        adapt(network, 2, targets=[])
    with pytest.raises(SigmaTuneError, match="rank"):
        adapt(network, 0)
    with pytest.raises(SigmaTuneError, match="has no adapters"):
        save_adapter(network, tmp_path)
    small = learned(adapt(made(source).network, 2, targets=["to_q"]))
    grouped = made(source).network
    grouped.backbone.conv_in = torch.nn.Conv2d(3, 9, 3, groups=3)
    adapt(grouped, 2)
    assert not any("conv_in" in name for name in trained(grouped))
    with pytest.raises(SigmaTuneError, match="already has adapters"):
        adapt(small, 2)
    job = made(source)
    job.network.requires_grad_(False)
    with pytest.raises(SigmaTuneError, match="no parameter of the network requires a gradient"):
        trainer(tmp_path / "run", job)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SigmaTuneError, match=r"pip install 'sigmatune\[lora\]'"):
        adapt(network, 2)
    assert torch.equal(answer(network), before)
    assert len(trained(network)) == len(list(network.parameters()))
