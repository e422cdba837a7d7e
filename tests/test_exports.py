"""Exports, imports, published tables, and conversions between shifts: round trips, refusals, and what the text says."""

from __future__ import annotations

import json
import re
import sys
import types
import warnings
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import AysSchedules
from hypothesis import given
from hypothesis import strategies as some

import sigmatune as st
from sigmatune import PlanMismatch, SigmaTuneError
from sigmatune.core.unrolled import rolled, unrolled
from sigmatune.interop import exports, resolution, tables
from sigmatune.interop.exports import TARGETS, to_comfyui, to_sd_cpp
from sigmatune.noise import VE, VP, Flow, vp
from sigmatune.plan import Plan
from sigmatune.plan import file as plan_file
from sigmatune.solvers import POSITION
from tiny_pipelines import FAMILIES

SD = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)
RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
OPTIONS = {"diffusers": {"prediction": "epsilon"}}
LISTS = [name for name in TARGETS if name not in ("json", "diffusers")]
STATED = [name for name in LISTS if name != "comfyui"]
"""Targets whose text states the plan; ComfyUI's is numbers alone."""


def plan_on(path, steps=5, solver="euler", family="uniform-trailing", **options):
    plan = st.compile_plan(st.build_schedule(family, steps, path), solver, **options)
    return plan.with_notes(path=path.spec(), fingerprint="sha256:of a model")


def learned(plan):
    return Plan(plan.schedule, "custom", rolled(unrolled(plan.coefficients)), plan.path, plan.fingerprint)


def stated_in(text):
    return json.loads(text)["sigmatune export"] if text.startswith("{") else exports.read_statement(text)


# -------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp2m", "ancestral", "sde-dpmpp2m"])
@pytest.mark.parametrize("target", [name for name in TARGETS if name != "comfyui"])
def test_export_then_import_is_the_identity(target, solver):
    plan = plan_on(SD, 7, solver)
    if target == "diffusers-stock" and solver != "euler":
        with pytest.raises(SigmaTuneError, match="no sampler that computes"):
            exports.export(plan, target)
        return
    text = exports.export(plan, target, **OPTIONS.get(target, {}))
    for again in (exports.load(text), exports.load(text, target)):
        assert again.schedule.sigmas.tobytes() == plan.schedule.sigmas.tobytes()
        assert again.coefficients.tobytes() == plan.coefficients.tobytes()
        assert (again.solver, again.path, again.fingerprint) == (plan.solver, plan.path, plan.fingerprint)
        assert exports.export(again, target, **OPTIONS.get(target, {})) == text


@given(
    some.lists(some.floats(1e-3, 14.0, allow_nan=False), min_size=1, max_size=12, unique=True),
    some.sampled_from(["k-diffusion", "sd.cpp", "a1111", "json"]),
)
def test_any_levels_come_back_bit_for_bit(levels, target):
    plan = st.compile_plan(st.Schedule([*sorted(levels, reverse=True), 0.0]), "euler")
    again = exports.load(exports.export(plan, target))
    assert again.schedule.sigmas.tobytes() == plan.schedule.sigmas.tobytes()


@pytest.mark.parametrize("target", STATED)
def test_a_flow_plan_is_shown_in_tau_after_the_shift(target):
    plan = plan_on(Flow(3.0), 4)
    text = exports.export(plan, target)
    stated = stated_in(text)
    assert stated["sigma_kind"] == "flow"
    assert stated["shift"] == "applied once, by 3"
    for tau in ("0.75", "0.5"):  # u = 1/2, 1/4 shifted by 3
        assert tau in text
    again = exports.load(text, target)
    assert again.schedule.sigmas.tobytes() == plan.schedule.sigmas.tobytes()
    assert np.isinf(again.schedule.sigmas[0])


