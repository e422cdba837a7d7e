"""The ComfyUI node pack through its node contract, without ComfyUI."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch

import sigmatune as st
from sigmatune import SigmaTuneError
from sigmatune.core import rng
from sigmatune.core.unrolled import rolled, unrolled
from sigmatune.interop import conformance, exports
from sigmatune.interop.runners import _Wrapped
from sigmatune.models.analytic import Analytic
from sigmatune.noise import Flow, vp
from sigmatune.plan import Plan
from test_documents import ROOT

SD = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)


def pack():
    """Imports the pack as ComfyUI does: its folder's __init__.py, under a name of ComfyUI's own."""
    folder = ROOT / "integrations" / "comfyui"
    spec = importlib.util.spec_from_file_location(str(folder), folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[str(folder)] = module
    spec.loader.exec_module(module)
    return module


NODES = pack().NODE_CLASS_MAPPINGS
TYPES = {"SIGMAS", "SAMPLER", "INT", "FLOAT", "STRING", "MODEL"}


class Sampling:
    """ComfyUI's model_sampling of a model of noise (a table of sigmas) or a flow (a shift)."""

    def __init__(self, path):
        self.flow = isinstance(path, Flow)
        if self.flow:
            self.shift, self.sigma_max = path.shift_by, torch.tensor(1.0)
        else:
            self.sigmas = torch.from_numpy(path.sigma(np.arange(path.levels)))
            self.sigma_max = self.sigmas[-1]

    def noise_scaling(self, sigma, noise, latent, max_denoise):
        if self.flow:
            return sigma * noise + (1 - sigma) * latent
        return noise * ((1 + sigma**2).sqrt() if max_denoise else sigma) + latent

    def inverse_noise_scaling(self, sigma, latent):
        return latent / (1 - sigma) if self.flow else latent


class Model:
    def __init__(self, path):
        self.sampling = Sampling(path)

    def get_model_object(self, name):
        assert name == "model_sampling"
        return self.sampling


def node(name, **inputs):
    """Calls a node as ComfyUI's executor does, after checking the inputs against what the node declares."""
    made = NODES[name]()
    declared = made.INPUT_TYPES()["required"]
    assert set(inputs) == set(declared)
    outputs = getattr(made, made.FUNCTION)(**inputs)
    assert isinstance(outputs, tuple)
    assert len(outputs) == len(made.RETURN_TYPES)
    for kind, value in zip(made.RETURN_TYPES, outputs, strict=True):
        if kind == "SIGMAS":
            assert value.dtype == torch.float32
            assert value.ndim == 1
            assert value[-1] == 0
            assert bool((value[1:] < value[:-1]).all())
    return outputs


def test_every_node_keeps_the_contract():
    module = pack()
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
    for cls in NODES.values():
        inputs = cls.INPUT_TYPES()
        assert set(inputs) <= {"required", "optional", "hidden"}
        for kind, *options in inputs["required"].values():
            assert isinstance(kind, list) or kind in TYPES
            assert not options or isinstance(options[0], dict)
        assert set(cls.RETURN_TYPES) <= TYPES
        assert callable(getattr(cls, cls.FUNCTION))
        assert cls.CATEGORY
        assert cls.__doc__


def test_nothing_but_torch_and_sigmatune_is_imported():
    text = (ROOT / "integrations" / "comfyui" / "nodes.py").read_text()
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= {"__future__", "pathlib", "numpy", "torch", "sigmatune"}  # numpy is torch's and sigmatune's


