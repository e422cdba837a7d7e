"""Exact denoisers of real data: their formulas against definitions, on a few images of 4 x 4, and how they are kept."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import sigmatune as st
from sigmatune.evaluation.extractors.raw_pixels import Projections
from sigmatune.evaluation.reference_set import load as load_reference
from sigmatune.models.analytic import Empirical, GaussianMixture
from sigmatune.models.bundled import reference_file, spectra_file
from sigmatune.models.exact import EXACT
from sigmatune.models.exact.class_mixture import Basis, ClassMixture, Gaussians
from sigmatune.models.exact.classes import Classes
from sigmatune.models.exact.empirical import ClassEmpirical, in_range
from sigmatune.spectra.rings import rings
from sigmatune.spectra.spectrum import QUANTISATION
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import to_pixels
from sigmatune.workflows.build_exact import DATA, Sorted, basis_of, best_share, build, fit_mixture, sorted_images

ROOT = Path(__file__).resolve().parent.parent
INF = float("inf")
LEVELS = (1e-6, 0.01, 0.3, 1.0, 20.0, 157.0, INF)
SHAPE, NAMES, COUNTS = (3, 4, 4), ("cat", "dog", "ship"), (30, 50, 20)


def pictures(seed: int = 0) -> Sorted:
    """Smooth 8-bit images of three classes with other means and powers."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(sum(COUNTS), 3, 4, 4)) * 25 + rng.normal(size=(sum(COUNTS), 1, 1, 1)) * 40
    shift = np.repeat([90.0, 128.0, 170.0], COUNTS)[:, None, None, None]
    images = torch.from_numpy((base + shift).round().clip(0, 255).astype(np.uint8))
    return Sorted(images, dict(zip(NAMES, COUNTS, strict=True)))


def mixture(full_rings: int | None = None, dtype: torch.dtype = torch.float64) -> ClassMixture:
    arrays, _ = fit_mixture(pictures(), full_rings=full_rings, progress=lambda _: None)
    basis = Basis(*(arrays.pop(name) for name in ("colours", "rows", "columns", "order")))
    return ClassMixture(Gaussians(**arrays, basis=basis), classes=NAMES, dtype=dtype)


def empirical(dtype: torch.dtype = torch.float64, **how) -> ClassEmpirical:
    return ClassEmpirical(pictures().images, COUNTS, classes=NAMES, dtype=dtype, **how)


MODELS = {
    "full": mixture,
    "rings": lambda **how: mixture(1, **how),
    "diagonal": lambda **how: mixture(-1, **how),
    "empirical": empirical,
}
every = pytest.mark.parametrize("name", MODELS)


def covariances(model: ClassMixture) -> torch.Tensor:
    """The covariances that the parameters mean, in pixels, (K, d, d)."""
    matrix = model.basis.modes(torch.eye(48, dtype=torch.float64).view(48, *SHAPE)).T  # column j: the modes of pixel j
    found = []
    for variance, axes in zip(model.variances, model.axes, strict=True):
        inner = torch.diag(variance.clone())
        inner[: model.m, : model.m] = axes @ torch.diag(variance[: model.m]) @ axes.T
        found.append(matrix.T @ inner @ matrix)
    return torch.stack([(c + c.T) / 2 for c in found])