@pytest.mark.parametrize("target", STATED)
def test_the_text_says_what_it_means(target):
    plan = plan_on(SD, 3, "euler")
    text = exports.export(plan, target)
    stated = stated_in(text)
    assert (stated["sigma_kind"], stated["shift"], stated["trailing_zero"]) == ("ve", "none", True)
    assert (stated["steps"], stated["calls"]) == (3, 3)
    assert stated_in(exports.export(plan_on(SD, 3, "heun"), "k-diffusion"))["calls"] == 5


@pytest.mark.parametrize("target", STATED)
def test_numbers_that_were_edited_are_refused(target):
    text = exports.export(plan_on(SD, 3), target)
    plan = plan_on(SD, 3)
    levels = exports.target.on_timesteps(plan, "whole")[0] if target == "a1111" else plan.schedule
    number = repr(float(levels.sigmas[1]))
    at = text.rindex(number)
    edited = text[:at] + "3.0" + text[at + len(number) :]
    with pytest.raises(SigmaTuneError, match="are not those"):
        exports.load(edited, target)


def test_a_text_that_contradicts_itself_is_refused():
    text = exports.export(plan_on(SD, 3), "k-diffusion")
    with pytest.raises(SigmaTuneError, match="not those that its levels make"):
        exports.load(text.replace('"calls": 3', '"calls": 4'))
    with pytest.raises(SigmaTuneError, match="incomplete"):
        exports.load(text.replace('"solver_options"', '"options"'))
    with pytest.raises(SigmaTuneError, match="no line"):
        exports.load("14.6, 1.0, 0.0", "comfyui")
    with pytest.raises(SigmaTuneError, match="not a configuration"):
        exports.load("{}", "diffusers")


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("target", LISTS)
def test_what_a_list_of_levels_cannot_say_is_refused(target):
    rows = st.compile_plan(st.Schedule(np.array([[3.0, 1.0, 0.0]] * 2)), "euler").with_notes(path=SD.spec())
    for plan, reason in (
        (learned(plan_on(SD, 3)), "coefficients are not a sampler's"),
        (plan_on(SD, 3, "unipc2"), "no sampler that computes unipc2's steps"),
        (plan_on(vp(zero_terminal_snr=True), 3), "starts from sigma = inf"),
        (rows, "one per row"),
    ):
        with pytest.raises(SigmaTuneError, match=reason):
            exports.export(plan, target)


@pytest.mark.parametrize("target", ["k-diffusion", "sd.cpp", "a1111"])
def test_samplers_that_step_in_the_flows_own_time_are_refused(target):
    with pytest.raises(SigmaTuneError, match="on a flow model the two differ"):
        exports.export(plan_on(Flow(3.0), 4, "dpmpp2m"), target)


def test_an_eta_that_cannot_be_set_is_refused():
    plan = plan_on(SD, 4, "ancestral", eta=0.5)
    assert "eta=0.5" in exports.export(plan, "k-diffusion")
    with pytest.raises(SigmaTuneError, match=r"computes with eta = 1.0, and this plan has eta = 0.5"):
        exports.export(plan, "comfyui")


def test_other_options_of_a_solver_are_refused_unless_the_program_has_them():
    assert "dpmpp_sde" in exports.export(plan_on(SD, 4, "dpmpp-sde"), "k-diffusion")
    with pytest.raises(SigmaTuneError, match=r"computes with r = 0.5, and this plan has r = 0.3"):
        exports.export(plan_on(SD, 4, "dpmpp-sde", r=0.3), "k-diffusion")
    with pytest.raises(SigmaTuneError, match=r"er_sde computes with points = 200"):
        exports.export(plan_on(SD, 4, "er-sde"), "comfyui")
    assert exports.export(plan_on(SD, 4, "er-sde", points=200), "comfyui")


