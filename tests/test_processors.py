"""What one processor wrote opens on every other, runs the same, and what really contradicts itself is still refused.

The files of ``tests/processors`` were made by ``tools/make_processor_files.py`` under several sets of kernels; those of release
0.1.0 have noise paths of torch's own tables. Run this file under each ``ATEN_CPU_CAPABILITY``, as ``make test-numerical`` does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from numpy.testing import assert_array_equal

from exact import ALL_PATHS, gaussian
from sigmatune import PlanMismatch, SigmaTuneError, noise
from sigmatune.core.schedule import Schedule
from sigmatune.core.table import digits
from sigmatune.interop import conformance, exports
from sigmatune.interop.diffusers import SigmaTuneScheduler
from sigmatune.interop.pipeline_checks import check_path
from sigmatune.interop.runners import RUNNERS
from sigmatune.models.network import NetworkDenoiser
from sigmatune.noise import VE, VP, Narrowed, paired, vp
from sigmatune.plan import compile_plan, load_plan, sample
from sigmatune.plan import file as plan_file
from sigmatune.rules import load_rule
from sigmatune.schedules import build
from sigmatune.spectra.spectrum_file import load_measured
from sigmatune.tuning import TuningSettings, Workbench, discretisation
from sigmatune.tuning.error_table import ErrorTable
from test_documents import ROOT, tool

made = tool("make_processor_files")
SETS = json.loads(made.SETS.read_text())
NEW = [name for name in SETS if not name.startswith("0.1.0")]


def files(*wanted: str):
    """The different files of some names, or of all plans, each with the sets that have it."""
    plans = [f"{name}.json" for name in made.SOLVER] + [
        f"{name} tuned.json" for name in ("vp", "sd-zero-snr", "digits")
    ]
    found: dict[tuple[str, str], list[str]] = {}
    for kernels, names in SETS.items():
        for name in wanted or [*plans, "flow learned.json", "vp rows.json"]:
            found.setdefault((name, names[name]), []).append(kernels)
    return [
        pytest.param(name, made.FOLDER / file, sets, id=f"{name}-{sets[0]}") for (name, file), sets in found.items()
    ]


def images(kernels: str, name: str) -> torch.Tensor:
    return torch.tensor(json.loads((made.FOLDER / SETS[kernels]["images.json"]).read_text())[name], dtype=torch.float64)


@pytest.fixture(scope="module")
def known():
    return made.models()


@pytest.fixture(autouse=True)
def of_any_model():
    """That the fingerprints of models are the same everywhere is another matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanMismatch)
        yield


def test_there_are_files_of_every_processor():
    kinds = {(kind, threads) for kind in ("default", "avx2", "avx512") for threads in (1, 2)}
    assert {f"{of}{kind} {threads}" for of in ("", "0.1.0 ") for kind, threads in kinds} <= set(SETS)
    used = {file for names in SETS.values() for file in names.values()} | {"sets.json"}
    assert {file.name for file in made.FOLDER.iterdir()} == used
    old, new = ({SETS[name]["tables.json"] for name in SETS if (name in NEW) == of_new} for of_new in (False, True))
    assert len(old) > 1, "torch's own tables differ between its kernels"
    assert len(new) == 1


def test_the_tables_are_the_same_bits_here():
    assert made.tables() == json.loads((made.FOLDER / SETS[NEW[0]]["tables.json"]).read_text())


@pytest.mark.parametrize(("name", "file", "sets"), files())
def test_a_plan_opens_and_makes_its_images(name, file, sets, known):
    plan, model = load_plan(file), made.model_of(name, known)
    stated = json.loads(file.read_text())
    q = np.array(stated["network_sigmas"], dtype=float)
    assert_array_equal(plan.coefficients.q.numpy(), q)
    assert_array_equal(plan.noise_path().time(q), stated["network_times"])
    again = json.loads(plan_file.dumps(plan))
    assert {key: again[key] for key in stated} == stated
    for kernels in sets:
        expected = images(kernels, name)
        x = sample(model, plan, len(expected)).double().flatten(1)
        torch.testing.assert_close(x, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "file", "sets"), files("vp.json", "digits tuned.json", "zero-snr.json"))
def test_the_commands_take_it(name, file, sets, run, tmp_path):
    assert run("check", file)[0] == 0
    if name.startswith("digits"):
        assert run("check", file, "--model", "digits")[0] == 0
        assert run("sample", "digits", file, "-n", 1, "-o", tmp_path / "x.npz")[0] == 0


