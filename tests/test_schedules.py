"""Laws of all schedule families, and what sets each of them apart. A family is tested once it is in the registry."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

from exact import ALL_PATHS as PATHS
from exact import SD
from sigmatune import schedules
from sigmatune.noise import VE, Flow, Narrowed, vp
from sigmatune.schedules import FAMILIES, build
from sigmatune.support.errors import SigmaTuneError

SPECTRA = [  # beyond the range on both sides, one ring alone, a single pixel, a flat one in between
    {"slope": 4.0, "rings": 128, "amplitude": 1e4, "kappa_min": 1e-3},
    {"spectrum": [9.0, 0.0, 0.0, 2.0, 0.0]},
    {"spectrum": [0.3]},
    {"spectrum": [1.0] * 9, "kappa_min": 0.1, "kappa_max": 5.0},
]
OPTIONS = {  # more than the defaults, where the curve changes its character
    "karras": [{"rho": 1.0}, {"rho": 20.0}],
    "kl-optimal": [{"c": 0.1}, {"c": 10.0}],
    "shifted-cosine": [{"shift": 0.25}, {"shift": 4.0}],
    "beta": [{"a": 0.5, "b": 0.5}, {"a": 0.8, "b": 1.2}],
    "beta-open": [{"a": 0.5, "b": 0.5}, {"a": 1.3, "b": 0.9}],
    "linear-quadratic": [{"threshold": 0.1}, {"threshold": 0.3}],
    "measured": [{"density": [3.0, 1.0, 0.5, 2.0]}, {"density": [0.0, 1.0, 0.0, 0.0, 4.0, 0.0]}],
    "polyexponential": [{"rho": 1.7}],
    "laplace": [{"mu": 1.0, "b": 0.8}],
    **{f"spectral-{kind}": SPECTRA for kind in ("frequency", "power", "mixed")},
}
CASES = [(family, options) for family in FAMILIES.values() for options in [{}, *OPTIONS.get(family.name, [])]]
every_case = pytest.mark.parametrize(("family", "options"), CASES, ids=lambda v: getattr(v, "name", str(v)))


def obeys(family, path, steps, options):
    """Asserts the laws of one family at one number of steps."""
    raw = family.build(steps, path, **family.options(options))
    made = build(family.name, steps, path, **options)
    what = (family, path, steps, options, made.sigmas)
    assert raw.shape == (steps,), what
    assert raw.dtype == np.float64, what
    levels = made.sigmas[:-1]
    assert made.steps == steps, what
    assert made.sigmas[-1] == 0, what
    assert np.all(np.diff(made.sigmas) < 0), what
    assert levels[-1] >= path.sigma_min * (1 - 1e-12), what
    assert levels[0] <= path.sigma_max * (1 + 1e-12), what
    if family.starts or steps == 1:
        assert levels[0] == path.sigma_max, what
    if family.ends and steps > 1:
        assert levels[-1] == path.sigma_min, what
    # build() may correct roundoff at promised ends, and nothing else.
    finite = np.isfinite(levels)
    assert np.all(np.abs(raw[finite] / levels[finite] - 1) < 1e-9), what
    assert np.all(raw[~finite] > 1e15) or np.all(raw[~finite] < -1e15), what  # tan(pi / 2), either side
    if steps < 20:
        assert made == build(family.name, steps, path, **options), what


@every_case
def test_laws(family, options):
    """N = 1..8 and the most on every path, and each N up to 100 on one of the paths that have so many levels."""
    defined = [path for path in PATHS.values() if family.defined_on(path)]
    for path in PATHS.values():
        if path not in defined:
            with pytest.raises(SigmaTuneError, match="flow models" if family.flow else "pass sigma_max="):
                build(family.name, 4, path, **options)
    for path in defined:
        for steps in {*range(1, 9), min(100, path.levels)}:
            obeys(family, path, steps, options)
    long = [path for path in defined if path.levels >= 100]
    for steps in range(9, 100):
        obeys(family, long[steps % len(long)], steps, options)


@every_case
@settings(max_examples=15)
@given(steps=st.integers(101, 1000), name=st.sampled_from(["vp linear", "vp zero snr", "ve", "flow shifted"]))
def test_laws_up_to_a_thousand_steps(family, options, steps, name):
    if family.defined_on(PATHS[name]):
        obeys(family, PATHS[name], steps, options)


@every_case
def test_narrowing_moves_the_ends(family, options):
    for path, low, high in [(vp(), 0.05, 20.0), (Flow(3.0), 0.01, 60.0), (VE(), 0.01, 80.0)]:
        if not family.defined_on(Narrowed(path, low, high)):
            continue
        made = build(family.name, 7, path, sigma_min=low, sigma_max=high, **options)
        if not family.tight:
            assert_array_equal(made.sigmas, build(family.name, 7, Narrowed(path, low, high), **options).sigmas)
        assert made.options == {**family.options(options), "sigma_min": low, "sigma_max": high}
        if family.starts or family.tight:
            assert made.sigmas[0] == high
        if family.ends or family.tight:
            assert made.sigmas[-2] == low
        assert np.all((made.sigmas[:-1] >= low * (1 - 1e-9)) & (made.sigmas[:-1] <= high * (1 + 1e-9)))
    if family.flow:
        return
    only_low = build(family.name, 7, vp(), sigma_min=0.05, **options)
    if family.tight:  # the other end stays where the data puts it
        assert only_low.sigmas[-2] == 0.05
        assert only_low.sigmas[0] == build(family.name, 7, vp(), **options).sigmas[0]
        only_high = build(family.name, 7, vp(), sigma_max=20.0, **options)
        assert only_high.sigmas[0] == 20.0
        assert only_high.sigmas[-2] == build(family.name, 7, vp(), **options).sigmas[-2]
        return
    assert_array_equal(only_low.sigmas, build(family.name, 7, Narrowed(vp(), 0.05, vp().sigma_max), **options).sigmas)


@every_case
def test_provenance_rebuilds_the_schedule(family, options):
    path = Flow(3.0) if family.flow else VE()
    made = build(family.name, 6, path, sigma_max=50.0, **options)
    assert made.family == family.name
    assert set(made.options) == {*family.defaults, "sigma_max"}
    assert build(made.family, 6, path, **made.options) == made


def test_names_and_descriptions():
    for name, family in FAMILIES.items():
        assert name == family.name
        assert family.description
    assert build("exponential", 5, VE()) == build("log-uniform", 5, VE())


# ------------------------------------------------------------------------------------------- each family's own mathematics


def linear(values: np.ndarray) -> bool:
    """Whether numbers are equally spaced."""
    return bool(np.allclose(np.diff(values), np.diff(values)[0], rtol=1e-9))


def test_each_family_is_linear_in_its_own_coordinate():
    path, flow = VE(0.002, 80.0), Flow(3.0)
    assert linear(build("karras", 9, path, rho=5.0).sigmas[:-1] ** (1 / 5))
    assert linear(np.log(build("log-uniform", 9, path).sigmas[:-1]))
    assert linear(np.arctan(build("kl-optimal", 9, path, c=0.5).sigmas[:-1] / 0.5))
    assert linear(np.arctan(build("kl-optimal", 9, flow, c=0.5).sigmas[:-1] / 0.5))
    assert linear(np.arctan(build("shifted-cosine", 9, flow, shift=0.5).sigmas[:-1] * 0.5))
    for name in ("uniform-linspace", "uniform-leading", "uniform-trailing"):
        assert linear(vp().time(build(name, 9, vp()).sigmas[:-1]))
        assert linear(flow.position(build(name, 9, flow).sigmas[:-1]))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 33, 50, 99, 100, 999, 1000])
@pytest.mark.parametrize("offset", [0, 1])
def test_uniform_families_round_to_the_timesteps_of_diffusers(steps, offset):
    path = vp("scaled_linear", **SD)
    for spacing in ("linspace", "leading", "trailing"):
        theirs = DDIMScheduler(timestep_spacing=spacing, steps_offset=offset, clip_sample=False)
        theirs.set_timesteps(steps)
        theirs = theirs.timesteps.numpy()
        options = {"steps_offset": offset} if spacing == "leading" else {}
        if spacing == "leading" and (steps == 1 or (offset and 1000 % steps == 0 and steps == 1000)):
            continue  # one step: theirs starts at the clean end; offset 1 with all 1000: theirs asks for t = 1000
        ours = path.time(build(f"uniform-{spacing}", steps, path, **options).sigmas[:-1])
        if spacing == "linspace" and steps == 1:
            assert (theirs.tolist(), ours.tolist()) == ([0], [999.0])  # theirs denoises pure noise at t = 0
            continue
        if len(theirs) != steps:
            assert spacing == "trailing"
            continue
        if spacing == "leading":
            assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        tie = np.abs(ours % 1 - 0.5) < 1e-6
        assert_array_equal(np.rint(ours)[~tie], theirs[~tie])
        assert_allclose(ours, theirs, rtol=0, atol=0.5 + 1e-6)


def test_trailing_never_leaves_the_table_where_diffusers_does():
    path, wrong = vp(), 0
    for steps in range(1, 1001):
        t = path.time(build("uniform-trailing", steps, path).sigmas[:-1])
        assert (len(t), t[0]) == (steps, 999)
        assert t[-1] >= 0
        assert_allclose(t + 1, 1000 * (1 - np.arange(steps) / steps), rtol=1e-9, atol=1e-9)
        wrong += len(np.arange(1000, 0, -1000 / steps)) != steps
    assert wrong > 0, "the float stride that diffusers uses is right today: update the documentation"


def test_leading_and_trailing_refuse_more_steps_than_levels():
    for name in ("uniform-leading", "uniform-trailing"):
        with pytest.raises(SigmaTuneError, match=f"{name} takes at most the model's 1000 levels, not 1001"):
            build(name, 1001, vp())
    assert build("uniform-linspace", 1001, vp()).steps == 1001


@pytest.mark.parametrize("offset", [-1, 11, 1.5])
def test_leading_refuses_offsets_that_leave_the_range(offset):
    assert vp().time(build("uniform-leading", 30, vp(), steps_offset=10).sigmas[0]) == pytest.approx(967)
    with pytest.raises(SigmaTuneError, match="steps_offset must"):
        build("uniform-leading", 90, vp(), steps_offset=offset if offset != 11 else 22)


def test_sigma_families_equal_those_of_diffusers():
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", **SD)
    path = vp("scaled_linear", **SD)
    theirs = np.array([path.sigma_min, path.sigma_max])[::-1]
    import torch

    for steps in (2, 5, 20, 77):
        karras = scheduler._convert_to_karras(in_sigmas=torch.from_numpy(theirs.copy()), num_inference_steps=steps)
        assert_allclose(build("karras", steps, path).sigmas[:-1], karras, rtol=1e-9)
        log = scheduler._convert_to_exponential(in_sigmas=torch.from_numpy(theirs.copy()), num_inference_steps=steps)
        assert_allclose(build("log-uniform", steps, path).sigmas[:-1], log, rtol=1e-9)
    spread = scheduler._convert_to_beta(in_sigmas=torch.from_numpy(theirs.copy()), num_inference_steps=5)
    assert spread[2] > 2 * build("beta", 5, path).sigmas[2], "theirs is over sigma, another curve of the same name"


def test_large_rho_tends_to_log_uniform():
    assert_allclose(build("karras", 9, VE(), rho=1e5).sigmas, build("log-uniform", 9, VE()).sigmas, rtol=1e-3)


@pytest.mark.parametrize("c", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("steps", [3, 4, 6])
def test_kl_optimal_minimises_eulers_error_on_white_data(c, steps):
    """Data N(0, c^2): with both ends fixed, no other levels bring Euler's gain nearer to the exact one."""
    low, high = 0.02, 40.0

    def error(inner):
        sigma = np.array([high, *np.exp(inner), low, 0.0])
        if np.any(np.diff(sigma) >= 0):
            return 100.0
        denoiser = c**2 / (c**2 + sigma[:-1] ** 2)  # D(x; sigma) = denoiser x
        gain = np.prod(1 + (sigma[1:] - sigma[:-1]) / sigma[:-1] * (1 - denoiser))
        exact = c / np.hypot(c, high)
        return float(2 * np.log(np.abs(gain - exact)))

    start = np.log(np.geomspace(high, low, steps)[1:-1])
    found = minimize(error, start, method="BFGS", options={"gtol": 1e-7})
    levels = build("kl-optimal", steps, VE(low, high), c=c).sigmas
    assert_allclose(np.exp(found.x), levels[1:-2], rtol=1e-4)
    assert error(np.log(levels[1:-2])) <= found.fun + 1e-9


