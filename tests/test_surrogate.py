"""The surrogate of the network, and the search that corrects it."""

import numpy as np
import pytest
import torch

import sigmatune as st
from exact import gaussian
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted
from sigmatune.models.analytic import GaussianMixture
from sigmatune.noise import VE, Flow, vp
from sigmatune.schedules import build
from sigmatune.solvers import POSITION, SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench, followed_modes
from sigmatune.tuning.kriging import _Space, tune_by_kriging
from sigmatune.tuning.parameters import Freedom, Parameters
from sigmatune.tuning.surrogate import MODES, Surrogate

SETTINGS = TuningSettings(tuning=12, validation=8, held_out=8, micro_batch=6, reference_steps=64)


def mixture(path=None, shape=(3, 4, 5)):
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    axes = [np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(3)]
    covariances = np.array([a * np.geomspace(0.3, 0.001, size) @ a.T for a in axes])
    return GaussianMixture(np.full(3, 1 / 3), rng.normal(size=(3, *shape)) * 0.4, covariances, path or vp("linear"))


@pytest.fixture(scope="module", params=["rms", "whitened"])
def bench(request):
    made = Workbench(mixture(), SETTINGS, measure=request.param)
    made.once("surrogate", lambda: Surrogate(made))
    return made


def surrogate_of(bench):
    return bench.once("surrogate", lambda: Surrogate(bench))


def test_modes_are_orthonormal_coordinates(bench):
    x = bench.reference("tuning")
    modes = surrogate_of(bench).modes(x)
    torch.testing.assert_close(modes.square().sum(dim=1), x.flatten(1).square().sum(dim=1))
    own = surrogate_of(bench).errors(modes + 0.1)
    weights = bench.measure.weights()
    torch.testing.assert_close(own, torch.full_like(own, 0.1 * (1.0 if weights is None else weights.mean() ** 0.5)))


@pytest.mark.parametrize("path", [vp("linear"), VE(0.02, 40.0), Flow(2.0)])
def test_on_the_teachers_path_it_is_the_network(path):
    """The reference's own plan does not leave the path, so nothing is estimated."""
    bench = Workbench(mixture(path), SETTINGS, measure="rms")
    stand_in = Surrogate(bench)
    ends = stand_in.run(bench.reference_plan().coefficients)
    torch.testing.assert_close(ends, stand_in.exact, atol=1e-9, rtol=0)
    # A finer plan stays near the path as well; there the spline is what is tested.
    fine = bench.reference_plan(96)
    away = stand_in.errors(
        stand_in.run(fine.coefficients) - stand_in.modes(bench.outputs(fine, "tuning")) + stand_in.exact
    )
    assert away.max() < 1e-3


def test_for_gaussian_data_the_answer_beside_the_path_is_exact():
    """Where the denoiser is linear the surrogate differs from it only by the spectrum that it had to estimate."""
    power = np.array([1.0, 0.3, 0.1, 0.01])
    model = GaussianMixture(np.ones(1), np.zeros((1, 4)), np.diag(power)[None], vp("linear"))
    bench = Workbench(model, TuningSettings(tuning=400, validation=8, held_out=8, micro_batch=100, reference_steps=64))
    stand_in = Surrogate(bench)
    for name, solver in POSITION.items():
        if solver.deterministic():
            plan = bench.plan(build("karras", 5, model.path), name)
            real = bench.errors(plan, "tuning")[: stand_in.rows]
            ratio = stand_in.errors(stand_in.run(plan.coefficients)).numpy() / real
            assert abs(np.log(np.median(ratio))) < 0.15, name