@pytest.mark.parametrize("path", [SD, Flow(3.0)])
def test_scheduler_nodes_build_the_models_levels(path):
    model = Model(path)

    def expected(family, steps, **options):
        sigmas = st.build_schedule(family, steps, path, **options).sigmas
        with np.errstate(divide="ignore"):
            return sigmas if path is SD else 1 / (1 + 1 / sigmas)

    (found,) = node("SigmaTuneBeta", model=model, steps=6, alpha=0.5, beta=0.7)
    np.testing.assert_allclose(found.numpy(), expected("beta", 6, a=0.5, b=0.7), rtol=1e-5, atol=1e-9)
    (found,) = node("SigmaTuneKLOptimal", model=model, steps=6, c=0.8)
    np.testing.assert_allclose(found.numpy(), expected("kl-optimal", 6, c=0.8), rtol=1e-5, atol=1e-9)
    for focus in ("mixed", "frequency", "power"):
        (found,) = node("SigmaTuneSpectral", model=model, steps=6, focus=focus, amplitude=15.0, slope=2.2, rings=32)
        law = {"amplitude": 15.0, "slope": 2.2, "rings": 32}
        np.testing.assert_allclose(found.numpy(), expected(f"spectral-{focus}", 6, **law), rtol=1e-5, atol=1e-9)


def test_a_plan_file_becomes_its_levels(tmp_path):
    for path in (SD, Flow(3.0)):
        plan = st.compile_plan(st.build_schedule("uniform-trailing", 5, path), "dpmpp2m").with_notes(path=path.spec())
        plan.save(tmp_path / "plan.json")
        sigmas, _, calls = node("SigmaTuneLoadPlan", plan=str(tmp_path / "plan.json"))
        with np.errstate(divide="ignore"):
            levels = plan.schedule.sigmas if path is SD else 1 / (1 + 1 / plan.schedule.sigmas)
        np.testing.assert_allclose(sigmas.numpy(), levels, rtol=1e-6)
        assert calls == 5
        (same,) = node("SigmaTuneTuned", plan=str(tmp_path / "plan.json"), steps=5)
        assert torch.equal(same, sigmas)
        (more,) = node("SigmaTuneTuned", plan=str(tmp_path / "plan.json"), steps=9)
        assert len(more) == 10
        assert torch.equal(more[[0, -2]], sigmas[[0, -2]])
    with pytest.raises(SigmaTuneError, match="no plan file"):
        node("SigmaTuneLoadPlan", plan="nothing.json")


class Data(Analytic):
    """Independent values of variance 1/4 on (4, 8, 8)."""

    shape, arrays = (4, 8, 8), (torch.ones(1),)

    def __init__(self, path):
        self.path = path

    def denoise(self, z, sigma):
        column = sigma.view(-1, 1, 1, 1)
        alpha, s = (
            1 / torch.hypot(torch.ones_like(column), column),
            1 / torch.hypot(torch.ones_like(column), 1 / column),
        )
        return torch.tanh(alpha * 0.25 / (alpha**2 * 0.25 + s**2) * z)


class Guider:
    """What a SAMPLER receives as model_wrap: model(x, sigma) -> denoised, and the model_sampling inside."""

    def __init__(self, path):
        self.inner_model = types.SimpleNamespace(model_sampling=Sampling(path))
        self.path, self.model, self.sent = path, Data(path), []

    def __call__(self, x, sigma, **_):
        level = float(sigma[0])
        self.sent.append(level)
        if isinstance(self.path, Flow):
            level = level / (1 - level) if level < 1 else float("inf")
            scale = float(self.path.state_scale(level))
        else:
            scale = float(np.hypot(1.0, level))
        return self.model(x.double() / scale, level).to(x.dtype)