def noisy(n: int = 7, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit states of data at every level, float64."""
    sigma = torch.tensor((LEVELS * 2)[:n], dtype=torch.float64)
    x0 = in_range(pictures(9).images[:: sum(COUNTS) // n][:n], torch.float64)
    eps = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    alpha, s = 1 / torch.hypot(sigma, torch.ones(n)), 1 / torch.hypot(1 / sigma, torch.ones(n))
    return alpha.view(-1, 1, 1, 1) * x0 + s.view(-1, 1, 1, 1) * eps, sigma


def close(found, expected, tolerance):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------- against definitions


@pytest.mark.parametrize("full_rings", [None, 1, 0, -1])
def test_the_posterior_mean_is_that_of_the_covariances(full_rings):
    """Against the general mixture, which decomposes the covariances in pixels."""
    model = mixture(full_rings)
    plain = GaussianMixture(model.weights, model.means, covariances(model), model.path)
    z, sigma = noisy()
    close(model(z, sigma), plain(z, sigma), 1e-9)
    close(model.log_density(z, sigma), plain.log_density(z, sigma), 1e-9)


def test_one_class_is_wiener_s_filter():
    """D = mu + C (C + sigma^2)^-1 (x - mu), by a solver."""
    model = mixture(1)
    z, _ = noisy(4)
    for k, name in enumerate(NAMES):
        for sigma in (0.02, 0.7, 30.0):
            x, mean, c = (z * np.hypot(1, sigma)).flatten(1), model.means[k].flatten(), covariances(model)[k]
            gain = torch.linalg.solve(c + sigma**2 * torch.eye(48, dtype=torch.float64), (x - mean).T)
            close(model.given(name)(z, sigma).flatten(1), mean + (c @ gain).T, 1e-9)


@every
def test_the_empirical_posterior_is_a_softmax_and_the_mixture_s_an_integral(name):
    """By importance: with many draws from the prior the mean under the likelihood tends to D; exact for the set itself."""
    model = MODELS[name]()
    x0 = in_range(pictures().images, torch.float64) if name == "empirical" else model.draw(5000, seed=1)
    z, sigma = noisy(2)[0], 6.0  # so noisy that most draws count
    z = z / np.hypot(1, sigma) + sigma / np.hypot(1, sigma) * 0.4
    x = z * np.hypot(1, sigma)
    weight = torch.softmax(-torch.cdist(x.flatten(1), x0.flatten(1)).square() / (2 * sigma**2), dim=1)
    expected = (weight @ x0.flatten(1)).view_as(z)
    if name == "empirical":
        close(model(z, sigma), expected, 1e-10)
    else:
        effective = 1 / weight.square().sum(1).max()
        spread = (weight @ x0.flatten(1).square() - expected.flatten(1).square()).sqrt().max()
        assert (model(z, sigma) - expected).abs().max() < 5 * spread / effective**0.5


@pytest.mark.parametrize("full_rings", [None, 1])
@pytest.mark.parametrize("label", [None, "dog", ["cat", "ship", None]])
def test_tweedie(full_rings, label):
    """D = (z + s^2 grad log p) / alpha, which is x + sigma^2 grad log p in x."""
    model = mixture(full_rings).given(label).rows(range(5))
    z, sigma = noisy(5)
    sigma = sigma.clamp(min=0.01)
    z.requires_grad_()
    (score,) = torch.autograd.grad(model.log_density(z, sigma).sum(), z)
    alpha, s = (1 / torch.hypot(a, torch.ones(5)).view(-1, 1, 1, 1) for a in (sigma, 1 / sigma))
    close(model(z.detach(), sigma), (z.detach() + s**2 * score) / alpha, 1e-9)


def test_tweedie_of_the_set():
    model = empirical()
    z, sigma = noisy(5)
    sigma = sigma.clamp(min=0.3)
    alpha, s = (1 / torch.hypot(a, torch.ones(5)).view(-1, 1, 1, 1) for a in (sigma, 1 / sigma))
    z.requires_grad_()
    x0 = in_range(pictures().images, torch.float64)
    square = (z[:, None] - alpha[:, None] * x0).square().flatten(2).sum(2)
    (score,) = torch.autograd.grad(torch.logsumexp(-square / (2 * s.view(-1, 1) ** 2), dim=1).sum(), z)
    close(model(z.detach(), sigma), (z.detach() + s**2 * score) / alpha, 1e-9)


@every
def test_the_ends(name):
    model = MODELS[name]()
    z, _ = noisy(3)
    for label in (None, *NAMES):
        told = model.given(label)
        weights = model.weights if name != "empirical" else torch.tensor(COUNTS, dtype=torch.float64) / 100
        split = torch.split(in_range(pictures().images, torch.float64), list(COUNTS))
        means = torch.stack([part.mean(0) for part in split])
        mean = torch.einsum("k,kchw->chw", weights, means) if label is None else means[NAMES.index(label)]
        close(told(z, INF), mean.expand(3, *SHAPE), 1e-10)
        x0 = told.draw(4, seed=2)
        close(told(x0, 1e-8), x0, 1e-6)
        close(told(x0, 0.0), x0, 1e-9)


@every
def test_it_is_stable_in_single_precision_at_all_levels(name):
    exact, single = MODELS[name](), MODELS[name](dtype=torch.float32)
    z, sigma = noisy(14)
    found = single(z.float(), sigma)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    close(found.double(), exact(z, sigma), 2e-4)
    assert single(1e6 * z.float(), sigma).isfinite().all()


@every
def test_the_error_is_orthogonal_to_the_estimate(name):
    model = MODELS[name]()
    for label in (None, "ship"):
        told = model.given(label)
        x0, eps = (
            told.draw(400, seed=11),
            torch.randn(400, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(5)),
        )
        d = told((x0 + 0.4 * eps) / np.hypot(1, 0.4), 0.4)
        product = (d * (d - x0)).flatten(1).sum(1)
        assert abs(product.mean()) < 4 * product.std() / len(product) ** 0.5


# ------------------------------------------------------------------------------------------------------------------ draws


@every
def test_draws_have_the_moments_of_the_classes(name):
    model = MODELS[name]()
    for label in (None, "cat"):
        told = model.given(label)
        x = told.draw(1200, seed=6).flatten(1)
        of = in_range(pictures().images, torch.float64).flatten(1)
        of = of if label is None else of[: COUNTS[0]]
        close(x.mean(0), of.mean(0), 5 * float(of.std()) / 1200**0.5)
        if name != "empirical" and label:  # the covariance is that of the model, not of the images
            close(torch.cov(x.T), covariances(model)[0], 0.05)
        if name == "empirical":
            assert {tuple(row) for row in x[:50].tolist()} <= {tuple(row) for row in of.tolist()}


@every
def test_draws_depend_on_seed_and_index_alone(name):
    model = MODELS[name]()
    assert torch.equal(model.draw(3, seed=4), model.draw(9, seed=4)[:3])
    assert not torch.equal(model.draw(9, seed=4), model.draw(9, seed=5))
    share = np.bincount(model.components(4000, seed=1), minlength=3) / 4000
    assert share == pytest.approx(np.array(COUNTS) / 100, abs=0.03)


# ---------------------------------------------------------------------------------------------------- batches and classes


@every
@pytest.mark.parametrize("label", [None, "dog", ["cat", "dog", "ship", None]])
def test_rows_are_independent(name, label):
    told = MODELS[name]().given(label)
    z, sigma = noisy()
    together = told.rows(range(7))(z, sigma)
    alone = torch.cat([told.rows([i])(z[i : i + 1], sigma[i : i + 1]) for i in range(7)])
    close(together, alone, 1e-12)


@every
def test_samples_are_the_same_for_any_batch(name):
    model = MODELS[name](dtype=torch.float32).given(["cat", "ship", None])
    plan = st.compile_plan(st.build_schedule("karras", 4, model.path), "euler", model)
    whole = st.sample(model, plan, 11)
    assert torch.equal(whole[3:6], st.sample(model, plan, indices=[3, 4, 5]))
    ships = model.given("ship")
    close(st.sample(ships, plan.with_notes(fingerprint=ships.fingerprint()), 5)[1], whole[1], 1e-5)


@every
def test_rows_follow_their_classes(name):
    model = MODELS[name]()
    z, _ = noisy(4)
    told = model.given(["cat", "ship", None]).rows([4, 0, 2, 1])
    expected = [model.given(label)(z[i : i + 1], 0.5) for i, label in enumerate(["ship", "cat", None, "ship"])]
    close(told(z, 0.5), torch.cat(expected), 1e-12)
    by_rule = model.conditioned([7, 9], ["dog", None], None).rows([9, 7], padding=2)
    expected = [model.given(label)(z[i : i + 1], 0.5) for i, label in enumerate([None, "dog", None, None])]
    close(by_rule(z, 0.5), torch.cat(expected), 1e-12)
    with pytest.raises(SigmaTuneError, match="no condition for row 8"):
        by_rule.rows([8])(z, 0.5)


def test_guidance_leads_away_from_all_classes():
    model = mixture()
    z, _ = noisy(3)
    cat, every = model.given("cat")(z, 2.0), model(z, 2.0)
    close(model.given("cat").guided(3.0)(z, 2.0), every + 3 * (cat - every), 1e-12)
    assert model.given("cat").guided(3.0).calls_at(2.0) == 2


def test_tuning_keeps_labels_apart():
    model = mixture().given([*NAMES, None])
    parts = {"tuning": range(4), "validation": range(4, 8), "held_out": range(8, 16)}
    split = model.split(parts)
    seen = {part: {split.condition.values[split.condition.place(i)] for i in rows} for part, rows in parts.items()}
    assert not set.intersection(seen["tuning"], seen["validation"] | seen["held_out"])
    assert not seen["validation"] & seen["held_out"]
    assert split.conditions() != model.conditions() != ""
    assert mixture().given("cat").split(parts).conditions() == ""
    with pytest.raises(SigmaTuneError, match="at least 3 different"):
        mixture().given(["cat", "dog"]).split(parts)


@every
def test_what_is_told_is_part_of_the_identity(name):
    model = MODELS[name]()
    prints = {model.given(label).fingerprint() for label in (None, "cat", "dog", ["cat", "dog"])}
    assert len(prints) == 4
    assert model.fingerprint() == model.given(None).fingerprint() == model.rows([3]).fingerprint()
    assert MODELS[name](dtype=torch.float32).fingerprint() != model.fingerprint()
    with pytest.raises(SigmaTuneError, match="no class 'cow'"):
        model.given("cow")


def test_arrays_that_do_not_fit_are_refused():
    model = mixture()
    good = (model.weights, model.means, model.variances, model.axes, model.basis)
    for place, bad in ((0, model.weights * 2), (2, model.variances[:, :5]), (2, -model.variances), (3, model.axes[:1])):
        with pytest.raises(SigmaTuneError, match=r"mixture needs|positive"):
            Gaussians(*good[:place], bad, *good[place + 1 :])
    for images, counts in (
        (pictures().images.float(), COUNTS),
        (pictures().images, (30, 50)),
        (pictures().images, (100, 0)),
    ):
        with pytest.raises(SigmaTuneError, match="uint8"):
            ClassEmpirical(images, counts)


# ------------------------------------------------------------------------------------------------------------------- fits


def test_the_basis_is_orthonormal():
    basis = basis_of(pictures().images, rings(4, 4, "dct"))
    x = torch.randn(5, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    close(basis.images(basis.modes(x)), x, 1e-12)
    close(basis.modes(x).square().sum(1), x.flatten(1).square().sum(1), 1e-12)
    flat = basis.modes(torch.ones(1, *SHAPE, dtype=torch.float64))[0]
    assert flat[:3].square().sum() == pytest.approx(48)  # of low frequency first: the constants of the colours


def test_a_full_covariance_is_a_shrunk_sample_covariance():
    model = mixture()
    _, fit = fit_mixture(pictures(), full_rings=None, progress=lambda _: None)
    parts = torch.split(in_range(pictures().images, torch.float64), list(COUNTS))
    for k, (name, part) in enumerate(zip(NAMES, parts, strict=True)):
        share = fit.shrinkage[name]
        modes = model.basis.modes(part - part.mean(0))
        sample = modes.T @ modes / len(part)
        expected = model.axes[k] @ torch.diag(model.variances[k]) @ model.axes[k].T
        off = ~torch.eye(48, dtype=torch.bool)
        close(expected[off], ((1 - share) * sample)[off], 1e-9)
        close(expected.trace(), sample.trace() + 48 * QUANTISATION, 1e-9)  # leaning on rings keeps each ring's power
    assert min(fit.shrinkage.values()) > 0  # 20 images do not make a covariance of 48 modes
    assert (model.variances >= QUANTISATION).all()


def test_the_share_of_the_diagonal_follows_from_images_left_out():
    rng = np.random.default_rng(0)
    apart = torch.from_numpy(rng.normal(size=(200, 6)))
    alike = apart[:, :1] + 0.1 * apart
    for a, low, high in ((alike, 0.0, 0.02), (apart, 0.5, 1.0), (apart[:9], 1.0, 1.0)):
        assert low <= best_share(a, a.square().mean(0)) <= high


def test_the_density_of_a_class_is_that_of_its_gaussian():
    model = mixture(1)
    z, sigma = noisy(4)
    for k, name in enumerate(NAMES):
        plain = GaussianMixture([1.0], model.means[k : k + 1], covariances(model)[k : k + 1], model.path)
        close(model.given(name).log_density(z, sigma), plain.log_density(z, sigma), 1e-9)


def test_a_class_of_one_image_is_a_gaussian_too():
    data = pictures()
    one = Sorted(data.images[:31], {"cat": 30, "dog": 1})
    arrays, fit = fit_mixture(one, full_rings=1, progress=lambda _: None)
    assert fit.shrinkage["dog"] == 1
    assert (arrays["variances"] >= QUANTISATION).all()
    assert all(array.isfinite().all() for array in arrays.values())


# --------------------------------------------------------------------------------------------------------------- the store


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SIGMATUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(tmp_path):
    """An archive like the fetched one, unsorted, 8 x 8."""
    rng = np.random.default_rng(0)
    path = tmp_path / "emoji.npz"
    labels = np.array(["Flags", "Animals"] * 20 + ["Flags"] * 20)
    images = (
        rng.normal(size=(60, 1, 1, 1)) * 30
        + rng.normal(size=(60, 8, 8, 3)) * 20
        + 60 * (labels == "Flags")[:, None, None, None]
    )
    np.savez(path, images=(images + 100).clip(0, 255).astype(np.uint8), labels=labels)
    return path


@pytest.mark.parametrize("kind", ["mixture", "empirical"])
def test_what_is_built_loads_and_is_like_any_model(cache, archive, kind, capsys):
    name = f"exact:emoji-{kind}-16"
    with pytest.raises(SigmaTuneError, match=rf"not built in .*run python tools/build_exact.py emoji-{kind}-16 once"):
        st.load(name)
    assert spectra_file(name) is reference_file(name) is None
    build(name, archive, reference=0)
    model = st.load(name, device="auto")
    assert model.shape == (3, 16, 16)
    assert model.classes == ("Animals", "Flags")
    assert model.path.spec()["betas"] == "linear"
    assert st.load(name).fingerprint() == model.fingerprint() != st.load(name, dtype=torch.float64).fingerprint()
    assert st.load(name, labels=[1, "Animals"]).condition.values == (1, 0)
    assert st.load(name, label="Flags", guidance=2.0).scale == 2
    plan = st.compile_plan(st.build_schedule("karras", 3, model.path), "reduced-oba", model)
    assert st.sample(model, plan, 2).isfinite().all()
    card = json.loads((cache / "exact" / f"emoji-{kind}-16" / "card.json").read_text())
    assert card["classes"] == {"Animals": 20, "Flags": 40}
    assert re.fullmatch("[0-9a-f]{64}", card["source"]["sha256"])
    assert (card["fit"] is None) == (kind == "empirical")


def test_draws_beyond_black_and_white_are_clipped_in_the_reference_set(cache, tmp_path):
    """A Gaussian does not know the range of images; a reference set holds images."""
    rng = np.random.default_rng(0)
    images = rng.choice([0, 255], size=(60, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "emoji.npz", images=images, labels=np.array(["Flags", "Animals"] * 30))
    build("emoji-mixture-16", tmp_path / "emoji.npz", reference=80, progress=lambda _: None)
    model = st.load("exact:emoji-mixture-16")
    assert model.draw(80).abs().max() > 1
    draws = torch.from_numpy(to_pixels(model.draw(80).float(), model.value_range)).permute(0, 3, 1, 2)
    kept = load_reference(reference_file("exact:emoji-mixture-16")).statistics["projections", "projections"]
    expected = Projections().features(draws)["projections"].double().mean(0).numpy()
    np.testing.assert_allclose(kept.moments.mean, expected, atol=1e-3)


def test_images_keep_their_classes(archive):
    found = sorted_images(archive, DATA["emoji"], 8)
    stored = np.load(archive)
    assert found.counts == {"Animals": 20, "Flags": 40}
    expected = np.concatenate([stored["images"][stored["labels"] == name] for name in ("Animals", "Flags")])
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), expected)


def test_damage_is_refused(cache, archive):
    build("emoji-empirical-16", archive, reference=0, progress=lambda _: None)
    folder = EXACT["emoji-empirical-16"].folder
    assert folder == cache / "exact" / "emoji-empirical-16"
    whole = (folder / "denoiser.safetensors").read_bytes()
    (folder / "denoiser.safetensors").write_bytes(whole[:-1] + b"x")
    with pytest.raises(SigmaTuneError, match="not the file that its card describes; run python tools/build_exact"):
        st.load("exact:emoji-empirical-16")
    (folder / "denoiser.safetensors").unlink()
    with pytest.raises(SigmaTuneError, match=r"cannot be read.*again"):
        st.load("exact:emoji-empirical-16")
    (folder / "card.json").write_text('{"format": "sigmatune/exact", "version": 2}')
    with pytest.raises(SigmaTuneError, match="version 2"):
        st.load("exact:emoji-empirical-16")


def test_a_failed_build_leaves_nothing(cache, tmp_path, archive):
    with pytest.raises(SigmaTuneError, match=r"no .*cifar10.npz; fetch it with python tools/fetch_cifar10.py"):
        build("cifar10-mixture-16", tmp_path / "cifar10.npz")
    np.savez(tmp_path / "bare.npz", images=np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(SigmaTuneError, match="no labels"):
        build("emoji-mixture-16", tmp_path / "bare.npz")
    assert not list(cache.rglob("*.json"))


def test_unknown_names_list_the_known():
    with pytest.raises(SigmaTuneError, match="did you mean 'cifar10-mixture-16'"):
        st.load("exact:cifar-mixture-16")
    with pytest.raises(SigmaTuneError, match=r"known ones are cifar10-empirical-16, .*emoji-mixture-32"):
        st.load("exact:zzz")
    with pytest.raises(TypeError, match="prompts"):
        st.load("exact:cifar10-mixture-16", prompts=["x"])


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("SIGMATUNE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EXACT["emoji-mixture-32"].folder == tmp_path / "sigmatune" / "exact" / "emoji-mixture-32"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert EXACT["emoji-mixture-32"].folder == tmp_path / "home" / ".cache" / "sigmatune" / "exact" / "emoji-mixture-32"


def test_commands_say_what_is_missing(run, cache):
    code, _, error = run("tune", "exact:cifar10-mixture-16", "--calls", 4)
    assert code == 2
    assert "run python tools/build_exact.py cifar10-mixture-16 once" in error
    code, _, error = run("finetune", "exact:cifar10-mixture-16", "--calls", 4)
    assert code == 2
    assert len(error) < 320


def test_the_general_set_in_single_precision():
    """The class is general: single precision and chunks change nothing that can be seen."""
    images = in_range(pictures().images, torch.float64)
    z, sigma = noisy(7)
    expected = Empirical(images)(z, sigma)
    for chunk in (1, 7, 1000):
        close(Empirical(images, chunk=chunk)(z, sigma), expected, 1e-12)
        close(Empirical(images, chunk=chunk, dtype=torch.float32)(z, sigma), expected, 2e-4)


def test_every_kind_is_a_model_of_classes():
    assert all(isinstance(make(), Classes) for make in MODELS.values())


def test_more_calls_came_closer_to_exact_draws():
    found = json.loads((ROOT / "benchmarks" / "results" / "calls.json").read_text())["cells"]
    own = [cell for cell in found if cell["model"] == "exact:cifar10-mixture-16"]
    cells = {(cell["family"], cell["calls"]): cell["figures"] for cell in own}
    for family in {name for name, _ in cells}:
        budgets = sorted(calls for name, calls in cells if name == family)
        for space in range(2):
            figures = [cells[family, calls][space] for calls in budgets]
            assert figures[-1]["value"] < figures[0]["value"] / 2
            assert all(after["value"] < before["high"] for before, after in pairwise(figures))
