"""The table against brute force, the score against sampling, the cost against a counter, the levels against log-uniform."""

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sigmatune.core.guidance import Guided
from sigmatune.core.rng import START, noise
from sigmatune.core.schedule import Schedule
from sigmatune.core.wrappers import Counted
from sigmatune.models.analytic import GaussianMixture, GaussianSpectrum
from sigmatune.noise import VE, Flow, vp
from sigmatune.plan import sample
from sigmatune.plan.reference import HIGHEST
from sigmatune.schedules import build
from sigmatune.solvers import POSITION, SOLVERS
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import tune_on
from sigmatune.tuning.budget import Allowance, Budget
from sigmatune.tuning.settings import TuningSettings
from sigmatune.tuning.stage_choice import proposals
from sigmatune.tuning.stages import STAGES
from sigmatune.tuning.task import Goal, Task
from sigmatune.tuning.trajectory import _kept, _teacher, cost, nodes, tune_by_trajectory
from sigmatune.tuning.workbench import Workbench

F = np.fft.fftfreq(8) * 8
POWER = np.maximum(np.hypot(F[:, None], F[None, :]), 0.5) ** -2.2
DETERMINISTIC = [name for name, solver in POSITION.items() if solver.deterministic() and not solver.tapers]


def mixture(path):
    means = torch.tensor([[1.0, 0.5, 0.0], [-1.0, 0.3, 0.2], [0.2, -1.0, -0.4]])
    return GaussianMixture([0.5, 0.3, 0.2], means, 0.02 * torch.eye(3).expand(3, 3, 3), path)


def workbench(model=None, **settings):
    little = {"tuning": 6, "micro_batch": 4, "reference_steps": 16}
    return Workbench(model or mixture(VE(0.02, 40.0)), TuningSettings(**{**little, **settings}))


def brute_force(bench, solver, steps, grid):
    """The best subset of the nodes by the score of the end points."""
    levels = nodes(bench, grid)[:-1]
    every = [np.append(levels[list(way)], 0.0) for way in itertools.combinations(range(grid), steps)]
    scores = [bench.score(bench.plan(Schedule(sigmas), solver), "tuning") for sigmas in every]
    return min(scores), every[int(np.argmin(scores))]


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m", "unipc2", "heun"])
@pytest.mark.parametrize("path", [VE(0.02, 40.0), Flow(3.0)], ids=["ve", "flow"])
def test_a_beam_that_keeps_all_prefixes_is_brute_force(solver, path):
    bench = workbench(mixture(path))
    found = tune_by_trajectory(bench, 4, solver, grid=5, beam=1000)
    for steps in range(1, 5):
        score, sigmas = brute_force(bench, solver, steps, 5)
        assert_allclose(found[steps - 1].options["score"], score, rtol=1e-9)
        assert found[steps - 1].sigmas.tobytes() == sigmas.tobytes()