def test_comfyui_is_given_no_sampler_but_those_whose_steps_its_own_code_made():
    """Each name of an export, on either kind of path, has a case of tests/clients/solver_values.json that is equal."""
    document = json.loads((Path(__file__).parent / "clients" / "solver_values.json").read_text())
    measured = {(case["solver"], case["path"], case["client"].removeprefix("sample_")) for case in document["cases"]}
    client = {"uni_pc": "unipc", "uni_pc_bh2": "unipc_bh2"}
    for path, names in (("vp", to_comfyui.SAMPLERS.names), ("flow", to_comfyui.SAMPLERS.on_flow())):
        for solver, sampler in names.items():
            if solver != "euler" and not sampler.startswith("Sampler"):  # a node of its own; both: clients_comfyui.json
                assert (solver, path, client.get(sampler, sampler)) in measured


def test_a_diffusers_scheduler_needs_to_know_what_the_model_predicts():
    with pytest.raises(SigmaTuneError, match="--prediction epsilon"):
        exports.export(plan_on(SD), "diffusers")
    with pytest.raises(SigmaTuneError, match="noise path"):
        exports.export(st.compile_plan(st.Schedule([1.0, 0.0])), "diffusers", prediction="epsilon")
    assert json.loads(exports.export(learned(plan_on(Flow(3.0))), "diffusers"))["use_flow_sigmas"]
    with pytest.raises(SigmaTuneError, match="export target"):
        exports.export(plan_on(SD), "comfy")


# ------------------------------------------------------------------------------------------- what other programs do with it


@pytest.mark.parametrize(
    ("path", "theirs"),
    [
        (SD, {"beta_schedule": "scaled_linear", "steps_offset": 1, "timestep_spacing": "leading"}),  # SDXL's file
        (SD, {"use_karras_sigmas": True, "interpolation_type": "log_linear", "final_sigmas_type": "sigma_min"}),
        (vp("linear"), {}),
        (vp("cosine"), {"rescale_betas_zero_snr": True}),
        (VP(SD.alphas_cumprod[::2]), {}),
        (Flow(3.0), {"shift": 3.0}),
        (Flow(2.5), {"use_dynamic_shifting": True, "shift_terminal": 0.1}),  # Flux's and Qwen's
    ],
)
def test_stock_schedulers_of_diffusers_send_the_plans_t_and_end_where_it_ends(path, theirs):
    torch.manual_seed(0)
    flow = isinstance(path, Flow)
    plan = plan_on(path, 6, family="uniform-trailing" if flow else "karras")
    fields = json.loads(exports.export(plan, "diffusers-stock"))
    kind = getattr(diffusers, fields["scheduler"])
    made = kind.from_config(kind(**theirs).config, **fields["config"])
    made.set_timesteps(sigmas=fields["sigmas"])
    np.testing.assert_allclose(made.timesteps.numpy(), path.time(plan.schedule.sigmas[:-1]), rtol=2e-5, atol=1e-3)
    ours = st.interop.diffusers.SigmaTuneScheduler(
        plan=json.loads(plan_file.dumps(plan)), prediction_type="flow" if flow else "epsilon", use_flow_sigmas=flow
    )
    eps = torch.randn(1, 4, 8, 8)
    x, y = eps if flow else eps * made.init_noise_sigma, eps * ours.init_noise_sigma
    for t, s in zip(made.timesteps, ours.timesteps, strict=True):
        x = made.step(torch.tanh(x if flow else made.scale_model_input(x, t)), t, x).prev_sample
        y = ours.step(torch.tanh(y), s, y).prev_sample
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_a_stock_scheduler_needs_the_table_and_can_state_the_prediction():
    with pytest.raises(SigmaTuneError, match="noise path"):
        exports.export(st.compile_plan(st.Schedule([1.0, 0.0]), "euler"), "diffusers-stock")
    fields = json.loads(exports.export(plan_on(SD), "diffusers-stock", prediction="v_prediction"))
    assert fields["config"]["prediction_type"] == "v_prediction"
    zero = vp(zero_terminal_snr=True)
    low = st.compile_plan(st.Schedule([5.0, 1.0, 0.0]), "euler").with_notes(path=zero.spec())
    assert json.loads(exports.export(low, "diffusers-stock"))["config"]["rescale_betas_zero_snr"]
    high = st.compile_plan(st.Schedule([1e5, 1.0, 0.0]), "euler").with_notes(path=zero.spec())
    with pytest.raises(SigmaTuneError, match="runs none above"):
        exports.export(high, "diffusers-stock")


