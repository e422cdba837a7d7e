"""What a notebook and a terminal show of plans, schedules and spectra: short, drawn to scale, and never a file's own HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exact import ALL_PATHS, gaussian
from sigmatune.core.schedule import Schedule
from sigmatune.plan import compile_plan
from sigmatune.solvers import SOLVERS
from sigmatune.spectra import Spectrum, spectrum_of
from sigmatune.support import card
from test_schedule import INFINITE, ROWS, schedules

LEVELS = [80.0, 9.0, 1.0, 0.1, 0.01, 0.0]
MODEL = gaussian()
TAGS = {"div", "svg", "title", "g", "path", "text", "polyline", "circle"}
NASTY = '</text><script>alert(\'1\')</script>" onload="x" & \x1b[31m\nnext <img src=x>'


def tree(shown) -> ET.Element:
    """The card as a tree; parsing fails if anything in it is not closed."""
    return ET.fromstring(re.sub(r' xmlns="[^"]+"', "", shown._repr_html_()))


def points(shown) -> list[np.ndarray]:
    return [
        np.array([pair.split(",") for pair in line.get("points").split()], dtype=float) for line in tree(shown).iter("polyline")
    ]  # fmt: skip


def said(shown) -> str:
    return "|".join(tree(shown).itertext())


def tuned(**notes):
    evidence = {
        "verdict": "gain: on 96 held-out noises the tuned plan's error is 0.72 times that of karras.",
        "gain": True,
    }
    cost = {"network_evaluations": {"search": 2, "total": 12_345}}
    given = {"evidence": evidence, "cost": cost, "tuned_for": {"calls": 5, "guidance": None}, "fingerprint": "3f2a"}
    return compile_plan(Schedule(LEVELS, "karras", {"rho": 7.0}), "euler", MODEL).with_notes(**{**given, **notes})


@pytest.mark.parametrize("name", ALL_PATHS)
def test_the_text_of_a_model_says_what_it_is(name):
    path = ALL_PATHS[name]
    ends = f"noise levels {path.sigma_min:.4g} to {path.sigma_max:.4g})"
    assert repr(path).startswith(f"{type(path).__name__}(")
    assert repr(path).endswith(ends)
    assert repr(gaussian(path)) == f"{type(gaussian(path)).__name__}(1 x 8 x 8, {path!r}, float64 on cpu)"
    assert len(repr(gaussian(path))) < 250


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_the_text_of_a_plan_is_three_lines(solver):
    plan = compile_plan(Schedule([10.0, 9.0, 1.0, 0.1, 0.01, 0.0]), solver)
    lines = repr(plan).splitlines()
    assert lines[0].startswith(f"Plan: {plan.solver}")
    assert f"5 steps, {plan.calls} calls" in lines[0]
    assert lines[1:] == ["  sigmas: 10, 9, 1, 0.1, 0.01, 0", "  evidence: none, this plan was not tuned"]


@pytest.mark.parametrize(
    "shown",
    [
        tuned(), tuned(evidence={"verdict": NASTY * 50}), tuned(evidence={"verdict": 3}), tuned(evidence={}, cost={"a": 1}),
        tuned(cost={"network_evaluations": [1]}), compile_plan(ROWS, "euler"), compile_plan(INFINITE, "euler"),
        replace(tuned(), solver=NASTY, solver_options={"eta": NASTY * 9}),
    ],
)  # fmt: skip
def test_every_plan_is_three_short_lines_that_any_terminal_can_show(shown):
    lines = repr(shown).split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() and line.isascii() and len(line) < 200 for line in lines), lines
    assert tree(shown).tag == "div"


def test_the_text_of_schedules_spectra_and_coefficients_is_one_line():
    flat = spectrum_of(torch.ones(2, 1, 4, 4, dtype=torch.float64))
    assert repr(Schedule(LEVELS, "karras", {"rho": 7.0})) == "Schedule(karras rho=7, 5 steps: 80, 9, 1, 0.1, 0.01, 0)"
    assert repr(Schedule([3.0, 0.0])) == "Schedule(given, 1 step: 3, 0)"
    assert repr(ROWS) == "Schedule(given, 4 steps: the first of 3 rows 80, 20, 3, 0.5, 0)"
    long = Schedule([*range(500, -1, -1)], "karras", {"of": {"family": "x"}, "ks": [1, 2]})
    assert repr(long) == "Schedule(karras, 500 steps: 500, 499, 498, 497, 496, ..., 4, 3, 2, 1, 0)"
    assert repr(flat) == "Spectrum(4 x 4, 1 channel, 2 images: 16, 0, 0)"
    assert repr(tuned().coefficients) == "Coefficients(calls=5, width=1, ports=1, rows=None, deterministic=True)"


def test_levels_are_drawn_to_scale_on_a_logarithmic_axis():
    x, y = points(Schedule(LEVELS))[0].T
    assert np.allclose(np.diff(x), np.diff(x)[0], atol=0.11), "steps are evenly spaced"
    share = (y[:5] - card.TOP) / (card.BOTTOM - card.TOP)
    assert np.allclose(share, np.log(80 / np.array(LEVELS[:5])) / np.log(8000), atol=1e-3)
    assert y[5] == card.BOTTOM + card.EDGE, "0 is below the axis"
    labels = {text.text: float(text.get("y")) for text in tree(Schedule(LEVELS)).iter("text")}
    assert abs(labels["1"] - y[2] - 3.5) < 0.11, "a mark stands at its level"
    assert abs(labels["0.01"] - y[4] - 3.5) < 0.11
    circles = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in tree(Schedule(LEVELS)).iter("circle")]
    assert np.allclose(circles, points(Schedule(LEVELS))[0])


def test_an_infinite_level_is_above_the_axis_and_both_ends_are_named():
    y = points(INFINITE)[0][:, 1]
    assert (y[0], y[1]) == (card.TOP - card.EDGE, card.TOP)
    texts = [text.text for text in tree(INFINITE).iter("text")]
    assert {"inf", "0", "sigma", "step"} <= set(texts)
    assert "inf" not in [text.text for text in tree(Schedule(LEVELS)).iter("text")]


def test_every_row_is_a_curve_up_to_a_limit_that_is_stated():
    assert len(points(ROWS)) == 3
    assert "3, 3 of them drawn" in said(ROWS)
    assert not list(tree(ROWS).iter("circle"))
    many = Schedule(np.stack([np.array(LEVELS) * (1 + i / 50) for i in range(50)]))
    assert len(points(many)) == card.CURVES
    assert "50, 12 of them drawn" in said(many)
    assert len(said(compile_plan(many, "euler"))) < 600


@settings(max_examples=60)
@given(schedules())
def test_any_schedule_stays_inside_its_drawing_and_falls(schedule):
    for x, y in (line.T for line in points(schedule)):
        assert np.all((x >= 0) & (x <= card.WIDTH))
        assert np.all((y >= 0) & (y <= card.HEIGHT))
        assert np.all(np.diff(y) >= 0)
        assert np.all(np.diff(x) >= 0)


@pytest.mark.parametrize("level", [5e-324, 1e-300, 1.0, 1.7e308, float("inf")])
def test_a_single_level_is_drawn_wherever_it_lies(level):
    schedule = Schedule([level, 0.0])
    if np.isinf(level):
        assert points(schedule) == [], "no finite level, no axis"
    else:
        assert np.isfinite(points(schedule)[0]).all()
        assert f"{level:.4g}" in said(schedule)


def test_a_plans_card_has_levels_evidence_and_cost():
    text = said(tuned())
    for fact in ("Plan: euler, 5 steps, 5 calls", "karras rho=7", "80, 9, 1, 0.1, 0.01, 0", "gain: on 96 held-out noises",
                 "12,345 network evaluations", "5 network evaluations per image", "3f2a"):  # fmt: skip
        assert fact in text, fact
    assert "none, this plan was not tuned" in said(compile_plan(Schedule(LEVELS), "euler"))


@pytest.mark.parametrize(
    "shown",
    [
        tuned(evidence={"verdict": NASTY}), tuned(fingerprint=NASTY), tuned(tuned_for={"calls": 5, "solver": NASTY}),
        replace(tuned(), solver=NASTY), Schedule(LEVELS, NASTY), Schedule(LEVELS, "x", {NASTY: NASTY}),
        replace(spectrum_of(torch.rand(2, 1, 4, 4, dtype=torch.float64)), measured={"window": NASTY}),
    ],
)  # fmt: skip
def test_what_a_file_says_stays_text(shown):
    root = tree(shown)
    assert {element.tag for element in root.iter()} <= TAGS
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)
    assert "<script>alert('1')</script>" in said(shown), "shown as it is written"
    assert "\x1b" not in shown._repr_html_()


@pytest.mark.parametrize("shown", [tuned(), ROWS, spectrum_of(torch.rand(2, 1, 8, 8, dtype=torch.float64))])
def test_a_card_needs_nothing_from_elsewhere_and_suits_light_and_dark(shown):
    html = shown._repr_html_()
    assert not re.search(r"url\(|href|src=|<style|<script|@import|var\(", html)
    assert html.count("http") == html.count('xmlns="http://www.w3.org/2000/svg"')
    colours = set(re.findall(r'(?:fill|stroke|color|background)[:=]"?([^;"]+)', html))
    assert colours <= {"none", "currentColor", "inherit", "transparent", card.ACCENT}, colours
    for page in ("#ffffff", "#111111"):
        assert contrast(card.ACCENT, page) >= 3, "graphics need 3 to 1"


def contrast(a: str, b: str) -> float:
    """WCAG 2.2's ratio."""

    def luminance(colour: str) -> float:
        c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_a_spectrum_is_one_curve_per_channel_without_dc_and_without_empty_rings():
    power = np.array([9.0, 4.0, 0.0, 1.0, 0.25])
    flat = Spectrum(power, np.ones(5), (8, 8), images=3)
    [line] = points(flat)
    assert len(line) == 3, "rings 1, 3 and 4"
    assert np.allclose(
        line[:, 1], card.TOP + (card.BOTTOM - card.TOP) * np.log(4 / power[[1, 3, 4]]) / np.log(16), atol=0.06
    )
    assert np.allclose((line[:, 0] - card.LEFT) / (card.RIGHT - card.LEFT), np.log([1, 3, 4]) / np.log(4), atol=1e-3)
    assert "8 x 8, 1 channel, 3 images" in said(flat)
    several = spectrum_of(torch.rand(2, 3, 8, 8, dtype=torch.float64), per_channel=True)
    assert len(points(several)) == 3
    for empty in (np.zeros(5), np.array([1.0, 0, 0, 0, 0])):
        assert points(Spectrum(empty, np.ones(5), (8, 8))) == []
    assert points(Spectrum(np.array([2.0]), np.ones(1), (1, 1))) == []


@settings(max_examples=100)
@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_an_axis_has_two_to_five_marks_inside_it(one, other):
    axis = card.Axis.of(np.array([one, other]), card.LEFT, card.RIGHT)
    marks = axis.place(np.array(axis.ticks()))
    assert 2 <= len(marks) <= 5
    assert np.all((marks >= card.LEFT - 0.01) & (marks <= card.RIGHT + 0.01))
    assert np.all(np.diff(marks) > 0)


def test_what_is_chosen_evenly_keeps_both_ends():
    assert card.evenly(range(3), 5) == [0, 1, 2]
    chosen = card.evenly(range(1000), 7)
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 999, 7)
