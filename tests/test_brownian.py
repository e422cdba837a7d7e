"""Noise by level: increments of a Brownian path, whatever the steps, the batch, and the order in which they are asked."""

from __future__ import annotations

from itertools import cycle, pairwise

import numpy as np
import pytest
import torch

import sigmatune as st
from exact import PATHS, gaussian
from sigmatune.core.brownian import BrownianPath, place_of
from sigmatune.core.loop import run
from sigmatune.interop import k_diffusion
from sigmatune.models.analytic import GaussianMixture
from sigmatune.noise import vp
from sigmatune.plan import compile_plan, sample
from sigmatune.plan.file import dumps, loads
from sigmatune.schedules import build
from sigmatune.solvers import POSITION
from sigmatune.support.errors import SigmaTuneError

STOCHASTIC = [name for name, solver in POSITION.items() if not solver.deterministic()]
SD = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)


def snapped(sigma):
    """A level that is a place of the path itself, so that sums are exact."""
    return sigma if np.isinf(sigma) else 2.0 ** (-place_of(sigma) / 4096)


LEVELS = [snapped(sigma) for sigma in (80.0, 31.0, 11.3, 7.9, 2.0, 1.0, 0.62, 0.6, 0.11, 0.004)]


def test_increments_are_independent_standard_normals():
    path = BrownianPath(3, range(40), (500,))
    drawn = torch.stack([path.between(a, b).flatten() for a, b in pairwise([np.inf, *LEVELS])])
    n = drawn.shape[1]
    assert drawn.mean(dim=1).abs().max() < 4 / np.sqrt(n)
    assert (drawn.square().mean(dim=1) - 1).abs().max() < 4 * np.sqrt(2 / n)
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 4 / np.sqrt(n)


def test_a_long_step_is_the_sum_of_short_ones():
    """In the clock 1 / sigma^2, from any level to any other, from inf too."""
    path = BrownianPath(0, [4, 9], (6,))
    for i, j in [(0, 9), (1, 4), (6, 8), (2, 3), (4, 6)]:
        parts = [path.between(a, b) * (b**-2 - a**-2) ** 0.5 for a, b in pairwise(LEVELS[i : j + 1])]
        whole = path.between(LEVELS[i], LEVELS[j]) * (LEVELS[j] ** -2 - LEVELS[i] ** -2) ** 0.5
        torch.testing.assert_close(sum(parts), whole, rtol=1e-9, atol=1e-9)
    first = (
        path.between(np.inf, LEVELS[0]) / LEVELS[0]
        + path.between(*LEVELS[:2]) * (LEVELS[1] ** -2 - LEVELS[0] ** -2) ** 0.5
    )
    torch.testing.assert_close(first * LEVELS[1], path.between(np.inf, LEVELS[1]), rtol=1e-4, atol=1e-4)


def test_it_depends_on_seed_index_and_channel_alone():
    together = BrownianPath(5, [7, 0, 2**40], (2, 3))
    backwards = BrownianPath(5, [0], (2, 3))
    expected = [together.between(a, b)[1] for a, b in pairwise(LEVELS)]
    found = [backwards.between(a, b)[0] for a, b in reversed(list(pairwise(LEVELS)))]
    for one, other in zip(expected, reversed(found), strict=True):
        assert torch.equal(one, other)
    a, b = LEVELS[:2]
    others = [
        BrownianPath(6, [0], (2, 3)).between(a, b),
        backwards.between(a, b, channel=1),
        together.between(a, b)[:1],
    ]
    for other in others:
        assert (other[0] - expected[0]).abs().min() > 1e-6


def test_the_numbers_are_these():
    """Part of the promise that a seed means the same image next year; never regenerate these."""
    path = BrownianPath(1, [2], (2,))
    golden = [[-0.93493392, -1.66503219], [0.49861302, 1.00909092]]
    for (a, b), values in zip([(10.0, 3.0), (3.0, 0.7)], golden, strict=True):
        np.testing.assert_allclose(path.between(a, b)[0].numpy(), values, rtol=1e-6)


@pytest.mark.parametrize(
    ("sigma_t", "sigma_s", "says"), [(1.0, 1.0, "step down"), (1.0, 0.0, "step down"), (1.0, 0.99999, "too close")]
)
def test_what_has_no_noise_by_level_is_refused(sigma_t, sigma_s, says):
    with pytest.raises(SigmaTuneError, match=says):
        BrownianPath(0, [0], (1,)).between(sigma_t, sigma_s)