@pytest.mark.parametrize("name", ["sd15", "sd2-v", "sdxl", "sd3", "flux"])
def test_a_stock_export_is_exact_in_the_pipeline(name):
    """What the field "use" says gives the latents of our own scheduler."""
    family = FAMILIES[name]
    pipe = family.pipe()
    path = st.load(pipe, **family.load).path
    levels = [path.at_position(position) for position in (900.0, 610.4, 333.3, 100.0)]
    plan = st.compile_plan(st.Schedule([*map(float, levels), 0.0]), "euler").with_notes(path=path.spec())
    fields = json.loads(exports.export(plan, "diffusers-stock"))

    def end(**steps):
        generator = torch.Generator().manual_seed(0)
        return pipe(**family.call, **steps, generator=generator, return_dict=False)[0]

    kind = getattr(diffusers, fields["scheduler"])
    stock = kind.from_config(pipe.scheduler.config, **fields["config"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanMismatch)  # SD3 and Flux start from unscaled noise
        pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)
        ours = end(num_inference_steps=plan.calls)
    pipe.scheduler = stock
    theirs = end(sigmas=fields["sigmas"])
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4 * float(ours.abs().max()))


def test_text_for_comfyuis_field_is_numbers_and_nothing_else():
    """The node collects every number that its pattern finds, and knows no exponents."""
    for plan in (plan_on(SD, 6, "dpmpp2m"), plan_on(Flow(3.0), 5), plan_on(VE(8.5e-5, 80.0), 7, family="karras")):
        text = exports.export(plan, "comfyui")
        read = [float(number) for number in re.findall(r"[-+]?(?:\d*\.*\d+)", text)]
        levels = exports.target.on_timesteps(plan, "whole")[0].sigmas
        with np.errstate(divide="ignore"):
            assert read == (levels if plan.path["kind"] != "flow" else 1 / (1 + 1 / levels)).tolist()
        assert text.count("\n") == 1
        assert "e" not in text
    assert "dpmpp_2m," in exports.remark(plan_on(SD, 6, "dpmpp2m"), "comfyui")
    assert "the shift is applied once, by 3" in exports.remark(plan_on(Flow(3.0)), "comfyui")
    tiny = exports.export(plan_on(VE(8.5e-5, 80.0), 7, family="karras"), "sd.cpp")
    assert "0.000085" in tiny.rpartition("--sigmas")[2]


def test_the_remark_for_comfyui_says_wires_guidance_and_that_pixels_are_no_latents():
    plan = plan_on(SD, 6, "dpmpp2m")
    said = exports.remark(plan, "comfyui")
    assert "ManualSigmas goes to sigmas and KSamplerSelect to sampler" in said
    assert "cfg" not in said, "the plan was not tuned"
    assert "pixels" not in said
    guided = {"guidance": {"scale": 7.0, "interval": [0.0, "inf"]}, "shape": [4, 64, 64]}
    assert "cfg 7, as tuned" in exports.remark(plan.with_notes(tuned_for=guided), "comfyui")
    guided["guidance"]["interval"] = [0.5, 5.0]
    said = exports.remark(plan.with_notes(tuned_for=guided), "comfyui")
    assert "cfg 7 for sigma above 0.5 and up to 5, else 1, as tuned" in said
    assert "pixels" not in said
    said = exports.remark(plan.with_notes(tuned_for={"guidance": None, "shape": [3, 32, 32]}), "comfyui")
    assert "cfg 1, as tuned" in said
    assert "the plan is for pixels, 3 x 32 x 32" in said


