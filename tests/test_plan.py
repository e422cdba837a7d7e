"""The one loop: rows, padding, memory, hooks, noise, and what it refuses."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from exact import PATHS, gaussian, unit
from sigmatune.core import rng
from sigmatune.core.loop import Step, run
from sigmatune.core.schedule import Schedule
from sigmatune.core.table import Coefficients
from sigmatune.core.wrappers import Counted
from sigmatune.plan import Plan, compile_plan, sample
from sigmatune.schedules import build
from sigmatune.solvers import POSITION
from sigmatune.support.errors import PlanMismatch, SigmaTuneError

SIGMAS = [40.0, 10.0, 2.0, 0.7, 0.2, 0.02, 0.0]


def literal(c: Coefficients, model, eps: torch.Tensor, noises: torch.Tensor | None = None) -> torch.Tensor:
    """MATH 2 written out: dense matrices, no shortcuts."""
    S = torch.einsum("wm,mb...->wb...", c.start, eps)
    for k in range(c.calls):
        z = torch.einsum("w,wb...->b...", c.c[k], S)
        D = model(z, float(c.q[k]))
        S = torch.einsum("vw,wb...->vb...", c.A[k], S) + torch.einsum("w,b...->wb...", c.b[k], D)
        if noises is not None:
            S = S + torch.einsum("wg,gb...->wb...", c.G[k], noises[k])
    return torch.einsum("w,wb...->b...", c.c[-1], S)


@pytest.mark.parametrize("solver", [name for name, solver in POSITION.items() if solver.deterministic()])
def test_the_loop_is_the_state_machine(solver):
    model = gaussian()
    plan = compile_plan(Schedule(SIGMAS), solver, model)
    eps = rng.noise(5, range(3), rng.START, model.shape, dtype=torch.float64)
    expected = literal(plan.coefficients, model, eps[None])
    torch.testing.assert_close(sample(model, plan, 3, seed=5), expected, rtol=1e-12, atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.floats(0.2, 1), st.integers(0, 99))
def test_any_table_runs_dense_circular_and_stochastic_ones_too(width, calls, noises, density, seed):
    g = torch.Generator().manual_seed(seed)

    def array(*shape):
        value = torch.randn(*shape, generator=g, dtype=torch.float64)
        return torch.where(torch.rand(*shape, generator=g) < density, value, 0.0)

    c = Coefficients(
        q=torch.rand(calls, generator=g, dtype=torch.float64) + 0.1,
        A=array(calls, width, width),
        b=array(calls, width),
        c=array(calls + 1, width),
        start=array(width, 2),
        origin=array(width),
        G=array(calls, width, noises),
    )
    model = gaussian(size=2)
    eps = torch.stack([rng.noise(1, [4, 9], 0, model.shape, channel=m, dtype=torch.float64) for m in range(2)])
    address = {"shape": model.shape, "dtype": torch.float64}
    added = [[rng.noise(1, [4, 9], k + 1, channel=m, **address) for m in range(noises)] for k in range(calls)]
    out = run(c, model, seed=1, indices=[4, 9])
    with torch.no_grad():
        in_place = run(c, model, seed=1, indices=[4, 9])
    expected = literal(c, model, eps, [torch.stack(e) for e in added] if noises else None)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(in_place, expected, rtol=1e-10, atol=1e-11)


def test_added_noise_is_that_of_the_address_seed_index_call():
    """A table that only adds noise returns exactly the noise of its addresses."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    c = Coefficients(
        q=torch.ones(2), A=torch.ones(2, 1, 1), b=torch.zeros(2, 1), c=torch.ones(3, 1), start=zero, origin=torch.zeros(1),
        G=torch.tensor([[[1.0]], [[10.0]]]),
    )  # fmt: skip
    model = gaussian(size=2)
    c = Coefficients(*(getattr(c, name).double() for name in ("q", "A", "b", "c", "start", "origin", "G")))
    plan = Plan(Schedule([1.0, 0.5, 0.0]), "custom", c)
    out = sample(model, plan, indices=[7, 3], seed=11, micro_batch=4)
    expected = sum(
        scale * rng.noise(11, [7, 3], call, model.shape, dtype=torch.float64) for call, scale in ((1, 1.0), (2, 10.0))
    )
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("solver", POSITION)
@pytest.mark.parametrize("micro_batch", [1, 4, 16])
def test_a_row_depends_on_its_seed_and_index_alone(solver, micro_batch):
    model = gaussian()
    plan = compile_plan(Schedule(SIGMAS), solver, model)
    many = sample(model, plan, 33, seed=2, micro_batch=micro_batch)
    for n in (1, 7):
        assert torch.equal(sample(model, plan, n, seed=2, micro_batch=micro_batch), many[:n])
    assert torch.equal(sample(model, plan, indices=[30, 2], seed=2, micro_batch=micro_batch), many[[30, 2]])
    assert not torch.equal(sample(model, plan, 1, seed=3, micro_batch=micro_batch), many[:1])