@pytest.mark.parametrize(
    ("path", "solver"),
    dict.fromkeys([*zip(cycle(PATHS), STOCHASTIC, strict=False), *((path, "ancestral") for path in PATHS)]),
)
def test_rows_and_batches_do_not_matter(solver, path):
    """Of a shared schedule and of one per row, from infinite starts, too."""
    model = gaussian(PATHS[path], size=2)
    schedule = build("kl-optimal", 5, model.path)
    plan = compile_plan(schedule, solver, model).with_noise("level")
    many = sample(model, plan, 5, seed=2, micro_batch=2)
    assert torch.equal(sample(model, plan, indices=[3, 1], seed=2, micro_batch=2), many[[3, 1]])
    each = st.Schedule(np.tile(schedule.sigmas, (5, 1)))
    rows = sample(model, compile_plan(each, solver, model).with_noise("level"), 5, seed=2, micro_batch=2)
    assert torch.equal(rows, many)
    assert not torch.equal(sample(model, plan, 5, seed=2, micro_batch=2, noise="call"), many)


def correlation(solver, kind, steps=(20, 40)):
    """Between the images of two numbers of steps, about their mean."""
    rng = np.random.default_rng(0)
    axes = [np.linalg.qr(rng.normal(size=(8, 8)))[0] for _ in range(6)]
    covariances = np.array([a * np.geomspace(0.3, 0.0003, 8) @ a.T for a in axes])
    model = GaussianMixture(np.full(6, 1 / 6), rng.normal(size=(6, 8)) * 0.4, covariances, SD)
    plans = [compile_plan(build("karras", n, SD), solver, model) for n in steps]
    first, second = (sample(model, plan, 48, micro_batch=48, noise=kind).flatten(1) for plan in plans)
    return float(torch.corrcoef(torch.stack([(x - x.mean(dim=0)).flatten() for x in (first, second)]))[0, 1])


LESS = {"dpmpp-sde": 0.8, "lcm": 0.6}
"""The two noises of a step of dpmpp-sde are shared out by another clock, and lcm replaces all noise in every step."""


@pytest.mark.parametrize("solver", ["ancestral", "sde-dpmpp2m", "seeds2", "er-sde", "sa-solver", *LESS])
def test_an_image_survives_other_steps(solver):
    assert correlation(solver, "level") > LESS.get(solver, 0.9)


def test_by_call_it_does_not():
    assert correlation("ancestral", "call") < 0.5


def test_the_distribution_stays():
    """The variance of every value over many rows is that of noise by call."""
    model = gaussian(size=4)
    plan = compile_plan(build("karras", 6, model.path, sigma_max=10.0, sigma_min=0.05), "sde-dpmpp2m", model)
    by_call, by_level = (sample(model, plan, 2000, micro_batch=2000, noise=kind) for kind in ("call", "level"))
    ratio = by_level.square().mean(dim=0) / by_call.square().mean(dim=0)
    assert (ratio.log().abs() < 5 * 2 * (1 / 2000) ** 0.5).all()


def test_it_is_part_of_the_plan(tmp_path):
    model = gaussian(size=2)
    plan = compile_plan(build("karras", 4, model.path), "ancestral", model)
    assert plan.noise == "call"
    assert "noise" not in {line.strip().split('"')[1] for line in dumps(plan).splitlines() if ":" in line}
    by_level = plan.with_noise("level")
    read = loads(dumps(by_level))
    assert read.noise == "level"
    assert torch.equal(sample(model, read, 2), sample(model, by_level, 2))
    assert st.partial(by_level, 1.0).noise == "level"
    assert by_level.coefficients.tobytes() != plan.coefficients.tobytes()
    with pytest.raises(SigmaTuneError, match='"call" or by "level", not'):
        plan.with_noise("number")


def test_of_a_deterministic_plan_nothing_changes():
    model = gaussian(size=2)
    plan = compile_plan(build("karras", 4, model.path), "heun", model)
    assert torch.equal(sample(model, plan, 2), sample(model, plan, 2, noise="level"))


def test_other_programs_add_the_same_noise():
    """The k-diffusion sampler of a plan, from the same start and seed."""
    model = gaussian(SD, size=2)
    plan = compile_plan(build("karras", 4, SD), "sde-dpmpp2m", model).with_noise("level")
    expected = run(plan.coefficients, model, seed=3, indices=range(2))
    starts: list[torch.Tensor] = []
    run(plan.coefficients, model, seed=3, indices=range(2), on_step=lambda step: starts.append(step.z.clone()))
    first = float(plan.coefficients.q[0])

    def network(x, sigma, **extra):
        return model(x / (1 + sigma[0] ** 2).sqrt(), sigma)

    x = starts[0] * (1 + first**2) ** 0.5
    found = k_diffusion.sampler(plan)(network, x, k_diffusion.sigmas_of(plan), extra_args={"seed": 3})
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
