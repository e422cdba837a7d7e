"""The loops of docs/own_loop.md, short functions that read a plan file alone, draw what SigmaTune draws."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sigmatune as st
from sigmatune.core import rng
from sigmatune.core.unrolled import rolled, unrolled
from sigmatune.models.network import NetworkDenoiser
from sigmatune.noise import vp

PAGE = Path(__file__).resolve().parent.parent / "docs" / "own_loop.md"


@pytest.fixture(scope="module")
def page():
    """What the page's first two blocks define."""
    blocks, space = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[:2], {}
    for block in blocks:
        exec(block, space)
    for name in ("estimate", "run", "run_table"):
        body = "\n\n".join(blocks).partition(f"def {name}(")[2].partition("\n\n\n")[0].strip().splitlines()
        assert len(body) <= 16, "short enough to be read"
    return space


def network(x_t, t):
    return 0.9 * x_t * torch.cos(torch.as_tensor(t, dtype=x_t.dtype) / 700).view(-1, 1)


def vp_model(predicts="epsilon"):
    return NetworkDenoiser(network, (5,), vp("linear"), predicts, dtype=torch.float64)


def agree(loop, model, plan, file, net=network):
    """What the loop draws from the plan's file is what SigmaTune draws."""
    plan.save(file)
    noise = rng.noise(0, range(3), rng.START, model.shape, dtype=model.dtype)
    with torch.no_grad():
        drawn = loop(file, net, noise)
    torch.testing.assert_close(drawn, st.sample(model, st.load_plan(file), 3), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", ["euler", "dpmpp2m"])
def test_the_documented_loop_runs_a_plan_from_its_file(page, solver, predicts, tmp_path):
    model = vp_model(predicts)
    plan = st.compile_plan(st.build_schedule("karras", 7, model.path), solver, model)
    agree(page["run"], model, plan, tmp_path / "plan.json")


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_the_documented_loop_runs_learned_coefficients(page, predicts, tmp_path):
    model = vp_model(predicts)
    plan = st.compile_plan(st.build_schedule("karras", 7, model.path), "dpmpp2m", model)
    form = unrolled(plan.coefficients)
    random = torch.Generator().manual_seed(0)
    W = form.W * (1 + 0.1 * torch.rand(form.W.shape, generator=random, dtype=torch.float64))
    learned = replace(plan, solver="custom", coefficients=rolled(form._replace(W=W)))
    agree(page["run_table"], model, learned, tmp_path / "plan.json")
    with pytest.raises(ValueError, match="custom take run_table"):
        page["run"](tmp_path / "plan.json", network, torch.zeros(1, 5))


def test_other_solvers_and_networks_stop_the_loop(page, tmp_path):
    st.compile_plan(st.build_schedule("karras", 4, vp("linear")), "heun", vp_model()).save(tmp_path / "heun.json")
    with pytest.raises(ValueError, match="does not run the solver heun"):
        page["run"](tmp_path / "heun.json", network, torch.zeros(1, 5))
    flow = st.load(network, shape=(5,), predicts="velocity")
    for family, stop in (("karras", KeyError), ("uniform-trailing", TypeError)):
        levels = {"sigma_max": 50.0} if family == "karras" else {}
        st.compile_plan(st.build_schedule(family, 4, flow.path, **levels), "euler", flow).save(tmp_path / "flow.json")
        with pytest.raises(stop):
            page["run"](tmp_path / "flow.json", network, torch.zeros(1, 5))


def test_a_network_of_diffusers_receives_fractions_of_timesteps_as_the_page_says(page, tmp_path):
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(8, 1, 1, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
                       layers_per_block=1, norm_num_groups=4).eval().requires_grad_(requires_grad=False)  # fmt: skip
    said = re.search(r"`net` is `(lambda[^`]*)`", PAGE.read_text())[1]
    net = eval(said, {"torch": torch, "unet": unet})
    model = NetworkDenoiser(lambda x, t: unet(x, t).sample, (1, 8, 8), vp("linear"), "epsilon")
    plan = st.compile_plan(st.build_schedule("karras", 5, model.path), "dpmpp2m", model)
    plan.save(tmp_path / "plan.json")
    noise = rng.noise(0, range(2), rng.START, model.shape)
    with torch.no_grad():
        drawn = page["run"](tmp_path / "plan.json", net, noise)
    assert any(t != round(t) for t in json.loads((tmp_path / "plan.json").read_text())["network_times"])
    expected = st.sample(model, plan, 2)
    assert (drawn - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("data_at", [0, 1])
def test_a_function_whose_time_ends_at_1_receives_a_thousandth(tmp_path, data_at):
    seen = []

    def velocity(x, t):
        seen.append(t[0].item())
        return -0.5 * x

    model = st.load(velocity, shape=(5,), predicts="velocity", data_at=data_at)
    plan = st.compile_plan(st.build_schedule("uniform-trailing", 4, model.path), "euler", model)
    plan.save(tmp_path / "plan.json")
    seen.clear()
    st.sample(model, plan, 1)
    times = [t / 1000 for t in json.loads((tmp_path / "plan.json").read_text())["network_times"]]
    assert seen == pytest.approx([1 - t for t in times] if data_at else times, abs=1e-6)


def test_the_schema_says_how_a_run_starts_and_which_steps_are_of_first_order():
    from sigmatune.plan.document import schema

    fields = schema()["properties"]
    assert "sigmas[0] times unit noise" in fields["sigmas"]["description"]
    assert "first-order" in fields["solver"]["description"]
