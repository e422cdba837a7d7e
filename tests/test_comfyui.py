"""The ComfyUI node pack through its node contract, without ComfyUI."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

import sigmatune as st
from sigmatune import SigmaTuneError
from sigmatune.core import rng
from sigmatune.core.unrolled import rolled, unrolled
from sigmatune.interop import exports
from sigmatune.interop.imitations import ModelSampling
from sigmatune.models.analytic import Analytic
from sigmatune.noise import VE, Flow, vp
from sigmatune.plan import Plan
from test_documents import ROOT

SD = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)
ZERO = vp("scaled_linear", beta_start=0.00085, beta_end=0.012, zero_terminal_snr=True)


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


class Model:
    def __init__(self, path):
        self.sampling = ModelSampling(path)

    def clone(self):
        return copy.copy(self)

    def add_object_patch(self, name, value):
        assert name == "model_sampling"
        self.sampling = value

    def get_model_object(self, name):
        assert name == "model_sampling"
        return self.sampling


def node(name, **inputs):
    """Calls a node as ComfyUI's executor does, after checking the inputs against what the node declares."""
    made = NODES[name]()
    declared = made.INPUT_TYPES()
    assert set(declared["required"]) <= set(inputs) <= {*declared["required"], *declared.get("optional", {})}
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
        for kind, *options in [*inputs["required"].values(), *inputs.get("optional", {}).values()]:
            assert isinstance(kind, list) or kind in TYPES
            assert not options or isinstance(options[0], dict)
        assert set(cls.RETURN_TYPES) <= TYPES
        assert callable(getattr(cls, cls.FUNCTION))
        assert cls.CATEGORY
        assert cls.__doc__
        assert cls.DESCRIPTION


def test_nothing_but_torch_and_sigmatune_is_imported():
    text = (ROOT / "integrations" / "comfyui" / "nodes.py").read_text()
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= {
        "__future__",
        "copy",
        "hashlib",
        "pathlib",
        "numpy",
        "torch",
        "sigmatune",
    }  # numpy is torch's and sigmatune's


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
        self.inner_model = types.SimpleNamespace(model_sampling=ModelSampling(path))
        self.path, self.model, self.sent = path, Data(path), []

    def __call__(self, x, sigma, **_):
        """The network is asked at the level of the t that model_sampling sends, as a rounding program asks it."""
        level = float(sigma[0])
        t = float(self.inner_model.model_sampling.timestep(sigma)[0])
        self.sent.append(t)
        scale = float(
            self.path.state_scale(level / (1 - level) if level < 1 else np.inf)
            if isinstance(self.path, Flow)
            else np.hypot(1.0, level)
        )
        known = self.path.time(np.array([self.path.sigma_min, self.path.sigma_max]))
        return self.model(x.double() / scale, float(self.path.sigma(np.clip(t, *known)))).to(x.dtype)


@pytest.mark.parametrize("path", [SD, Flow(3.0), VE(0.002, 80.0, clock="quarter_log"), ZERO])
@pytest.mark.parametrize("solver", ["euler", "heun", "unipc3", "ancestral", "learned"])
def test_the_plan_sampler_ends_where_sample_ends(solver, path, tmp_path):
    """From the model's largest sigma, and at levels between the whole timesteps that ComfyUI would round to."""
    plain = st.compile_plan(
        st.build_schedule("uniform-trailing", 6, path), "dpmpp2m" if solver == "learned" else solver
    )
    plan = plain.with_notes(path=path.spec())
    if solver == "learned":
        plan = Plan(plan.schedule, "custom", rolled(unrolled(plan.coefficients)), path.spec())
    plan.save(tmp_path / "plan.json")
    sigmas, sampler, calls = node("SigmaTuneLoadPlan", plan=str(tmp_path / "plan.json"), model=Model(path))
    guider, told = Guider(path), []
    rounding = guider.inner_model.model_sampling.timestep
    noise = torch.cat([rng.noise(7, [i], rng.START, (4, 8, 8)) for i in range(2)])
    found = sampler.sample(
        guider, sigmas, {"seed": 7}, lambda *state: told.append(state[0]), noise, torch.zeros(2, 4, 8, 8)
    )
    off = 1e-3 if path is ZERO else 1e-4  # ComfyUI's table ends at sigma 4519, not at infinity
    torch.testing.assert_close(found.double(), st.sample(Data(path), plan, 2, seed=7), rtol=0, atol=off)
    assert told == list(range(calls))
    np.testing.assert_allclose(guider.sent, path.time(plan.coefficients.q.numpy()), atol=1e-3)
    assert guider.inner_model.model_sampling.timestep == rounding  # ComfyUI's own again


