"""The report: it shows what was measured, loads nothing, and its code runs."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sigmatune
from exact import PATHS, gaussian
from little import little_work
from sigmatune import load, report, schedules
from sigmatune.core.guidance import Guided
from sigmatune.models.analytic import Empirical
from sigmatune.noise import VE
from sigmatune.plan import Plan
from sigmatune.report.charts import octaves
from sigmatune.report.comparison import LARGE, SCRIPT
from sigmatune.report.decoded import LATENTS
from sigmatune.report.measurements import BUDGETS, interval, measure
from sigmatune.report.page import SECTIONS, page
from sigmatune.report.residual import residual
from sigmatune.report.sections import _pairs_table
from sigmatune.report.svg import COLOURS, spread
from sigmatune.report.usage import PlanUse, python
from sigmatune.report.words import curve_sentence, ends_sentence, map_sentence
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench, tune_on
from sigmatune.tuning.baseline import baseline
from sigmatune.tuning.both_numbers import both_numbers
from tiny_pipelines import ldm, sd15

TINY = TuningSettings(tuning=8, validation=8, held_out=16, evaluations=2, reference_steps=16, micro_batch=8)


def tuned(model, calls=4, solver="euler", settings=TINY, method="static"):
    bench = Workbench(model, settings)
    with little_work():
        return bench, tune_on(bench, calls, solver=solver, method=method)


@pytest.fixture(scope="module")
def case():
    """A workbench and a plan with a gain."""
    return tuned(gaussian(PATHS["vp"]), method="auto")


@pytest.fixture(scope="module")
def measured(case):
    return measure(case[0], [case[1]], rows=6)


@pytest.fixture(scope="module")
def text(measured):
    return page(measured, PlanUse("digits"))


@pytest.mark.parametrize("solver", ["euler", "custom"])
def test_the_levels_of_a_plan_with_coefficients_of_its_own_are_not_offered_as_the_plan(measured, solver, undrawn):
    (view,) = measured.views
    plan = replace(view.plan, solver=solver)
    text = page(replace(measured, views=[replace(view, plan=plan)]), PlanUse("digits"))
    assert ("levels alone are not the plan" in text) == (solver == "custom")
    assert ("these are the levels, in full precision" in text) == (solver == "euler")


@pytest.fixture(scope="module")
def no_gain(case):
    """The same model's default, as the guard hands it out when nothing beats it."""
    bench, plan = case
    verdict = "no gain: on 16 held-out noises the tuned plan is not significantly better."
    evidence = {
        **plan.evidence,
        "gain": False,
        "verdict": verdict,
        "error_ratio": {"value": 1.01, "low": 0.9, "high": 1.2},
    }
    default = baseline(bench, plan)
    return bench, default.with_notes(evidence=evidence, cost=plan.cost, tuned_for=plan.tuned_for)


