"""Tuning by a measure: what it is fitted to, where it is kept, and that every stage minimises it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from exact import gaussian, power_law
from sigmatune import measures
from sigmatune.core.wrappers import Counted
from sigmatune.measures import MEASURES, Fitted, Measure, grid
from sigmatune.measures.base import frozen
from sigmatune.models.analytic import GaussianMixture, GaussianSpectrum
from sigmatune.noise import VE, vp
from sigmatune.plan import file as plan_file
from sigmatune.schedules import build
from sigmatune.solvers import SOLVERS
from sigmatune.statistics.sliced import sliced_wasserstein
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench, followed_modes, stages, tune, tune_on
from sigmatune.tuning import gaussian_optimum as spectral
from sigmatune.tuning.blackbox import SearchSpace, _objective
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.error_table import TableSize, tabulate
from sigmatune.tuning.gaussian_optimum import Modes, power_of
from sigmatune.tuning.gradient import _Objective
from sigmatune.tuning.measure_choice import MeasureChoice, of_evidence
from sigmatune.tuning.parameters import Freedom, Parameters
from sigmatune.tuning.stage_choice import proposals
from sigmatune.tuning.stages import STAGES
from sigmatune.tuning.surrogate import Surrogate
from sigmatune.tuning.task import Goal, Task
from sigmatune.tuning.trajectory import tune_by_trajectory

QUICK = TuningSettings(tuning=16, validation=16, held_out=32, evaluations=20, reference_steps=16, micro_batch=16)


def coloured(shape=(2, 6, 5), path=None):
    """A mixture whose samples have more power in low frequencies and in one channel."""
    rng, size = np.random.default_rng(0), int(np.prod(shape))
    f = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) * n for n in shape[1:]), indexing="ij"))
    basis = np.fft.fft2(np.eye(size).reshape(size, *shape), norm="ortho")
    power = np.maximum(f, 0.5) ** -2.2 * np.array([1.0, 0.2])[:, None, None]
    covariance = np.fft.ifft2(basis * power, norm="ortho").real.reshape(size, size)
    means = rng.normal(size=(3, size)) @ covariance
    return GaussianMixture(
        np.full(3, 1 / 3), means.reshape(3, *shape), np.stack([covariance] * 3), path or VE(0.01, 40)
    )


@pytest.fixture(scope="module")
def benches():
    """One workbench of a coloured mixture for each measure."""
    return {name: Workbench(coloured(), QUICK, measure=name) for name in ("rms", "whitened")}


def karras(bench, steps=4, solver="euler", **options):
    return bench.plan(build("karras", steps, bench.model.path, **options), solver)


# ------------------------------------------------------------------------------------------------------- the workbench


def test_the_measure_is_fitted_to_the_tuning_noises_alone():
    bench, seen = Workbench(gaussian(), QUICK), set()
    outputs = bench.outputs

    def watched(plan, split, **options):
        seen.add(split)
        return outputs(plan, split, **options)

    bench.outputs = watched
    fitted = bench.measure
    assert seen == {"tuning"}
    bench.errors(karras(bench), "validation")
    assert bench.measure is fitted
    other = Workbench(gaussian(), replace(QUICK, validation=5, held_out=9))
    other.errors(karras(other), "held_out")
    assert other.measure.digest() == fitted.digest()
    assert fitted.digest() == measures.fit("whitened", other.reference("tuning")).digest()


@pytest.mark.parametrize(
    ("model", "name"),
    [(gaussian(), "whitened"), (GaussianMixture([1.0], torch.zeros(1, 5), torch.eye(5)[None], VE()), "rms")],
)
def test_the_default_is_that_of_the_shape(model, name):
    bench = Workbench(model, QUICK)
    assert bench.measure.name == bench.measure_choice.name == name


@pytest.mark.parametrize("split", ["tuning", "validation", "held_out"])
def test_root_mean_square_errors_are_bit_for_bit_what_they_were(benches, split):
    bench = benches["rms"]
    plan = karras(bench)
    e = (bench.outputs(plan, split).double() - bench.reference(split).double()).flatten(1).square().mean(dim=1).sqrt()
    assert_array_equal(bench.errors(plan, split), e.numpy())


@pytest.mark.parametrize("split", ["tuning", "validation", "held_out"])
def test_errors_are_the_measures(benches, split):
    bench = benches["whitened"]
    plan = karras(bench)
    e = bench.measure.errors(bench.outputs(plan, split), bench.reference(split))
    assert_array_equal(bench.errors(plan, split), e.numpy())
    assert bench.score(plan, split) == pytest.approx(float(e.log().mean()))


def test_measures_do_not_meet_in_a_store_and_each_is_kept(tmp_path):
    model = Counted(gaussian())
    errors, digests = {}, {}
    for name in ("whitened", "rms"):
        bench = Workbench(model, QUICK, store=tmp_path, measure=name)
        errors[name], digests[name] = bench.errors(karras(bench), "validation"), bench.measure.digest()
    assert (np.abs(errors["whitened"] / errors["rms"] - 1) > 0.01).all()
    before = model.images
    for name in ("whitened", "rms"):
        bench = Workbench(model, QUICK, store=tmp_path, measure=name)
        assert_array_equal(bench.errors(karras(bench), "validation"), errors[name])
        assert bench.measure.digest() == digests[name]
        assert bench.knows(karras(bench), "validation")
        assert not bench.knows(karras(bench, rho=3.0), "validation")
    assert model.images == before


def test_stores_of_root_mean_squares_from_before_there_were_measures_are_read(tmp_path):
    """Their keys: what is measured, and no measure."""
    bench = Workbench(gaussian(), QUICK, store=tmp_path, measure="rms")
    plan = karras(bench)
    bench.store.mkdir(exist_ok=True)
    bench.reference("tuning")
    name = bench._key("e16", plan, "tuning", None)
    bench._cache.store.write(name, np.full(16, 0.25))
    assert_array_equal(bench.errors(plan, "tuning"), np.full(16, 0.25))


def test_a_measure_from_the_store_is_not_fitted_again(tmp_path, monkeypatch):
    first = Workbench(gaussian(), QUICK, store=tmp_path).measure
    monkeypatch.setattr(measures, "fit", None)
    assert Workbench(gaussian(), QUICK, store=tmp_path).measure.digest() == first.digest()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"measure": "whitend"}, "did you mean 'whitened'"),
        ({"measure": "whitened", "measure_options": {"exponnt": 1}}, "exponent"),
        ({"measure": "whitened", "measure_options": {"exponent": 1.5}}, r"exponent in \[0, 1\]"),
        ({"measure_options": {"channels": "green"}}, "'shared' or 'principal'"),
        ({"measure": "rms", "measure_options": {"exponent": 1}}, "exponent"),
    ],
)
def test_bad_measures_are_refused_before_the_model_is_asked(options, says):
    model = Counted(gaussian())
    with pytest.raises(SigmaTuneError, match=says) as caught:
        tune(model, calls=4, settings=QUICK, **options)
    assert model.images == 0
    assert len(str(caught.value)) <= 300
    with pytest.raises(SigmaTuneError, match="take the measure rms"):
        Workbench(GaussianMixture([1.0], torch.zeros(1, 5), torch.eye(5)[None], VE()), QUICK, measure="whitened")


# ------------------------------------------------------------------------------------------------------- the plan's file


def test_the_plan_says_its_measure_which_can_be_made_again():
    bench = Workbench(gaussian(), QUICK, measure="whitened", measure_options={"exponent": 1.0})
    plan = plan_file.loads(plan_file.dumps(tune_on(bench, 4, solver="euler", method="closed-form")))
    assert plan.tuned_for["measure"]["name"] == "whitened"
    assert plan.tuned_for["measure"]["options"]["exponent"] == 1.0
    fitted = of_evidence(plan.evidence, bench.model)
    assert fitted.digest() == bench.measure.digest()
    steps = plan.evidence["reference"]["steps"]
    pair = bench.outputs(plan, "held_out"), bench.reference("held_out", steps)
    assert_allclose(fitted.errors(*pair), bench.errors(plan, "held_out", reference_steps=steps), rtol=1e-12)
    assert json.loads(plan_file.dumps(plan))["version"] == 1
    assert MeasureChoice.of_plan(plan, (1, 8, 8)) == bench.measure_choice
    assert str(bench.measure_choice) == "whitened:exponent=1.0:floor=0.0001:channels=shared"


def test_files_from_before_there_were_measures_are_of_root_mean_squares():
    bench = Workbench(gaussian(), QUICK, measure="rms")
    plan = tune_on(bench, 4, solver="euler", method="closed-form")
    old = plan.with_notes(
        tuned_for={k: v for k, v in plan.tuned_for.items() if k != "measure"},
        evidence={k: v for k, v in plan.evidence.items() if k != "measure"},
    )
    assert of_evidence(old.evidence, bench.model) is None
    assert MeasureChoice.of_plan(old, bench.model.shape) is None


@pytest.mark.parametrize(
    "stated", [3, {}, {"name": "whitened"}, {"name": 3, "options": {}}, {"name": "x", "options": {}}]
)
def test_a_plan_whose_measure_is_none_is_refused(stated):
    plan = karras(Workbench(gaussian(), QUICK)).with_notes(tuned_for={"measure": stated}, evidence={"measure": stated})
    with pytest.raises(SigmaTuneError):
        MeasureChoice.of_plan(plan, (1, 8, 8))
    with pytest.raises(SigmaTuneError):
        of_evidence(plan.evidence, gaussian())


def test_a_plans_measure_is_of_samples_of_one_shape():
    evidence = {"measure": Workbench(gaussian(), QUICK).measure.to_dict()}
    with pytest.raises(SigmaTuneError, match=r"of samples \(1, 8, 8\), and the model's are \(1, 4, 4\)"):
        of_evidence(evidence, gaussian(size=4))


# ------------------------------------------------------------------------------------------------ stages, one formula each


def test_the_error_table_is_that_of_the_weighted_modes():
    """Of Gaussian data every mode loses P sigma^2 / (P + sigma^2)."""
    model, n = gaussian(size=8), 400
    images = model.draw(n, seed=1)
    fitted = measures.fit("whitened", images)
    table = tabulate(model, images, TableSize(6, micro_batch=n), measure=fitted)
    power = power_law(8)
    for sigma, e, scatter in zip(table.sigma, table.error, table.standard_error, strict=True):
        exact = (fitted.weights()[0] * power * sigma**2 / (power + sigma**2)).mean()
        assert abs(e - exact) < 4 * scatter, sigma
    assert table.about["measure"] == fitted.to_dict()
    with pytest.raises(SigmaTuneError, match="linear"):
        tabulate(model, images, measure=replace_name(fitted))


def replace_name(fitted):
    """A measure like this one that is not linear."""
    return type("Bent", (type(fitted),), {"linear": False, "name": "bent"})(**vars_of(fitted))


def vars_of(fitted):
    return {"shape": fitted.shape, "options": fitted.options, **fitted.arrays()}


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m"])
def test_the_closed_form_is_the_expected_squared_error(solver):
    """Against sampling: the reference starts where the plan's noise does, so that only the plan's own error is left."""
    bench = Workbench(gaussian(path=VE(0.002, 80.0)), replace(QUICK, tuning=400, reference_steps=64, micro_batch=400))
    modes = replace(
        Modes.of_rings(power_law(8).ravel(), np.ones(64)), weight=np.asarray(bench.measure.weights()).ravel()
    )
    plan = bench.plan(build("karras", 5, bench.model.path, sigma_min=0.05), solver)
    squares = bench.errors(plan, "tuning") ** 2
    expected = spectral.error(solver, plan.schedule.sigmas, modes)
    assert squares.mean() == pytest.approx(expected, rel=0.05, abs=4 * squares.std() / 20)


def test_weights_of_modes_are_in_the_error_its_gradient_and_its_size():
    plain = Modes(np.array([4.0, 1.0, 0.1]), np.array([1.0, 5.0, 20.0]))
    heavy = replace(plain, weight=np.array([0.2, 1.0, 7.0]))
    sigmas = np.array([9.0, 1.0, 0.1, 0.0])
    each = [spectral.error("euler", sigmas, Modes(plain.power[i : i + 1], np.ones(1))) for i in range(3)]
    assert spectral.error("euler", sigmas, heavy) == pytest.approx((plain.count * heavy.weight * each).sum() / 26)
    assert heavy.size == pytest.approx((plain.count * heavy.weight * plain.power).sum() / 26)
    up, down = sigmas.copy(), sigmas.copy()
    up[1], down[1] = 1 + 1e-6, 1 - 1e-6
    slope = (spectral.error("euler", up, heavy) - spectral.error("euler", down, heavy)) / 2e-6
    assert spectral.gradient("euler", sigmas, heavy)[1] == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("channels", ["shared", "principal"])
@pytest.mark.parametrize("shape", [(2, 8, 6), (1, 16), (2, 4, 4, 6)])
def test_the_modes_of_samples_have_their_power_and_the_measures_weights(shape, channels):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((50, *shape)))
    x = x + 2 * x.mean(dim=-1, keepdim=True) + 0.5
    fitted = measures.fit("whitened", x, channels=channels)
    modes = power_of(x, fitted)
    each = 1 if channels == "principal" else shape[0]  # shared powers are means over channels
    assert modes.count.sum() * each == np.prod(shape)
    assert (modes.power * modes.count).sum() * each == pytest.approx(float(x.var(dim=0).sum()), rel=1e-9)
    whole = fitted.squares(x - x.mean(dim=0), 0 * x).mean() * 50 / 49
    assert modes.size == pytest.approx(float(whole), rel=1e-9)
    assert power_of(x[:1], fitted) is None
    assert power_of(x[:1].expand(3, *shape), fitted) is None


@pytest.mark.parametrize("options", [{}, {"channels": "principal"}, {"exponent": 1.0}])
@pytest.mark.parametrize("shape", [(2, 6, 5), (1, 12), (1, 4, 4, 3)])
def test_the_surrogates_errors_are_the_measures(shape, options):
    model = GaussianMixture([1.0], torch.zeros(1, *shape), torch.eye(int(np.prod(shape)))[None] * 0.3, vp("linear"))
    bench = Workbench(model, QUICK, measure="whitened", measure_options=options)
    stand_in = Surrogate(bench)
    x = bench.reference("tuning")
    y = x + torch.from_numpy(np.random.default_rng(1).standard_normal(x.shape)) * 0.1
    assert_allclose(stand_in.errors(stand_in.modes(y)), bench.measure.errors(y, x)[: stand_in.rows], rtol=1e-9)


def test_of_many_modes_every_ring_is_followed_without_bias(monkeypatch):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 3, 16, 16)))
    x = x + 3 * x.mean(dim=-1, keepdim=True)
    fitted = measures.fit("whitened", x)
    monkeypatch.setattr(followed_modes, "MOST", 200)
    modes = followed_modes.RingModes(x, x.mean(dim=0), fitted)
    power = modes.smoothed(modes.rotated(x - x.mean(dim=0)).square().mean(dim=0))
    kept, weight = modes.chosen(power)
    assert len(kept) == len(set(kept.tolist())) <= 200
    rings = torch.from_numpy(grid.rings((16, 16)).ravel().copy()).repeat(3)
    assert set(rings[kept].tolist()) == set(rings.tolist())
    every = torch.from_numpy(fitted.weights().ravel()) / 768
    for ring in range(12):  # each ring's weights add up to what it counts
        assert float(weight[rings[kept] == ring].sum()) == pytest.approx(float(every[rings == ring].sum()), rel=1e-9)
    y = torch.from_numpy(np.random.default_rng(2).standard_normal(x.shape))
    few = (modes.rotated(y)[:, kept].square() @ weight).mean()
    assert float(few) == pytest.approx(float(fitted.squares(y, 0 * y).mean()), rel=0.05)


@pytest.mark.parametrize("sigma", [0.1, 3.0, np.inf])
def test_states_at_a_level_are_measured_by_the_end_points_that_they_lead_to(sigma):
    """Exactly so for Gaussian data whose power is that of the rings."""
    power = np.maximum(grid.rings((8, 8)), 0.5) ** -2.2
    model = GaussianSpectrum(power, (1, 8, 8), VE())
    fitted = measures.fit("whitened", model.draw(20_000, seed=0))
    x, y = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 5, 1, 8, 8)))
    ends = [model.flow(z, sigma, 0.0) for z in (x, y)]
    assert_allclose(fitted.at(sigma).errors(x, y), fitted.errors(*ends), rtol=0.01)
    assert_allclose(fitted.at(0.0).errors(x, y), fitted.errors(x, y), rtol=1e-12)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_score_of_a_trajectory_is_what_sampling_gives(benches, solver):
    bench = benches["whitened"]
    for schedule in tune_by_trajectory(bench, 3, solver, grid=7):
        assert bench.score(bench.plan(schedule, solver), "tuning") == pytest.approx(schedule.options["score"], rel=1e-9)


@pytest.mark.parametrize("measure", ["rms", "whitened"])
@pytest.mark.parametrize(
    "freedom", [Freedom(), Freedom(queries=True, start=True), Freedom(coefficients=True, loss="l2")]
)
def test_the_gradient_is_that_of_the_measures_loss(benches, measure, freedom):
    bench = benches[measure]
    parameters = Parameters(build("karras", 3, bench.model.path), "euler", (0.01, 40.0), freedom)
    objective = _Objective(bench, parameters)
    rng = np.random.default_rng(0)
    x, direction = 0.05 * rng.normal(size=(2, objective.size))
    value, gradient = objective(x)
    h = 1e-5
    numeric = (objective(x + h * direction)[0] - objective(x - h * direction)[0]) / (2 * h)
    assert_allclose(gradient @ direction, numeric, rtol=2e-4)
    e = bench.errors(objective.plan(x), "tuning")
    assert value == pytest.approx((np.log(e) if freedom.loss == "log" else e**2).mean(), rel=1e-9)


def test_with_root_mean_squares_every_formula_is_what_it_was_bit_for_bit(benches):
    bench = benches["rms"]
    x, exact = bench.outputs(karras(bench), "tuning"), bench.reference("tuning")
    parameters = Parameters(build("karras", 3, bench.model.path), "euler", (0.01, 40.0), Freedom())
    e = (x.double() - exact.double()).flatten(1).square().mean(dim=1).clamp(min=1e-24).sqrt()
    assert torch.equal(_Objective(bench, parameters)._errors(x, exact), e)
    plain, same = (tabulate(bench.model, exact, TableSize(5), measure=one) for one in (None, bench.measure))
    assert_array_equal(plain.error, same.error)
    plain, same = power_of(exact), power_of(exact, bench.measure)
    assert_array_equal(np.stack([plain.power, plain.count]), np.stack([same.power, same.count]))
    assert same.weight is None
    assert same.size == float(np.average(same.power, weights=same.count))
    assert bench.measure.at(2.0) is bench.measure
    assert isinstance(Surrogate(bench)._modes, followed_modes.PrincipalModes)


def test_the_start_noise_is_scaled(benches):
    bench = benches["rms"]
    parameters = Parameters(build("karras", 3, bench.model.path), "euler", (0.01, 40.0), Freedom(start=True))
    assert parameters.sizes == [4, 0, 0, 0, 1]
    same, larger = (parameters.plan(torch.tensor([0.0, 0, 0, 0, s]).double(), bench) for s in (0.0, 0.1))
    plain = SOLVERS["euler"].build(torch.from_numpy(same.schedule.sigmas.copy()))
    torch.testing.assert_close(same.coefficients.start, plain.start)
    torch.testing.assert_close(larger.coefficients.start, plain.start * np.exp(0.5 * np.tanh(0.2)))
    assert larger.solver == "custom"


def test_a_sliced_distance_is_taken_in_the_measures_space(benches):
    for bench in benches.values():
        value = _objective(bench, "sliced-wasserstein", SearchSpace(["euler"]))(karras(bench))
        sets = [bench.measure.apply(x) for x in (bench.outputs(karras(bench), "tuning"), bench.reference("tuning"))]
        assert value == pytest.approx(sliced_wasserstein(*sets, seed=0), rel=1e-9)


# ------------------------------------------------------------------------------------------------- laws of all stages


def proposed(bench, name, solver="euler", steps=4):
    """The best that a stage proposes, by the measure of its workbench."""
    static = proposals(STAGES["static"], Task(bench, Goal(steps, solver), (), Allowance(bench, Budget()), 0))
    static.sort(key=lambda plan: bench.score(plan, "tuning"))
    found = proposals(STAGES[name], Task(bench, Goal(steps, solver), static, Allowance(bench, Budget()), 0))
    assert found, name
    return min(found, key=lambda plan: bench.score(plan, "tuning"))


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if not stage.coefficients])
def test_every_stage_minimises_the_measure_of_its_workbench(name, monkeypatch):
    """On exact data with a spectrum: better by its own measure than what the other measure has it propose."""
    monkeypatch.setattr(stages, "TRAJECTORY_GRID", 20)
    pair = {measure: shared_bench(measure) for measure in ("rms", "whitened")}
    plans = {measure: proposed(bench, name) for measure, bench in pair.items()}
    gained = []
    for measure, bench in pair.items():
        own, other = (bench.score(plans[one], "validation") for one in (measure, *set(pair) - {measure}))
        assert own <= other + (0.15 if name == "evolution" else 0.01), (name, measure)  # few trials
        gained.append(other - own)
    assert sum(gained) > 0.02, name


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage.coefficients])
@pytest.mark.parametrize("measure", ["rms", "whitened"])
def test_stages_that_move_coefficients_lower_the_measures_error(name, measure, monkeypatch):
    """Their plans come so near to the exact solution that nothing but when the descent ends tells them apart."""
    monkeypatch.setitem(stages.ITERATIONS, name, 12)
    bench = shared_bench(measure)
    static = proposals(STAGES["static"], Task(bench, Goal(4, "euler"), (), Allowance(bench, Budget()), 0))
    assert bench.score(proposed(bench, name), "validation") < min(bench.scores(static, "validation")) - 0.5


BENCHES: dict[str, Workbench] = {}


def shared_bench(measure):
    """Its references are made once for all stages."""
    if measure not in BENCHES:
        settings = replace(QUICK, tuning=24, validation=24, evaluations=60, micro_batch=24, reference_steps=24)
        options = {"exponent": 1.0} if measure == "whitened" else None  # as far from rms as there is
        BENCHES[measure] = Workbench(gaussian(), settings, measure=measure, measure_options=options)
    return BENCHES[measure]


# ------------------------------------------------------------------------------------------------ measures without a filter


@dataclass(frozen=True, eq=False)
class Cubed(Fitted):
    """A measure that is not linear."""

    name = "cubed"
    linear = False
    ranks: ClassVar = {"size": 1}
    size: np.ndarray

    def apply(self, x):
        return x.detach() ** 3

    def rounding(self, relative):
        return relative


@pytest.fixture
def cubed(monkeypatch):
    measure = Measure(lambda exact, model: Cubed(tuple(exact.shape[1:]), {}, frozen([1.0])), Cubed, "cubes")
    monkeypatch.setitem(MEASURES._members, "cubed", measure)


def test_a_measure_that_is_not_linear_is_searched_without_stages_that_need_a_filter(cubed, caplog):
    bench = Workbench(gaussian(), replace(QUICK, evaluations=10), measure="cubed")
    with caplog.at_level(logging.INFO):
        plan = tune_on(bench, 4, solver="euler")
    assert [entry["stage"] for entry in plan.cost["stages"] if entry["stage"] != "spacing"] == ["static", "search"]
    assert "cubed is no linear measure, so these stages are left out: closed-form" in caplog.text
    assert bench.linear_measure.name == "whitened"
    e = (bench.outputs(plan, "tuning") ** 3 - bench.reference("tuning") ** 3).flatten(1).square().mean(dim=1).sqrt()
    assert_allclose(bench.errors(plan, "tuning"), e, rtol=1e-9)
    for options in ({"method": "gradient"}, {"method": "closed-form"}, {"coefficients": True}):
        with pytest.raises(SigmaTuneError, match="needs a measure with a gradient") as caught:
            tune_on(bench, 4, solver="euler", **options)
        assert len(str(caught.value)) <= 300


# ------------------------------------------------------------------------------------------------------- the command line


def test_the_command_line_takes_a_measure(run, tiny, little):
    small = ("--calls", 3, "--solver", "euler", "--method", "closed-form", "--tuning", 4, "--validation", 4, "--held-out", 8,
             "--no-report", "--json")  # fmt: skip
    for text, options in (
        ("rms", {}),
        ("whitened:exponent=1:channels=principal", {"exponent": 1, "channels": "principal"}),
    ):
        code, out, err = run("tune", tiny, *small, "--measure", text, "-o", "plan.json")
        assert code == 0, err
        stated = json.loads(out)
        assert stated["tuned_for"]["measure"]["name"] == text.split(":")[0]
        assert stated["tuned_for"]["measure"]["options"].items() >= options.items()
        code, out, err = run("check", "plan.json", "--json")
        assert json.loads(out)["measure"] == stated["tuned_for"]["measure"]
    code, out, err = run("evaluate", tiny, "--plan", "plan.json", "--metrics", "paired", "-n", 8, "--json")
    assert code == 0, err
    (figure,) = json.loads(out)["figures"]
    assert figure["settings"]["extractor"]["measure"]["name"] == figure["settings"]["space"] == "whitened"


@pytest.mark.parametrize(
    "text",
    ["white", "whitened:exponent", "whitened:exponent=", "whitened:exponent=two", ":exponent=1", "rms:exponent=1"],
)
def test_a_measure_that_is_none_is_refused_in_one_sentence(run, tiny, text):
    for command in (("tune", tiny), ("demo", "--model", tiny)):
        code, _, err = run(*command, "--measure", text)
        assert code == 2
        assert "\n" not in err.strip()
        assert len(err) <= 330
