"""Functions that predict velocity, noise, v or score are the same denoiser as the one that predicts the data."""

from __future__ import annotations

import pytest
import torch

import sigmatune as st
from sigmatune import SigmaTuneError, noise

SHAPE, DEVIATION = (1, 4, 4), 0.5


def parts(x, kept, added):
    """Data and noise of Gaussian data in x = kept x0 + added eps, by their conditional means."""
    variance = (kept * DEVIATION) ** 2 + added**2
    return kept * DEVIATION**2 / variance * x, added / variance * x


def column(t):
    return t.view(-1, 1, 1, 1)


def velocity(x, t):
    x0, eps = parts(x, 1 - column(t), column(t))
    return eps - x0


def of_table(x, t, path):
    """Data and noise at an index of a table."""
    levels = t.double().numpy()
    return parts(x, column(torch.from_numpy(path.alpha(levels)).to(x)), column(torch.from_numpy(path.s(levels)).to(x)))


def exact():
    return st.load(lambda x, sigma: parts(x, 1.0, column(sigma))[0], shape=SHAPE)


def same(model, levels=(20.0, 1.0, 0.05)):
    z = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    for level in levels:
        torch.testing.assert_close(model(z, level), exact()(z, level), atol=2e-5, rtol=1e-4)


def test_a_velocity_is_a_denoiser_whichever_end_holds_the_data():
    forward = st.load(velocity, shape=SHAPE, predicts="velocity")
    backward = st.load(lambda x, t: -velocity(x, 1 - t), shape=SHAPE, predicts="flow_prediction", data_at=1)
    for model in (forward, backward):
        same(model)
        assert model.path.sigma_max == float("inf")
    assert forward.fingerprint() != backward.fingerprint()


def test_its_time_runs_from_0_to_1():
    seen = []

    def watched(x, t):
        seen.append(t.clone())
        return velocity(x, t)

    model = st.load(watched, shape=SHAPE, predicts="velocity", path=noise.Flow(3.0))
    model(torch.zeros(1, *SHAPE), float("inf"))
    model(torch.zeros(1, *SHAPE), 1.0)
    assert [float(t) for t in seen[-2:]] == [1.0, 0.5]


def test_noise_v_and_score_are_denoisers():
    path = noise.vp("linear")

    def eps(x, t):
        return of_table(x, t, path)[1]

    def v(x, t):
        x0, e = of_table(x, t, path)
        levels = t.double().numpy()
        alpha, s = (column(torch.from_numpy(part(levels)).to(x)) for part in (path.alpha, path.s))
        return alpha * e - s * x0

    same(st.load(eps, shape=SHAPE, predicts="noise", path=path))
    same(st.load(eps, shape=SHAPE, predicts="epsilon", path=path))  # diffusers' name of the same
    same(st.load(v, shape=SHAPE, predicts="v", path=path))
    same(st.load(v, shape=SHAPE, predicts="v_prediction", path=path))
    same(st.load(lambda x, s: -parts(x, 1.0, column(s))[1] / column(s), shape=SHAPE, predicts="score"))


def test_a_flow_function_is_tuned_and_its_plan_knows_what_it_predicts(little):
    model = st.load(velocity, shape=SHAPE, predicts="velocity")
    plan = st.compile_plan(st.build_schedule("uniform-linspace", 6, model.path), "euler", model)
    assert plan.tuned_for == {"prediction": {"name": "flow"}}
    assert st.sample(model, plan, 256).std() == pytest.approx(DEVIATION, abs=0.15)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, 'needs the shape.*predicts="velocity"'),
        ({"shape": SHAPE, "predicts": "velocities"}, "did you mean 'velocity'"),
        ({"shape": SHAPE, "predicts": "noise"}, "needs its noise path"),
        ({"shape": SHAPE, "predicts": "sample"}, "the known ones are data, noise, score, v, velocity"),
        ({"shape": SHAPE, "predicts": "velocity", "data_at": 2}, "data_at is 0 or 1"),
        ({"shape": SHAPE, "predicts": "score", "data_at": 1}, "belongs to"),
        ({"shape": (0,), "predicts": "velocity"}, "shape of one sample"),
        ({"shape": SHAPE, "predicts": "velocity", "path": noise.vp("linear")}, "needs a noise path of kind flow"),
        ({"shape": SHAPE, "predicts": "velocity", "dtype": torch.int8}, "dtype is"),
    ],
)
def test_what_does_not_fit_is_refused(options, reason):
    with pytest.raises(SigmaTuneError, match=reason):
        st.load(velocity, **options)


def test_a_network_without_its_process_is_refused():
    import diffusers

    net = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
    )
    with pytest.raises(SigmaTuneError, match="UNet2DModel alone has neither a noise path"):
        st.load(net)


def test_a_range_that_is_no_number_and_an_output_that_is_not_dense_are_refused():
    with pytest.raises(SigmaTuneError, match=r"sigma_min and sigma_max are numbers, not 'a' and 80\.0"):
        st.load(lambda x, sigma: x, shape=(1, 4, 4), sigma_min="a")
    sparse = st.load(lambda x, sigma: x.to_sparse(), shape=(1, 4, 4))
    with pytest.raises(SigmaTuneError, match="must return a dense tensor"):
        sparse(torch.randn(1, 1, 4, 4), 1.0)
