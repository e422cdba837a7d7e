"""Models that are told a class and the ends of their schedule: row by row, in any batch, guided or not; and their rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sigmatune as st
from sigmatune.core.wrappers import Counted, Observed
from sigmatune.rules import Control, SpectralRule, load_rule
from sigmatune.rules.rule import trained_curve
from sigmatune.spectra.advice import guidance_interval
from sigmatune.spectra.curves import mixed
from sigmatune.spectra.mixture import Mixture
from sigmatune.support.errors import PlanMismatch, SigmaTuneError
from sigmatune.training.run import train
from training import recipe, written

ENDS = np.array([[0.05, 5.0], [0.1, 9.0], [0.02, 15.0], [0.2, 20.0], [0.03, 7.0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of three classes that was trained a little on the curve of each image."""
    place = tmp_path_factory.mktemp("conditional")
    one = recipe(saving={"spectra": True}, training={"images": 400, "rate": 1e-2})
    return train(one, place / "run", source=written(place, n=96), device="cpu")


@pytest.fixture
def model(folder):
    return st.load(folder)


@pytest.fixture
def spectra(folder):
    return Mixture.load(folder / "spectra.json")


def plan(model, calls=3):
    return st.compile_plan(st.build_schedule("karras", calls, model.path, sigma_min=0.05, sigma_max=5.0), "dpmpp2m")


def test_a_row_is_told_its_own_and_does_not_depend_on_its_batch(model):
    labels = ["0", "1", "2", "0", "1"]
    told = model.conditioned(range(5), labels, ENDS)
    table = plan(model)
    whole = st.sample(told, table, 5, micro_batch=2)
    for i, label in enumerate(labels):
        alone = model.given(label, ends=tuple(ENDS[i]))
        torch.testing.assert_close(st.sample(alone, table, indices=[i], micro_batch=2)[0], whole[i], rtol=0, atol=0)
    assert not torch.equal(whole[0], st.sample(model.given("1", ends=(0.05, 5.0)), table, 1, micro_batch=2)[0])
    assert not torch.equal(whole[0], st.sample(model.given("0", ends=(0.05, 9.0)), table, 1, micro_batch=2)[0])
    torch.testing.assert_close(st.sample(told, table, indices=[2, 1], micro_batch=2), whole[[2, 1]], rtol=0, atol=0)
    assert told.fingerprint() == model.fingerprint()
    assert told.conditions() != model.conditioned(range(5), labels[::-1], ENDS).conditions() != "" == model.conditions()
    with pytest.raises(SigmaTuneError, match=r"select rows with rows"):
        told(torch.randn(3, 3, 8, 8), 1.0)


def test_what_it_is_told_goes_into_the_fingerprint(model):
    names = {
        one.fingerprint()
        for one in (model, model.given("0"), model.given("1"), model.given(ends=(0.1, 5.0)), model.without_class())
    }
    assert len(names) == 4  # told no class is told no class
    assert model.given("0").fingerprint() == model.given("0").fingerprint()
    tuned = st.compile_plan(st.build_schedule("karras", 3, model.path), "euler", model.given("0"))
    with pytest.warns(PlanMismatch):
        st.sample(model.given("1"), tuned, 1)


def test_guidance_is_the_formula_inside_the_interval(model):
    z, sigma = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 30.0], dtype=torch.float64)
    told = model.given("2")
    guided = told.guided(3.0, (0.1, 10.0))
    conditional, unconditional = told(z, sigma), told.without_class()(z, sigma)
    expected = torch.stack([unconditional[0] + 3 * (conditional[0] - unconditional[0]), conditional[1]])
    torch.testing.assert_close(guided(z, sigma), expected)
    torch.testing.assert_close(unconditional, model(z, sigma))
    assert [guided.calls_at(level) for level in (1.0, 30.0)] == [2, 1]
    rows = model.guided(2.0).conditioned(range(2), ["0", "1"], ENDS[:2]).rows([0, 1])
    own = [model.given(label, ends=tuple(ends)).guided(2.0) for label, ends in zip("01", ENDS, strict=False)]
    expected = torch.cat([one(z[i : i + 1], 0.7) for i, one in enumerate(own)])
    torch.testing.assert_close(rows(z, 0.7), expected, atol=1e-5, rtol=1e-5)