def saved(path, folder, solver="dpmpp2m", steps=6, name="plan.json"):
    plan = st.compile_plan(st.build_schedule("uniform-trailing", steps, path), solver).with_notes(path=path.spec())
    plan.save(folder / name, force=True)
    return plan, str(folder / name)


def test_levels_that_are_not_the_plans_are_refused(tmp_path):
    _, file = saved(SD, tmp_path)
    sigmas, sampler, _ = node("SigmaTuneLoadPlan", plan=file)
    for wrong in (sigmas[[0, 2, 3]], sigmas * 1.01, sigmas[:1], sigmas.flip(0)):
        with pytest.raises(SigmaTuneError, match="not those of its plan"):
            sampler.sampler_function(Guider(SD), torch.zeros(1, 4, 8, 8), wrong)
    _, file = saved(ZERO, tmp_path)
    with pytest.raises(SigmaTuneError, match="sigma = inf; connect the model"):
        node("SigmaTuneLoadPlan", plan=file)


@pytest.mark.parametrize("path", [SD, Flow(3.0)])
@pytest.mark.parametrize("solver", ["euler", "heun", "ancestral"])
def test_a_plan_cut_by_splitsigmas_is_the_plan(solver, path, tmp_path):
    """One-step solvers lose nothing at the cut, noise included; x passes from sampler to sampler."""
    _, file = saved(path, tmp_path, solver)
    sigmas, sampler, _ = node("SigmaTuneLoadPlan", plan=file, model=Model(path))
    noise, empty = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 4, 8, 8)
    whole = sampler.sample(Guider(path), sigmas, {"seed": 7}, None, noise, empty)
    high = sampler.sample(Guider(path), sigmas[:3], {"seed": 7}, None, noise, empty)
    low = sampler.sample(Guider(path), sigmas[2:], {"seed": 7}, None, torch.zeros_like(noise), high)
    torch.testing.assert_close(low, whole, rtol=0, atol=1e-5)
    assert float((high - whole).abs().max()) > 0.1


def test_learned_coefficients_are_not_cut(tmp_path):
    plan, file = saved(SD, tmp_path)
    Plan(plan.schedule, "custom", rolled(unrolled(plan.coefficients)), plan.path).save(file, force=True)
    sigmas, sampler, _ = node("SigmaTuneLoadPlan", plan=file)
    with pytest.raises(SigmaTuneError, match="all in one run"):
        sampler.sample(Guider(SD), sigmas[2:], {}, None, torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8))


EDM = VE(0.002, 80.0, clock="quarter_log")


@pytest.mark.parametrize(
    ("plan_of", "model_of", "reason"),
    [
        (SD, Flow(3.0), "for a model of a table of steps .*, and the connected one is of a flow"),
        (Flow(3.0), SD, "for a model of a flow .*, and the connected one is of a table"),
        (EDM, SD, "for a model of EDM"),
        (SD, EDM, "connected one is of EDM"),
        (Flow(3.0), Flow(6.0), "made at a shift of 3, and the connected model has 6"),
        (vp("linear"), SD, "outside the model's range"),
        (vp("scaled_linear", beta_start=0.00085, beta_end=0.0119), SD, "another table of noise levels"),
        (ZERO, SD, "starts from pure noise"),
    ],
)
def test_a_wrong_model_is_refused_by_the_node_and_by_the_sampler(plan_of, model_of, reason, tmp_path):
    _, file = saved(plan_of, tmp_path)
    with pytest.raises(SigmaTuneError, match=reason):
        node("SigmaTuneLoadPlan", plan=file, model=Model(model_of))
    if plan_of is ZERO:
        return
    sigmas, sampler, _ = node("SigmaTuneLoadPlan", plan=file)
    with pytest.raises(SigmaTuneError, match=reason):
        sampler.sample(Guider(model_of), sigmas, {}, None, torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8))
    if isinstance(plan_of, Flow) and isinstance(model_of, Flow):
        node("SigmaTuneLoadPlan", plan=file, model=Model(model_of), other_shift="keep the levels")


def test_a_model_whose_time_is_unknown_is_refused(tmp_path):
    _, file = saved(SD, tmp_path)
    model = Model(SD)
    model.sampling.timestep = lambda sigma: sigma.atan()
    with pytest.raises(SigmaTuneError, match="ModelSampling counts time in none of the ways"):
        node("SigmaTuneLoadPlan", plan=file, model=model)


def test_a_changed_file_is_another_input(tmp_path):
    _, file = saved(SD, tmp_path)
    for cls in (NODES["SigmaTuneLoadPlan"], NODES["SigmaTunePlanSampler"], NODES["SigmaTuneTuned"]):
        before = cls.IS_CHANGED(plan=file)
        assert cls.IS_CHANGED(plan=file, file="(the path above)") == before
        saved(SD, tmp_path, "euler")
        assert cls.IS_CHANGED(plan=file) != before
        saved(SD, tmp_path)
        assert cls.VALIDATE_INPUTS(plan=file) is True
        assert "there is no plan file" in cls.VALIDATE_INPUTS(plan="nothing.json")
        assert cls.VALIDATE_INPUTS() is True  # the path comes from another node


