"""The studio's page in Chromium as a visitor uses it."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from sigmatune.plan import load_plan
from sigmatune.studio import tab_explore, tab_frequencies, tuning_task
from visitor import SHOTS, visit

pytestmark = pytest.mark.browser


@pytest.fixture
def brief(monkeypatch):
    """Reports of few measurements and without charts: what they hold is the matter of test_report.py."""
    if not SHOTS:
        for chart in ("charts.chart", "stepwise_section._chart"):
            monkeypatch.setattr(f"sigmatune.report.{chart}", lambda *_: "")
        monkeypatch.setattr("sigmatune.report.measurements.BUDGETS", (4,))
        monkeypatch.setattr("sigmatune.report.GLANCE_STEPS", 8)


TABS = ("Explore", "Tune", "Compare", "Frequencies", "Keep")


def test_a_level_is_dragged_and_other_images_and_errors_come(browser, address):
    began = time.monotonic()
    with visit(browser, address) as visitor:
        page = visitor.page
        page.wait_for_selector("#samples img")
        assert time.monotonic() - began < 5 + 20 * (os.getloadavg()[0] > 2)
        errors, images = visitor.ready(), visitor.images
        assert len(images) == 8
        assert all(page.eval_on_selector_all("#samples img", "all => all.map(one => one.alt)"))
        handle = page.locator(".level").nth(3)
        before, box = float(handle.get_attribute("aria-valuenow")), handle.bounding_box()
        page.mouse.move(box["x"] + 15, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 75, box["y"] + 20, steps=4)
        page.mouse.up()
        after = visitor.ready(after=errors)
        assert float(page.locator(".level").nth(3).get_attribute("aria-valuenow")) < before
        assert visitor.images != images
        assert "levels=" in page.url
        page.mouse.move(box["x"] + 75, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(2000, box["y"] + 20, steps=4)  # beyond its neighbour
        page.mouse.up()
        after = visitor.ready(after=after)
        levels = [float(x) for x in page.eval_on_selector_all(".level", "all => all.map(x => x.ariaValueNow)")]
        assert levels == sorted(levels, reverse=True)
        assert len(set(levels)) == 6
        page.locator(".level").nth(1).focus()
        page.keyboard.press("ArrowRight")
        visitor.ready(after=after)
        assert page.evaluate("document.activeElement.dataset.index") == "1"
        with visit(browser, page.url) as other:  # the link holds the state
            other.ready()
            assert other.images == visitor.images


def moved_levels(page):
    return [float(level) for level in page.input_value("#levels textarea, #levels input").split(",")]


def test_a_level_is_moved_again_while_the_page_still_works_on_the_first_move(browser, address, monkeypatch):
    with visit(browser, address, link="?model=digits&calls=3&noises=2&levels=20,2,0.2") as visitor:
        page, errors = visitor.page, visitor.ready()
        measured = tab_explore.errors_of
        monkeypatch.setattr(tab_explore, "errors_of", endless)
        for _ in range(3):
            page.locator(".level").nth(1).focus()
            page.keyboard.press("ArrowLeft")
            level = page.locator(".level").nth(1).get_attribute("aria-valuenow")
            page.wait_for_function(
                "level => +document.querySelector('#levels textarea, #levels input').value.split(', ')[1] === level",
                arg=float(level),
            )
        monkeypatch.setattr(tab_explore, "errors_of", measured)
        page.keyboard.press("Delete")
        visitor.ready(after=errors)
        assert moved_levels(page) == [20, 0.2]


def test_levels_are_added_removed_and_follow_the_calls(browser, address):
    with visit(browser, address, link="?model=digits&calls=3&noises=2&levels=20,2,0.2") as visitor:
        page, errors = visitor.page, visitor.ready()
        page.locator(".level").nth(2).focus()
        page.keyboard.press("Delete")
        errors = visitor.ready(after=errors)
        assert moved_levels(page) == [20, 2]
        assert page.input_value("#calls input") == "2"
        assert page.evaluate("document.activeElement.dataset.index") == "1"
        page.locator(".level").nth(0).focus()
        page.keyboard.press("+")
        errors = visitor.ready(after=errors)
        assert moved_levels(page) == [20, pytest.approx(40**0.5, rel=1e-4), 2]
        rail = page.locator(".track").bounding_box()
        page.mouse.dblclick(rail["x"] + 0.8 * rail["width"], rail["y"] + 60)
        errors = visitor.ready(after=errors)
        levels = moved_levels(page)
        assert len(levels) == 4
        assert levels == sorted(levels, reverse=True)
        at = page.eval_on_selector(".level:last-of-type", "last => parseFloat(last.style.left)")
        assert at == pytest.approx(80, abs=0.2)
        for field in ("#model", "#family"):  # that a field is left is no choice
            page.focus(f"{field} input")
            page.keyboard.press("Tab")
        visitor.type("#seed", "1")
        errors = visitor.ready(after=errors)
        assert moved_levels(page) == levels
        visitor.type("#calls", "1")  # on the way to
        errors = visitor.ready(after=errors)
        visitor.type("#calls", "7")  # the same curve with more levels
        errors = visitor.ready(after=errors)
        more = moved_levels(page)
        assert len(more) == 7
        assert [more[0], more[2], more[4], more[6]] == pytest.approx(levels, rel=1e-4)
        handle = page.locator(".level").nth(3)
        handle.focus()
        for keys, expected in (
            ("Shift+ArrowLeft", more[3] * 2**0.01), ("Shift+ArrowRight", more[3]), ("ArrowRight", more[3] / 2**0.1),
            ("ArrowLeft", more[3]), ("ArrowUp", more[3] * 2**0.1), ("ArrowDown", more[3]), ("Home", more[2] / 1.002),
            ("End", more[4] * 1.002), ("PageUp", more[4] * 1.002 * 2**0.5), ("PageDown", more[4] * 1.002),
        ):  # fmt: skip
            page.keyboard.press(keys)
            assert float(handle.get_attribute("aria-valuenow")) == pytest.approx(expected, rel=1e-4)
        visitor.ready(after=errors)


def test_a_change_that_comes_late_to_the_server_does_not_undo_a_later_one(browser, address):
    with visit(browser, address, link="?model=digits&calls=3&noises=2") as visitor:
        page, errors, late = visitor.page, visitor.ready(), []
        page.route("**/queue/join*", lambda route: route.continue_() if late else late.append(route))
        visitor.type("#seed", "1")  # and on its way it stays
        visitor.type("#seed", "2")
        errors = visitor.ready(after=errors)
        assert len(late) == 1
        with page.expect_response("**/queue/join*"):
            late[0].continue_()
        page.wait_for_timeout(1000)
        assert visitor.ready() == errors
        assert "seed=2" in page.url


def endless(held, looked, state, turn):
    """Errors that take until another change ends them."""
    while True:
        turn.report("converged solution", 1, 2)
        time.sleep(0.01)


def test_what_is_wrong_is_said_in_a_sentence(browser, address, tmp_path, monkeypatch):
    (tmp_path / "plan.json").write_text('{"format": "something else"}')
    with visit(browser, address) as visitor:
        page = visitor.page
        visitor.ready()
        for field, text, good in (
            ("#levels textarea, #levels input", "3, 5, 1", ""),
            ("#levels textarea, #levels input", "0", ""),
            ("#model input", "/etc", "digits"),
            ("#family input", "karas", "karras"),
            ("#calls input", "2.5", "6"),
            ("#noises input", "17", "8"),
            ("#seed input, #seed textarea", "-1", "0"),
        ):
            page.fill(field, text)
            page.press(field, "Enter")
            page.wait_for_selector("#message .problem")
            said = page.inner_text("#message .problem")
            assert said.endswith((".", "?"))
            assert "Traceback" not in said
            if good:
                page.fill(field, good)
                page.press(field, "Enter")
                visitor.ready()
        monkeypatch.setattr(tab_explore, "errors_of", endless)
        page.fill("#noises input", "4")  # what still works on an earlier change erases no sentence
        page.wait_for_selector("#message progress")
        page.focus("#seed input, #seed textarea")
        page.keyboard.type("x")
        sentence = visitor.said()
        while any("(_run)" in thread.name for thread in threading.enumerate()):  # the studio works in this process
            page.wait_for_timeout(50)
        page.wait_for_timeout(500)
        assert page.inner_text("#message") == sentence
        for place in ("/etc/passwd", str(tmp_path / "plan.json")):
            assert page.request.get(f"{address}gradio_api/file={place}").status in (403, 404)
        visitor.tab("Keep")
        page.set_input_files("#open-plan input[type=file]", tmp_path / "plan.json")
        page.wait_for_selector("#keep-message .problem")
        page.wait_for_timeout(500)
        assert str(tmp_path) not in page.inner_text("#keep-message")
        assert "uploads" not in page.inner_text("#keep-message")
        assert page.is_visible("#keep-message .problem")  # nothing that follows erases it


def test_a_tuning_is_cancelled_and_another_at_once_comes_to_its_end(
    browser, address, run, brief, tmp_path, monkeypatch
):
    monkeypatch.setattr(tuning_task, "REPORT_ROWS", 2)
    with (
        visit(browser, address) as visitor,
        visit(browser, address, link="?model=digits&calls=4&solver=euler") as other,
    ):
        page = visitor.page
        visitor.ready()
        visitor.tab("Tune")
        page.fill("#tune-calls input", "7")
        page.click("#tune")
        page.wait_for_selector("#tune-message progress")
        assert page.inner_text("#tune") == "Tuning"
        page.click("#cancel-tune")
        page.fill("#tune-calls input", "3")
        page.fill("#budget input, #budget textarea", "300")
        page.click("#tune")  # waits until the cancelled tuning has closed
        assert page.inner_text("#tune-message") != ""
        other.ready()  # a second tab explores while the first tunes
        assert "calls=4" in other.page.url
        page.bring_to_front()
        page.wait_for_selector("#verdict .big")
        assert page.locator("#stages tr").count() >= 2
        assert "interval" in page.inner_text("#verdict") or "up to rounding" in page.inner_text("#verdict")
        page.wait_for_selector("#report iframe", state="attached")
        visitor.shot("tune")
        with page.expect_download() as download:
            page.click("#tuned-plan")
        file = tmp_path / "tuned.json"
        download.value.save_as(file)
        assert load_plan(file).evidence
        assert run("check", file)[0] == 0
        page.click("#take")
        page.wait_for_selector("#axis .level")  # the page turns to Explore
        visitor.ready()
        assert page.is_visible("#axis .level")


def test_a_plan_is_kept_checked_and_samples_the_same_pixels(browser, address, run, tmp_path):
    with visit(browser, address, link="?model=digits&calls=5&levels=100,20,3,0.7,0.1&noises=4") as visitor:
        page = visitor.page
        visitor.ready()
        shown = visitor.images
        visitor.tab("Keep")
        page.wait_for_selector("#plan:not([disabled])")
        page.wait_for_selector(".kept")
        visitor.shot("keep")
        assert page.locator(".kept:visible button").count() == page.locator(".kept:visible").count()
        texts = page.eval_on_selector_all(".kept textarea", "all => all.map(one => one.value)")
        assert sum("sigmatune export" in text for text in texts) >= 2
        assert any("num_inference_steps=5" in text for text in texts)
        with page.expect_download() as download:
            page.click("#plan")
        file = tmp_path / "plan.json"
        download.value.save_as(file)
        code, _, err = run("check", file, "--model", "digits")
        assert (code, err) == (0, "")
        assert run("sample", "digits", file, "-n", 4, "-o", tmp_path / "x.npz")[0] == 0
        pixels = np.load(tmp_path / "x.npz")["images"]
        assert_array_equal([decoded(one) for one in shown], pixels[..., 0])
        page.set_input_files("#open-plan input[type=file]", file)
        page.wait_for_selector("#axis .level")
        visitor.ready()
        assert visitor.images == shown
        visitor.tab("Keep")
        page.set_input_files("#open-plan input[type=file]", file)  # the field takes another one
        visitor.ready()


def decoded(address: str):
    import base64
    import io

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("L"))


@pytest.mark.filterwarnings("ignore:.*images cannot fill")
def test_plans_are_compared_ranked_and_filmed(browser, address, brief, tmp_path, monkeypatch):
    with visit(browser, address, link="?model=digits&calls=4&noises=4") as visitor:
        page = visitor.page
        visitor.ready()
        visitor.tab("Compare")
        page.fill("#compare-n input", "0")
        page.click("#compare")
        assert visitor.said("#compare-message") == "the numbers need 4 to 256 images, not 0."
        page.fill("#compare-n input", "4")
        page.click("#compare")
        page.wait_for_selector("#comparison table")
        assert "n = 4" in page.inner_text("#comparison")
        page.locator(".compare input").fill("20")
        assert page.evaluate("document.querySelector('.compare').style.getPropertyValue('--at')") == "20%"
        visitor.shot("compare")
        page.fill("#compare-images input", "16")
        page.click("#rank")
        ranking = page.frame_locator("#leaderboard iframe")
        ranking.get_by_role("heading", name="digits: which schedule for few calls").wait_for()
        assert "16 images per entry" in ranking.locator(".lead").inner_text()
        assert ranking.get_by_role("row").filter(has_text="uniform-trailing").count() >= 1
        assert ranking.get_by_role("row").filter(has_text="levels of Explore").count() >= 1
        visitor.screen(390, 844, dark=False)
        hidden = "all => all.filter(x => x.scrollWidth > x.clientWidth + 1).length"
        assert page.eval_on_selector_all("#comparison .table", hidden) == 0  # every column fits a phone
        visitor.screen(1280, 900, dark=False)
        visitor.tab("Frequencies")
        page.click("#film")
        page.wait_for_selector("#film-frame img")
        assert "call 1 of 4" in page.inner_text("#film-frame")
        page.click("#play")
        page.wait_for_function("document.querySelector('#film-frame').innerText.includes('call 4 of 4')")
        page.locator("#frame input[type=number]").fill("3")
        page.locator("#frame input[type=number]").press("Enter")
        page.wait_for_function("document.querySelector('#film-frame').innerText.includes('call 3 of 4')")
        np.savez(
            tmp_path / "images.npz", images=np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
        )
        page.set_input_files("#images input[type=file]", tmp_path / "images.npz")
        page.wait_for_selector("#images .file-preview, #images table")
        page.click("#spectrum")
        page.wait_for_selector("#spectrum-page table")
        visitor.shot("frequencies")
        monkeypatch.setattr(tab_frequencies, "film", lambda held, state, turn: endless(held, None, state, turn))
        page.click("#film")
        page.wait_for_selector("#film-message progress")
        page.click("#cancel-film")
        page.wait_for_selector("#film-message >> text=Stopped")


def test_nothing_scrolls_sideways_on_any_screen(browser, address):
    with visit(browser, address) as visitor:
        visitor.ready()
        for width, dark in ((1280, False), (1280, True), (390, True), (390, False)):
            visitor.screen(width, 844, dark=dark)
            if SHOTS:
                visitor.reload()  # Gradio looks at the colours when it opens a page
                visitor.ready()
                visitor.shot(f"explore_{width}_{'dark' if dark else 'light'}")
            assert visitor.sideways <= 0
        for name in ("Tune", "Compare", "Frequencies", "Keep"):
            visitor.tab(name)
            assert visitor.sideways <= 0, name


@pytest.mark.slow
def test_the_demo_s_model_shows_its_first_images_within_ten_seconds(browser, address):
    with visit(browser, address, height=1150, link="?model=emoji&calls=6") as visitor:
        began = time.monotonic()
        visitor.page.wait_for_selector("#samples img")
        assert time.monotonic() - began < 10 + 50 * (os.getloadavg()[0] > 2)
        visitor.ready()
        visitor.shot("emoji", top=1100)


CONTROLS = """() => {
  const shown = (e) => e.getClientRects().length && getComputedStyle(e).visibility === "visible" && !e.disabled;
  const around = (e) => e && !e.matches("[role=tabpanel], .form") ? [e, ...around(e.parentElement)] : [];
  const look = (e) => around(e).flatMap((one) => [null, "::before", "::after"].map((part) => {
    const s = getComputedStyle(one, part);
    return [s.outline, s.boxShadow, s.borderColor, s.backgroundColor, s.borderWidth].join(); })).join("|");
  const panel = [...document.querySelectorAll("[role=tabpanel]")].find(shown);
  window.looks = look;
  window.controls = [...panel.querySelectorAll("button, input, textarea, select, summary, a[href], [role=slider]")]
    .filter((e) => shown(e) && e.tabIndex >= 0 && !(e.type === "radio" && !e.checked));
  window.before = window.controls.map(look);
  return window.controls.length;
}"""
"""Notes what can be used in the open tab, and how it looks without the focus; of radio buttons one has a place in the order."""

FOCUSED = """() => {
  const e = document.activeElement, at = window.controls.indexOf(e);
  if (at < 0) return [at, "", false];
  const labels = [...(e.labels || [])].map((one) => one.innerText).join(" ");
  const ids = (e.getAttribute("aria-labelledby") || "").split(" ");
  const by = ids.map((id) => document.getElementById(id)?.innerText || "").join(" ");
  return [at, (e.ariaLabel || labels || by || e.innerText || e.title || "").trim(), window.looks(e) !== window.before[at]];
}"""


def walked(page):
    """The names of the open tab's controls, all of which the key Tab must reach, each looking different with the focus."""
    page.add_style_tag(content="* { transition: none !important; animation: none !important; }")
    names, count = {}, page.evaluate(CONTROLS)
    for _ in range(count + 12):
        page.keyboard.press("Tab")
        at, name, visible = page.evaluate(FOCUSED)
        if at >= 0:
            what = page.evaluate("at => window.controls[at].outerHTML.slice(0, 160)", at)
            assert name, what
            assert visible, what
            names[at] = name
    missed = [
        page.evaluate("at => window.controls[at].outerHTML.slice(0, 160)", at) for at in range(count) if at not in names
    ]
    assert not missed, missed
    return list(names.values())