@pytest.mark.parametrize("solver", POSITION)
def test_rows_of_one_schedule_equal_the_shared_schedule_bit_for_bit(solver):
    model = gaussian()
    shared = sample(model, compile_plan(Schedule(SIGMAS), solver, model), 5)
    rows = sample(model, compile_plan(Schedule(np.tile(SIGMAS, (5, 1))), solver, model), 5, micro_batch=16)
    assert torch.equal(rows, shared)


@pytest.mark.parametrize("solver", POSITION)
def test_each_row_may_have_its_own_schedule(solver):
    model = gaussian()
    grids = [SIGMAS, [20.0, 5.0, 1.0, 0.5, 0.3, 0.1, 0.0], [80.0, 8.0, 3.0, 1.0, 0.1, 0.01, 0.0]]
    together = sample(model, compile_plan(Schedule(grids), solver, model), 3, micro_batch=2)
    for i, grid in enumerate(grids):
        alone = sample(model, compile_plan(Schedule(grid), solver, model), indices=[i], micro_batch=2)
        assert torch.equal(together[i : i + 1], alone)


def test_the_network_is_always_called_with_the_micro_batch():
    model, sizes = gaussian(), []
    inner = model.denoise
    model.denoise = lambda z, sigma: (sizes.append(len(z)), inner(z, sigma))[1]  # type: ignore[method-assign]
    plan = compile_plan(Schedule(SIGMAS), "euler", model)
    sample(model, plan, 9, micro_batch=4)
    assert set(sizes) == {4}
    assert len(sizes) == 3 * 6


class Live(TorchDispatchMode):
    """Counts the tensors of one size that are alive at once."""

    def __init__(self, numel: int) -> None:
        super().__init__()
        self.numel, self.alive, self.peak = numel, set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor) and value.numel() >= self.numel:
                storage = value.untyped_storage()
                key = storage.data_ptr()
                if key not in self.alive:
                    self.alive.add(key)
                    weakref.finalize(storage, self.alive.discard, key)
                self.peak = max(self.peak, len(self.alive))
        return out


@pytest.mark.parametrize("solver", POSITION)
def test_memory_is_the_width_and_two_tensors(solver):
    model = gaussian(size=16)
    model.denoise = lambda z, sigma: z.detach().clone().mul_(0.5)  # type: ignore[method-assign]
    plan = compile_plan(Schedule(SIGMAS), solver, model)
    with torch.no_grad(), Live(4 * 256) as live:
        run(plan.coefficients, model, indices=range(4))
    assert live.peak <= plan.coefficients.width + 2, live.peak


def test_hook_and_progress_see_every_call():
    model, seen, ticks = gaussian(), [], []
    plan = compile_plan(Schedule(SIGMAS), "heun", model)

    def hook(step: Step) -> None:
        torch.testing.assert_close(step.x0, model(step.z, step.sigma))
        seen.append((step.call, float(step.sigma[0]), list(step.rows)))

    sample(model, plan, 5, micro_batch=4, on_step=hook, progress=lambda done, total: ticks.append((done, total)))
    assert [call for call, _, _ in seen] == [*range(11), *range(11)]
    assert [level for _, level, _ in seen[:11]] == plan.coefficients.q.tolist()
    assert [rows for _, _, rows in seen[::11]] == [[0, 1, 2, 3], [4]]
    assert ticks == [(i + 1, 22) for i in range(22)]