class Page(HTMLParser):
    """Collects tags with their attributes, and complains about tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "pre", "script"} & set(self.open):
            self.words.append(data)

    @property
    def said(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def check_loads_nothing(text):
    found = Page(text)
    names = {tag for tag, _ in found.tags}
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert re.findall(r"<script[^>]*>(.*?)</script>", text, flags=re.DOTALL) == [SCRIPT], "the slider's and no other"
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a)
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not names & {"link", "iframe", "object", "embed", "video", "audio", "base", "form"}
    for tag, attributes in found.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                assert value.startswith(("#", "data:image/")), (tag, key, value)
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    found.ids = set(ids)
    assert len(ids) == len(found.ids)
    assert {a["href"][1:] for tag, a in found.tags if tag in ("a", "use") and "href" in a} <= found.ids
    assert {address[1:] for address in re.findall(r"url\(([^)]*)\)", text)} <= found.ids
    assert not re.search(r"https?://|\w//\w", re.sub(r"base64,[\w+/=]*", "", text))
    return found


def test_the_page_is_whole_and_loads_nothing(text, measured):
    found = check_loads_nothing(text)
    assert {key for key, _ in SECTIONS} <= found.ids
    for stand_in in COLOURS:
        assert stand_in not in text
    assert "nan" not in found.said.lower().split()
    for tag, attributes in found.tags:
        if attributes.get("role") == "img" and tag != "svg":
            assert attributes["aria-label"], tag
        if tag == "img":
            assert "alt" in attributes
    assert text.count("<svg") == 6  # three charts, each for a wide and for a narrow screen
    pictures = sum(
        len(pair.default.images) * (1 + (pair.plan is not None)) for pair in measured.groups[0].pairs.values()
    )
    assert (
        text.count("data:image/png") == pictures + 6 + 2 + 3 * LARGE
    )  # and the reference, two maps, and the comparison
    assert text.count('type="range"') == 1
    assert len(text) < 1_500_000


def stated(evidence):
    """The verdict without its first word, which the page shows as a mark."""
    return evidence["verdict"].partition(": ")[2][1:]


def test_the_page_says_what_the_evidence_says(text, case):
    _, plan = case
    said, e = Page(text).said, plan.evidence
    assert e["gain"]
    assert said.count(stated(e)) == 1, "each number once"
    both = both_numbers(e)
    assert f"{1 - e['error_ratio']['value']:.0%} less error" in said
    assert both.sets < 1, "a set that is nearer, too"
    assert f"{both.large} error set" in said, "the large words, and both on the scale"
    assert said.count(both.sentence) == 1
    assert said.count(f"{e['error_ratio']['value']:.2f} times") == 1
    assert f"{e['reference']['steps']} steps" in said
    assert f"{e['sliced_wasserstein_to_reference']['plan']:.3g} tuned" in said
    assert f"worse on {e['statistic']['worse']:.0%} of the held-out noises" in said
    for score in e["defaults_on_validation"]:
        also = f" (also {', '.join(score['same_levels'])})" if "same_levels" in score else ""
        assert f"{score['name']}{also} {np.exp(score['mean_log_error']):.4g} {score['rows']}" in said
    for test in e["no_loss"]["tests"]:
        assert f"{test['name']} {test['plan']:.4g} {test['rival']:.4g} {test['adjusted_p']:.2g}" in said
    assert f"the best family with searched ends, {e['best_searched_family']['name']}: ratio" in said
    assert "Error is the whitened distance to the converged solution from the same noise" in said
    for count in plan.cost["network_evaluations"].values():
        assert f"{count:,}" in said
    for first, split in ((8, "others chose"), (16, "held-out noises")):
        assert f"{first} {split}" in said


def test_the_errors_of_the_maps_say_that_they_are_not_weighed(case, measured):
    view = measured.views[0]
    assert "by the measure whitened" in map_sentence(view)
    plain = replace(view, plan=view.plan.with_notes(evidence={**view.evidence, "measure": {"name": "rms"}}))
    assert "measure" not in map_sentence(plain)


def test_the_tables_of_a_report_fit_a_phone(browser, text):
    shown = browser.new_page(viewport={"width": 390, "height": 844})
    shown.set_content(text)
    shown.evaluate("document.querySelectorAll('details').forEach(x => x.open = true)")
    wide = "all => all.filter(x => x.scrollWidth > x.clientWidth).map(x => x.firstChild.className)"
    assert shown.locator(".table:has(.stages)").evaluate_all(wide) == []
    assert shown.locator(".table:has(.stages)").count() == 1
    shadow = shown.locator(".table").first.evaluate("x => getComputedStyle(x).backgroundAttachment")
    assert shadow == "local, local, scroll, scroll", "a table that scrolls shows it at its edge"
    shown.close()


def test_curves_have_the_budgets_that_are_asked_beside_the_plan_s(case):
    bench, plan = case
    (group,) = measure(bench, [plan], rows=4, budgets=(6,)).groups
    assert {n for curve in group.defaults for n in curve.points} == {4, 6}


def test_curves_are_the_errors_of_the_plans(measured, case):
    bench, plan = case
    (group,) = measured.groups
    steps, seed = plan.evidence["reference"]["steps"], bench.settings.seed
    assert set(group.tuned.points) == {4}, "only what was tuned is called tuned"
    assert {n for curve in group.defaults for n in curve.points} == set(BUDGETS)

    def errors(other: Plan):
        return bench.errors(other, "held_out", rows=6, reference_steps=steps)

    for curve in group.defaults:
        family, options = {
            label: (f, o) for label, f, o in schedules.defaults(bench.model.path, bench.model.default_schedule)
        }[curve.name]
        for n, point in curve.points.items():
            other = bench.plan(schedules.build(family, n, bench.model.path, **options), "euler")
            np.testing.assert_array_equal(point.errors, errors(other))
            assert point.calls == n
    for point in group.tuned.points.values():
        np.testing.assert_array_equal(point.errors, errors(plan))
        assert point.mean == pytest.approx(np.exp(np.log(point.errors).mean()))
        assert (point.low, point.high) == interval(point.errors, seed=seed)
        assert point.low < point.mean < point.high
        torch.testing.assert_close(point.images, bench.outputs(plan, "held_out", rows=6), rtol=0, atol=0)
    pair = group.pairs[4]
    assert pair.name == plan.evidence["baseline"]
    np.testing.assert_array_equal(pair.default.errors, errors(baseline(bench, plan)))
    for n, pair in group.pairs.items():
        assert (pair.plan is not None) == (n == 4)
        if n != 4:
            assert pair.default.mean == min(curve.points[n].mean for curve in group.defaults)


def test_what_the_guard_paid_for_is_not_paid_twice(case, little):
    """And nothing of the tuning or validation noises is looked at."""
    bench = Workbench(case[0].model, TINY)
    plan = tune_on(bench, 4, solver="euler")
    before = dict(bench.costs.spent)
    found = measure(bench, [plan], rows=8)
    after = dict(bench.costs.spent)
    spent = after.pop("report")
    assert after == before
    points = [p for curve in [*found.groups[0].defaults, found.groups[0].tuned] for p in curve.points.values()]
    assert spent == found.cost["network_evaluations"] == 8 * (sum(p.calls for p in points) - 2 * 4)


def test_a_point_has_the_right_interval():
    errors = np.exp(np.random.default_rng(3).normal(-1, 0.5, 400))
    low, high = interval(errors)
    half = 1.96 * 0.5 / np.sqrt(400)
    np.testing.assert_allclose(np.log([low, high]), np.log(errors).mean() + np.array([-half, half]), atol=0.006)


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (2, 1, 6, 9), (1, 4, 7, 5)])
def test_map_and_spectrum_obey_parseval(shape):
    e = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = residual(e)
    total = float(e.square().mean())
    assert found.where.shape == shape[-2:]
    assert found.mean_square == pytest.approx(total)
    assert found.modes.sum() == shape[-2] * shape[-1]
    assert (found.power * found.modes).sum() / found.modes.sum() == pytest.approx(total)


def test_a_wave_sits_in_its_own_ring():
    x = np.arange(16)
    wave = np.cos(2 * np.pi * 5 * x / 16)[None, :] * np.ones((16, 1))
    found = residual(torch.from_numpy(wave)[None, None])
    assert found.power.argmax() == 5
    np.testing.assert_allclose(np.delete(found.power, 5), 0, atol=1e-12)


def test_the_residuals_are_those_of_the_plan_and_its_default(measured, case):
    bench, plan = case
    exact = bench.reference("held_out", plan.evidence["reference"]["steps"]).double()
    for found, which in zip(measured.views[0].residual, (plan, baseline(bench, plan)), strict=True):
        e = bench.outputs(which, "held_out").double() - exact
        assert found.mean_square == pytest.approx(float(e.square().mean()))
        assert found.where[2, 5] == pytest.approx(float(e[:, 0, 2, 5].square().mean()))


def test_calls_per_octave():
    infinite, counts = octaves(np.array([np.inf, 8.0, 7.9, 1.0, 0.99, 0.25]), np.arange(-2, 5))
    assert infinite == 1
    assert counts.tolist() == [1, 1, 1, 0, 1, 1]  # [1/4, 1/2), [1/2, 1), [1, 2), [2, 4), [4, 8), [8, 16)


def test_labels_are_spread_and_stay_in_order():
    assert spread([0.0, 10.0, 20.0], 5.0) == [0.0, 10.0, 20.0]
    found = spread([3.0, 3.0, 3.1, 50.0], 4.0)
    np.testing.assert_allclose(np.diff(found)[:2], 4.0)
    assert found[3] == 50.0
    assert np.mean(found[:3]) == pytest.approx(np.mean([3.0, 3.0, 3.1]))


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves the charts out, which take most of a page's time, and the larger budgets."""
    monkeypatch.setattr("sigmatune.report.charts.chart", lambda *_: "")
    monkeypatch.setattr("sigmatune.report.measurements.BUDGETS", (4,))


