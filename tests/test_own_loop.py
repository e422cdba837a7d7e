"""The loop of docs/own_loop.md, 15 lines that read a plan file alone, draws what SigmaTune draws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import sigmatune as st
from sigmatune.core import rng
from sigmatune.models.network import NetworkDenoiser
from sigmatune.noise import vp

PAGE = Path(__file__).resolve().parent.parent / "docs" / "own_loop.md"


@pytest.fixture(scope="module")
def loop():
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[0]
    space = {}
    exec(block, space)
    body = block.partition("def run")[2].strip().splitlines()
    assert len(body) <= 16, "short enough to be read"
    return space["run"]


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", ["euler", "dpmpp2m"])
def test_the_documented_loop_runs_a_plan_from_its_file(loop, solver, predicts, tmp_path):
    def network(x_t, t):
        return 0.9 * x_t * torch.cos(torch.as_tensor(t, dtype=x_t.dtype) / 700).view(-1, 1)

    model = NetworkDenoiser(network, (5,), vp("linear"), predicts, dtype=torch.float64)
    st.compile_plan(st.build_schedule("karras", 7, model.path), solver, model).save(tmp_path / "plan.json")
    noise = rng.noise(0, range(3), rng.START, model.shape, dtype=torch.float64)
    drawn = loop(tmp_path / "plan.json", network, noise)
    expected = st.sample(model, st.load_plan(tmp_path / "plan.json"), 3)
    torch.testing.assert_close(drawn, expected, atol=1e-9, rtol=1e-9)


def test_the_schema_says_how_a_run_starts_and_which_steps_are_of_first_order():
    from sigmatune.plan.document import schema

    fields = schema()["properties"]
    assert "sigmas[0] times unit noise" in fields["sigmas"]["description"]
    assert "first-order" in fields["solver"]["description"]