@pytest.mark.parametrize("path", [SD, Flow(3.0)])
@pytest.mark.parametrize("solver", ["euler", "heun", "unipc3", "ancestral", "learned"])
def test_the_plan_sampler_ends_where_sample_ends(solver, path, tmp_path):
    plain = st.compile_plan(
        st.build_schedule("uniform-trailing", 5, path), "dpmpp2m" if solver == "learned" else solver
    )
    plan = plain.with_notes(path=path.spec())
    if solver == "learned":
        plan = Plan(plan.schedule, "custom", rolled(unrolled(plan.coefficients)), path.spec())
    plan.save(tmp_path / "plan.json")
    sigmas, sampler, calls = node("SigmaTuneLoadPlan", plan=str(tmp_path / "plan.json"))
    guider, told = Guider(path), []
    noise = torch.cat([rng.noise(7, [i], rng.START, (4, 8, 8)) for i in range(2)])
    if path is SD:  # ComfyUI scales full noise by sqrt(1 + sigma^2), which is a slightly wider start
        sampler.max_denoise = lambda *_: False
    found = sampler.sample(
        guider, sigmas, {"seed": 7}, lambda *state: told.append(state[0]), noise, torch.zeros(2, 4, 8, 8)
    )
    torch.testing.assert_close(found.double(), st.sample(Data(path), plan, 2, seed=7), rtol=0, atol=1e-4)
    assert told == list(range(calls))
    assert len(guider.sent) == calls


def test_levels_that_are_not_the_plans_are_refused(tmp_path):
    plan = st.compile_plan(st.build_schedule("karras", 4, SD), "dpmpp2m").with_notes(path=SD.spec())
    plan.save(tmp_path / "plan.json")
    sigmas, sampler, _ = node("SigmaTuneLoadPlan", plan=str(tmp_path / "plan.json"))
    for wrong in (sigmas[1:], sigmas * 1.01):
        with pytest.raises(SigmaTuneError, match="not those of its plan"):
            sampler.sampler_function(Guider(SD), torch.zeros(1, 4, 8, 8), wrong)
    zero = vp(zero_terminal_snr=True)
    st.compile_plan(st.build_schedule("uniform-trailing", 4, zero)).with_notes(path=zero.spec()).save(
        tmp_path / "inf.json"
    )
    with pytest.raises(SigmaTuneError, match="sigma = inf"):
        node("SigmaTuneLoadPlan", plan=str(tmp_path / "inf.json"))


def test_inside_comfyui_the_sampler_is_its_own(monkeypatch, tmp_path):
    samplers = types.ModuleType("comfy.samplers")
    samplers.KSAMPLER = type("KSAMPLER", (), {"__init__": lambda self, f: setattr(self, "sampler_function", f)})
    monkeypatch.setitem(sys.modules, "comfy", types.ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.samplers", samplers)
    plan = st.compile_plan(st.build_schedule("karras", 4, SD), "dpmpp2m").with_notes(path=SD.spec())
    (tmp_path / "exported.txt").write_text(exports.export(plan, "comfyui"))  # an export is a plan file, too
    (made,) = node("SigmaTunePlanSampler", plan=str(tmp_path / "exported.txt"))
    assert type(made) is samplers.KSAMPLER
    assert callable(made.sampler_function)


def test_the_node_passes_the_conformance_suite(tmp_path):
    def runner(case):
        plan = conformance.plan_of(case)
        plan.save(tmp_path / "plan.json")
        sigmas, sampler, _ = node("SigmaTuneLoadPlan", plan=str(tmp_path / "plan.json"))
        kind = "flow" if case["plan"]["noise_path"]["kind"] == "flow" else "ve"
        wrapped = _Wrapped(case, kind)
        wrapped.inner_model = types.SimpleNamespace(
            model_sampling=types.SimpleNamespace(
                noise_scaling=lambda sigma, noise, latent, full: noise * sigma, inverse_noise_scaling=lambda sigma, x: x
            )
        )
        x = torch.tensor(case["start"]).view(1, 1, 1, -1)
        return conformance.answer(wrapped.pairs, sampler.sample(wrapped, sigmas, {"seed": 0}, None, x))

    cases = [c for c in conformance.read(ROOT / "conformance" / "vectors.jsonl") if not c["name"].endswith("zero-snr")]
    verdicts = conformance.check(runner, cases)
    assert not [v for v in verdicts if not v.passed]
    assert len(verdicts) > 70