@pytest.mark.parametrize(("name", "file", "sets"), files("sd-zero-snr.json", "digits tuned.json", "flow.json"))
def test_a_pipeline_and_a_network_receive_the_pairs_of_the_file(name, file, sets, known):
    stated = json.loads(file.read_text())
    kind = {"flow": "flow"}.get(name.removesuffix(".json"), "v_prediction")
    scheduler = SigmaTuneScheduler(stated, kind)
    assert_array_equal(scheduler.timesteps.numpy(), np.float32(stated["network_times"]))
    model, received = made.model_of(name, known), []
    network = NetworkDenoiser(lambda x, t: received.append(t[0].item()) or x, model.shape, model.path, kind)
    plan = load_plan(file)
    check_path(plan, plan.noise_path(), network.path)
    network.fingerprint()  # which asks a function, once
    received.clear()
    sample(network, plan, 1)
    assert received == np.float32(stated["network_times"]).tolist()


@pytest.mark.parametrize(("name", "file", "sets"), files("rule.json"))
def test_a_rule_opens_and_makes_its_images(name, file, sets, known):
    x = sample(known["vp"], load_rule(file), 2).flatten(1)
    for kernels in sets:
        torch.testing.assert_close(x, images(kernels, name), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "file", "sets"), files("conformance.jsonl"))
def test_cases_of_the_conformance_suite_pass(name, file, sets):
    cases = conformance.read(file)
    for runner in ("core", "diffusers"):
        assert [v.reason for v in conformance.check(RUNNERS[runner], cases) if not v.passed] == []


@pytest.mark.parametrize(("name", "file", "sets"), files("spectrum.json"))
def test_spectra_open_and_make_levels(name, file, sets, known):
    power = load_measured(file).all.power
    schedule = build("spectral-mixed", 4, known["vp"].path, spectrum=power, sigma_max=known["vp"].path.sigma_max)
    first = load_measured(made.FOLDER / SETS[NEW[0]][name]).all.power
    np.testing.assert_allclose(power, first, rtol=1e-6)
    assert schedule.steps == 4


@pytest.mark.parametrize(("name", "file", "sets"), files("error-table.json"))
def test_an_error_table_opens_and_makes_levels(name, file, sets, known):
    table, path = ErrorTable.load(file), known["vp"].path
    ends = float(table.sigma[-1]), float(table.sigma[0])
    (*_, schedule) = discretisation.schedules(table, path, 4, ends=ends, grid=40)
    assert noise.close(schedule.sigmas[[0, -2]], [path.sigma_max, path.sigma_min]).all()


@pytest.mark.parametrize(("name", "file", "sets"), files("comfyui.txt", "k-diffusion.txt"))
def test_exports_come_back(name, file, sets, known):
    plan = exports.load(file.read_text())
    assert plan.schedule.steps == 4
    known["sd"].path.check(plan.schedule.sigmas[:-1])


TUNE = """
import pathlib, sys
import make_processor_files as made
from sigmatune.noise import vp
made.tuned(made.exact(vp()), store=pathlib.Path(sys.argv[1]))
"""


def test_a_run_folder_serves_every_processor(known, tmp_path):
    """What it keeps has the same names, so that a run that goes on elsewhere measures nothing twice."""
    other = "avx2" if torch.backends.cpu.get_cpu_capability() == "DEFAULT" else "default"
    environment = {
        **os.environ,
        "ATEN_CPU_CAPABILITY": other,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tools"), *sys.path]),
    }
    subprocess.run([sys.executable, "-c", TUNE, tmp_path / "there"], env=environment, check=True)
    made.tuned(known["vp"], store=tmp_path / "here")
    there, here = ({file.stem for file in (tmp_path / name).glob("*.npy")} for name in ("there", "here"))
    assert len(there & here) >= 0.9 * len(there) > 0


# ---------------------------------------------------------------------------------------------------------- the tolerance


def edited(change, solver="dpmpp2m", path=None):
    model = gaussian(path or vp())
    fields = json.loads(plan_file.dumps(compile_plan(build("kl-optimal", 4, model.path), solver, model)))
    change(fields)
    return json.dumps(fields)


def read(text):
    return plan_file.loads(text)


def times(by, k=1):
    return lambda fields: fields["network_times"].__setitem__(k, fields["network_times"][k] + by)


def levels(factor, k, *names):
    def change(fields):
        for name in names or ("sigmas", "network_sigmas"):
            fields[name][k] *= factor

    return change


