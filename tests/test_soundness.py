"""Before any work: is it a function of each row? And what a function may do to us without harm."""

from __future__ import annotations

import gc
from functools import partial

import pytest
import torch

from exact import gaussian
from sigmatune.analysis.stepwise import analyze, chain
from sigmatune.core import soundness
from sigmatune.core.guidance import Guided
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted, Observed
from sigmatune.evaluation.extractors.raw_pixels import Projections
from sigmatune.evaluation.generation import generate
from sigmatune.models import load
from sigmatune.models.network import NetworkDenoiser
from sigmatune.models.psld_network import PhaseSpaceNetwork, PSLDScheduler
from sigmatune.noise import vp
from sigmatune.plan import compile_plan, sample
from sigmatune.processes import PSLD
from sigmatune.solvers import SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, tune

SHAPE = (1, 4, 4)
QUICK = TuningSettings(tuning=8, validation=8, held_out=8, evaluations=10, reference_steps=16, micro_batch=8)
HALF = (torch.float16, torch.bfloat16)
GRID = Schedule([80.0, 5.0, 1.0, 0.1, 0.0])


def shrinking(x, sigma):
    return x / (1 + sigma.view(-1, *[1] * (x.ndim - 1)) ** 2)


def drawing(x, sigma):
    return shrinking(x, sigma) + 0.01 * torch.randn_like(x)


def coupled(x, sigma):
    return shrinking(x, sigma) - 0.1 * shrinking(x, sigma).mean(dim=0)


def counting():
    calls = []

    def D(x, sigma):
        calls.append(0)
        return shrinking(x, sigma) * (1 + 0.01 * len(calls))

    return D


def by_size(x, sigma):
    return shrinking(x, sigma) / len(x)


def by_place(x, sigma):
    return shrinking(x, sigma) * (1 + 0.01 * torch.arange(len(x)).to(x).view(-1, 1, 1, 1))


def normed():
    return torch.nn.Sequential(torch.nn.BatchNorm2d(1))


def dropping():
    torch.manual_seed(0)  # a row of 16 pixels may be spared by chance
    return torch.nn.Sequential(torch.nn.Dropout(0.5))


class Taking(torch.nn.Module):
    """A module of x alone as one of x and sigma."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, sigma):
        return shrinking(self.inner(x), sigma)


BAD = {
    "draws": (lambda: drawing, "different outputs for the same input"),
    "counts": (counting, "different outputs for the same input"),
    "dropout": (lambda: Taking(dropping()), "different outputs for the same input"),
    "couples": (lambda: coupled, "depends on the rows beside it"),
    "batch norm": (lambda: Taking(normed()), "depends on the rows beside it"),
    "the size": (lambda: by_size, "depends on the rows beside it"),
    "the place": (lambda: by_place, "or on its place among them"),
}
WORK = {
    "tune": lambda model: tune(model, 3, solver="euler", method="search", settings=QUICK),
    "sample": lambda model: sample(model, compile_plan(GRID, "euler", model), 3),
    "evaluate": lambda model: generate(model, compile_plan(GRID, "euler", model), 4, [Projections()]),
    "analyze": lambda model: analyze(model, 2, plan=chain(model, 4)),
}


SHOWN = {"draws", "dropout", "batch norm"}
"""What a sampling shows, which asks the network for the plan's own calls alone."""


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_function_of_a_row_is_refused_in_a_sentence(kind, work):
    make, said = BAD[kind]
    if work == "sample" and kind not in SHOWN:
        WORK[work](load(make(), shape=SHAPE))
        return
    with pytest.raises(SigmaTuneError, match=said) as caught:
        WORK[work](load(make(), shape=SHAPE))
    assert len(str(caught.value)) <= 300
    assert "eval mode" in str(caught.value)


@pytest.mark.parametrize("kind", ["dropout", "batch norm"])
def test_the_sentence_says_what_helps(kind):
    net = BAD[kind][0]()
    model = load(net, shape=SHAPE)
    net.eval()
    plan = compile_plan(GRID, "euler", model)
    assert sample(model, plan, 3).shape == (3, *SHAPE)
    net.train()  # and is noticed when it is undone
    with pytest.raises(SigmaTuneError, match="eval mode"):
        sample(model, plan, 3)


