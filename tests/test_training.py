"""Training can be stopped, shared and gone on with, and changes nothing by it; what it writes opens everywhere."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import socket
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sigmatune as st
from sigmatune.models.conditioning import Conditioned
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import checkpoint, draws
from sigmatune.training.objective import Objective
from sigmatune.training.run import prepare, train
from sigmatune.training.run_options import Hooks, RunOptions
from sigmatune.training.trainer import Trainer
from training import images, losses, recipe, same, tensors, trainer, written

ROOT = Path(__file__).resolve().parent.parent

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks a server that has imported everything")


def test_training_learns(tmp_path):
    source = written(tmp_path)
    one = recipe(training={"images": 960, "batch": 16, "rate": 5e-3, "warmup": 5}, noise={"law": "log-normal"})
    run = trainer(tmp_path / "run", source, one)
    run.run()
    found = losses(tmp_path / "run")
    assert np.mean(found[-20:]) < 0.85 * np.mean(found[:5])
    assert len(found) == 60
    plain, kept = dict(run.bare.named_parameters()), run.averages[0].values
    assert all(torch.isfinite(value).all() for value in kept.values())
    assert any(not torch.equal(plain[name], kept[name]) for name in kept)


def test_a_run_that_goes_on_is_the_undisturbed_one_to_the_bit(tmp_path):
    source, one = written(tmp_path), recipe(data={"flip": True}, model={"dropout": 0.1})
    trainer(tmp_path / "whole", source, one).run()
    trainer(tmp_path / "parts", source, one).run(until=4)
    trainer(tmp_path / "parts", source, one).run(until=7)
    assert checkpoint.peek(tmp_path / "parts").step == 7
    trainer(tmp_path / "parts", source, one).run()
    same(tmp_path / "whole", tmp_path / "parts")
    other = recipe(data={"flip": True}, model={"dropout": 0.1}, training={"seed": 1})
    trainer(tmp_path / "other", source, other).run()
    assert losses(tmp_path / "other") != losses(tmp_path / "whole")


def test_accumulated_parts_are_the_whole_batch(tmp_path):
    source = written(tmp_path)
    trainer(tmp_path / "whole", source).run()
    trainer(tmp_path / "parts", source, recipe(training={"accumulation": 4})).run()
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=1e-4)
    with pytest.raises(SigmaTuneError, match="multiple of 3"):
        trainer(tmp_path / "odd", source, recipe(training={"accumulation": 3}))


def test_another_recipe_or_other_data_are_refused(tmp_path):
    source = written(tmp_path)
    trainer(tmp_path / "run", source).run(until=3)
    with pytest.raises(SigmaTuneError, match="other data or another recipe"):
        trainer(tmp_path / "run", source, recipe(training={"rate": 0.5}))
    (tmp_path / "more").mkdir()
    with pytest.raises(SigmaTuneError, match="other data or another recipe"):
        trainer(tmp_path / "run", written(tmp_path / "more", n=45))
    (tmp_path / "run" / checkpoint.FILE).write_bytes(b"nothing")
    with pytest.raises(SigmaTuneError, match="delete it to start again"):
        trainer(tmp_path / "run", source)


# -------------------------------------------------------------------------------------------------------------- processes


def part(rank: int, world: int, port: int, folder: Path, source: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    trainer(folder, source).run()


def free_port() -> int:
    """A port below those that the system gives to whoever connects, so that no other test gets it in the meantime."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as free, suppress(OSError):
            free.bind(("", port))
            return port
    raise OSError("all ports are taken.")


