"""Laws of the noise paths: every map has an exact inverse, and alpha, s, sigma and logSNR say the same thing."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from exact import ALL_PATHS as PATHS
from exact import SD, is_table
from sigmatune.noise import VE, VP, Flow, Narrowed, NoisePath, alpha_of, from_spec, s_of, shift, unshift, vp
from sigmatune.noise import beta_tables as tables
from sigmatune.support.errors import SigmaTuneError

INFINITE = ("vp zero snr", "flow", "flow shifted", "flow unshifted", "narrowed below")
every_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())


def grid(path: NoisePath, count: int = 997) -> np.ndarray:
    """Levels over the whole range of a path, both ends included, infinity among them where the path has it."""
    high = min(path.sigma_max, 1e5)
    levels = np.exp(np.linspace(np.log(path.sigma_min), np.log(high), count))
    levels[0], levels[-1] = path.sigma_min, high
    return levels if high == path.sigma_max else np.append(levels, path.sigma_max)


@every_path
def test_time_and_sigma_are_inverse(path):
    sigma = grid(path)
    t = path.time(sigma)
    assert np.all(np.diff(t) > 0), "a noisier level has a later time"
    assert_allclose(path.sigma(t), sigma, rtol=1e-9)
    between = np.linspace(t[0], t[-1], 1234)
    assert_allclose(path.time(path.sigma(between)), between, rtol=1e-9, atol=1e-9)


@every_path
def test_position_and_sigma_are_inverse(path):
    sigma = grid(path)
    position = path.position(sigma)
    assert_allclose(position[[0, -1]], [1, path.levels], rtol=1e-12)
    assert_allclose(path.at_position(position), sigma, rtol=1e-9)
    between = np.linspace(1, path.levels, 1234)
    assert_allclose(path.position(path.at_position(between)), between, rtol=1e-9)


@every_path
def test_logsnr_is_minus_two_log_sigma_and_invertible(path):
    sigma = grid(path)
    logsnr = path.logsnr(path.time(sigma))
    with np.errstate(divide="ignore"):
        assert_allclose(logsnr, -2 * np.log(sigma), rtol=1e-9, atol=1e-9)
    assert_allclose(path.time(np.exp(-logsnr / 2).clip(path.sigma_min)), path.time(sigma), rtol=1e-9, atol=1e-9)


@every_path
def test_alpha_s_sigma_and_state_scale_agree(path):
    sigma = grid(path)
    t = path.time(sigma)
    alpha, s = path.alpha(t), path.s(t)
    finite = np.isfinite(sigma)
    assert_allclose((s / np.where(finite, alpha, 1))[finite], sigma[finite], rtol=1e-9)
    # The model's own state is state_scale times the unit state, in both of its parts.
    assert_allclose(s, path.state_scale(sigma) * s_of(sigma), rtol=1e-9)
    assert_allclose(alpha[finite], (path.state_scale(sigma) * alpha_of(sigma))[finite], rtol=1e-9)
    kind = path.inner if isinstance(path, Narrowed) else path
    if isinstance(kind, VP):
        assert_allclose(alpha**2 + s**2, 1, rtol=1e-12)
    elif isinstance(kind, VE):
        assert_array_equal(alpha, 1)
    else:
        assert_allclose(alpha + s, 1, rtol=1e-12)


def test_unit_state_has_unit_variance_at_every_level():
    sigma = np.array([0.0, 1e-8, 0.5, 3.0, 1e9, np.inf])
    assert_allclose(alpha_of(sigma) ** 2 + s_of(sigma) ** 2, 1, rtol=1e-14)
    assert (alpha_of(np.inf), s_of(np.inf), alpha_of(0.0), s_of(0.0)) == (0, 1, 1, 0)


@pytest.mark.parametrize("name", PATHS)
def test_infinity_where_the_path_has_it(name):
    path = PATHS[name]
    assert np.isinf(path.sigma_max) == (name in INFINITE)
    if name in INFINITE:
        t = path.time(np.inf)
        assert np.isinf(path.sigma(t))
        assert np.isinf(path.at_position(path.levels))
        assert (path.alpha(t), path.s(t), path.logsnr(t), path.state_scale(np.inf)) == (0, 1, -np.inf, 1)


@pytest.mark.parametrize("levels", [1000, 77])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs", "ends"),
    [
        ("linear", "linear", {}),
        ("linear", "linear", {"beta_start": 0.0015, "beta_end": 0.0195}),
        ("scaled_linear", "scaled_linear", SD),
        ("cosine", "squaredcos_cap_v2", {}),
    ],
)
def test_vp_tables_are_those_that_models_met(ours, theirs, ends, zero, levels):
    """Bit for bit where torch rounds as on most machines: its fused kernels, without the square roots of zero SNR."""
    scheduler = DDIMScheduler if zero else DDPMScheduler
    extra = {"rescale_betas_zero_snr": True} if zero else {}
    met = scheduler(num_train_timesteps=levels, beta_schedule=theirs, **ends, **extra).alphas_cumprod
    path, t = vp(ours, levels=levels, zero_terminal_snr=zero, **ends), np.arange(levels)
    if not zero and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert_array_equal(path.alphas_cumprod, met.double().numpy())
    assert is_table(path, met)
    table = path.alphas_cumprod
    with np.errstate(divide="ignore"):
        assert_array_equal(path.sigma(t), np.sqrt((1 - table) / table))


@pytest.mark.parametrize("kind", ["sigmoid", "laplace"])
@pytest.mark.parametrize("levels", [1000, 77])
def test_tables_that_only_diffusers_names_are_its_own(kind, levels):
    met = DDPMScheduler(num_train_timesteps=levels, beta_schedule=kind).betas.numpy()
    own = tables.laplace(levels) if kind == "laplace" else tables.sigmoid(1e-4, 0.02, levels)
    assert_allclose(own, met, rtol=3e-7, atol=2e-9)


def test_flow_shift_equals_that_of_diffusers():
    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas.double().numpy()  # tau, noisiest first
    path = Flow(3.0)
    sigma = path.at_position(np.arange(1000, 0, -1))
    assert_allclose(path.s(path.time(sigma)), theirs, rtol=1e-6)
    assert_allclose(path.time(sigma), 1000 * theirs, rtol=1e-6)


@given(
    start=st.floats(-7, 0),
    gaps=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=40),
    zero=st.booleans(),
    share=st.floats(0, 1),
)
def test_any_table_round_trips(start, gaps, zero, share):
    log_sigma = start + np.concatenate([[0.0], np.cumsum(gaps)])
    path = VP(np.append(1 / (1 + np.exp(2 * log_sigma)), [0.0] * zero))
    t = share * (path.levels - 1)
    assert_allclose(path.time(path.sigma(t)), t, rtol=1e-9, atol=1e-9)
    sigma = np.exp(start + share * (log_sigma[-1] - start)).clip(path.sigma_min)
    assert_allclose(path.sigma(path.time(sigma)), sigma, rtol=1e-9)
    again = from_spec(json.loads(json.dumps(path.spec())))
    assert_array_equal(again.alphas_cumprod, path.alphas_cumprod)


def test_vp_is_log_linear_between_entries_and_linear_in_one_over_sigma_before_infinity():
    path = PATHS["vp zero snr"]
    assert_allclose(path.sigma(10.5) ** 2, path.sigma(10) * path.sigma(11), rtol=1e-12)
    assert_allclose(path.sigma(998 + np.array([0.25, 0.5])), path.sigma(998) / np.array([0.75, 0.5]), rtol=1e-12)
    assert_allclose(path.sigma(998 + 1e-12), path.sigma(998), rtol=1e-9)


@given(tau=st.floats(0, 1), by=st.floats(0.01, 100))
def test_shift_multiplies_sigma_and_unshift_undoes_it(tau, by):
    shifted = shift(tau, by)
    assert 0 <= shifted <= 1
    assert_allclose(unshift(shifted, by), tau, rtol=1e-9, atol=1e-300)
    if tau < 1 - 1e-6:
        assert_allclose(shifted / (1 - shifted), by * tau / (1 - tau), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("by", [0.1, 0.3, 1.0, 1.15, 3.0, 7.3])
def test_shift_keeps_the_ends_exactly(by):
    assert (shift(0.0, by), shift(1.0, by), unshift(1.0, by)) == (0, 1, 1)
    assert np.isinf(Flow(by).sigma_max)
    assert np.isinf(Flow(by).at_position(1000))


@every_path
def test_spec_survives_json(path):
    again = from_spec(json.loads(json.dumps(path.spec())))
    assert type(again) is type(path)
    assert again.spec() == path.spec()
    assert again.levels == path.levels
    assert_array_equal(again.time(grid(path)), path.time(grid(path)))
    assert_array_equal(again.at_position([1.0, 3.3, path.levels]), path.at_position([1.0, 3.3, path.levels]))


@every_path
def test_levels_outside_the_range_are_refused(path):
    bad = [path.sigma_min * 0.999, 0.0, -1.0, np.nan]
    if np.isfinite(path.sigma_max):
        bad += [path.sigma_max * 1.001, np.inf]
    for sigma in bad:
        for refuses in (path.check, path.time, path.position):
            with pytest.raises(SigmaTuneError, match=r"outside the model's range \[.*\]; choose"):
                refuses(np.array([path.sigma_min, sigma]))


@pytest.mark.parametrize("t", [-0.1, 999.01, np.nan])
def test_times_outside_the_table_are_refused(t):
    with pytest.raises(SigmaTuneError, match=r"t must lie in \[0, 999\]"):
        vp().sigma(t)


def test_flow_and_ve_refuse_times_outside():
    for path, t in [(Flow(), 1000.1), (Flow(), -1), (Flow(), np.nan), (VE(), 80.1), (VE(), 0.0)]:
        with pytest.raises(SigmaTuneError):
            path.sigma(t)


def test_narrowing_spreads_positions_and_leaves_the_clock_alone():
    path, inner = PATHS["narrowed vp"], vp()
    assert (path.sigma_min, path.sigma_max, path.levels) == (0.05, 20.0, 1000)
    sigma = np.array([0.05, 0.7, 20.0])
    assert_array_equal(path.time(sigma), inner.time(sigma))
    middle = inner.at_position((inner.position(0.05) + inner.position(20.0)) / 2)
    assert_allclose(path.at_position(500.5), middle, rtol=1e-9)
    whole = Narrowed(inner, inner.sigma_min, inner.sigma_max)
    positions = np.linspace(1, 1000, 4321)
    assert_allclose(whole.at_position(positions), inner.at_position(positions), rtol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: VP([0.9]),
        lambda: VP([0.9, 0.9]),
        lambda: VP([0.5, 0.9]),
        lambda: VP([1.0, 0.5]),
        lambda: VP([0.9, -0.1]),
        lambda: VP([0.9, np.nan]),
        lambda: VP([[0.9, 0.5]]),
        lambda: VP([1e-300 * (1 + 2**-52), 1e-300]),
        lambda: VP([0.9, 0.0, 0.0]),
        lambda: vp("linear", beta_start=0.0),
        lambda: vp("linear", beta_end=1.0),
        lambda: vp("linear", levels=1),
        lambda: vp("sigmoid"),
        lambda: VE(0.0, 80.0),
        lambda: VE(80.0, 0.002),
        lambda: VE(0.002, np.inf),
        lambda: VE(clock="log"),
        lambda: VE(levels=1),
        lambda: Flow(0.0),
        lambda: Flow(np.inf),
        lambda: Flow(np.nan),
        lambda: Narrowed(vp(), 20.0, 0.05),
        lambda: Narrowed(vp(), 0.05, 200.0),
        lambda: Narrowed(vp(), 0.001, 20.0),
        lambda: Narrowed(vp(), np.nan, 20.0),
        lambda: from_spec({"kind": "vq"}),
        lambda: from_spec({}),
        lambda: from_spec({"kind": "flow"}),
        lambda: from_spec({"kind": "flow", "shift": 1.0, "shft": 2.0}),
        lambda: from_spec({"kind": "ve", "sigma_min": 0.1}),
    ],
)
def test_bad_paths_are_refused_in_one_sentence(make):
    with pytest.raises(SigmaTuneError) as caught:
        make()
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


def test_a_table_cannot_be_changed():
    table = np.array([0.9, 0.5])
    path = VP(table)
    table[0] = 0.8
    assert path.alphas_cumprod[0] == 0.9
    with pytest.raises(ValueError, match="read-only"):
        path.alphas_cumprod[0] = 0.8