@pytest.mark.parametrize("around", [lambda m: m, Counted, lambda m: Guided(m, m, 3.0, (0.5, 2.0))])
def test_it_costs_three_calls_once(around):
    sizes = []
    model = around(load(lambda x, s: (sizes.append(len(x)), shrinking(x, s))[1], shape=SHAPE))
    assert soundness.check(model) == 5
    assert sizes == [2, 2, 1]
    assert soundness.check(model) == 5  # the price does not depend on what this process has asked before
    assert len(sizes) == 3


@pytest.mark.parametrize("layer", [lambda: torch.nn.Dropout2d(0.5), lambda: torch.nn.Dropout(0.1)])
@pytest.mark.parametrize("seed", range(12))
def test_a_network_that_leaves_out_whole_rows_now_and_then_is_noticed(layer, seed):
    """Three calls spare the row of a Dropout2d of one channel in one of eight trials, or drop it in all of them."""
    torch.manual_seed(seed)
    with pytest.raises(SigmaTuneError, match="different outputs for the same input"):
        soundness.check(load(Taking(layer()), shape=SHAPE))


def test_a_sound_network_in_training_mode_pays_for_the_doubt():
    net = Taking(torch.nn.Identity())
    assert soundness.check(load(net, shape=SHAPE)) == 5 + 2 * soundness.MANY
    net.eval()
    assert soundness.check(load(net, shape=SHAPE)) == 5


def test_who_watches_a_sampling_does_not_see_it():
    seen = []
    model = Observed(gaussian(), lambda z, sigma, x0: seen.append(len(z)))
    sample(model, compile_plan(GRID, "euler", model), 2, micro_batch=2)
    assert seen == [2] * 4


def test_a_network_that_is_gone_is_forgotten():
    net = Taking(torch.nn.Identity())
    soundness.check(load(net, shape=SHAPE))
    gc.collect()  # of what other tests left
    before = len(soundness._asked)
    del net
    gc.collect()
    assert len(soundness._asked) == before - 1


@pytest.mark.parametrize("dtype", HALF)
def test_rounding_of_half_precision_is_no_coupling(dtype):
    """A deep network whose kernels round differently in another batch."""
    torch.manual_seed(0)
    layers = [
        part
        for _ in range(12)
        for part in (torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.GroupNorm(4, 16), torch.nn.SiLU())
    ]
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3, padding=1), *layers, torch.nn.Conv2d(16, 1, 3, padding=1))
    model = load(Taking(net.to(dtype)).eval(), shape=(1, 16, 16), dtype=dtype)
    assert soundness.check(model) == 5


@pytest.mark.parametrize("dtype", HALF)
def test_rounding_of_half_precision_that_depends_on_the_place_is_no_coupling(dtype):
    def placed(x, sigma):
        return (shrinking(x, sigma) * torch.linspace(1, 1 + 0.03 * (len(x) - 1), len(x)).view(-1, 1, 1, 1)).to(dtype)

    assert soundness.check(load(placed, shape=SHAPE, dtype=dtype)) == 5


# ------------------------------------------------------------------------------------------------- what a function may do


@pytest.mark.parametrize(
    ("dtype", "method"),
    [(HALF[1], "discretisation"), (HALF[1], "trajectory"), (HALF[1], "gradient"), (HALF[0], "search")],
)
def test_half_precision_tunes(dtype, method):
    def D(x, sigma):
        assert x.dtype == sigma.dtype == dtype
        return shrinking(x, sigma)

    model = load(D, shape=SHAPE, dtype=dtype)
    plan = tune(model, 3, solver="euler", method=method, settings=QUICK)
    assert plan.evidence["dtype"] == f"float32, network {str(dtype)[6:]}"
    images = sample(model, plan, 2)
    assert images.dtype == torch.float32
    full = sample(load(shrinking, shape=SHAPE), plan.with_notes(fingerprint=None), 2)
    assert (images - full).abs().max() < 0.1 * full.abs().max()


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_modules_are_evaluated_analysed_and_run_in_phase_space(dtype):
    net = Taking(torch.nn.Conv2d(1, 1, 3, padding=1).to(dtype)).eval()
    model = load(net, shape=(1, 8, 8), dtype=dtype)
    plan = compile_plan(GRID, "euler", model)
    assert generate(model, plan, 4, [Projections()]).n == 4
    assert analyze(model, 2, plan=chain(model, 4)).n == 2
    lifted = compile_plan(Schedule([20.0, 1.0, 0.1, 0.0]), "reduced-oba", model)
    assert sample(model, lifted, 2).isfinite().all()