def test_texts_for_comfyui_of_earlier_releases_are_still_read():
    plan = plan_on(SD, 3)
    header = exports.export(plan, "k-diffusion").splitlines()[0].replace('"k-diffusion"', '"comfyui"')
    levels = ", ".join(map(repr, plan.schedule.sigmas.tolist()))
    again = exports.load(f"{header}\n# ManualSigmas\n{levels}\n")
    assert again.schedule.sigmas.tobytes() == plan.schedule.sigmas.tobytes()
    with pytest.raises(SigmaTuneError, match="are not those"):
        exports.load(f"{header}\n3.0, 2.0, 1.0, 0.0\n")
    with pytest.raises(SigmaTuneError, match="import a bare list with its kind"):
        exports.load(exports.export(plan, "comfyui"), "comfyui")


@pytest.mark.parametrize("target", ["comfyui", "a1111"])
def test_programs_that_round_t_get_levels_of_whole_timesteps(target):
    plan = plan_on(SD, 6, "dpmpp2m", "karras")

    def times(text):
        numbers = re.search(r"SIGMAS = \[(.*?)\]", text)[1] if target == "a1111" else text
        return SD.time(np.array([float(n) for n in numbers.split(",")][:-1]))

    t = times(exports.export(plan, target))
    np.testing.assert_allclose(t, np.rint(SD.time(plan.schedule.sigmas[:-1])), atol=1e-9)
    np.testing.assert_allclose(
        times(exports.export(plan, target, timesteps="exact")), SD.time(plan.schedule.sigmas[:-1]), atol=1e-9
    )
    moved = np.abs(t - SD.time(plan.schedule.sigmas[:-1])).max()
    assert f"by up to {moved:.2f}" in exports.remark(plan, target)
    assert "moved" not in exports.remark(plan, target, timesteps="exact")
    assert "moved" not in exports.remark(plan_on(SD, 4, "euler", "uniform-trailing"), target)  # whole already
    assert "moved" not in exports.remark(plan_on(Flow(3.0), 6), target)
    close = st.compile_plan(st.Schedule([5.0, 4.999, 1.0, 0.0]), "euler").with_notes(path=SD.spec())
    with pytest.raises(SigmaTuneError, match="3 levels fall on 2 of them"):
        exports.export(close, target)
    with pytest.raises(SigmaTuneError, match="'whole' or 'exact'"):
        exports.export(plan, target, timesteps="half")


def test_a_flow_plan_is_exported_to_the_sampler_of_comfyui_that_steps_in_log_snr():
    assert "SamplerDPMPP_2M_SDE with midpoint and eta 0" in exports.remark(plan_on(Flow(3.0), 5, "dpmpp2m"), "comfyui")
    assert "sampler dpmpp_2m_sde," in exports.remark(plan_on(Flow(3.0), 5, "sde-dpmpp2m"), "comfyui")
    for solver in ("heun", "ancestral"):
        with pytest.raises(
            SigmaTuneError, match="the two differ; there it has the steps of dpmpp2m, er-sde, euler, lcm, sde-dpmpp2m"
        ):
            exports.export(plan_on(Flow(3.0), 4, solver), "comfyui")


def test_the_web_uis_script_adds_the_plan_to_its_schedulers(monkeypatch):
    plan = plan_on(SD, 4, "dpmpp2m")
    text = exports.export(plan, "a1111")

    class Scheduler:
        def __init__(self, name, label, function, need_inner_model=False):
            self.name, self.label, self.function = name, label, function

    ui = types.ModuleType("modules.sd_schedulers")
    ui.Scheduler, ui.schedulers, ui.schedulers_map = Scheduler, [Scheduler("karras", "Karras", None)], {}
    package = types.ModuleType("modules")
    package.sd_schedulers = ui
    monkeypatch.setitem(sys.modules, "modules", package)
    monkeypatch.setitem(sys.modules, "modules.sd_schedulers", ui)
    other = exports.export(plan_on(SD, 4, "euler", "karras"), "a1111")
    for script in (text, text, other):  # a reload does not add it twice, and another plan does not replace it
        exec(compile(script, "script", "exec"), {})
    names, labels = [s.name for s in ui.schedulers], [s.label for s in ui.schedulers]
    assert len(set(names)) == len(set(labels)) == 3
    assert names[1:] == [f"sigmatune_{label.split()[-1]}" for label in labels[1:]]
    assert labels[1].startswith("SigmaTune 4 steps ")
    made = ui.schedulers_map[labels[1]].function
    assert made(n=4, sigma_min=0.03, sigma_max=14.6, inner_model=None, device="cpu").tolist() == pytest.approx(
        plan.schedule.sigmas.tolist()
    )
    with pytest.raises(ValueError, match="4 steps, not 20"):
        made(n=20)