def test_a_beam_of_one_keeps_the_nearest_prefix():
    """The rule by hand, for Euler in x and sigma: at every node the prefix nearest to the teacher, the end included."""
    bench = workbench()
    levels, indices = nodes(bench, 9), bench.settings.rows("tuning")
    teacher = [z * np.hypot(1, level) for z, level in zip(_teacher(bench, levels, indices), levels, strict=True)]
    eps = noise(0, indices, START, (3,), dtype=torch.float64)
    layer = {node: ((node,), levels[node] * eps) for node in range(9)}
    for schedule in tune_by_trajectory(bench, 5, "euler", grid=9):
        longer = {}
        for node, (way, x) in layer.items():
            slope = (x - bench.model(x / np.hypot(1, levels[node]), levels[node])) / levels[node]
            for later in range(node + 1, 10):
                x_s = x + (levels[later] - levels[node]) * slope
                score = (x_s - teacher[later]).square().mean(1).sqrt().log().mean().item()
                longer[later] = min(longer.get(later, (np.inf,)), (score, (*way, later), x_s), key=lambda one: one[0])
        score, way, _ = longer.pop(9)
        assert schedule.sigmas.tobytes() == levels[list(way)].tobytes()
        assert_allclose(schedule.options["score"], score, rtol=1e-9)
        layer = {node: found[1:] for node, found in longer.items()}


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_a_step_does_not_depend_on_what_follows(solver):
    """What makes the programme exact: the table of a prefix is the beginning of the table of every longer one."""
    chosen = SOLVERS[solver]
    for first in (30.0, np.inf):
        levels = torch.tensor([first, 11.0, 4.0, 1.7, 0.6, 0.2, 0.0], dtype=torch.float64)
        whole = chosen.build(levels, **chosen.defaults)
        for k in range(1, 6):
            prefix = chosen.build(levels[: k + 1], **chosen.defaults)
            for name in ("A", "b", "q"):
                own = getattr(prefix, name)
                torch.testing.assert_close(own, getattr(whole, name)[: prefix.calls], rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(prefix.c, whole.c[: prefix.calls + 1], rtol=0, atol=0)


@pytest.mark.parametrize("solver", [name for name, solver in POSITION.items() if solver.tapers])
def test_a_solver_whose_steps_depend_on_what_follows_is_refused(solver):
    """Its last steps differ, as the field says; by itself the stage is refused, in "auto" it is left out."""
    chosen = SOLVERS[solver]
    levels = torch.tensor([30.0, 11.0, 4.0, 1.7, 0.6, 0.2, 0.0], dtype=torch.float64)
    whole, prefix = chosen.build(levels), chosen.build(levels[:5])
    assert (whole.A[:4] - prefix.A).abs().max() + (whole.b[:4] - prefix.b).abs().max() > 1e-3
    bench = workbench(Counted(mixture(VE(0.02, 40.0))))
    with pytest.raises(SigmaTuneError, match=f"steps of {solver} depend on how many follow"):
        tune_by_trajectory(bench, 4, solver)
    with pytest.raises(SigmaTuneError, match=f"steps of {solver} depend on how many follow"):
        tune_on(bench, 4, solver=solver, method="trajectory")
    assert bench.model.images == 0
    task = Task(bench, Goal(4, solver, 4), (), Allowance(bench, Budget()), 0)
    assert proposals(STAGES["trajectory"], task) == []
    assert STAGES["trajectory"].left(task) == 0


@pytest.mark.parametrize(
    ("solver", "path"),
    [
        pytest.param(solver, path, id=f"{solver}-{name}")
        for i, solver in enumerate(DETERMINISTIC)
        for k, (name, path) in enumerate({"ve": VE(0.02, 40.0), "flow": Flow(3.0), "vp": vp("linear")}.items())
        if solver in ("dpmpp2m", "heun") or i % 3 == k
    ],
)
def test_the_score_is_what_sampling_gives(solver, path):
    """On schedules that the path knows, the network's rows padded."""
    bench = workbench(mixture(path))
    found = tune_by_trajectory(bench, 4, solver, grid=7, beam=2)
    assert [schedule.steps for schedule in found] == [1, 2, 3, 4]
    for schedule in found:
        schedule.bound(path)
        plan = bench.plan(schedule, solver)
        x = sample(bench.model, plan, indices=bench.settings.rows("tuning"), micro_batch=4)
        away = (x - bench.reference("tuning")).square().mean(1).sqrt()
        assert_allclose(schedule.options["score"], away.log().mean().item(), rtol=1e-9)


def test_the_teacher_is_the_flow():
    """Recorded states are the exact flow of Gaussian data from the top of the range, wherever the nodes lie."""
    for path, ends in ((VE(0.01, 50.0), (20.0, 0.05)), (VE(0.01, 50.0), None), (Flow(1.0), (5.0, 0.01))):
        model = GaussianSpectrum(POWER, (1, 8, 8), path)
        bench = workbench(model, reference_steps=300)
        levels = nodes(bench, 9) if ends is None else np.append(np.geomspace(*ends, 9), 0.0)
        indices = bench.settings.rows("tuning")
        start = noise(0, indices, START, model.shape, dtype=torch.float64)
        if np.isfinite(path.sigma_max):
            start = start * path.sigma_max / np.hypot(1, path.sigma_max)
        states = _teacher(bench, levels, indices)
        for level, state in zip(levels[:-1], states, strict=False):
            exact = model.flow(start, path.sigma_max, float(level))
            assert (state - exact).square().mean().sqrt() < 4e-3 * exact.square().mean().sqrt(), level
        assert torch.equal(states[-1], bench.reference("tuning"))


@pytest.mark.parametrize(
    ("solver", "rows", "beam"), [("dpmpp2m", None, 1), ("euler", 3, 1), ("dpmpp2m", None, 3), ("heun", None, 2)]
)
def test_the_cost_is_counted_and_predicted(solver, rows, beam):
    model = Counted(mixture(VE(0.02, 40.0)))
    bench = workbench(model)
    bench.reference("tuning")
    before, spent = model.images, bench.meter()
    tune_by_trajectory(bench, 4, solver, grid=10, rows=rows, beam=beam)
    counted = model.images - before
    assert spent()["network_evaluations"]["trajectory"] == counted
    assert counted == cost(bench, 4, nodes(bench, 10), solver=solver, rows=rows or 6, beam=beam)
    padded = 8 if rows is None else 4
    reference = bench.settings.reference_steps + 10
    pairs = 3 * 45 * beam if solver == "heun" else 0
    assert counted <= padded * (4 * 10 * beam + pairs + reference)
    assert counted > padded * 4 * 10 * beam / 2  # not a statement about the teacher's cost


def test_guidance_costs_double_where_it_is_on():
    model = mixture(VE(0.02, 40.0))
    parts = Counted(model), Counted(model)
    bench = workbench(Guided(*parts, 2.0, (0.5, 5.0)))
    bench.reference("tuning")
    before = sum(part.images for part in parts)
    spent = bench.meter()
    tune_by_trajectory(bench, 3, "euler", grid=8)
    counted = sum(part.images for part in parts) - before
    assert (
        counted
        == spent()["network_evaluations"]["trajectory"]
        == cost(bench, 3, nodes(bench, 8), solver="euler", rows=6)
    )
    assert parts[0].images > parts[1].images > 0


@pytest.mark.parametrize("solver", ["euler", "dpmpp2m"])
def test_the_levels_beat_log_uniform_between_the_same_ends(solver):
    bench = workbench(mixture(VE(0.05, 40.0)), tuning=24, validation=200, micro_batch=100)
    found = tune_by_trajectory(bench, 8, solver, grid=30)
    for steps in range(4, 9):
        uniform = build("log-uniform", steps, bench.model.path)
        own, static = (bench.errors(bench.plan(one, solver), "validation") for one in (found[steps - 1], uniform))
        gain = np.log(static / own)
        assert gain.mean() > max(0.2, 4 * gain.std() / np.sqrt(len(gain))), steps


def test_nodes_lie_between_their_ends():
    assert_allclose(nodes(workbench(mixture(VE(0.1, 10.0))), 5), [10, 10**0.5, 1, 10**-0.5, 0.1, 0], rtol=1e-12)
    assert nodes(workbench(), 5)[[0, 4]].tolist() == [40.0, 0.02]
    flow = nodes(workbench(mixture(Flow(1.0))), 5)
    assert flow[0] == np.inf
    assert_allclose(flow[1:5], np.geomspace(HIGHEST, Flow(1.0).sigma_min, 4), rtol=1e-12)
    assert nodes(workbench(), 1).tolist() == [40.0, 0.0]


def test_whole_timesteps_are_nodes_once():
    class Whole(GaussianSpectrum):
        integer_time = True

    model = Counted(Whole(POWER, (1, 8, 8), vp("linear", levels=30)))
    bench = workbench(model)
    levels = nodes(bench, 64)[:-1]
    t = model.path.time(levels)
    assert_allclose(t, np.rint(t), atol=1e-9)
    assert len(levels) < 31
    for schedule in tune_by_trajectory(bench, 6, "dpmpp2m", grid=64):
        plan = bench.plan(schedule, "dpmpp2m")
        assert plan.steps == schedule.steps
        assert_allclose(bench.score(plan, "tuning"), schedule.options["score"], rtol=1e-7)
    with pytest.raises(SigmaTuneError, match="no 31 different"):
        tune_by_trajectory(bench, 31, "euler", grid=64)


def test_refusals():
    bench = workbench()
    with pytest.raises(SigmaTuneError, match="adds noise"):
        tune_by_trajectory(bench, 4, "ancestral")
    with pytest.raises(SigmaTuneError, match="larger grid"):
        tune_by_trajectory(bench, 4, "euler", grid=3)
    with pytest.raises(SigmaTuneError, match="beam"):
        tune_by_trajectory(bench, 4, "euler", beam=0)


@pytest.mark.parametrize("beam", [1, 3, 10**6])
def test_prefixes_are_counted_by_binomials(beam):
    expected = [[min(beam, math.comb(node, k)) for node in range(12)] for k in range(9)]
    assert _kept(9, 12, beam).tolist() == expected
    assert _kept(2000, 2000, 8).max() == 8  # at once, where the binomials have hundreds of digits