def test_its_score_can_be_differentiated(bench):
    stand_in, y = surrogate_of(bench), torch.tensor([2.5, 0.8, -0.7, -2.9], dtype=torch.float64, requires_grad=True)

    def score(y):
        return stand_in.score(SOLVERS["dpmpp2m"].build(torch.cat([y.exp(), y.new_zeros(1)])))

    found = torch.autograd.grad(score(y), y)[0]
    with torch.no_grad():
        for i in range(4):
            step = torch.zeros(4, dtype=torch.float64)
            step[i] = 1e-5
            slope = (score(y + step) - score(y - step)) / 2e-5
            assert float(found[i]) == pytest.approx(float(slope), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("measure", ["rms", "whitened"])
def test_large_data_are_followed_in_part_without_bias(monkeypatch, measure):
    model = mixture(shape=(1, 8, 8))
    whole = Surrogate(Workbench(model, SETTINGS, measure=measure))
    monkeypatch.setattr(followed_modes, "MOST", 32)
    bench = Workbench(model, SETTINGS, measure=measure)
    part = Surrogate(bench)
    plan = bench.plan(build("karras", 4, model.path), "euler")
    assert part.exact.shape == (12, 32 if measure == "rms" else 30)
    assert float(part.score(plan.coefficients)) == pytest.approx(float(whole.score(plan.coefficients)), abs=0.1)
    monkeypatch.setattr(followed_modes, "WIDE", 8)  # no principal axes of this much data
    vectors = Workbench(mixture(shape=(10,)), SETTINGS)
    assert Surrogate(vectors).exact.shape == (12, 10)


def test_the_path_is_recorded_once_and_paid_for(tmp_path):
    model = Counted(mixture())
    first = Workbench(model, SETTINGS, store=tmp_path)
    first.reference("tuning")
    before = model.images
    stand_in = Surrogate(first)
    assert model.images - before == 12 * 64
    again = Workbench(model, SETTINGS, store=tmp_path)
    torch.testing.assert_close(Surrogate(again).exact, stand_in.exact, atol=0, rtol=0)
    assert model.images - before == 12 * 64
    assert again.spent("reference") == first.spent("reference")


def test_descending_lowers_its_score_and_keeps_the_steps_asked_for(bench):
    stand_in, path = surrogate_of(bench), bench.model.path
    start = build("karras", 4, path)
    freedom = Freedom(coefficients=True, sums="free")
    parameters = Parameters(start, "euler", (path.sigma_min, path.sigma_max), freedom)
    found = stand_in.descended(parameters, (1, 5, 15))
    scores = [
        float(stand_in.score(parameters.table(torch.from_numpy(x)))) for x in [np.zeros(sum(parameters.sizes)), *found]
    ]
    assert len(found) == 3
    assert (np.diff(scores) < 0).all()
    assert scores[-1] < scores[0] - 0.5


def test_the_corrected_estimate_is_exact_where_the_network_was_asked(bench):
    space = _Space(bench, surrogate_of(bench), "euler")
    for rho in (2.0, 5.0, 9.0):
        space.ask(bench.plan(build("karras", 4, bench.model.path, rho=rho), "euler"))
    kriged = space._estimate()
    for plan, score in zip(space.plans, space.scores, strict=True):
        ends = surrogate_of(bench).run(plan.coefficients) + kriged(torch.from_numpy(plan.schedule.sigmas.copy()))
        assert float(surrogate_of(bench).errors(ends).log().mean()) == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("solver", ["dpmpp2m", "heun"])
def test_a_few_trials_beat_what_it_started_from_and_cost_one_plan_each(solver):
    model = Counted(mixture())
    bench = Workbench(model, SETTINGS)
    stand_in = Surrogate(bench)
    known = [
        bench.plan(build("karras", 4, model.path), solver),
        bench.plan(build("log-uniform", 4, model.path), solver),
    ]
    start = min(bench.scores(known, "tuning"))  # their modes are kept at once
    before = model.images
    tried = tune_by_kriging(bench, stand_in, known, solver, trials=3)
    assert model.images - before == 12 * sum(plan.calls for plan in tried)
    assert bench.score(tried[0], "tuning") < start - 0.3
    assert len(tried) <= 3
    assert len({plan.schedule for plan in tried}) == len(tried)


def test_it_stops_where_it_may_not_pay_and_takes_an_infinite_start():
    bench = Workbench(mixture(Flow(2.0)), SETTINGS)
    stand_in = Surrogate(bench)
    known = [bench.plan(build("uniform-trailing", 4, bench.model.path), "euler")]
    known.append(bench.plan(Schedule([5.0, 1.0, 0.3, 0.05, 0.0]), "euler"))
    found = tune_by_kriging(bench, stand_in, known, "euler", trials=3)
    assert found
    assert tune_by_kriging(bench, stand_in, known, "euler", trials=3, affordable=lambda plan: False) == []
    one = [bench.plan(Schedule([np.inf, 0.0]), "euler")]
    assert tune_by_kriging(bench, stand_in, one, "euler", trials=3) == []


def test_whole_timesteps_are_kept():
    model = gaussian(vp("linear"))
    model.integer_time = True
    bench = Workbench(model, SETTINGS)
    known = [bench.plan(build("uniform-trailing", 4, model.path), "euler")]
    for plan in tune_by_kriging(bench, Surrogate(bench), known, "euler", trials=3):
        t = model.path.time(plan.coefficients.q.numpy())
        np.testing.assert_allclose(t, np.rint(t), atol=1e-9)


def test_what_is_watched_is_kept_with_the_errors():
    model = Counted(mixture())
    bench = Workbench(model, SETTINGS)
    Surrogate(bench)
    plan = bench.plan(build("karras", 4, model.path), "euler")
    bench.score(plan, "tuning")
    before = model.images
    assert bench.watched(plan, MODES).shape == (12, 60)
    assert model.images == before
    with pytest.raises(KeyError):
        bench.watched(plan, "nothing")


def test_nan_is_refused():
    model = mixture()
    model.denoise = lambda z, sigma: z * torch.nan
    with pytest.raises(SigmaTuneError, match="NaN"):
        Surrogate(Workbench(model, SETTINGS))


@pytest.mark.parametrize("measure", ["rms", "whitened"])
def test_the_powers_are_variances_about_the_mean(measure):
    """Data moved by a constant have the same modes with the same powers."""

    def power(mean):
        def D(x, sigma):
            return mean + (x - mean) * 0.25 / (0.25 + sigma.view(-1, 1, 1, 1) ** 2)

        model = st.load(D, shape=(1, 8, 8), sigma_min=0.01, sigma_max=50.0, dtype=torch.float64)
        return Surrogate(Workbench(model, SETTINGS, measure=measure), 8)._power

    torch.testing.assert_close(power(3.0), power(0.0), rtol=1e-9, atol=0)