def test_the_k_diffusion_line_is_python():
    plan = plan_on(SD, 4)
    names: dict = {"torch": torch}
    exec(exports.export(plan, "k-diffusion"), names)
    assert names["sigmas"].tolist() == pytest.approx(plan.schedule.sigmas.tolist(), rel=1e-7)
    assert names["sigmas"][-1] == 0


# -------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("name", "theirs", "path"),
    [
        ("ays-sd15", "StableDiffusionSigmas", SD),
        ("ays-sdxl", "StableDiffusionXLSigmas", SD),
        ("ays-svd", "StableDiffusionVideoSigmas", VE(0.002, 700.0)),
    ],
)
def test_align_your_steps_tables_are_those_that_diffusers_prints(name, theirs, path):
    schedule = tables.load(name)
    assert schedule.sigmas.tolist() == AysSchedules[theirs]
    assert schedule.steps == 10
    assert "2404.14507" in schedule.options["source"]
    on_model = tables.load(name, path)
    np.testing.assert_allclose(on_model.sigmas, schedule.sigmas, rtol=1e-4)
    shorter = tables.load(name, path, 5)
    assert shorter.steps == 5
    assert shorter.sigmas[[0, -2]].tolist() == on_model.sigmas[[0, -2]].tolist()


def test_a_table_outside_the_models_range_is_refused():
    with pytest.raises(SigmaTuneError, match="outside the model's range"):
        tables.load("ays-svd", SD)
    with pytest.raises(SigmaTuneError, match="did you mean"):
        tables.load("ays-sd")
    with pytest.raises(SigmaTuneError, match="give both"):
        tables.load("sd3-ref")


@pytest.mark.parametrize("steps", [1, 2, 5, 28, 50])
def test_sd3_ref_is_the_reference_grid_with_its_last_level_shifted_twice(steps):
    m, T = 3.0, 1000

    def shifted(tau):
        return m * tau / (1 + (m - 1) * tau)

    sigmas = shifted(np.arange(1, T + 1) / T)
    grid = np.linspace(sigmas[-1] * T, sigmas[0] * T, steps)
    tau = shifted(grid / T)
    found = tables.load("sd3-ref", Flow(m), steps)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(1 / (1 + 1 / found.sigmas[:-1]), tau, rtol=1e-9)
    if steps > 1:
        assert found.sigmas[-2] == pytest.approx(m * Flow(m).sigma_min, rel=1e-2)
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=m)
        scheduler.set_timesteps(steps)  # diffusers has the same quirk
        np.testing.assert_allclose(scheduler.sigmas[:-1].numpy(), tau, rtol=1e-4)
    with pytest.raises(SigmaTuneError, match="flow model's whole path"):
        resolution.sd3_reference(SD, 3)


# ------------------------------------------------------------------------------------------------- shift and resolution


def test_flux_mu_is_what_its_pipeline_computes():
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    for patches in (16, 256, 1024, 4096):
        assert resolution.mu(patches) == pytest.approx(calculate_shift(patches), rel=1e-12)
        assert resolution.patches_for(np.exp(resolution.mu(patches))) == pytest.approx(patches, rel=1e-9)
    with pytest.raises(SigmaTuneError, match="different numbers of patches"):
        resolution.mu(3, (4, 1.0), (4, 2.0))


