"""Who is who: a model is known by its weights, a function by its answers, on every machine."""

from __future__ import annotations

import functools
import hashlib
import warnings

import numpy as np
import pytest
import torch

from exact import gaussian
from sigmatune.core import digests
from sigmatune.core.digests import add_weights
from sigmatune.core.guidance import Guided
from sigmatune.core.held_modules import modules_held
from sigmatune.core.identity import STRICT, TOLERANCE, name_in, same
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted
from sigmatune.evaluation.generation import digest
from sigmatune.models import load
from sigmatune.models.network import NetworkDenoiser
from sigmatune.models.psld_network import PhaseSpaceNetwork, PSLDScheduler
from sigmatune.noise import vp
from sigmatune.plan import compile_plan, load_plan, sample
from sigmatune.plan.file import dumps
from sigmatune.processes import PSLD
from sigmatune.support.errors import PlanMismatch
from sigmatune.tuning import TuningSettings, Workbench, tune

SHAPE = (1, 4, 4)
QUICK = TuningSettings(tuning=8, validation=8, held_out=8, evaluations=10, reference_steps=16, micro_batch=8)


class Net(torch.nn.Module):
    """A small network that reacts to everything."""

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1, 4, 4), weight))
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, x, t):
        return self.weight * x / (1 + torch.as_tensor(t).view(-1, 1, 1, 1).to(x) ** 2) + self.shift


def shrinking(by):
    def D(x, sigma):
        return by * x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    return D


def moved(net, how):
    """Changes one weight in one of the ways that training code has."""
    with torch.no_grad():
        if how == "in place":
            net.weight[0, 0, 0] += 0.1
        elif how == "through .data":
            net.weight.data.mul_(1.1)
        elif how == "by another parameter":
            net.weight = torch.nn.Parameter(net.weight * 1.1)
        elif how == "loaded":
            net.load_state_dict(Net(0.7).state_dict(), assign=True)
        else:
            net.shift += 1


WAYS = ("in place", "through .data", "by another parameter", "loaded", "a buffer")
HOLDERS = {
    "a module": lambda net: load(net, shape=SHAPE),
    "a closure": lambda net: load(lambda x, s: 1.0 * net(x, s), shape=SHAPE),
    "a method": lambda net: load(net.forward, shape=SHAPE),
    "a partial": lambda net: load(functools.partial(lambda n, x, s: n(x, s), net), shape=SHAPE),
    "a list in an object": lambda net: load(Holder([net]), shape=SHAPE),
    "a network": lambda net: NetworkDenoiser(net, SHAPE, vp(), "epsilon"),
    "a function of a network": lambda net: NetworkDenoiser(lambda x, t: 1.0 * net(x, t), SHAPE, vp(), "epsilon"),
    "guidance": lambda net: Guided(load(net, shape=SHAPE), load(Net(0.1), shape=SHAPE), 3.0),
    "a counter": lambda net: Counted(load(net, shape=SHAPE)),
    "phase space": lambda net: PhaseSpaceNetwork(net, SHAPE, PSLDScheduler(PSLD())),
}


class Holder:
    """A callable object."""

    def __init__(self, parts):
        self.parts = parts

    def __call__(self, x, sigma):
        return self.parts[0](x, sigma)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_a_model_is_another_one_after_training(holder, how):
    net = Net()
    model = HOLDERS[holder](net)
    before = model.fingerprint()
    assert model.fingerprint() == before
    assert model.is_model_of(before)
    moved(net, how)
    assert not model.is_model_of(before)
    if how != "loaded":  # which put another module's parameters in
        again = HOLDERS[holder](Net())
        assert again.is_model_of(before)


def raised(_, __, output):
    return output + 1


def by_hook(net):
    return net.register_forward_hook(raised).remove


def by_pre_hook(net):
    return net.register_forward_pre_hook(lambda _, inputs: (0.5 * inputs[0], 0 * inputs[1])).remove


def by_forward(net):
    plain = net.forward
    net.forward = lambda x, t: plain(x, t) + 1
    return lambda: delattr(net, "forward")


@pytest.mark.parametrize("change", [by_hook, by_pre_hook, by_forward])
@pytest.mark.parametrize("holder", [name for name in HOLDERS if name != "a method"])  # which no hook reaches
def test_code_that_hangs_on_a_module_shares_no_store(tmp_path, holder, change):
    def name_of(model):
        return Workbench(model, QUICK, store=tmp_path).name

    net = Net()
    model = HOLDERS[holder](net)
    before = name_of(model)
    undone = change(net)
    hooked = name_of(model)
    assert hooked != before
    again = HOLDERS[holder](other := Net())
    change(other)
    assert name_of(again) == hooked, "as another process would have it"
    undone()
    assert name_of(model) == before


