"""The functions of the front door refuse what is of another kind, with what to pass instead."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch

import sigmatune as st
from exact import gaussian
from sigmatune.core import rng
from sigmatune.interop.clients import clients
from sigmatune.noise import VE
from sigmatune.plan.calls import steps_for
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import unknown_name
from sigmatune.tuning import TuningSettings

SHAPE = (1, 4, 4)


def half(x, sigma):
    return x / 2


def model():
    return st.load(half, shape=SHAPE)


def plan():
    return st.compile_plan(st.Schedule([3.0, 1.0, 0.0]), "euler")


REFUSED = {
    "a plan as the model": (lambda: st.sample(plan(), model(), n=1), "must be a denoiser; load it with st.load"),
    "a function as the model": (lambda: st.sample(half, plan(), n=1), "must be a denoiser"),
    "a name as the model": (lambda: st.sample("digits", plan(), n=1), "must be a denoiser"),
    "a file as the plan": (lambda: st.sample(model(), "plan.json", n=1), r"read a file with st\.load_plan"),
    "no plan": (lambda: st.sample(model(), None, n=1), "must be a plan or a rule"),
    "a schedule as the plan": (lambda: st.sample(model(), plan().schedule, n=1), "must be a plan or a rule"),
    "tuning a function": (lambda: st.tune(half, 4, progress=False), "must be a denoiser"),
    "tuning a name": (lambda: st.tune("digits", 4), "must be a denoiser"),
    "compiling levels": (lambda: st.compile_plan([3.0, 1.0, 0.0], "euler"), r"st\.Schedule\(sigmas\)"),
    "compiling for a function": (lambda: st.compile_plan(plan().schedule, "euler", half), "must be a denoiser"),
    "a model as a path": (lambda: st.build_schedule("karras", 4, model()), r"such as model\.path"),
    "settings in words": (lambda: st.tune(model(), 4, settings="few", progress=False), "must be TuningSettings"),
    "settings as a dictionary": (lambda: st.tune(model(), 4, settings={}, progress=False), "must be TuningSettings"),
    "a progress in words": (lambda: st.sample(model(), plan(), n=1, progress="bar"), "a function of the calls done"),
    "a progress that is no function": (lambda: st.sample(model(), plan(), n=1, progress=True), "or None, not True"),
    "tuning with a progress in words": (
        lambda: st.tune(model(), 4, progress="bar"),
        "progress is True, False or a function",
    ),
    "coefficients in words": (
        lambda: st.tune(model(), 4, coefficients="no", progress=False),
        "coefficients is True or False, not 'no'",
    ),
    "more images than memory": (lambda: st.sample(model(), plan(), n=10**12), r"indices=range\(0, 1000\)"),
    "more images than numbers": (lambda: st.sample(model(), plan(), n=10**30), "n must be a whole number of at most"),
    "a sample larger than memory": (lambda: st.load(half, shape=(10**9, 10**9)), "has 1e.18 numbers"),
    "a file name with a zero byte": (lambda: plan().save("a\0b"), "cannot write a"),
    "more noises than memory": (lambda: TuningSettings(tuning=10**12), "tuning must be a whole number of at most"),
    "more held-out noises": (lambda: TuningSettings(held_out=2**21), "held_out must be a whole number of at most"),
    "a finer reference than any": (lambda: TuningSettings(reference_steps=10**9), "reference_steps must be"),
    "methods": (
        lambda: st.tune(model(), 4, method=["static"], progress=False),
        "the name of a tuning method is a text",
    ),
    "no engine": (lambda: st.tune(model(), 4, engine=None, progress=False), "an engine is local"),
    "options in a list": (
        lambda: st.tune(model(), 4, measure="rms", measure_options=[1], progress=False),
        "the options of rms are a dictionary",
    ),
    "predictions": (lambda: st.load(half, shape=SHAPE, predicts=["v"]), "is a text"),
    "a class": (lambda: st.load(torch.nn.Linear, shape=SHAPE), "Linear is a class; pass an instance"),
    "one argument": (lambda: st.load(lambda x: x, shape=SHAPE), "which .* does not take: too many positional"),
    "a condition": (lambda: st.load(lambda x, sigma, cond: x, shape=SHAPE), "missing a required argument: 'cond'"),
    "a keyword": (lambda: st.load(lambda x, *, sigma: x, shape=SHAPE), "does not take"),
    "a velocity of x": (lambda: st.load(lambda x: x, shape=SHAPE, predicts="velocity"), r"called as f\(x_t, t\)"),
    "a module's forward": (lambda: st.load(torch.nn.Linear(4, 4), shape=SHAPE), "does not take"),
}


@pytest.mark.parametrize(("call", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_of_another_kind_is_refused(call, reason):
    with pytest.raises(st.SigmaTuneError, match=reason) as refused:
        call()
    assert len(str(refused.value)) <= 300


@pytest.mark.parametrize("seed", [None, "3", [1, 2], torch.tensor(3), torch.Generator(), 2.5, -1, float("nan"), 2**64])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(st.SigmaTuneError, match=r"whole number in \[0, 2\^64\)"):
        st.sample(model(), plan(), n=1, seed=seed)


def test_samples_are_drawn_in_quiet_where_progress_is_off():
    assert st.sample(model(), plan(), n=2, progress=False).equal(st.sample(model(), plan(), n=2))


def test_numpys_numbers_are_seeds_everywhere():
    assert torch.equal(rng.noise(np.uint64(3), [0], 0, SHAPE), rng.noise(3, [0], 0, SHAPE))
    settings = TuningSettings(seed=np.int64(3), tuning=np.int64(9))
    assert [type(value) for value in vars(settings).values()] == [int] * 7


def test_callables_of_all_kinds_are_functions():
    class Called:
        def __call__(self, x, sigma):
            return half(x, sigma)

        method = __call__

    class Network(torch.nn.Module):
        def forward(self, x, sigma, cond=None):
            return half(x, sigma)

    expected = st.sample(model(), plan(), n=2)
    for function in (
        Called(),
        Called().method,
        functools.partial(lambda scale, x, sigma: x * scale, 0.5),
        lambda x, sigma, **options: half(x, sigma),
        Network(),
        torch.nn.DataParallel(Network()),
        torch.jit.trace(Network(), (torch.zeros(2, *SHAPE), torch.ones(2))),
    ):
        assert torch.equal(st.sample(st.load(function, shape=SHAPE), plan(), n=2), expected)
    with pytest.raises(st.SigmaTuneError, match="not NoneType"):  # a built-in function has no signature to look at
        st.sample(st.load(print, shape=SHAPE), plan(), n=1)


@pytest.mark.parametrize("predicts", ["data", "velocity"])
def test_weights_of_another_dtype_name_the_option(predicts):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(4, 4)

        def forward(self, x, sigma):
            return self.line(x)

    network = Network().double()
    with pytest.raises(st.SigmaTuneError, match=r"load it with dtype=torch\.float64\."):
        st.load(network, shape=SHAPE, predicts=predicts)(torch.zeros(2, *SHAPE), 1.0)
    loaded = st.load(network, shape=SHAPE, predicts=predicts, dtype=torch.float64)
    assert loaded(torch.zeros(2, *SHAPE, dtype=torch.float64), 1.0).shape == (2, *SHAPE)


def test_an_error_of_the_function_itself_stays():
    def fails(x, sigma):
        raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="my own"):
        st.load(fails, shape=SHAPE)(torch.zeros(2, *SHAPE), 1.0)


def test_a_store_may_be_a_text(little, tmp_path):
    st.tune(gaussian(), 2, method="static", store=str(tmp_path / "store"), progress=False)
    assert list((tmp_path / "store").glob("*.npy"))


@pytest.mark.parametrize("name", SOLVERS)
def test_more_calls_than_a_schedule_has_steps_are_refused(name):
    solver = SOLVERS[name]
    assert solver.steps_for(solver.calls(10_000)) == 10_000
    for calls in (solver.calls(10_001), 10**30):
        with pytest.raises(st.SigmaTuneError, match="at most 10,000 steps"):
            solver.steps_for(calls)


def test_the_article_fits_the_name():
    assert re.match("the name of an effort is", str(unknown_name("effort", None, [])))
    assert re.match("the name of a solver is", str(unknown_name("solver", None, [])))


# ------------------------------------------------------------------------------------------------------- the command line


def test_an_output_that_the_shell_closed_is_no_fault(tmp_path):
    plan().save(tmp_path / "plan.json")
    command = f"{shlex.quote(sys.executable)} -m sigmatune check plan.json"
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        done = subprocess.run(
            ["bash", "-c", f"{command} {closed}"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), closed


def test_a_file_whose_name_begins_with_a_dash_is_named_with_its_folder(run, tmp_path):
    (tmp_path / "-p.json").write_text("{}")
    code, _, err = run("check", "-p.json")
    assert (code, err) == (2, "error: No such option: -p; the file -p.json is written ./-p.json.\n")


def test_the_ending_of_a_file_may_be_in_capitals(run, tmp_path):
    assert run("sample", "digits", "--solver", "euler", "--calls", "2", "-n", "1", "-o", "A.PNG")[0] == 0
    assert (tmp_path / "A.PNG").read_bytes().startswith(b"\x89PNG")


def test_ends_may_be_tensors_as_the_wrappers_of_k_diffusion_hold_them():
    sigmas = torch.tensor([0.125, 16.0])
    assert st.load(half, shape=SHAPE, sigma_min=sigmas[0], sigma_max=sigmas[-1]).path == VE(0.125, 16.0)


def test_a_model_in_the_current_folder_is_tuned_on_the_command_line(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import sigmatune as st\n\n\ndef D(x, sigma):\n    return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)\n\n\n"
        "model = st.load(D, shape=(1, 4, 4))\n"
    )
    tune = [sys.executable, "-m", "sigmatune", "tune", "--calls", "3", "--dry-run"]
    for name in ("mine:model", "mine.py:model"):
        done = subprocess.run([*tune, name], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "network evaluations" in done.stdout
    done = subprocess.run([*tune, "mine:D"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "on the command line pass my:model, where my.py says model = st.load(...)" in done.stderr
    done = subprocess.run([*tune, "nowhere:D"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "of a module that is installed or lies in the current folder" in done.stderr


def test_calls_that_pay_for_no_step_under_guidance_say_what_a_step_takes():
    class Doubled(type(model())):
        def calls_at(self, sigma):
            return 2

    doubled = model()
    doubled.__class__ = Doubled
    assert [steps_for(SOLVERS["euler"], calls, doubled) for calls in (2, 3, 8)] == [1, 1, 4]
    for calls, message in (
        (1, "calls = 1 pays .* under guidance it takes 2"),
        ([4, 1], "under guidance it takes 2"),
    ):
        with pytest.raises(st.SigmaTuneError, match=message):
            st.tune(doubled, calls, solver="euler", progress=False)
    with pytest.raises(st.SigmaTuneError, match="calls = 1 pays for no step of heun: under guidance it takes 2"):
        st.tune(doubled, 1, solver="heun", progress=False)


@pytest.mark.parametrize(("shape", "programs"), [((8,), 1), ((4, 8, 8), 5), ((4, 2, 8, 8), 5)])
def test_programs_that_draw_images_are_offered_plans_of_images(shape, programs):
    kept = plan().with_notes(tuned_for={"shape": list(shape)})
    offered = clients(kept)
    assert len(offered) == programs
    assert offered["k-diffusion"][1]
    assert ("ComfyUI draws images" in st.interop.exports.remark(kept, "comfyui")) == (programs == 1)