def test_states_of_half_precision_tune_as_well():
    """No loader makes them, but a denoiser of one's own may."""
    model = gaussian(size=4)
    inner = model.denoise
    model.dtype, model.denoise = torch.bfloat16, lambda z, sigma: inner(z.double(), sigma).to(z.dtype)
    assert tune(model, 3, solver="euler", method="search", settings=QUICK).calls == 3


FLAT = {
    "zeros": lambda x, sigma: torch.zeros_like(x),
    "a constant": lambda x, sigma: torch.full_like(x, 0.3),
    "its input": lambda x, sigma: x,
    "almost zero": lambda x, sigma: 1e-30 * x,
}


@pytest.mark.parametrize(
    ("solver", "shape", "method"),
    [("euler", (1, 1, 4), "discretisation"), ("dpmpp2m", (1, 1, 1), "trajectory")],
)
@pytest.mark.parametrize("name", FLAT)
def test_where_every_plan_is_exact_there_is_no_gain(name, solver, shape, method):
    settings = TuningSettings(tuning=4, validation=4, held_out=8, evaluations=5, reference_steps=8, micro_batch=8)
    plan = tune(load(FLAT[name], shape=shape), 3, solver=solver, method=method, settings=settings)
    assert plan.evidence["gain"] is False
    assert plan.evidence["verdict"].startswith("no gain")
    assert "up to rounding" in plan.evidence["verdict"]


@pytest.mark.parametrize(
    ("name", "shape", "method"),
    [
        ("zeros", (1, 8, 8), "trajectory"), ("zeros", (3, 8, 8), "discretisation"), ("zeros", (1, 16), "gradient"),
        ("a constant", (3, 8, 8), "discretisation"), ("its input", (1, 16), "gradient"),
        ("almost zero", (1, 8, 8), "trajectory"),
    ],
)  # fmt: skip
def test_on_a_grid_there_is_no_gain_either_where_no_mode_has_power(name, shape, method):
    settings = TuningSettings(tuning=4, validation=4, held_out=8, evaluations=5, reference_steps=8, micro_batch=8)
    plan = tune(load(FLAT[name], shape=shape), 3, solver="euler", method=method, settings=settings)
    assert plan.evidence["verdict"].startswith("no gain")


def test_a_plan_of_the_rounding_of_its_arithmetic_is_no_better_than_another():
    """Solvers of high order lose up to 195 eps with D(x) = x, which is the floor's measure."""
    from sigmatune import schedules
    from sigmatune.tuning import Workbench

    bench = Workbench(load(FLAT["its input"], shape=SHAPE, dtype=torch.float64), QUICK)
    for solver in ("euler", "heun", "unipc3", "dpmpp3m", "deis3"):
        for family in ("uniform-trailing", "uniform-linspace", "karras", "log-uniform", "kl-optimal"):
            plan = bench.plan(schedules.build(family, 10, bench.model.path), solver)
            assert bench.errors(plan, "tuning").tolist() == [bench.least] * 8
    off = load(lambda x, sigma: x * (1 + 1e-9), shape=SHAPE, dtype=torch.float64)
    other = Workbench(off, QUICK)
    plan = other.plan(GRID, "euler")
    assert other.errors(plan, "tuning").min() > other.least


@pytest.mark.parametrize(("after", "method"), [(0, "auto"), (40, "auto"), (90, "auto"), (70, "coefficients")])
def test_nan_in_the_middle_of_a_search_is_one_sentence(after, method):
    """Whatever stage it meets."""
    levels = []

    def D(x, sigma):
        levels.append(0)
        return shrinking(x, sigma) * (float("nan") if len(levels) > after + 20 else 1.0)

    with pytest.raises(SigmaTuneError, match="NaN or infinity"):
        tune(load(D, shape=SHAPE), 3, solver="euler", method=method, settings=QUICK)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("call", range(3))