@pytest.mark.parametrize(
    "change",
    [
        times(9e-4), times(-9e-4), levels(1 + 9e-6, 1, "network_sigmas"), levels(1 + 9e-6, 0), levels(1 - 9e-6, -2, "sigmas"),
        times(9e-4, 0),
    ],
)  # fmt: skip
def test_within_the_tolerance_the_numbers_of_the_file_run(change):
    text = edited(change)
    fields, plan, model = json.loads(text), read(text), gaussian(vp())
    network = NetworkDenoiser(lambda x, t: received.append(t[0].item()) or x, model.shape, model.path, "v_prediction")
    received: list[float] = []
    network.fingerprint()  # which asks a function, once
    received.clear()
    sample(network, plan, 1)
    assert plan.coefficients.q.tolist() == fields["network_sigmas"]
    assert plan.schedule.sigmas.tolist() == fields["sigmas"]
    sent = np.clip(fields["network_times"], 0, 999)  # ends are clipped
    assert received == np.float32(sent).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (times(5e-3), "network_times contradict"),
        (times(-5e-3), "network_times contradict"),
        (times(5e-3, 0), "network_times contradict"),
        (levels(1 + 3e-5, 1, "network_sigmas"), "network_sigmas contradict"),
        (levels(1 + 3e-5, 0), "outside the model's range"),
        (levels(1 + 1e-3, 1), "network_times contradict"),
        (lambda fields: fields["network_times"].pop(), "network_times contradict"),
        (lambda fields: fields["noise_path"].update(beta_end=0.0201), "contradict|outside"),
        (lambda fields: fields["network_times"].__setitem__(0, float("nan")), "NaN, which JSON does not have"),
    ],
)
def test_beyond_it_the_file_is_refused(change, message):
    with pytest.raises(SigmaTuneError, match=message):
        read(edited(change))


@pytest.mark.parametrize("path", ALL_PATHS.values(), ids=ALL_PATHS.keys())
def test_pairs_agree_with_their_path_and_with_no_other(path):
    sigma = np.geomspace(path.sigma_min, min(path.sigma_max, 50.0), 37)
    t = path.time(sigma)
    slack = path.time_tolerance(t)
    assert path.agrees(sigma, t).all()
    assert path.agrees(sigma, t + 0.9 * slack).all()
    assert path.agrees(sigma[1:-1] * (1 + 9e-6), t[1:-1]).all()
    away = 4 * np.maximum(slack, np.abs(path.time(path.inside(sigma * (1 - 9e-6))) - t))
    assert not path.agrees(sigma[1:-1], t[1:-1] + away[1:-1]).any()
    assert not path.agrees(sigma, np.full_like(t, np.nan)).any()
    assert not path.agrees(sigma[[0, -1]], [t[0] - 1, t[-1] + 1]).any()


@pytest.mark.parametrize("path", ALL_PATHS.values(), ids=ALL_PATHS.keys())
def test_ends_are_clipped_within_the_tolerance_and_refused_beyond(path):
    low, high = path.sigma_min, path.sigma_max
    assert path.time(low * (1 - 9e-6)) == path.time(low)
    with pytest.raises(SigmaTuneError, match="outside"):
        path.time(low * (1 - 2e-5))
    if np.isfinite(high):
        assert path.time(high * (1 + 9e-6)) == path.time(high)
        assert Narrowed(path, low, high * (1 + 9e-6)).sigma_max == high
        for refuses in (path.check, path.time, path.position, lambda sigma: Narrowed(path, low, float(sigma))):
            with pytest.raises(SigmaTuneError, match="outside"):
                refuses(high * (1 + 2e-5))


def test_pairs_of_another_path_are_left_out():
    path, other = vp(), vp("scaled_linear", beta_start=0.00085, beta_end=0.012)
    sigma = np.array([5.0, 1.0])
    pairs = np.stack([sigma, other.time(sigma)], axis=1)
    assert_array_equal(paired(path, pairs).time(sigma), path.time(sigma))
    near = np.stack([sigma, path.time(sigma) + np.array([5e-4, 5.0])], axis=1)
    assert_array_equal(paired(path, near).time(sigma), path.time(sigma) + np.array([5e-4, 0.0]))
    assert paired(path, near).spec() == path.spec()
    own = np.stack([sigma, path.time(sigma)], axis=1)
    assert paired(path, own) is paired(path, None) is path


def test_notes_of_another_path_drop_the_pairs():
    plan = read(edited(times(5e-4)))
    kept, moved = plan.with_notes(evidence={}), plan.with_notes(path=VE(0.001, 200.0).spec())
    assert kept.pairs is plan.pairs
    assert_array_equal(moved.noise_path().time(2.0), 2.0)
    assert moved.pairs is None