def test_a_hook_that_counts_sees_the_calls_of_the_plan_alone():
    net, calls = Net(), []
    model = NetworkDenoiser(net, SHAPE, vp(), "epsilon")
    net.register_forward_hook(lambda *_: calls.append(1))
    sample(model, compile_plan(Schedule([80.0, 5.0, 1.0, 0.0]).bound(model.path), "euler", model), 2)
    assert len(calls) == 3


def test_what_only_moves_weights_is_no_code():
    from accelerate.hooks import ModelHook, add_hook_to_module

    net = Net()
    model = NetworkDenoiser(net, SHAPE, vp(), "epsilon")
    before = model.fingerprint()
    add_hook_to_module(net, ModelHook())
    assert model.fingerprint() == before


class Convolved(torch.nn.Module):
    """A network whose function depends on more than its weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 1, 3, padding="same")
        self.norm = torch.nn.GroupNorm(1, 1)
        self.factor, self.factors, self.calls = 1.0, {"up": 1.0}, 0

    def forward(self, x, t):
        self.calls += 1
        return self.factor * self.factors["up"] * self.norm(self.conv(x))


SETTINGS = {
    "dilation": lambda net: setattr(net.conv, "dilation", (2, 2)),
    "epsilon": lambda net: setattr(net.norm, "eps", 0.5),
    "a factor": lambda net: setattr(net, "factor", 0.5),
    "a factor in a dictionary": lambda net: net.factors.update(up=0.5),
    "another activation": lambda net: setattr(net, "norm", torch.nn.Identity()),
}


@pytest.mark.parametrize("change", SETTINGS)
@pytest.mark.parametrize("holder", ["a module", "a closure", "a network", "guidance", "a counter"])
def test_one_module_before_and_after_a_change_of_its_layers_shares_no_store(tmp_path, holder, change):
    net = Convolved()
    model = HOLDERS[holder](net)
    names = []
    for _ in range(2):
        bench = Workbench(model, QUICK, store=tmp_path)
        names.append(bench.name)
        bench.errors(bench.plan(Schedule([80.0, 1.0, 0.0]), "euler"), "tuning")
        assert bench.name == Workbench(model, QUICK, store=tmp_path).name, "its calls are counted and change nothing"
        SETTINGS[change](net)
    assert names[0] != names[1]
    SETTINGS[change](fresh := Convolved())
    assert Workbench(HOLDERS[holder](fresh), QUICK, store=tmp_path).name == names[1]


def test_two_functions_of_one_name_share_neither_store_nor_plan(tmp_path):
    a, b = (load(shrinking(by), shape=SHAPE) for by in (1.0, 0.5))
    one = tune(a, 3, solver="euler", method="search", settings=QUICK, store=tmp_path)
    other = tune(b, 3, solver="euler", method="search", settings=QUICK, store=tmp_path)
    alone = tune(b, 3, solver="euler", method="search", settings=QUICK)
    assert other.schedule == alone.schedule
    assert {**other.evidence, "reference": 0} == {**alone.evidence, "reference": 0}
    assert one.evidence["statistic"] != other.evidence["statistic"]
    file = tmp_path / "plan.json"
    one.save(file)
    with pytest.warns(PlanMismatch, match="another model"):
        sample(b, load_plan(file), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(load(shrinking(1.0), shape=SHAPE), load_plan(file), 1)


SCRIPT = """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x, t):
        return 0.5 * x

def D(x, sigma):
    return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

def velocity(x, t):
    return -0.5 * x
