"""Models restricted to whole timesteps: plans tuned on them run in programs that round t as they were measured."""

import json
import re

import numpy as np
import pytest
import torch

import sigmatune as st
from sigmatune.interop import exports
from sigmatune.plan.file import loads
from sigmatune.support.errors import SigmaTuneError


@pytest.mark.usefixtures("little")
def test_a_tuned_plan_is_exported_as_it_was_measured(run, tiny):
    code, out, _ = run(
        "tune", tiny, "--calls", 4, "--solver", "euler", "--integer-time", "--json", "--budget", 400, "--no-report"
    )
    assert code == 0
    plan = loads(out)
    t = plan.noise_path().time(plan.schedule.sigmas[:-1])
    np.testing.assert_allclose(t, np.rint(t), atol=1e-9)
    assert json.loads(out)["tuned_for"]["load"]["integer_time"] is True
    for target in ("comfyui", "a1111"):
        assert "moved" not in exports.remark(plan, target)
    numbers = [float(n) for n in re.split(r"[,\s]+", exports.export(plan, "comfyui").strip())]
    np.testing.assert_array_equal(numbers, plan.schedule.sigmas)  # no level moved, none rounded


def test_the_network_computes_there_what_it_computed_before(tiny):
    model, whole = st.load(tiny), st.load(tiny, integer_time=True)
    plan = st.compile_plan(st.build_schedule("karras", 5, whole.path), "dpmpp2m", denoiser=whole)
    before = st.sample(model, plan, n=3, seed=1)
    torch.testing.assert_close(st.sample(whole, plan, n=3, seed=1), before, atol=0, rtol=0)
    assert whole.fingerprint() == model.fingerprint()
    between = st.compile_plan(st.build_schedule("karras", 5, model.path), "dpmpp2m", denoiser=model)
    with pytest.raises(SigmaTuneError, match="timestep"):
        st.sample(whole, between, n=1)


def test_its_measurements_are_stored_apart(tiny):
    from sigmatune.core import identity

    assert identity.name(st.load(tiny)) != identity.name(st.load(tiny, integer_time=True))


def test_a_model_without_a_table_of_steps_is_refused():
    flow = st.load(lambda x, sigma: 0 * x, shape=(1, 4, 4))
    with pytest.raises(SigmaTuneError, match="table of steps"):
        st.load(flow, integer_time=True)


def test_a_model_of_whole_timesteps_comes_back_as_it_is(tiny):
    whole = st.load(tiny, integer_time=True)
    assert st.load(whole, integer_time=True) is whole