@pytest.mark.parametrize(("off", "fits"), [(1 + 5e-6, True), (1 + 1e-3, False)])
def test_a_network_of_whole_timesteps_takes_levels_that_another_table_rounded(off, fits):
    model = gaussian(vp())
    model.integer_time = True
    plan = compile_plan(build("uniform-trailing", 4, model.path), "euler", model)
    moved = compile_plan(Schedule(plan.schedule.sigmas * np.array([1, off, 1, 1, 1])), "euler")
    if fits:
        torch.testing.assert_close(sample(model, moved, 1), sample(model, plan, 1), atol=1e-4, rtol=0)
    else:
        with pytest.raises(SigmaTuneError, match="whole timesteps"):
            sample(model, moved, 1)


def test_names_of_measurements_do_not_hear_the_last_bits():
    plan = compile_plan(build("kl-optimal", 5, vp()), "dpmpp3m")
    table = plan.coefficients
    noisy = replace(table, **{n: getattr(table, n) * (1 + 4e-16) for n in ("A", "b", "c", "start")})
    assert noisy.tobytes() != table.tobytes()
    assert noisy.digits() == table.digits()
    assert replace(table, b=table.b + 1e-8).digits() != table.digits()
    assert digits(np.array([np.inf, -0.0, 1e9])) == digits(np.array([np.inf, 0.0, 1e9 + 1e-6]))
    assert digits(np.array([157.40726936])) != digits(np.array([157.40726]))


def test_a_run_folder_of_another_machine_is_found_again(tmp_path):
    model = gaussian(vp(), size=4)
    small = TuningSettings(tuning=4, validation=4, held_out=8, reference_steps=8, micro_batch=4)
    schedule = build("kl-optimal", 3, model.path)
    first = Workbench(model, small, store=tmp_path)
    first.errors(first.plan(schedule, "dpmpp2m"), "tuning")
    elsewhere = Workbench(model, small, store=tmp_path)
    elsewhere._sampled = None  # what is in the store is not made again
    other = Schedule(schedule.sigmas * np.array([1, 1 + 2e-16, 1 + 2e-16, 1]))
    assert not np.array_equal(other.sigmas, schedule.sigmas)
    assert len(elsewhere.errors(elsewhere.plan(other, "dpmpp2m"), "tuning")) == 4


def test_the_page_states_the_tolerances_of_the_code():
    text = (ROOT / "docs" / "plan_format.md").read_text()
    assert f"{noise.LEVEL_TOLERANCE:g}".replace("1e-05", "10^{-5}") in text
    assert f"{1000 * noise.TIME_TOLERANCE:g} of 1000" in text


SD = {"beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    ("own", "theirs", "ends"),
    [("linear", "linear", {}), ("scaled_linear", "scaled_linear", SD), ("cosine", "squaredcos_cap_v2", {}),
     ("linear", "linear", {"beta_start": 0.0015, "beta_end": 0.0195})],
)  # fmt: skip
def test_the_page_states_how_far_tables_of_torch_lie_here(own, theirs, ends, zero):
    text = (ROOT / "docs" / "plan_format.md").read_text()
    for stated in ("by up to 0.00014 in t", "7 \\cdot 10^{-6}$ of a level", "up to 0.00063 in t", "there, 0.0019 in t"):
        assert stated in text
    path, t = vp(own, zero_terminal_snr=zero, **ends), np.arange(1000 - zero, dtype=float)
    met = DDIMScheduler(beta_schedule=theirs, rescale_betas_zero_snr=zero, **ends).alphas_cumprod.double().numpy()
    sigma = VP(met).sigma(t)
    inside = np.clip(sigma, path.sigma_min, path.sigma_max)
    off, of_level = np.abs(path.time(inside) - t).max(), np.abs(sigma / path.sigma(t) - 1).max()
    if not zero or of_level <= 7e-6:
        assert off <= 0.00014
    else:  # MKL's square roots of processors without AVX2
        assert off <= (0.0019 if own == "cosine" else 0.00063)
        assert of_level <= (2e-3 if own == "cosine" else 1.2e-4)


def test_the_page_states_what_the_tolerance_changes(known):
    """The images of a network whose every t is off by as much as a file may be."""
    assert "by less than $5 \\cdot 10^{-5}$" in (ROOT / "docs" / "plan_format.md").read_text()
    plan = load_plan(made.FOLDER / SETS[NEW[0]]["digits tuned.json"])
    signs = np.where(np.arange(plan.calls) % 2, 9e-4, -9e-4)
    moved = replace(plan, pairs=plan.pairs + np.stack([0 * signs, signs], axis=1))
    off = (sample(known["digits"], moved, 4) - sample(known["digits"], plan, 4)).abs().max()
    assert 0 < off < 5e-5