@pytest.fixture(scope="module")
def small():
    """A real model's, with as little work as there can be."""
    return tuned(load("digits"), 2, settings=TuningSettings(2, 2, 8, 1, reference_steps=8, micro_batch=8))


@pytest.mark.parametrize("named", [True, False])
def test_the_code_on_the_page_runs(small, undrawn, tmp_path, monkeypatch, named):
    bench, plan = small
    monkeypatch.chdir(tmp_path)
    plan.save("a plan's.json")
    place = PlanUse("digits", ["a plan's.json"]) if named else PlanUse()
    report.write("report.html", bench, plan, rows=2, use=place)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    (code,) = re.findall(r'<code class="python">(.*?)</code>', text, re.DOTALL)
    space = {} if named else {"model": bench.model}
    exec(html.unescape(code), space)  # what a reader would paste
    expected = sigmatune.sample(bench.model, plan, n=16, seed=0, micro_batch=space["plan"].micro_batch)
    torch.testing.assert_close(space["images"], expected, rtol=0, atol=0)
    (levels,) = re.findall(r'<code class="sigmas">(.*?)</code>', text)
    exec(html.unescape(levels), space)
    assert space["sigmas"] == plan.schedule.sigmas.tolist()
    assert ('class="shell"' in text) is named
    if named:
        assert "sigmatune sample digits 'a plan'\"'\"'s.json' -n 16 -o grid.png" in html.unescape(text)