def test_wrappers_pass_it_on_and_count(model):
    seen = []
    counted = Counted(Observed(model, lambda z, sigma, x0: seen.append(len(z))))
    told = counted.conditioned(range(3), ["0", "1", "2"], ENDS[:3])
    st.sample(told, plan(model), 3, micro_batch=2)
    assert (counted.calls, told.calls) == (6, 6)
    assert seen == [2] * 6
    torch.testing.assert_close(
        st.sample(told, plan(model), 3, micro_batch=2),
        st.sample(model.conditioned(range(3), ["0", "1", "2"], ENDS[:3]), plan(model), 3, micro_batch=2), rtol=0, atol=0,
    )  # fmt: skip
    digits = st.load("digits")
    assert digits.conditioned([0], ["0"], ENDS[:1]) is digits
    assert Counted(digits).conditioned([0], ["0"], ENDS[:1]).inner is digits


def test_what_it_cannot_be_told_is_refused(model, folder):
    with pytest.raises(SigmaTuneError, match="no class 'cat'"):
        st.load(folder, label="cat")
    with pytest.raises(SigmaTuneError, match="never trained without classes"):
        model.without_class().without_class()
    with pytest.raises(SigmaTuneError, match="images of shape"):
        model.given(images=torch.zeros(1, 3, 8, 8))
    with pytest.raises(TypeError, match="takes no label"):
        st.load(st.models.bundled.bundled_folder("digits"), label="3")


def test_rows_take_labels_from_a_list_one_after_the_other(model, folder):
    several = st.load(folder, labels=[2, "0"])
    table = plan(model)
    whole = st.sample(several, table, 4, micro_batch=2)
    for i, label in enumerate(["2", "0", "2", "0"]):
        alone = st.sample(model.given(label), table, indices=[i], micro_batch=2)[0]
        torch.testing.assert_close(alone, whole[i], rtol=0, atol=0)
    parts = {"tuning": range(4), "validation": range(4, 6)}
    apart = several.split(parts)
    assert apart.conditioning == {"conditions": {"tuning": 1, "validation": 1}}
    z = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(apart.rows([0, 3])(z, 1.0), model.given("2")(z, 1.0))
    torch.testing.assert_close(apart.rows([4, 5])(z, 1.0), model.given("0")(z, 1.0))
    with pytest.raises(SigmaTuneError, match="at least 3 different ones"):
        several.split({**parts, "held_out": range(6, 9)})
    assert model.given("1").split(parts).labels.tolist() == [1]
    guided = st.load(folder, label="1", guidance=2.0, interval=(0.1, 3.0))
    torch.testing.assert_close(guided(z, 1.0), model.given("1").guided(2.0, (0.1, 3.0))(z, 1.0))
    with pytest.raises(SigmaTuneError, match="not both"):
        st.load(folder, label="1", labels=[0])


def test_a_diffusers_network_of_class_indices_is_told_them(tmp_path):
    import diffusers

    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(4,), norm_num_groups=2,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False, num_class_embeds=4,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    model = st.load(tmp_path, label="3")
    z, sigma = torch.randn(2, 3, 8, 8), 1.0
    t = torch.full((2,), float(model.path.time(sigma)))
    eps = unet(z, t, torch.tensor([3, 3])).sample.detach()
    torch.testing.assert_close(model(z, sigma), (z - eps / np.sqrt(2)) * np.sqrt(2))
    assert model.classes == ("0", "1", "2", "3")
    with pytest.raises(SigmaTuneError, match="needs a class"):
        st.load(tmp_path)(z, sigma)
    with pytest.raises(SigmaTuneError, match="never trained without classes"):
        model.guided(2.0)


# ----------------------------------------------------------------------------------------------------------------- rules


