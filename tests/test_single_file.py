"""Single files of weights: opened with the configuration of their kind, or refused with the reason and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import sigmatune as st
from sigmatune import SigmaTuneError
from single_files import single_file, single_file_xl
from tiny_pipelines import sd15, sdxl

LOADED = {"prompts": ["a cat"], "guidance": 3.0}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with a pipeline, its configuration alone, and its weights in one file."""
    folder = tmp_path_factory.mktemp("single")
    pipe = sd15()
    pipe.save_pretrained(folder / "whole")
    shutil.copytree(folder / "whole", folder / "config", ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(single_file(pipe), folder / "one.safetensors")
    return folder


def test_a_single_file_is_the_model_of_its_folder(files):
    single = st.load(files / "one.safetensors", config=files / "config", **LOADED)
    whole = st.load(files / "whole", **LOADED)
    z = torch.randn(2, *single.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(single(z, 2.0), whole(z, 2.0))
    assert torch.equal(single.decode(z), whole.decode(z))


def test_a_single_file_of_sdxl_is_the_model_of_its_folder(tmp_path):
    pipe = sdxl(width=24)
    pipe.save_pretrained(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "one", ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(single_file_xl(pipe), tmp_path / "one.safetensors")
    single, whole = (st.load(tmp_path / name, **LOADED) for name in ("one.safetensors", "whole"))
    z = torch.randn(2, *single.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(single(z, 2.0), whole(z, 2.0))


def test_its_configuration_may_lie_beside_it_under_its_name(files, tmp_path):
    shutil.copy(files / "one.safetensors", tmp_path / "cat.safetensors")
    shutil.copytree(files / "config", tmp_path / "cat")
    assert st.load(str(tmp_path / "cat.safetensors"), **LOADED).shape == (4, 8, 8)


def test_the_mark_of_v_prediction_is_followed(files, tmp_path):
    from safetensors.torch import load_file

    marked = {**load_file(files / "one.safetensors"), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file(marked, tmp_path / "v.safetensors")
    model = st.load(tmp_path / "v.safetensors", config=files / "config", **LOADED)
    assert model.prediction.name == "v_prediction"
    assert model.path.sigma_max == float("inf")


def test_without_a_configuration_the_error_says_what_to_pass(files, monkeypatch):
    import huggingface_hub

    def offline(*_args, **_options):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        SigmaTuneError,
        match=r"holds weights only.*run hf download stable-diffusion\S+ --include '\*.json'.* --local-dir one, or pass config=",
    ):
        st.load(files / "one.safetensors", **LOADED)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin"])
def test_a_pickle_is_never_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(SigmaTuneError, match=r"is a pickle, which can run code.*\.safetensors"):
        st.load(tmp_path / name, **LOADED)


def test_quantised_weights_are_refused_with_what_to_tune_instead(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    save_file(
        {"model.diffusion_model.out.2.weight": torch.zeros(4).to(torch.float8_e4m3fn)}, tmp_path / "f8.safetensors"
    )
    save_file({"model.w.weight_scale": torch.zeros(1)}, tmp_path / "scaled.safetensors")
    for name in ("model.gguf", "f8.safetensors", "scaled.safetensors"):
        with pytest.raises(SigmaTuneError, match=r"quantised weights.*16-bit"):
            st.load(tmp_path / name, **LOADED)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"unet.a.lora_up.weight": torch.zeros(1), "unet.a.lora_down.weight": torch.zeros(1)}, "adapter"),
        ({"strange": torch.zeros(1)}, "no kind that diffusers recognises"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, weights, reason):
    save_file(weights, tmp_path / "one.safetensors")
    with pytest.raises(SigmaTuneError, match=reason):
        st.load(tmp_path / "one.safetensors", **LOADED)


def test_files_and_configurations_that_do_not_fit_are_named(files, tmp_path):
    weights = single_file(sd15())
    bare = {name: weight for name, weight in weights.items() if name.startswith("model.")}
    save_file(bare, tmp_path / "unet.safetensors")
    (tmp_path / "torn.safetensors").write_bytes((files / "one.safetensors").read_bytes()[:100])
    pickled = shutil.copytree(files / "config", tmp_path / "pickled")
    (pickled / "text_encoder" / "pytorch_model.bin").write_bytes(b"")
    for file, config, reason in (
        (tmp_path / "unet.safetensors", files / "config", "holds no weights of"),
        (tmp_path / "torn.safetensors", files / "config", "cannot be read"),
        (files / "one.safetensors", pickled, "pickled weights"),
        (files / "one.safetensors", tmp_path, "holds no model_index.json"),
        (files / "one.safetensors", "not a hub id", "there is no folder"),
        (tmp_path / "none.safetensors", files / "config", "there is no file"),
        (files / "whole", files / "config", "belongs to a single"),
    ):
        with pytest.raises(SigmaTuneError, match=reason):
            st.load(file, config=config, **LOADED)