def test_converting_keeps_what_it_says_and_can_be_undone():
    plan = plan_on(Flow(3.0), 6, "dpmpp2m").with_notes(evidence={"verdict": "x"}, tuned_for={"calls": 6})
    with pytest.warns(PlanMismatch, match=r"noise levels were kept.*checked again at 5"):
        kept = resolution.convert(plan, 5.0)
    assert kept.schedule.sigmas.tobytes() == plan.schedule.sigmas.tobytes()
    np.testing.assert_allclose(_times(kept), _times(plan), rtol=1e-12)
    assert kept.evidence is None
    assert kept.tuned_for["converted"] == {"from_shift": 3.0, "to_shift": 5.0, "kept": "levels"}
    with pytest.warns(PlanMismatch, match="noise levels moved"):
        moved = resolution.convert(plan, 5.0, keep="positions")
    np.testing.assert_allclose(moved.schedule.sigmas[1:], plan.schedule.sigmas[1:] * 5 / 3, rtol=1e-12)
    np.testing.assert_allclose(moved.schedule.sigmas[1:], plan_on(Flow(5.0), 6).schedule.sigmas[1:], rtol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanMismatch)
        back = resolution.convert(moved, 3.0, keep="positions")
    np.testing.assert_allclose(back.schedule.sigmas, plan.schedule.sigmas, rtol=1e-12)


def _times(plan):
    from sigmatune.noise import from_spec

    return from_spec(plan.path).time(plan.coefficients.q.numpy())


def test_conversions_that_make_no_sense_are_refused():
    with pytest.raises(SigmaTuneError, match="flow model's plan"):
        resolution.convert(plan_on(SD), 3.0)
    with pytest.raises(SigmaTuneError, match="keep is"):
        resolution.convert(plan_on(Flow(3.0)), 2.0, keep="both")
    with pytest.raises(SigmaTuneError, match="learned for its own levels"):
        resolution.convert(learned(plan_on(Flow(3.0))), 2.0, keep="positions")
    with pytest.raises(SigmaTuneError, match="positive"):
        resolution.convert(plan_on(Flow(3.0)), -1.0)


# -------------------------------------------------------------------------------------------------------- command line


def test_export_and_import_on_the_command_line(run, tmp_path):
    plan_on(SD, 6, "dpmpp2m").save(tmp_path / "plan.json")
    code, out, err = run("export", "plan.json", "--to", "comfyui")
    assert code == 0
    assert [len(out.splitlines()), len(out.split(","))] == [1, 7]
    assert "ManualSigmas; sampler dpmpp_2m, 6 calls" in err
    (tmp_path / "levels.txt").write_text(out)
    bare = ("import", "levels.txt", "--kind", "ve", "--path", "vp-scaled-linear", "-o", "bare.json")
    assert run(*bare)[0] == 0
    assert run("export", "plan.json", "--to", "k-diffusion", "-o", "sigmas.py")[0] == 0
    assert run("import", "sigmas.py", "-o", "again.json")[0] == 0
    assert (tmp_path / "again.json").read_text() == (tmp_path / "plan.json").read_text()
    for wrong, reason in (
        (("export", "plan.json"), "name the target"),
        (("export", "plan.json", "--to", "diffusers"), "--prediction"),
        (
            ("export", "plan.json", "--to", "comfyui", "--prediction", "epsilon"),
            "--prediction belongs to --to diffusers",
        ),
        (("export", "plan.json", "--to", "sd.cpp", "--timesteps", "exact"), "--timesteps belongs to --to comfyui"),
        (("export", "plan.json", "--to", "comfyui", "--timesteps", "half"), "'whole' or 'exact'"),
        (("export", "plan.json", "--to", "diffusers-stock"), "no sampler"),
        (("import", "nothing.txt"), "neither a file nor a published table"),
        (("import", "/dev/zero"), "cannot read /dev/zero: it is a device"),
        (("import", "/proc"), "cannot read /proc: it is a folder"),
    ):
        code, _, err = run(*wrong)
        assert code == 2
        assert reason in err
    assert (
        run("export", "plan.json", "--to", "diffusers", "--prediction", "epsilon", "-o", "scheduler_config.json")[0]
        == 0
    )
    made = st.interop.diffusers.SigmaTuneScheduler.from_pretrained(tmp_path)
    assert made.plan.steps == 6
    assert "comfyui" in run("export", "list")[1]
    assert "ays-sdxl" in run("import", "list")[1]