def test_shifted_cosine_is_cosine_logsnr_plus_twice_log_shift():
    low, high = 1e-6, 1e6  # hardly truncated: theta = pi v / 2
    for shift in (0.25, 1.0, 2.0):
        sigma = build("shifted-cosine", 8, VE(low, high), shift=shift).sigmas[1:-1]
        v = 1 - np.arange(1, 8) / 8
        assert_allclose(-2 * np.log(sigma), -2 * np.log(np.tan(np.pi * v / 2)) + 2 * np.log(shift), atol=1e-4)


@given(steps=st.integers(1, 200), shift=st.floats(0.05, 20))
def test_shifted_cosine_is_kl_optimal_without_its_last_level(steps, shift):
    for path in (vp(), Flow()):
        kl = build("kl-optimal", steps + 1, path, c=1 / shift).sigmas[:-2]
        assert_allclose(build("shifted-cosine", steps, path, shift=shift).sigmas[:-1], kl, rtol=1e-9)


@pytest.mark.parametrize(
    ("a", "steps", "timesteps"),
    [(0.5, 6, [999, 904, 654, 345, 95, 0]), (0.6, 10, [999, 952, 854, 724, 576, 423, 275, 145, 47, 0])],
)
def test_beta_has_the_published_timesteps(a, steps, timesteps):
    t = vp().time(build("beta", steps, vp(), a=a, b=a).sigmas[:-1])
    assert np.rint(t).tolist() == timesteps