"""


@pytest.mark.parametrize(
    "model",
    [
        lambda space: load(space["D"], shape=SHAPE),
        lambda space: load(space["velocity"], shape=SHAPE, predicts="velocity"),
        lambda space: load(space["Net"](), shape=SHAPE, predicts="noise", path=vp("linear")),
        lambda space: PhaseSpaceNetwork(space["Net"](), SHAPE, PSLDScheduler(PSLD())),
    ],
    ids=["denoiser", "velocity", "module", "phase space"],
)
def test_code_of_a_script_is_the_same_where_it_is_imported(model):
    """In a script its module is called __main__, elsewhere by its file."""
    script, module = {"__name__": "__main__"}, {"__name__": "mine"}
    for space in (script, module):
        exec(SCRIPT, space)
    one, other = model(script), model(module)
    assert script["D"].__module__ != module["D"].__module__
    assert one.is_model_of(other.fingerprint())
    assert other.is_model_of(one.fingerprint())


def test_one_module_before_and_after_training_shares_no_store(tmp_path):
    net = Net()
    model = load(net, shape=SHAPE)
    errors = []
    for _ in range(2):
        bench = Workbench(model, QUICK, store=tmp_path)
        errors.append(bench.errors(bench.plan(Schedule([80.0, 1.0, 0.0]), "euler"), "tuning"))
        moved(net, "through .data")
    assert (errors[0] != errors[1]).all()


def test_a_function_is_asked_again_when_work_begins(tmp_path):
    """Nothing shows that a number in it has changed."""
    strength = [1.0]
    model = load(lambda x, s: strength[0] * x / (1 + s.view(-1, 1, 1, 1) ** 2), shape=SHAPE)
    plan = Schedule([80.0, 1.0, 0.0])
    first = Workbench(model, QUICK, store=tmp_path)
    errors = first.errors(first.plan(plan, "euler"), "tuning")
    strength[0] = 0.3
    second = Workbench(model, QUICK, store=tmp_path)
    assert (second.errors(second.plan(plan, "euler"), "tuning") != errors).all()


def test_answers_of_another_machine_are_the_same_models(tmp_path):
    """Other kernels change the last digits; the store and the plan have to be found all the same."""
    asked = []

    def counted(by):
        return lambda x, s: (asked.append(len(x)), shrinking(by)(x, s))[1]

    a, b = (load(counted(by), shape=SHAPE, name="one") for by in (1.0, 1.0 + 2e-6))
    assert a.fingerprint() != b.fingerprint()
    assert a.is_model_of(b.fingerprint())
    for model in (a, b):
        bench = Workbench(model, QUICK, store=tmp_path)
        asked.clear()
        bench.reference("tuning")
    assert sum(asked) == 5 + 10  # the check and the probe; the reference is found
    assert len(list(tmp_path.glob("model-*.txt"))) == 1
    c = load(counted(1.0 + 1e-2), shape=SHAPE, name="one")
    assert not a.is_model_of(c.fingerprint())
    assert name_in(tmp_path, c.fingerprint()) == c.fingerprint()


def test_a_store_is_stricter_than_a_plan(tmp_path):
    """A thousandth off is the same model for the warning of a plan, and another one for measurements."""
    a, b = (load(shrinking(by), shape=SHAPE, name="one") for by in (1.0, 1.0 + 1e-3))
    assert a.is_model_of(b.fingerprint())
    names = [name_in(tmp_path, model.fingerprint()) for model in (a, b)]
    assert names == [a.fingerprint(), b.fingerprint()]


def text(*numbers, dtype="float32"):
    return f"function:f|answers {dtype} {','.join(map(str, numbers))}"


def test_the_tolerance_is_that_of_the_levels_size():
    one = text(1.0, 0.5, 0.0, 0.1, 100.0, 1.0, 2.0, 3.0)
    assert same(one, text(1.0, 0.5 + 0.9 * TOLERANCE, 0.0, 0.1, 100.0, 1.0, 2.0, 3.0))
    assert not same(one, text(1.0, 0.5 + 1.1 * TOLERANCE, 0.0, 0.1, 100.0, 1.0, 2.0, 3.0))
    assert same(one, text(1.0, 0.5, 0.0, 0.1, 100.0, 1.0 + 90 * TOLERANCE, 2.0, 3.0))
    assert not same(one, text(1.0, 0.5 + 1.1 * STRICT, 0.0, 0.1, 100.0, 1.0, 2.0, 3.0), STRICT)
    half = [text(1.0, value, 0.0, 0.1, dtype="bfloat16") for value in (0.5, 0.53)]
    assert same(*half)
    nothing = [text(*[value] * 4) for value in (0.0, "nan")]
    assert same(nothing[1], text("nan", "nan", "nan", "nan"))
    assert not same(*nothing)


@pytest.mark.parametrize("broken", ["", "1", "1,2,3,x", "1,2,3,4 |answers float32 1", "1,2,3,4,5"])
def test_a_file_may_hold_any_answers(broken):
    assert not same(text(1.0, 2.0, 3.0, 4.0), f"function:f|answers float32 {broken}")
    assert not same(text(1.0, 2.0, 3.0, 4.0), "function:f|answers no_dtype 1,2,3,4")


def test_files_of_an_earlier_version_stay_readable(tmp_path):
    """They know a function by its name and a network by its digest, as it was."""
    function = load(shrinking(1.0), shape=SHAPE)
    bare = function.fingerprint().partition("|")[0]
    assert bare == f"function:{function.name}:{SHAPE}:{function.path.spec()}"
    plan = compile_plan(Schedule([80.0, 1.0, 0.0]), "euler", function).with_notes(fingerprint=bare)
    (tmp_path / "old.json").write_text(dumps(plan))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(function, load_plan(tmp_path / "old.json"), 1)
    assert not function.is_model_of(bare.replace("shrinking", "growing"))


def test_the_digest_is_that_of_every_bit_in_one_stream():
    """As it has been from the first version: name, dtype, shape and bytes of each tensor, sorted by name."""
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    module[0].to(memory_format=torch.channels_last)
    expected = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        expected.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        expected.update(tensor.numpy().tobytes())
    digest_of = hashlib.sha256()
    add_weights(digest_of, module)
    assert digest_of.hexdigest() == expected.hexdigest()


def test_many_weights_are_summed_by_blocks_and_every_one_counts(monkeypatch):
    monkeypatch.setattr(digests, "BIG", 100)
    monkeypatch.setattr(digests, "BLOCK", 64)
    digests._multipliers.cache_clear()
    net = Net()
    model = NetworkDenoiser(net, SHAPE, vp(), "epsilon")
    before, prints = model.fingerprint(), set()
    net.register_buffer("table", torch.arange(101, dtype=torch.uint8))
    for i in range(101):
        net.table[i] += 1
        prints.add(model._digested())
    assert len({*prints, before}) == 102
    old = model._digested(whole=True)
    assert old != model.fingerprint()
    assert model.is_model_of(old)  # as files of an earlier version have it
    net.table[50] += 1
    assert not model.is_model_of(old)
    digests._multipliers.cache_clear()


def test_a_compiled_network_is_the_same_one():
    net = Net()
    first = NetworkDenoiser(net, SHAPE, vp(), "epsilon").fingerprint()
    compiled = torch.nn.Module()  # as torch.compile makes it, which takes long to import
    compiled._orig_mod = net
    assert NetworkDenoiser(compiled, SHAPE, vp(), "epsilon").fingerprint() == first
    assert NetworkDenoiser(torch.nn.DataParallel(net), SHAPE, vp(), "epsilon").fingerprint() == first


def test_buffers_that_are_not_saved_count_as_numbers():
    """They are computed on each machine, so that their last bits differ."""
    prints = []
    for scale in (1.0, 1.0 + 1e-7, 1.1):
        net = Net()
        net.register_buffer("table", scale * torch.arange(8.0).sin(), persistent=False)
        prints.append(NetworkDenoiser(net, SHAPE, vp(), "epsilon").fingerprint())
    assert same(prints[0], prints[1])
    assert not same(prints[0], prints[2])


class Shrinking:
    """A denoiser with a number, as an object, a method and a function."""

    def __init__(self):
        self.strength, self.calls = 1.0, 0

    def __call__(self, x, sigma):
        self.calls += 1
        return self.strength * x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    def method(self, x, sigma):
        return self(x, sigma)


@pytest.mark.parametrize("kind", ["object", "method", "partial", "variable"])
def test_a_plan_of_a_function_before_its_number_changed_is_another_models(kind, tmp_path):
    thing, strength = Shrinking(), 1.0

    def varied(x, sigma):
        return strength * x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    used = {"object": thing, "method": thing.method, "partial": functools.partial(thing.method), "variable": varied}[
        kind
    ]
    model = load(used, shape=SHAPE)
    compile_plan(Schedule([80.0, 1.0, 0.0]), "euler", model).save(tmp_path / "plan.json")
    plan = load_plan(tmp_path / "plan.json")
    calls = thing.calls
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(model, plan, 1)
    assert kind == "variable" or thing.calls == calls + 2, "a counter is no reason to ask again"
    thing.strength = strength = 0.3
    with pytest.warns(PlanMismatch, match="another model"):
        sample(model, plan, 1)


@pytest.mark.parametrize("how", ["in place", "through .data"])
def test_a_weight_that_changes_between_two_measurements_is_noticed(how):
    net = Net()
    bench = Workbench(load(net, shape=SHAPE), QUICK)
    plan = compile_plan(Schedule([80.0, 1.0, 0.0]), "euler", bench.model)
    before, spent = bench.errors(plan, "tuning"), bench.spent("search")
    assert (bench.errors(plan, "tuning") == before).all()
    assert bench.spent("search") == spent > 0
    moved(net, how)
    with pytest.warns(PlanMismatch, match="another model"):
        assert (bench.errors(plan, "tuning") != before).all()
    assert bench.spent("search") == 2 * spent


def test_modules_are_found_once_and_in_order():
    inner = Net()
    outer = torch.nn.Sequential(inner)

    def D(x, sigma, net=outer):
        return net(x) + inner(x, sigma)

    assert modules_held(D) == [outer]
    assert modules_held(np.sin) == []
    assert modules_held(lambda x, s: 1.0 * GLOBAL(x, s)) == [GLOBAL]


GLOBAL = Net()


def test_pictures_of_another_decoder_have_another_name():
    class Coded(type(gaussian())):
        coder = "one"

        def decoder(self):
            return self.coder

    model = gaussian()
    model.__class__ = Coded
    plan = compile_plan(Schedule([80.0, 1.0, 0.0]), "euler", model)
    before = digest(model, plan, 0)
    model.coder = "other"
    assert digest(model, plan, 0) != before