def test_nan_that_comes_and_goes_is_not_taken_for_a_drawn_number(call, bad):
    calls = []

    def D(x, sigma):
        calls.append(0)
        return shrinking(x, sigma) * (bad if len(calls) == call + 1 else 1.0)

    with pytest.raises(SigmaTuneError, match=r"the model returned NaN or infinity at sigma = 1; check the function"):
        soundness.check(load(D, shape=SHAPE))


def test_a_network_that_has_no_answer_for_the_zeros_of_padding_is_sampled():
    def D(x, sigma):
        return x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    model = load(D, shape=SHAPE)
    plan = compile_plan(GRID, "euler", model)
    assert sample(model, plan, 3, micro_batch=8).isfinite().all()
    with pytest.raises(SigmaTuneError, match="different outputs for the same input"):
        soundness.check_padding(torch.tensor([[float("nan")], [2.0]]), 1e-7)


WRONG = {
    "shape": (lambda x, s: x[:, :, :2], r"must return a tensor shaped like x, \(\d, 1, 4, 4\), not \(\d, 1, 2, 4\)"),
    "rows": (lambda x, s: x[:1].expand(len(x) + 1, -1, -1, -1), "must return a tensor shaped like x"),
    "whole numbers": (lambda x, s: x.long(), "floating-point numbers, not torch.int64"),
    "complex": (lambda x, s: x.to(torch.complex64), "floating-point numbers, not torch.complex64"),
    "device": (lambda x, s: x.to("meta"), "on the device of x, cpu, not on meta"),
    "tuple": (lambda x, s: (x,), "not tuple"),
    "numpy": (lambda x, s: x.numpy(), "not ndarray"),
    "nothing": (lambda x, s: None, "not NoneType"),
}
MAKERS = {
    "function": partial(load, shape=SHAPE),
    "network": lambda f: NetworkDenoiser(f, SHAPE, vp(), "epsilon"),
    "data network": lambda f: NetworkDenoiser(f, SHAPE, vp(), "sample"),
}


@pytest.mark.parametrize("made", MAKERS)
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_answer_is_one_sentence(kind, made):
    wrong, said = WRONG[kind]
    with pytest.raises(SigmaTuneError, match=said):
        compile_plan(Schedule([10.0, 1.0, 0.0]), "euler", MAKERS[made](wrong))


@pytest.mark.parametrize("name", [name for name, solver in SOLVERS.items() if solver.deterministic()])
def test_a_function_may_change_what_it_gets_and_keep_what_it_returns(name):
    kept = torch.full((1, *SHAPE), 0.3, dtype=torch.float64)

    def selfish(x, sigma):
        out = shrinking(x, sigma)
        x.zero_()
        sigma.fill_(7.0)
        return out

    def giving(x, sigma):
        return kept.expand_as(x)

    plan = compile_plan(GRID, name)
    for own, clean in ((selfish, shrinking), (giving, lambda x, s: torch.full_like(x, 0.3))):
        x = [sample(load(f, shape=SHAPE, dtype=torch.float64), plan, 2) for f in (own, clean)]
        assert torch.equal(*x)
    assert plan.coefficients.q.max() == 80
    assert (kept == 0.3).all()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_network_may_change_what_it_gets(prediction):
    def selfish(x, t):
        out = 0.5 * x
        x.zero_()
        return out

    plan = compile_plan(Schedule([10.0, 1.0, 0.1, 0.0]), "dpmpp2m")
    x = [sample(NetworkDenoiser(f, SHAPE, vp(), prediction), plan, 2) for f in (selfish, lambda x, t: 0.5 * x)]
    assert torch.equal(*x)


def test_a_network_of_phase_space_may_change_what_it_gets():
    def selfish(u, t):
        out = 0.5 * u
        u.zero_()
        return out

    models = [PhaseSpaceNetwork(f, SHAPE, PSLDScheduler(PSLD())) for f in (selfish, lambda u, t: 0.5 * u)]
    plan = compile_plan(Schedule([20.0, 1.0, 0.1, 0.0]), "reduced-oba", models[0]).with_notes(fingerprint=None)
    assert torch.equal(*(sample(model, plan, 2) for model in models))