def test_no_gain_is_said_calmly(no_gain, monkeypatch):
    bench, plan = no_gain
    found = measure(bench, [plan], rows=4)
    assert list(found.groups[0].tuned.points) == [4]  # a default has its own curve already
    text = page(found, PlanUse("digits"))
    said = check_loads_nothing(text).said
    assert stated(plan.evidence) in said
    assert 'type="range"' not in text
    assert "The best default stays" in said
    assert "no gain" in said
    monkeypatch.setattr("sigmatune.report.charts.chart", lambda *_: "")  # of the same numbers
    assert "<title>new.run/model in 4 calls" in page(found, PlanUse("/home/me/new.run/model")), (
        "a training calls all alike"
    )
    assert "<title>digits in 4 calls" in text
    assert "less error" not in said
    assert "tuned, error" not in said
    old = {name: value for name, value in plan.evidence.items() if name not in ("sets", "no_loss")}
    older = page(replace(found, views=[replace(found.views[0], plan=plan.with_notes(evidence=old))]))
    assert "As a set" in said
    assert "As a set" not in Page(older).said, "plans from before have the error alone"
    unsure = {**plan.evidence, "reference": {**plan.evidence["reference"], "converged": False}}
    text = page(replace(found, views=[replace(found.views[0], plan=plan.with_notes(evidence=unsure))]))
    assert "did not converge" in Page(text).said
    assert 'class="scale"' not in text  # a ratio that means nothing is not drawn