def test_the_rule_of_a_model_draws_classes_and_tells_the_ends_of_each_curve(model, spectra):
    assert trained_curve(model) == "spectral-mixed"
    rule = SpectralRule.trained(model, 4, spectra)
    assert rule.control.by_class
    labels = rule.labels(0, range(600))
    assert {name: labels.count(name) for name in "012"} == pytest.approx(dict.fromkeys("012", 200), abs=45)
    assert rule.labels(0, [7, 3]) == [labels[7], labels[3]]
    told, table = rule.together(0, range(5), model)
    curve = model.conditioner.curve
    power = np.array([spectra.draw(0, [i], labels[i])[0] for i in range(5)])
    low, high = mixed(power, kappa_min=curve["kappa_min"], kappa_max=curve["kappa_max"]).ends
    np.testing.assert_allclose(told.ends.numpy()[:, 0], np.maximum(low, model.path.sigma_min), rtol=1e-6)
    np.testing.assert_allclose(told.ends.numpy()[:, 1], high, rtol=1e-6)
    np.testing.assert_allclose(table.schedule.sigmas[:, [-2, 0]], told.ends.numpy(), rtol=1e-6)
    assert [model.classes[i] for i in told.labels.tolist()] == labels[:5]


@pytest.mark.usefixtures("one_thread")
def test_a_rule_samples_the_same_rows_in_every_batch(model, spectra):
    rule = SpectralRule.trained(model, 3, spectra, micro_batch=4)
    whole = st.sample(model, rule, 6)
    torch.testing.assert_close(st.sample(model, rule, indices=[4, 2]), whole[[4, 2]], rtol=0, atol=0)
    told, table = rule.together(0, range(6), model)
    torch.testing.assert_close(st.sample(told, table, 6), whole, rtol=0, atol=0)  # and no warning of a mismatch
    guided = model.guided(2.0, guidance_interval(spectra.mean()))
    assert not torch.equal(st.sample(guided, rule, 2), whole[:2])
    from sigmatune.evaluation.generation import end_points

    torch.testing.assert_close(end_points(told, table, range(6)), whole, rtol=0, atol=0)


def test_the_controls_of_a_rule(model, spectra, tmp_path):
    rule = SpectralRule.trained(model, 4, spectra)
    mean = rule.edited(mean=True)
    sigmas = mean.schedule(0, range(4)).sigmas
    assert (sigmas == sigmas[0]).all()
    np.testing.assert_allclose(mean.power(0, [0])[0], spectra.mean())
    assert mean.labels(0, range(9)) == rule.labels(0, range(9))
    shuffled = rule.edited(shuffled=True)
    labels = rule.labels(0, range(60))
    assert shuffled.labels(0, range(60)) == labels
    power = shuffled.power(0, range(60))
    for i, label in enumerate(labels):
        own = [name for name in "012" if np.array_equal(spectra.draw(0, [i], name)[0], power[i])]
        assert own != [label]
        assert len(own) == 1
    one = rule.edited(by_class=False, label="1")
    assert one.labels(0, range(3)) == ["1"] * 3
    rule.edited(shuffled=True).save(tmp_path / "rule.json")
    assert np.array_equal(load_rule(tmp_path / "rule.json").power(0, range(9)), shuffled.power(0, range(9)))
    for control in ({"by_class": True, "label": "1"}, {"by_class": False, "shuffled": True}):
        with pytest.raises(SigmaTuneError, match="by_class"):
            rule.edited(**control)
    with pytest.raises(SigmaTuneError, match="not trained on a spectral curve"):
        SpectralRule.trained(st.load("digits"), 4, spectra)
    assert Control() == Control(None)


def test_the_class_is_learned(model):
    """Class c has more of colour c; what the network makes of mostly noise has to show it."""
    z = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    colours = torch.stack([model.given(str(label))(z, 5.0).mean(dim=(0, 2, 3)) for label in range(3)])
    assert colours.argmax(dim=0).tolist() == [0, 1, 2]  # of the classes, c has most of colour c


def test_the_guidance_interval_of_a_spectrum():
    power = np.concatenate([[100.0], 16.0 * np.arange(1, 17.0) ** -2])
    low, high = guidance_interval(power)
    assert (low, high) == (pytest.approx(4 / 8), pytest.approx(4.0))
    assert guidance_interval(4 * power) == pytest.approx((2 * low, 2 * high))
    assert guidance_interval(np.ones(9)) == (0.0, 1.0)
    for bad in (np.ones(2), np.zeros(9)):
        with pytest.raises(SigmaTuneError, match="guidance interval"):
            guidance_interval(bad)