def test_bare_lists_and_tables_on_the_command_line(run, tmp_path):
    (tmp_path / "list.txt").write_text("14.6, 3.0, 0.5, 0.0\n")
    assert run("import", "list.txt", "--kind", "ve", "--path", "vp-scaled-linear", "--solver", "euler")[0] == 0
    plan = st.load_plan(tmp_path / "plan.json")
    assert (plan.schedule.sigmas.tolist(), plan.solver, plan.path["kind"]) == ([14.6, 3.0, 0.5, 0.0], "euler", "vp")
    (tmp_path / "tau.txt").write_text("[1.0, 0.75, 0.5, 0]")
    assert (
        run("import", "tau.txt", "--kind", "flow", "--path", "flow:3", "--solver", "euler", "-o", "flow.json")[0] == 0
    )
    plan = st.load_plan(tmp_path / "flow.json")
    assert plan.schedule.sigmas.tolist() == [np.inf, 3.0, 1.0, 0.0]
    assert plan.path["shift"] == 3.0
    assert run("import", "ays-sdxl", "--path", "vp-scaled-linear", "-N", 8, "-o", "ays.json")[0] == 0
    plan = st.load_plan(tmp_path / "ays.json")
    assert plan.schedule.family == "ays-sdxl"
    assert "Sabour" in plan.schedule.options["source"]
    for wrong, reason in (
        (("import", "list.txt"), "no line"),
        (("import", "list.txt", "--kind", "flow"), r"tau lies in [0, 1]"),
        (("import", "list.txt", "--kind", "edm"), "ve (sigma) or flow (tau)"),
        (("import", "list.txt", "--kind", "ve", "--path", "flow:x"), "flow:3"),
        (("import", "sd3-ref", "--path", "flow:3"), "give both"),
    ):
        code, _, err = run(*wrong)
        assert code == 2
        assert reason in err, err


def test_every_solver_is_either_exported_or_refused_with_the_reason():
    for solver in POSITION:
        for target in TARGETS:
            plan = plan_on(SD, 3, solver)
            refused = None
            try:
                text = exports.export(plan, target, **OPTIONS.get(target, {}))
            except SigmaTuneError as error:
                refused = str(error)
            if refused is not None:
                assert len(refused) > 40
            elif target != "comfyui":
                assert exports.load(text).coefficients.tobytes() == plan.coefficients.tobytes()


def test_arguments_of_sd_cpp_state_eta_and_every_sampler_was_run_in_the_program():
    for eta in (1.0, 0.5):
        line = exports.export(plan_on(SD, 4, "dpmpp2s-ancestral", eta=eta), "sd.cpp").splitlines()[1]
        assert line.startswith(f"--sampling-method dpm++2s_a --eta {eta} --steps 4 --sigmas ")
    assert "--eta" not in exports.export(plan_on(SD, 4, "res-multistep"), "sd.cpp").splitlines()[1]
    samplers = to_sd_cpp.SAMPLERS
    rows = json.loads((RESULTS / "clients_stable_diffusion_cpp.json").read_text())["rows"]
    run = {
        model: {row["solver"] for row in rows if row["model"] == model and row["equal"]} for model in ("SD 1.5", "SD3")
    }
    assert run == {"SD 1.5": set(samplers.names), "SD3": set(samplers.on_flow())}