def test_a_plan_that_is_its_default_is_not_drawn_as_tuned(case):
    bench, plan = case
    group = measure(bench, [plan], rows=4).groups[0]
    pair, point = group.pairs[4], group.tuned.points[4]
    default = replace(pair, plan=None)
    group = replace(
        group, tuned=replace(group.tuned, points={4: point, 6: replace(point, calls=6)}), pairs={4: pair, 6: default}
    )
    assert list(group.better.points) == [4]
    assert "tuned for 4 calls; for 6 calls the best default stays" in curve_sentence(group)
    assert _pairs_table(group).count("no gain") == 1


def test_several_plans_share_one_page(case, no_gain, monkeypatch):
    monkeypatch.setattr("sigmatune.report.charts.chart", lambda *_: "")
    bench, plan = case
    with little_work():
        six, heun = (tune_on(bench, n, solver=name, method="static") for n, name in ((6, "euler"), (7, "heun")))
    found = measure(bench, [plan, six, heun], rows=4)
    assert [group.solver for group in found.groups] == ["euler", "heun"]
    assert list(found.groups[0].tuned.points) == [4, 6]
    assert [point.calls for point in found.groups[1].tuned.points.values()] == [7]
    assert sorted({point.calls for curve in found.groups[1].defaults for point in curve.points.values()}) == [
        3,
        5,
        7,
        9,
        19,
    ]
    said = check_loads_nothing(page(found)).said
    for each in (plan, six, heun):
        assert stated(each.evidence) in said


@pytest.mark.parametrize("path", [name for name in PATHS if name != "vp"])
def test_all_noise_paths(path, tmp_path, monkeypatch):
    for other in ("error_chart", "spectrum_chart"):  # only the chart of the levels knows the path
        monkeypatch.setattr(f"sigmatune.report.charts.{other}", lambda *_: "")
    if path == "flow":  # whose best defaults start at a finite level; the others are drawn, too
        monkeypatch.setattr("sigmatune.report.measurements.SHOWN_DEFAULTS", 30)
    bench, plan = tuned(gaussian(PATHS[path]))
    report.write(tmp_path / "report.html", bench, [plan], rows=4)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    check_loads_nothing(text)
    if np.isinf(plan.schedule.sigmas[0]):
        assert "float(&quot;inf&quot;)" in text
    if path == "flow":
        assert "∞" in text
    assert "nan" not in Page(text).said.lower().split()


@pytest.mark.parametrize("shape", [(6,), (3, 1, 1), (4, 8, 8)])
def test_data_that_is_no_picture(shape, undrawn):
    """A vector has no place and no frequency; a latent has both but is not an image."""
    data = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bench, plan = tuned(Empirical(data, VE()))
    found = measure(bench, [plan], rows=4)
    text = page(found)
    said = check_loads_nothing(text).said
    assert "are not images with one or three channels" in said
    image = len(shape) == 3 and shape[-1] > 1
    assert ("are not images (C, H, W)" in said) is not image
    assert (found.views[0].residual is not None) is image


@pytest.mark.parametrize("channels", [4, 3])
def test_latents_are_shown_as_the_images_that_they_decode_to(undrawn, monkeypatch, channels):
    """Latents of three channels are no images either."""
    prompts = {"prompts": ["a red cat", "a blue dog", "a green bird"], "guidance": 1.0}
    model = load(sd15(), **prompts) if channels == 4 else load(ldm())
    bench, plan = tuned(model, 2, settings=TuningSettings(4, 4, 8, 1, reference_steps=8, micro_batch=4))
    found = measure(bench, [plan], rows=8)
    assert found.shape == (channels, 8, 8)
    assert found.image_shape == (3, 16, 16)
    group = found.groups[0]
    exact = bench.reference("held_out", plan.evidence["reference"]["steps"])[:LATENTS]
    torch.testing.assert_close(group.reference, model.decode(exact), rtol=0, atol=1e-4)  # decoded one by one
    assert all(len(pair.default.images) == LATENTS for pair in group.pairs.values())
    said = check_loads_nothing(page(found)).said
    assert "are not images" not in said
    assert "decoded by the model's autoencoder" in said
    monkeypatch.setattr(type(model), "decode", lambda *_: (_ for _ in ()).throw(SigmaTuneError("it overflows.")))
    assert "are not images with one or three channels" in check_loads_nothing(page(measure(bench, [plan], rows=2))).said