def test_the_page_is_used_by_keyboard_alone(browser, address):
    with visit(browser, address, link="?model=digits&calls=3&noises=2") as visitor:
        page = visitor.page
        visitor.ready()
        names = {}
        for name in TABS:
            tab = page.get_by_role("tab", name=name, exact=True)
            if name != TABS[0]:  # from one tab to the next by an arrow
                page.get_by_role("tab", selected=True).focus()
                page.keyboard.press("ArrowRight")
            else:
                tab.focus()
            assert tab.get_attribute("aria-selected") == "true"
            if name == "Explore":
                page.get_by_role("button", name="Class, prompt and guidance").focus()
                page.keyboard.press("Enter")
                page.locator("#labels input, #labels textarea").wait_for()
            if name == "Keep":
                page.wait_for_selector("#plan:not([disabled])")
            page.get_by_role("tab", selected=True).focus()
            names[name] = walked(page)
            if name == "Frequencies":
                page.focus("#film")
                page.keyboard.press("Enter")
                page.wait_for_selector("#film-frame img")
        assert {"Level 1 of 3", "Undo", "Solver"} <= set(names["Explore"])
        page.get_by_role("tab", selected=True).focus()
        page.keyboard.press("ArrowRight")  # from the last to the first
        assert page.get_by_role("tab", name="Explore").get_attribute("aria-selected") == "true"
