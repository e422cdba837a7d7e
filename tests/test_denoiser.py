"""The protocol and the wrappers: shapes, counting, watching, guidance, whole timesteps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.guidance import Guided
from sigmatune.core.wrappers import Counted, Observed, Wrapper
from sigmatune.models import load
from sigmatune.models.analytic import gaussian
from sigmatune.models.predictions import alpha_s
from sigmatune.noise import VE, Flow, vp
from sigmatune.support.errors import SigmaTuneError

INF = float("inf")


def model(mean=0.0, path=None):
    return gaussian(torch.full((2,), mean), 0.25 * torch.eye(2), path or VE())


def states(n=5):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def counted_pair(scale, interval=(0.0, INF)):
    c, u = Counted(model(1.0)), Counted(model(-1.0))
    return Guided(c, u, scale, interval), c, u


def test_one_level_for_all_rows_or_one_for_each():
    z, inner = states(3), model()
    assert torch.equal(inner(z, 0.5), inner(z, torch.full((3,), 0.5)))
    assert torch.equal(inner(z, 0.5), inner(z, torch.tensor(0.5, dtype=torch.float64)))
    rows = inner(z, torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64))
    for i, level in enumerate((0.1, 1.0, 10.0)):
        torch.testing.assert_close(rows[i : i + 1], inner(z[i : i + 1], level), rtol=1e-14, atol=1e-14)


def test_the_scales_of_a_row_depend_on_its_level_alone():
    drawn = torch.randn(4001, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = (3 * drawn).exp().clamp(0.002, 80)
    seen = []
    function = load(lambda x, sigma: seen.append(x) or x, shape=(1,), dtype=torch.float64)
    z = torch.ones(4001, 1, dtype=torch.float64)
    function(z, levels)
    scales = [*alpha_s(levels), seen.pop()]
    for i, level in enumerate(levels):
        function(z[:1], level)
        for together, alone in zip(scales, (*alpha_s(level[None]), seen.pop()), strict=True):
            assert together[i] == alone[0]
    torch.testing.assert_close(scales[0], torch.cos(torch.atan(levels)), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(scales[1], torch.sin(torch.atan(levels)), rtol=1e-12, atol=1e-13)
    assert torch.stack(alpha_s(torch.tensor([INF], dtype=torch.float64))).flatten().tolist() == [0, 1]


@pytest.mark.parametrize("sigma", [torch.ones(2), torch.ones(3, 1), torch.ones(4), torch.ones(0)])
def test_levels_of_another_shape_are_refused(sigma):
    with pytest.raises(SigmaTuneError, match=r"one per row \(3\)"):
        model()(states(3), sigma)


def test_states_of_another_shape_are_refused():
    with pytest.raises(SigmaTuneError, match="do not fit a model of shape"):
        model()(torch.zeros(3, 2, 2), 1.0)


def test_levels_arrive_in_float64_on_the_cpu():
    seen = []
    Observed(model(), lambda z, sigma, x0: seen.append(sigma))(states(2), 0.1)
    assert seen[0].dtype == torch.float64
    assert seen[0].tolist() == [0.1, 0.1]


def test_gradients_pass_through_the_protocol():
    z, sigma = states(2).requires_grad_(True), torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    gradients = torch.autograd.grad(Counted(model(1.0))(z, sigma).sum(), (z, sigma))
    assert all(bool(g.abs().min() > 0) for g in gradients)


def test_a_wrapper_is_what_it_wraps():
    inner = model()
    inner.default_schedule, inner.integer_time = ("karras", {"rho": 5.0}), True
    for wrapper in (Wrapper(inner), Counted(inner), Observed(inner, lambda *_: None)):
        assert torch.equal(wrapper(states(), 0.7), inner(states(), 0.7))
        for name in ("shape", "path", "dtype", "device", "integer_time", "default_schedule"):
            assert getattr(wrapper, name) == getattr(inner, name), name
        assert wrapper.fingerprint() == inner.fingerprint()
        assert wrapper.calls_at(1.0) == 1


def test_observed_sees_exactly_what_passes():
    seen, inner, z = [], model(), states()
    x0 = Observed(inner, lambda *what: seen.append(what))(z, 0.7)
    ((seen_z, seen_sigma, seen_x0),) = seen
    assert seen_z is z
    assert seen_x0 is x0
    assert seen_sigma.tolist() == [0.7] * 5


def test_counted_counts_calls_and_images():
    inner = Counted(model())
    inner(states(5), 1.0)
    inner(states(2), torch.tensor([1.0, 2.0]))
    assert (inner.calls, inner.images) == (2, 7)
    outer = Counted(inner)
    outer(states(3), 1.0)
    assert (outer.calls, outer.images, inner.calls, inner.images) == (1, 3, 3, 10)


# ------------------------------------------------------------------------------------------------------- guidance


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 10), st.floats(0.01, 100))
def test_guidance_is_an_extrapolation(scale, sigma):
    guided, z = Guided(model(1.0), model(-1.0), scale), states()
    c, u = model(1.0)(z, sigma), model(-1.0)(z, sigma)
    torch.testing.assert_close(guided(z, sigma), u + scale * (c - u), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("sigma", "inside"), [(0.49, False), (0.5, False), (0.5000001, True), (2.0, True), (2.0000001, False), (INF, False)]
)
def test_the_interval_is_open_below_and_closed_above(sigma, inside):
    guided, c, u = counted_pair(3.0, (0.5, 2.0))
    z = states()
    x0 = guided(z, sigma)
    expected = u.inner(z, sigma) + 3 * (c.inner(z, sigma) - u.inner(z, sigma)) if inside else c.inner(z, sigma)
    torch.testing.assert_close(x0, expected, rtol=1e-12, atol=1e-12)
    assert guided.calls_at(sigma) == (2 if inside else 1)
    assert (c.calls, u.calls) == (1, int(inside))


def test_the_default_interval_is_everywhere():
    guided, _, u = counted_pair(2.0)
    for sigma in (1e-5, 1.0, INF):
        assert guided.calls_at(sigma) == 2
        guided(states(), sigma)
    assert u.calls == 3


def test_scale_one_asks_the_conditional_model_only():
    guided, _, u = counted_pair(1.0)
    guided(states(), 1.0)
    assert (guided.calls_at(1.0), u.calls) == (1, 0)


def test_rows_inside_and_outside_the_interval():
    guided, c, u = counted_pair(3.0, (0.5, 2.0))
    z, sigma = states(4), torch.tensor([0.1, 1.0, 5.0, 2.0], dtype=torch.float64)
    x0 = guided(z, sigma)
    assert (c.images, u.images) == (4, 4)  # the whole batch: a row must not depend on its neighbours' levels
    alone = torch.cat([guided(z[i : i + 1], level) for i, level in enumerate(sigma.tolist())])
    torch.testing.assert_close(x0, alone, rtol=1e-12, atol=1e-12)


def test_guidance_costs_two_calls_inside_and_one_outside():
    outer = Counted(Guided(model(1.0), model(-1.0), 3.0, (0.5, 2.0)))
    outer(states(4), 1.0)
    outer(states(4), 0.1)
    assert (outer.calls, outer.images) == (3, 12)
    outer(states(2), torch.tensor([1.0, 0.1]))
    assert (outer.calls, outer.images) == (5, 15)


def test_guided_models_must_fit_together():
    other = gaussian(torch.zeros(3), torch.eye(3))
    for unconditional in (other, model(path=vp())):
        with pytest.raises(SigmaTuneError, match="must share shape and noise path"):
            Guided(model(), unconditional, 2.0)
    for scale, interval in (
        (np.nan, (0, 1)),
        (INF, (0, 1)),
        (2.0, (1, 1)),
        (2.0, (-1, 1)),
        (2.0, (2, 1)),
        (2.0, (np.nan, 1)),
    ):
        with pytest.raises(SigmaTuneError, match="finite scale and an interval"):
            Guided(model(), model(), scale, interval)


def test_fingerprints_tell_guidance_apart():
    different = [
        model(1.0), model(-1.0), Guided(model(1.0), model(-1.0), 2.0), Guided(model(-1.0), model(1.0), 2.0),
        Guided(model(1.0), model(-1.0), 3.0), Guided(model(1.0), model(-1.0), 2.0, (0.1, 1.0)),
    ]  # fmt: skip
    assert len({one.fingerprint() for one in different}) == len(different)


# ------------------------------------------------------------------------------------------------- whole timesteps


def whole(path=None) -> Denoiser:
    made = model(path=path or vp())
    made.integer_time = True
    return made


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 999), min_size=1, max_size=40, unique=True), st.floats(-0.45, 0.45))
def test_snapped_levels_are_the_table_s_own(timesteps, off):
    inner = whole()
    t = np.clip(np.array(sorted(timesteps, reverse=True)) + off, 0, 999)
    snapped = inner.snap(inner.path.sigma(t))
    np.testing.assert_array_equal(snapped, inner.path.sigma(np.rint(t)))
    np.testing.assert_array_equal(inner.snap(snapped), snapped)
    assert bool(np.all(np.diff(snapped) < 0))


def test_levels_on_one_timestep_are_refused():
    inner = whole()
    with pytest.raises(SigmaTuneError, match="2 levels fall on 1 of them"):
        inner.snap(inner.path.sigma(np.array([500.2, 499.9])))
    with pytest.raises(SigmaTuneError, match="1001 levels fall on 1000 of them"):
        inner.snap(inner.path.sigma(np.linspace(999, 0, 1001)))
    rows = inner.path.sigma(np.array([[900.0, 100.0], [500.2, 499.9]]))
    with pytest.raises(SigmaTuneError, match="whole timesteps only"):
        inner.snap(rows)
    assert inner.snap(rows[:1]).shape == (1, 2)


def test_the_infinite_level_is_a_whole_timestep():
    inner = whole(vp(zero_terminal_snr=True))
    assert inner.snap(np.array([INF, 1.0]))[0] == INF


def test_networks_of_real_time_keep_every_level():
    sigmas = np.geomspace(100, 0.02, 1500)
    np.testing.assert_array_equal(model(path=vp()).snap(sigmas), sigmas)


@pytest.mark.parametrize("bad", [1e-9, 1e9, np.nan, -1.0])
def test_levels_outside_the_range_are_refused(bad):
    for inner in (model(path=vp()), whole()):
        with pytest.raises(SigmaTuneError, match="outside the model's range"):
            inner.snap(np.array([1.0, bad]))


def test_a_flow_model_starts_from_pure_noise():
    assert model(path=Flow()).snap(np.array([INF, 1.0])).tolist() == [INF, 1.0]