def test_beta_one_one_is_uniform():
    for path in (vp(), Flow(3.0), VE()):
        for steps in (1, 2, 13):
            uniform = build("uniform-linspace", steps, path).sigmas
            assert_allclose(build("beta", steps, path, a=1, b=1).sigmas, uniform, rtol=1e-9)


@given(steps=st.integers(2, 300))
def test_beta_one_half_is_the_squared_sine(steps):
    for name, u in (("beta", np.linspace(1, 0, steps)), ("beta-open", 1 - np.arange(steps) / steps)):
        t = vp().time(build(name, steps, vp(), a=0.5, b=0.5).sigmas[:-1])
        assert_allclose(t, 999 * np.sin(np.pi * u / 2) ** 2, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("shape", [0.5, 0.8, 2.0])
def test_beta_with_one_parameter_one_is_a_power(shape):
    u = np.linspace(1, 0, 12)
    low = vp().time(build("beta", 12, vp(), a=shape, b=1).sigmas[:-1])
    high = vp().time(build("beta", 12, vp(), a=1, b=shape).sigmas[:-1])
    assert_allclose(low, 999 * u ** (1 / shape), rtol=1e-6, atol=1e-9)
    assert_allclose(high, 999 * (1 - (1 - u) ** (1 / shape)), rtol=1e-6, atol=1e-9)


@given(steps=st.integers(2, 200), a=st.floats(0.3, 4), b=st.floats(0.3, 4))
def test_beta_mirrors_when_a_and_b_change_places(steps, a, b):
    t = vp().time(build("beta", steps, vp(), a=a, b=b).sigmas[:-1])
    mirrored = vp().time(build("beta", steps, vp(), a=b, b=a).sigmas[:-1])
    assert_allclose(t, 999 - mirrored[::-1], rtol=0, atol=1e-3)  # the quantile function is good to 1e-7


@given(steps=st.integers(1, 200))
def test_beta_open_is_beta_of_one_more_step_without_the_last(steps):
    assert_allclose(build("beta-open", steps, vp()).sigmas[:-1], build("beta", steps + 1, vp()).sigmas[:-2], rtol=1e-9)


def test_beta_in_extremes_is_refused_not_repaired():
    with pytest.raises(SigmaTuneError, match="appears twice"):
        build("beta", 20, vp(), a=0.01, b=0.01)


# --------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "steps", "options", "says"),
    [
        ("karas", 5, {}, "there is no schedule family 'karas'; did you mean 'karras'"),
        ("zzz", 5, {}, "the known ones are ays-if, ays-sd15"),
        ("karras", 0, {}, "steps must be a whole number of at least 1"),
        ("karras", -3, {}, "steps must be a whole number of at least 1"),
        ("karras", 4.0, {}, "steps must be a whole number of at least 1"),
        ("karras", 5, {"roh": 7}, "there is no karras option 'roh'; did you mean 'rho'"),
        ("log-uniform", 5, {"sigma_mim": 1}, "there is no log-uniform option 'sigma_mim'; did you mean 'sigma_min'"),
        ("karras", 5, {"rho": 0}, "rho must be a positive number"),
        ("karras", 5, {"rho": -7.0}, "rho must be a positive number"),
        ("karras", 5, {"rho": np.nan}, "rho must be a finite number"),
        ("karras", 5, {"rho": np.inf}, "rho must be a finite number"),
        ("karras", 5, {"rho": "7"}, "rho must be a finite number, not '7'"),
        ("karras", 5, {"rho": True}, "rho must be a finite number"),
        ("kl-optimal", 5, {"c": 0.0}, "c must be a positive number"),
        ("shifted-cosine", 5, {"shift": -1}, "shift must be a positive number"),
        ("beta", 5, {"a": 0}, "a must be a positive number"),
        ("beta-open", 5, {"b": -0.5}, "b must be a positive number"),
        ("uniform-leading", 5, {"steps_offset": 0.5}, "steps_offset must be a whole number"),
        ("karras", 5, {"sigma_max": 1e3}, "sigma 1000 is outside the model's range"),
        ("karras", 5, {"sigma_min": 1e-3}, "sigma 0.001 is outside the model's range"),
        ("karras", 5, {"sigma_min": 3, "sigma_max": 2}, "need 0 < sigma_min < sigma_max, got 3 and 2"),
        ("karras", 5, {"sigma_min": -1}, "need 0 < sigma_min < sigma_max"),
        ("karras", 5, {"sigma_max": np.nan}, "sigma_max must be a finite number"),
        ("karras", 5, {"sigma_max": np.inf}, "sigma_max must be a finite number"),
        ("karras", 5, {"sigma_max": "80"}, "sigma_max must be a finite number"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(name, steps, options, says):
    with pytest.raises(SigmaTuneError) as caught:
        build(name, steps, vp(), **options)
    message = str(caught.value)
    assert says in message
    assert message.endswith((".", "?"))
    assert "\n" not in message


def test_families_of_a_finite_range_ask_for_one():
    for name in ("karras", "log-uniform"):
        with pytest.raises(SigmaTuneError, match=f"{name} needs a finite first level .* pass sigma_max="):
            build(name, 5, Flow())
        assert build(name, 5, Flow(), sigma_max=100).sigmas[0] == 100


# ------------------------------------------------------------------------------------------------ the published static list


SD_ENDS, OLD_ENDS = {"sigma_min": 0.0291675, "sigma_max": 14.614642}, {"sigma_min": 0.1, "sigma_max": 10.0}
EVERYWHERE = [
    ("beta", {}), ("beta", {"a": 0.5, "b": 0.5}), ("beta-open", {}), ("beta-open", {"a": 0.5, "b": 0.7}),
    ("ays-sd15", {}), ("ays-sdxl", {}), ("ays-if", {}), ("ays-svd", {}),
    ("comfy-simple", {}), ("comfy-normal", {}), ("comfy-sgm-uniform", {}),
]  # fmt: skip


def test_the_list_of_static_defaults_is_the_published_one():
    found = schedules.defaults(vp())
    listed = [(family, options) for _, family, options in found]
    assert listed == [
        ("uniform-trailing", {}), ("uniform-linspace", {}), ("uniform-leading", {}),
        ("karras", {}), ("karras", SD_ENDS), ("karras", OLD_ENDS),
        ("log-uniform", {}), ("log-uniform", SD_ENDS), ("log-uniform", OLD_ENDS), ("kl-optimal", {}),
        *EVERYWHERE[:5], ("ays-sd15", {"scaled": 1.0}), *EVERYWHERE[5:],
    ]  # fmt: skip
    labels = [label for label, _, _ in found]
    assert len(set(labels)) == len(labels)
    assert labels[3:5] == ["karras rho=7", "karras rho=7 sigma_min=0.0291675 sigma_max=14.6146"]
    assert {"beta a=0.6 b=0.6", "beta-open a=0.5 b=0.7", "ays-sd15 scaled=1", "kl-optimal c=1"} < set(labels)
    for path, (_, family, options) in itertools.product([vp(), VE()], found):
        assert build(family, 8, path, **options).steps == 8


def test_the_list_leaves_out_what_the_path_does_not_have():
    listed = [(family, options) for _, family, options in schedules.defaults(Flow())]
    assert {"karras", "log-uniform"} == {family for family, options in listed if options in (SD_ENDS, OLD_ENDS)}
    assert ("linear-quadratic", {}) in listed
    for absent in (("karras", {}), ("log-uniform", {}), ("ays-sd15", {"scaled": 1.0})):  # from an infinite first level
        assert absent not in listed
    for present in EVERYWHERE:
        assert present in listed
    far = [(family, options) for _, family, options in schedules.defaults(VE(20.0, 300.0))]
    assert ("ays-sd15", {}) not in far, "all of its levels are below the range"
    assert ("ays-if", {}) in far
    assert not any("sigma_max" in options for _, options in far)


def test_published_ends_are_cut_to_the_range_and_named_once():
    sd, near = vp("scaled_linear", **SD), VE(0.05, 12.0)
    assert ("karras", SD_ENDS) not in [(family, options) for _, family, options in schedules.defaults(sd)]
    ends = [options for _, family, options in schedules.defaults(near) if family == "karras"]
    assert ends == [{}, OLD_ENDS], "Stable Diffusion's ends are both outside"
    half = [options for _, family, options in schedules.defaults(VE(0.05, 40.0)) if family == "karras"]
    assert half == [{}, {"sigma_max": 14.614642}, OLD_ENDS]


@pytest.mark.parametrize("path", [vp(), VE(), Flow(3.0), vp("scaled_linear", **SD)], ids=["vp", "ve", "flow", "sd"])
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_rivals_have_levels_of_their_own(path, steps):
    rivals = schedules.rivals(steps, path)
    names = [name for rival in rivals for name in (rival.label, *rival.same)]
    assert sorted(names) == sorted(label for label, _, _ in schedules.defaults(path))
    for first, second in itertools.combinations(rivals, 2):
        assert not np.allclose(first.schedule.sigmas, second.schedule.sigmas, rtol=0.01, atol=0)
    of = {name: rival for rival in rivals for name in (rival.label, *rival.same)}
    if path.levels == 1000 and steps == 10:
        assert of["comfy-simple"] is of["uniform-trailing"]
        assert (of["comfy-normal"] is of["uniform-linspace"]) == (not isinstance(path, Flow))


def test_levels_are_the_same_within_a_hundredth_and_infinite_ones_with_infinite_ones_alone():
    levels = {"inf": [np.inf, 5.0], "inf, near": [np.inf, 5.04], "80": [80.0, 5.0], "inf, off": [np.inf, 5.06]}
    found = schedules.joined((name, schedules.Schedule([*some, 0.0])) for name, some in levels.items())
    assert [(rival.label, *rival.same) for rival in found] == [("inf", "inf, near"), ("80",), ("inf, off",)]
    backwards = schedules.joined((name, schedules.Schedule([*levels[name], 0.0])) for name in ("80", "inf"))
    assert len(backwards) == 2


def test_the_models_own_default_joins_the_list_once():
    assert schedules.defaults(vp(), ("karras", {"rho": 7.0})) == schedules.defaults(vp())
    *rest, (label, family, options) = schedules.defaults(vp(), ("uniform-leading", {"steps_offset": 1}))
    assert rest == schedules.defaults(vp())
    assert (family, options) == ("uniform-leading", {"steps_offset": 1})
    assert label == "uniform-leading steps_offset=1 (the model's own)"
    assert schedules.defaults(vp(), ("exponential", {})) == schedules.defaults(vp()), "an alias is no other family"
    assert schedules.defaults(Flow(), ("exponential", {})) == schedules.defaults(Flow())
    narrowed = ("karras", {"sigma_max": 20.0})
    assert schedules.defaults(vp(), narrowed)[-1] == ("karras rho=7 sigma_max=20 (the model's own)", *narrowed)
    with pytest.raises(SigmaTuneError, match="did you mean"):
        schedules.defaults(vp(), ("uniform-leeding", {}))


# ------------------------------------------------------------------------------- rivals, against the programs that ship them


def test_ays_tables_are_the_published_ones():
    from diffusers.schedulers import AysSchedules

    for table, name in (("sd15", "StableDiffusion"), ("sdxl", "StableDiffusionXL"), ("svd", "StableDiffusionVideo")):
        published = AysSchedules[f"{name}Sigmas"]
        assert_allclose(build(f"ays-{table}", 10, VE(0.001, 1000.0)).sigmas, published, rtol=1e-12)
    t = vp("scaled_linear", **SD).time(build("ays-sd15", 10, vp("scaled_linear", **SD)).sigmas[:-1])
    assert_allclose(t, AysSchedules["StableDiffusionTimesteps"], atol=1.0)  # its authors round


@pytest.mark.parametrize("steps", [4, 7, 20])
def test_ays_is_read_as_its_authors_read_it(steps):
    """Eleven levels to N + 1 by linear interpolation of the logarithms over the position, the last one replaced by 0."""
    table = np.array([14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029])
    read = np.exp(np.interp(np.linspace(0, 1, steps + 1), np.linspace(0, 1, 11), np.log(table)))
    assert_allclose(build("ays-sd15", steps, VE()).sigmas[:-1], read[:-1], rtol=1e-12)
    scaled = build("ays-sd15", steps, VE(0.002, 80.0), scaled=1.0).sigmas[:-1]
    bend = np.log(scaled / 0.002) / np.log(80 / 0.002)
    assert_allclose(bend, np.log(read[:-1] / 0.029) / np.log(14.615 / 0.029), rtol=1e-10)


def test_ays_is_cut_to_the_range():
    path = VE(0.3, 5.0)
    sigmas = build("ays-sdxl", 200, path).sigmas[:-1]
    assert sigmas[0] == pytest.approx(5.0)
    assert 0.3 < sigmas[-1] < 0.32
    inside = np.array([3.771, 2.181, 1.342, 0.862, 0.555, 0.380])  # the table's kinks stay where they are
    assert_allclose(np.exp(np.interp(-np.log(inside), -np.log(sigmas), np.log(sigmas))), inside, rtol=1e-3)
    slopes = np.diff(np.log(sigmas))
    assert len(np.unique(slopes.round(6))) <= 8 + 7, "piecewise linear: a slope for each piece and each kink"
    with pytest.raises(SigmaTuneError, match=r"14.615 to 0.029, lie outside the range \[20, 80\]; pass scaled=1"):
        build("ays-sd15", 4, VE(20.0, 80.0))
    with pytest.raises(SigmaTuneError, match="scaled is 0"):
        build("ays-sd15", 4, VE(), scaled=0.5)
    with pytest.raises(SigmaTuneError, match="infinite first level"):
        build("ays-sd15", 4, Flow(), scaled=1.0)


def test_comfyuis_own_spacings():
    """simple takes whole entries of the table, normal and sgm_uniform real timesteps."""
    sd = vp("scaled_linear", **SD)
    table = EulerDiscreteScheduler(beta_schedule="scaled_linear", **SD).alphas_cumprod.numpy().astype(float)
    entries = np.sqrt((1 - table) / table)
    assert_allclose(build("comfy-simple", 6, sd).sigmas[:-1], entries[[999, 833, 666, 499, 333, 166]], rtol=1e-5)
    assert_allclose(sd.time(build("comfy-normal", 4, sd).sigmas[:-1]), [999, 666, 333, 0], atol=1e-9)
    assert_allclose(sd.time(build("comfy-sgm-uniform", 4, sd).sigmas[:-1]), [999, 749.25, 499.5, 249.75], atol=1e-9)
    sd3 = Flow(3.0)  # whose times before the shift are u, after it 3 u / (1 + 2 u)
    assert_allclose(sd3.time(build("comfy-simple", 4, sd3).sigmas[:-1]), [1000, 900, 750, 500], rtol=1e-12)
    twice = 3 * 0.001 / 1.002  # sigma_min after the shift, read as a time before it
    u = np.linspace(1, twice, 5)
    assert_allclose(sd3.time(build("comfy-normal", 5, sd3).sigmas[:-1]), 3000 * u / (1 + 2 * u), rtol=1e-9)


def test_comfyuis_beta_rounds_ours():
    from scipy.stats import beta as distribution

    for a, b in ((0.6, 0.6), (0.5, 0.7)):
        t = np.rint(distribution.ppf(1 - np.linspace(0, 1, 8, endpoint=False), a, b) * 999)
        assert_array_equal(np.rint(vp().time(build("beta-open", 8, vp(), a=a, b=b).sigmas[:-1])), t)


def test_linear_quadratic_is_mochis():
    """Its polynomial, whose coefficients its authors give: q i^2 + l i + c from the step L on."""
    for steps in (2, 3, 4, 9, 64):
        linear, threshold = steps // 2, 0.025
        missing, rest = linear - threshold * steps, steps - linear
        q, slope = missing / (linear * rest**2), threshold / linear - 2 * missing / rest**2
        x = [i * threshold / linear if i < linear else q * i**2 + slope * i + q * linear**2 for i in range(steps)]
        tau = Flow(3.0).time(build("linear-quadratic", steps, Flow(3.0)).sigmas[:-1]) / 1000
        assert_allclose(tau, 1 - np.array(x), rtol=1e-9)
    with pytest.raises(SigmaTuneError, match="take another family"):
        build("linear-quadratic", 4, vp())
    with pytest.raises(SigmaTuneError, match="threshold must lie in"):
        build("linear-quadratic", 4, Flow(), threshold=0.5)


def test_importing_the_families_does_not_import_torch():
    code = "import sys, sigmatune.schedules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