def test_plans_in_comfyuis_folder_are_listed_and_found(tmp_path, monkeypatch):
    _, file = saved(SD, tmp_path, name="mine.json")
    folders = types.SimpleNamespace(
        models_dir=str(tmp_path),
        add_model_folder_path=lambda *_: None,
        get_filename_list=lambda _: ["mine.json", "readme.md"],
        get_full_path=lambda _, name: file if name == "mine.json" else None,
    )
    monkeypatch.setitem(NODES["SigmaTuneLoadPlan"].load.__globals__, "folder_paths", folders)
    assert NODES["SigmaTuneLoadPlan"].INPUT_TYPES()["optional"]["file"][0] == ["(the path above)", "mine.json"]
    for given in ({"plan": "mine.json"}, {"plan": "plan.json", "file": "mine.json"}):
        assert node("SigmaTuneLoadPlan", **given)[2] == 6
    with pytest.raises(SigmaTuneError, match="no plan file other"):
        node("SigmaTuneLoadPlan", plan="other.json")


def test_denoise_starts_at_a_level_of_the_models_time(tmp_path):
    plan, file = saved(SD, tmp_path)
    sigmas, sampler, calls = node("SigmaTuneLoadPlan", plan=file, denoise=0.6)
    level = st.interop.diffusers.starting_level(plan, 0.6)
    assert float(sigmas[0]) == pytest.approx(level)
    assert calls == st.partial(plan, level).calls < plan.calls
    sampler.sample(Guider(SD), sigmas, {}, None, torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize("path", [SD, Flow(3.0)])
def test_the_exact_model_rounds_nothing_for_comfyuis_own_samplers(path):
    model = Model(path)
    (exact,) = node("SigmaTuneExactTimesteps", model=model)
    sigma = torch.tensor([0.5123, 0.7])
    level = sigma.double().numpy() / (1 - sigma.double().numpy() if isinstance(path, Flow) else 1)
    np.testing.assert_allclose(exact.sampling.timestep(sigma).numpy(), path.time(level), atol=1e-3)
    assert model.sampling.timestep(sigma).dtype == (
        torch.int64 if path is SD else torch.float32
    )  # the other is untouched
    noise, empty, top = torch.ones(1), torch.zeros(1), exact.sampling.sigma_max
    assert float(exact.sampling.noise_scaling(top, noise, empty, max_denoise=True)) == pytest.approx(float(top))


def test_the_examples_use_nodes_as_they_are():
    folder = ROOT / "integrations" / "comfyui" / "examples"
    graphs = {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}
    assert {"text_to_image", "image_to_image", "two_stages", "comfyui_sampler"} <= set(graphs)
    for graph in graphs.values():
        for entry in graph.values():
            links = [value for value in entry["inputs"].values() if isinstance(value, list)]
            assert all(number in graph for number, _ in links)
            if entry["class_type"] in NODES:
                declared = NODES[entry["class_type"]].INPUT_TYPES()
                assert set(declared["required"]) <= set(entry["inputs"])
                assert set(entry["inputs"]) <= {*declared["required"], *declared.get("optional", {})}
                assert not links or all(isinstance(output, int) for _, output in links)


def test_inside_comfyui_the_sampler_is_its_own(monkeypatch, tmp_path):
    samplers = types.ModuleType("comfy.samplers")
    samplers.KSAMPLER = type("KSAMPLER", (), {"__init__": lambda self, f: setattr(self, "sampler_function", f)})
    monkeypatch.setitem(sys.modules, "comfy", types.ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.samplers", samplers)
    plan = st.compile_plan(st.build_schedule("karras", 4, SD), "dpmpp2m").with_notes(path=SD.spec())
    (tmp_path / "exported.txt").write_text(exports.export(plan, "k-diffusion"))  # an export is a plan file, too
    (made,) = node("SigmaTunePlanSampler", plan=str(tmp_path / "exported.txt"))
    assert isinstance(made, samplers.KSAMPLER)
    assert callable(made.sampler_function)


def test_every_example_has_a_drawing_of_itself():
    """``tools/draw_workflows.py`` writes the workflow's digest into the drawing."""
    files = sorted((ROOT / "integrations" / "comfyui" / "examples").glob("*.json"))
    assert len(files) >= 4
    for file in files:
        with Image.open(file.with_suffix(".png")) as drawing:
            assert drawing.text["Comment"] == hashlib.sha256(file.read_bytes()).hexdigest(), file.name
            assert min(drawing.size) > 150