@LINUX
def test_two_processes_are_one_with_the_same_batch(tmp_path):
    source = written(tmp_path)
    trainer(tmp_path / "one", source).run()
    port = free_port()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accelerate", "sigmatune.training.trainer"])  # once for both
    processes = [context.Process(target=part, args=(i, 2, port, tmp_path / "two", source)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4)
    ours, theirs = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    for name in ours:
        if name.startswith("network."):
            torch.testing.assert_close(ours[name], theirs[name], atol=2e-4, rtol=1e-3)


# ------------------------------------------------------------------------------------------------------------ what breaks


@LINUX
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    source = written(tmp_path)
    trainer(tmp_path / "run", source).run(until=3)
    good = (tmp_path / "run" / checkpoint.FILE).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    again = trainer(tmp_path / "run", source)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # a write of more fails, as on a full disk
    try:
        with pytest.raises(SigmaTuneError, match=r"cannot write .*last good checkpoint is .* of step 3"):
            again.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "run" / checkpoint.FILE).read_bytes() == good
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [checkpoint.FILE, "log.jsonl"]

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SigmaTuneError, match="No space left on device"):
        trainer(tmp_path / "run", source).run()
    monkeypatch.undo()
    assert (tmp_path / "run" / checkpoint.FILE).read_bytes() == good
    trainer(tmp_path / "run", source).run()
    trainer(tmp_path / "whole", source).run()
    same(tmp_path / "run", tmp_path / "whole")


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path):
    source = written(tmp_path)
    run = trainer(tmp_path / "run", source, recipe(saving={"log": 50}))

    def poison(step):
        if step == 7:
            with torch.no_grad():
                next(run.bare.parameters()).fill_(float("nan"))

    with pytest.raises(SigmaTuneError, match=r"the loss became nan at step 8; the last good checkpoint is .*of step 6"):
        run.run(Hooks(step=poison))
    assert all(torch.isfinite(value).all() for value in tensors(tmp_path / "run").values())


def test_throughput_and_time_left_are_told(tmp_path):
    seen = []
    trainer(tmp_path / "run", written(tmp_path)).run(Hooks(log=seen.append))
    assert [report.step for report in seen] == list(range(1, 13))
    assert all(report.images_per_second > 0 and report.steps == 12 for report in seen)
    assert seen[0].left > seen[-1].left == 0
    assert seen[0].rate == pytest.approx(0.5e-3)
    assert seen[1].rate > seen[-1].rate > 0


# ---------------------------------------------------------------------------------------------------------- what is written


def test_the_folder_is_an_ordinary_one(tmp_path):
    import diffusers

    source = written(tmp_path)
    one = recipe(
        process={"kind": "vp"}, noise={"law": "ddpm"}, loss={"weight": "epsilon"},
        model={"classes": False, "ends": False}, saving={"spectra": True, "half": True}, training={"images": 16},
        previews={"every": 16, "n": 4, "calls": 2},
    )  # fmt: skip
    folder = train(one, tmp_path / "run", source=source, device="cpu")
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    made = pipeline(batch_size=2, num_inference_steps=2, output_type="np").images
    assert made.shape == (2, 8, 8, 3)
    model = st.load(folder)
    assert type(model).__name__ == "DiffusersDenoiser"
    z, sigma = torch.randn(2, 3, 8, 8), 1.5
    t = torch.full((2,), float(model.path.time(sigma)))
    v = pipeline.unet(z, t).sample.detach()
    torch.testing.assert_close(model(z, sigma), z / np.hypot(1, sigma) - v * sigma / np.hypot(1, sigma))
    assert {file.name for file in folder.iterdir()} == {
        "unet", "scheduler", "model_index.json", "spectra.json", "recipe.yaml", "training.json"
    }  # fmt: skip
    assert json.loads((folder / "training.json").read_text())["images"] == 16
    assert (tmp_path / "run/previews/0000000016.png").is_file()
    assert load_file(folder / "unet/diffusion_pytorch_model.safetensors")["conv_in.weight"].dtype == torch.float16
    kept = tensors(tmp_path / "run")["average.0.backbone.conv_in.weight"]
    assert torch.equal(load_file(folder / "unet/diffusion_pytorch_model.safetensors")["conv_in.weight"], kept.half())
    from sigmatune.spectra.mixture import Mixture

    assert set(Mixture.load(folder / "spectra.json").classes) == {"0", "1", "2"}