def test_the_code_for_a_model_with_prompts_loads_it_with_them(case):
    load_options = {"prompts": ["a cat"], "guidance": 7.5}
    plan = case[1].with_notes(tuned_for={**case[1].tuned_for, "load": load_options})
    with_file = python(plan, "folder", Path("plan.json")).splitlines()
    assert with_file.index("plan = st.load_plan('plan.json')") < with_file.index(
        "model = st.load('folder', **plan.load_options)"
    )
    assert "model = st.load('folder', prompts=['a cat'], guidance=7.5)" in python(plan, "folder", None)


def test_guidance_counts_both_evaluations():
    model = gaussian()
    guided = Guided(model, model, 1.5)
    bench, plan = tuned(guided, calls=8)
    found = measure(bench, [plan], rows=2)
    assert [(point.calls, point.steps) for point in found.groups[0].tuned.points.values()] == [(8, 4)]
    points = found.groups[0].pairs.values()
    assert [(pair.default.calls, pair.default.steps) for pair in points] == [(4, 2), (6, 3), (8, 4), (10, 5), (20, 10)]


def test_what_is_refused(case, tmp_path):
    bench, plan = case
    out = tmp_path / "report.html"

    def refused(message, *arguments, where=out, **options):
        with pytest.raises(SigmaTuneError, match=message):
            report.write(where, *arguments, **options)
        assert not out.exists()

    refused("at least one tuned plan", bench, [])
    refused("carries none", bench, plan.with_notes(evidence=None))
    refused("another model", bench, plan.with_notes(fingerprint="sha256:0"))
    refused("other noises", Workbench(bench.model, replace(TINY, seed=1)), plan)
    refused("other noises", Workbench(bench.model, replace(TINY, tuning=9)), plan)
    refused("at least 2 noises", bench, plan, rows=1)
    refused("whole number", bench, plan, rows=0)
    refused("one file for each", bench, plan, use=PlanUse(files=[]))
    refused("cannot write", bench, plan, rows=2, where=tmp_path / "none" / "report.html")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_names_are_escaped(measured, undrawn):
    text = page(measured, PlanUse("<b>&'x'", ["</code><script>alert(1)</script>.json"]))
    check_loads_nothing(text)
    assert "&lt;script&gt;" in text


def test_the_page_has_what_each_program_takes(measured, undrawn):
    from sigmatune.interop.clients import PROGRAMS, clients

    text = html.unescape(page(measured, PlanUse(clients=clients)))
    plan = measured.views[0].plan
    for name in ("diffusers", *PROGRAMS):
        assert f"<summary>{name}</summary>" in text
    assert f"num_inference_steps={plan.calls})" in text
    assert "--sampling-method euler" in text
    refused = clients(plan.with_notes(tuned_for=None).__class__(plan.schedule, "custom", plan.coefficients))
    assert refused["ComfyUI"][1] == "", "learned coefficients are no sampler of ComfyUI's"
    assert "coefficients" in refused["ComfyUI"][0]


@pytest.mark.parametrize(("first", "above"), [(1.0, True), (5000.0, False)])
def test_a_range_beyond_all_levels_of_both_plans_says_so(first, above):
    plan = sigmatune.compile_plan(sigmatune.Schedule([first, 0.5, 0.2, 0.1, 0.0]), "dpmpp2m")
    power, modes = np.array([100.0, 5, 1, 0.2, 0.1]), np.array([1.0, 8, 16, 20, 19])
    view = SimpleNamespace(exact=SimpleNamespace(power=power, modes=modes), plan=plan, default=plan)
    assert ("(above all levels of both plans)" in ends_sentence(view, 1, 8, 0.02)) == above