def test_starting_from_an_image_adds_the_plans_first_level_of_noise():
    model = gaussian()
    x0 = unit(model, 0.0, n=3)
    plan = compile_plan(Schedule(SIGMAS).partial(1.5), "euler", model)
    first = []
    sample(model, plan, 3, x0=x0, seed=4, on_step=lambda step: first.append(step.z.clone()))
    eps = rng.noise(4, range(3), rng.START, model.shape, dtype=torch.float64)
    torch.testing.assert_close(first[0], (x0 + 1.5 * eps) / (1 + 1.5**2) ** 0.5)


def test_gradients_flow_through_the_loop_and_leave_the_result_alone():
    model = gaussian(size=4)
    plan = compile_plan(Schedule(SIGMAS), "dpmpp2m", model)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    table = replace(plan.coefficients, b=plan.coefficients.b * weight)
    out = run(table, model, indices=[0])
    out.sum().backward()
    torch.testing.assert_close(out.detach(), sample(model, plan, 1))
    step = 1e-6
    moved = [
        run(replace(plan.coefficients, b=plan.coefficients.b * (1 + d)), model, indices=[0]).sum()
        for d in (step, -step)
    ]
    assert float(weight.grad) == pytest.approx(float(moved[0] - moved[1]) / (2 * step), rel=1e-5)


def test_network_calls_count_guidance():
    from sigmatune.core.guidance import Guided

    model = gaussian()
    guided = Guided(model, gaussian(), 2.0, (0.5, 15.0))
    plan = compile_plan(Schedule(SIGMAS), "euler", guided)
    counted = Counted(guided)
    sample(counted, plan, 1, micro_batch=1)
    assert plan.calls == 6
    assert plan.network_calls(guided) == counted.calls == 6 + 3  # 10, 2 and 0.7 lie in (0.5, 15]


def test_a_plan_for_another_model_warns():
    plan = compile_plan(build("karras", 4, gaussian().path), "euler", gaussian())
    other = gaussian(size=4)
    with pytest.warns(PlanMismatch, match="another model"):
        sample(other, plan, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either n"),
        ({"n": 2, "indices": [0]}, "either n"),
        ({"n": 0}, "n must be a whole number"),
        ({"n": 1, "seed": -1}, "seed"),
        ({"indices": [-1]}, "index of a noise"),
        ({"n": 1, "micro_batch": 0}, "micro_batch"),
        ({"n": 1, "x0": torch.zeros(2, 1, 8, 8)}, "x0 must have shape"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    model = gaussian()
    with pytest.raises(SigmaTuneError, match=message):
        sample(model, compile_plan(Schedule(SIGMAS), "euler", model), **arguments)


def test_levels_outside_the_models_range_are_refused():
    model = gaussian(PATHS["ve"])
    for sigmas in ([100.0, 1.0, 0.0], [1.0, 1e-4, 0.0]):
        with pytest.raises(SigmaTuneError, match=r"outside the model's range"):
            compile_plan(Schedule(sigmas), "euler", model)
        with pytest.raises(SigmaTuneError, match=r"outside the model's range"):
            sample(model, compile_plan(Schedule(sigmas), "euler"), 1)


def test_rows_must_match_the_request():
    model = gaussian()
    plan = compile_plan(Schedule(np.tile(SIGMAS, (5, 1))), "euler", model)
    with pytest.raises(SigmaTuneError, match="each of 5 rows, but 4"):
        sample(model, plan, 4)


def test_misshapen_tables_are_refused():
    c = compile_plan(Schedule(SIGMAS), "heun").coefficients
    with pytest.raises(SigmaTuneError, match="coefficients c have shape"):
        replace(c, c=c.c[:-1])
    with pytest.raises(SigmaTuneError, match="not finite"):
        replace(c, b=c.b * torch.nan)