@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_what_is_loaded_is_what_was_trained(tmp_path, kind):
    import diffusers

    source = written(tmp_path)
    one = recipe(model={"kind": kind, "head": 8, "heads": 2}, training={"images": 16})
    run, prepared = trainer(tmp_path / "run", source, one), prepare(one, source)
    run.run()
    from sigmatune.training.export import averaged, denoiser_of, save_model

    save_model(tmp_path / "model", averaged(run.bare, run.averages[0]), prepared.scheduler, one)
    trained = denoiser_of(averaged(run.bare, run.averages[0]), prepared.scheduler)
    loaded = st.load(tmp_path / "model")
    assert loaded.classes == ("0", "1", "2")
    assert loaded.fingerprint() == trained.fingerprint()
    z = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(loaded(z, 0.7), trained(z, 0.7), rtol=0, atol=0)
    ends = np.array([[0.05, 5.0], [0.1, 9.0], [0.05, 5.0], [0.2, 20.0]])
    told = loaded.conditioned(range(4), ["0", "1", "2", "0"], ends).rows(range(4))
    torch.testing.assert_close(
        told(z, 0.7), trained.conditioned(range(4), ["0", "1", "2", "0"], ends).rows(range(4))(z, 0.7), rtol=0, atol=0
    )
    cls = getattr(diffusers, "UNet2DModel" if kind == "unet" else "SD3Transformer2DModel")
    _, report = cls.from_pretrained(tmp_path / "model" / kind, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize(
    ("process", "law"), [("edm", "cosine"), ("vp", "spectral"), ("flow", "flow"), ("flow", "log-normal")]
)
def test_every_process_trains(tmp_path, process, law):
    one = recipe(process={"kind": process}, noise={"law": law}, training={"images": 16}, previews={"every": 16, "n": 2})
    model = st.load(train(one, tmp_path / "run", source=written(tmp_path), device="cpu"))
    found = losses(tmp_path / "run")
    assert np.isfinite(found).all()
    assert 0.2 < found[0] < 5  # the scale makes it about one
    assert torch.isfinite(model(torch.randn(2, 3, 8, 8), 1.0)).all()


def test_two_runs_with_one_seed_are_one(tmp_path):
    source = written(tmp_path)
    for name in ("a", "b"):
        train(recipe(training={"images": 16}), tmp_path / name, source=source, device="cpu")
    same(tmp_path / "a", tmp_path / "b")


def test_an_epoch_takes_every_image_once():
    from sigmatune.training.data import Pictures

    values, labels = images(20)
    data = Pictures(torch.from_numpy(values.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels), "abc")
    seen = torch.cat([data.batch(3, step, range(8), 8).indices for step in range(5)])
    assert sorted(seen[:20].tolist()) == sorted(seen[20:].tolist()) == list(range(20))
    assert seen[:20].tolist() != seen[20:].tolist()
    parts = [data.batch(3, 2, rows, 8, flip=True) for rows in (range(4), range(4, 8))]
    whole = data.batch(3, 2, range(8), 8, flip=True)
    assert torch.equal(torch.cat([one.images for one in parts]), whole.images)
    plain = data.batch(3, 2, range(8), 8).images
    mirrored = [
        bool(torch.equal(a, b.flip(-1))) and not torch.equal(a, b) for a, b in zip(whole.images, plain, strict=True)
    ]
    assert any(mirrored)
    assert not all(mirrored)
    assert torch.equal(((plain + 1) * 127.5).round().to(torch.uint8), data.values[whole.indices])


def test_a_cascade_learns_what_is_missing(tmp_path):
    from sigmatune.training import cascade

    source = written(tmp_path, size=8)
    one = recipe(
        data={"low": 4}, model={"classes": False}, training={"images": 16}, previews={"every": 16, "n": 4, "calls": 2}
    )  # fmt: skip
    prepared = prepare(one, source)
    stacked = prepared.data.at(slice(0, 4))
    residual, told = stacked[:, :3], stacked[:, 3:]
    originals = torch.from_numpy(images(48)[0][:4].transpose(0, 3, 1, 2) / 127.5 - 1).float()
    torch.testing.assert_close(residual + told, originals)
    torch.testing.assert_close(cascade.enlarged(cascade.small(originals, 4), 8), told)
    model = st.load(train(one, tmp_path / "run", source=source, device="cpu"))
    assert (tmp_path / "run/previews/0000000016.png").is_file()
    with pytest.raises(SigmaTuneError, match="needs an image"):
        model(torch.zeros(2, 3, 8, 8), 1.0)
    with pytest.raises(SigmaTuneError, match="images of shape"):
        model.given(images=told[:, :1])
    plan = st.compile_plan(st.build_schedule("log-uniform", 3, model.path), "euler")
    first = st.sample(model.given(images=told), plan, 4)
    torch.testing.assert_close(st.sample(model.given(images=told[:2]), plan, 2), first[:2], rtol=0, atol=0)
    assert not torch.equal(st.sample(model.given(images=told.flip(0)), plan, 4), first)


def test_bfloat16_trains_and_goes_on_to_the_bit(tmp_path):
    source, one = written(tmp_path), recipe(training={"precision": "bf16"})
    trainer(tmp_path / "whole", source, one).run()
    trainer(tmp_path / "parts", source, one).run(until=5)
    trainer(tmp_path / "parts", source, one).run()
    same(tmp_path / "whole", tmp_path / "parts")
    trainer(tmp_path / "exact", source).run()
    found = losses(tmp_path / "whole")
    assert found != losses(tmp_path / "exact")
    np.testing.assert_allclose(found, losses(tmp_path / "exact"), rtol=0.05)
    assert all(value.dtype == torch.float32 for value in tensors(tmp_path / "whole").values())


def test_tensorboard_has_the_losses_of_the_log(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(tmp_path / "run", written(tmp_path), recipe(saving={"trackers": ["tensorboard"]})).run()
    read = EventAccumulator(str(tmp_path / "run/sigmatune"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss")] == list(range(1, 13))
    np.testing.assert_allclose([event.value for event in read.Scalars("loss")], losses(tmp_path / "run"), rtol=1e-6)


class Pairs(Objective):
    """Learns both halves of the channels of a network with twice as many, from one state: what a phase-space network is."""

    def losses(self, network, batch, seed):
        z = draws.normals(seed, batch.step, batch.rows, (6, *batch.images.shape[2:]))
        target = torch.cat([batch.images, -batch.images], dim=1)
        return (network(target + 0.1 * z, torch.zeros(len(z))) - target).square().flatten(1).mean(dim=1)


def test_an_objective_and_a_network_of_ones_own_train_too(tmp_path):
    import diffusers

    data = prepare(recipe(), written(tmp_path)).data

    def made(folder):
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(
            sample_size=8, in_channels=6, out_channels=6, layers_per_block=1, block_out_channels=(8,), norm_num_groups=4,
            down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
        )  # fmt: skip
        settings, saving = recipe(training={"images": 320, "rate": 1e-2}), recipe().saving
        return Trainer(
            Conditioned(unet, None),
            Pairs(),
            data,
            settings.training,
            tmp_path / folder,
            RunOptions(saving=saving, device="cpu"),
        )

    made("whole").run()
    made("parts").run(until=17)
    made("parts").run()
    same(tmp_path / "whole", tmp_path / "parts")
    found = losses(tmp_path / "whole")
    assert np.mean(found[-5:]) < 0.5 * found[0]


def test_schedules_per_image_cost_little():
    result = json.loads((ROOT / "benchmarks/results/training_overhead.json").read_text())
    assert len(result["rows"]) >= 3
    for row in result["rows"]:
        assert 0 < row["overhead"] <= 0.02, row
