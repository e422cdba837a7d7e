"""The studio's page where something is in the way: a server that dies, a wrong token, prompts, bad folders, large files."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from PIL import Image

from sigmatune import models, schedules
from sigmatune.plan import compile_plan
from sigmatune.solvers import PHASE_SPACE
from sigmatune.studio import held_models
from sigmatune.studio.places import UPLOAD
from sigmatune.support import hub_access
from visitor import CLOSED, serving, visit

pytestmark = pytest.mark.browser

TOKEN = "a-long-enough-token"
LEVELS = "?model=digits&calls=4&levels=90,12.5,1.5,0.25&noises=4"
GONE = r"ERR_|Failed to (load|fetch)|fetch|network|Connection|stream"
"""What a browser and Gradio log when a server dies."""


def typed_levels(page):
    return page.input_value("#levels textarea, #levels input")


def test_open_pages_go_on_where_the_server_was_restarted(browser, tmp_path):
    (tmp_path / "start").mkdir()
    end = contextlib.ExitStack()
    with serving(tmp_path) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        seen, idle = (
            end.enter_context(visit(browser, address, link=LEVELS, expected=f"{GONE}|{CLOSED}")) for _ in "ab"
        )
        errors = idle.ready()
        assert seen.ready() == errors
    page, images, levels = seen.page, seen.images, typed_levels(seen.page)
    seen.type("#seed", "1")  # no server answers
    page.wait_for_selector("text=/connection|server/i")
    with serving(tmp_path, port=port), end:
        page.wait_for_function("document.querySelector('#errors table') && !document.querySelector('.toast-body')")
        seen.ready()
        assert typed_levels(page) == levels
        before = seen.errors if seen.errors != errors else ""
        seen.type("#seed", "0")
        assert seen.ready(after=before) == errors
        assert seen.images == images
        seen.reload()
        seen.ready()
        assert (typed_levels(page), seen.images) == (levels, images)
        at_rest(idle, errors, levels)


def at_rest(idle, errors, levels):
    """A page that nobody used while the server was restarted does not notice."""
    idle.tab("Keep")  # the new server has never seen this page's plan
    idle.page.wait_for_selector("#plan:not([disabled])")
    idle.tab("Explore")
    idle.type("#seed", "1")
    idle.ready(after=errors)
    assert typed_levels(idle.page) == levels


def test_without_its_token_the_page_is_a_sentence(browser, tmp_path):
    (tmp_path / "start").mkdir()
    with serving(tmp_path, token=TOKEN) as address:
        for link, words in (("", "Open the studio with its token"), ("?token=wrong-but-long", "not the studio's")):
            with visit(browser, address, link=link, expected="401") as visitor:  # no other test has the token's cookie
                assert visitor.answer.status == 401
                assert words in visitor.page.inner_text("[role=alert]")
                assert visitor.page.locator(".gradio-container").count() == 0
        with visit(browser, address, link=f"?token={TOKEN}&model=digits&calls=4&noises=2") as visitor:
            visitor.ready()
            assert TOKEN not in visitor.page.url
            visitor.reload()  # the browser keeps it
            visitor.ready()


def test_a_solver_of_phase_space_is_refused_in_a_sentence(browser, address):
    name = next(iter(PHASE_SPACE))
    with visit(browser, address, link=f"?model=digits&solver={name}") as visitor:
        assert visitor.said() == (
            f"{name} samples in phase space, which this page does not show; use `sigmatune sample`."
        )
        visitor.page.locator("#solver input").click()
        visitor.page.get_by_role("option", name="euler", exact=True).click()
        visitor.ready()


@pytest.mark.parametrize(("family", "field", "text"), [("sd15", "#prompts", "a red cat"), ("dit", "#labels", "1 2")])
def test_a_model_that_is_asked_for_something_draws_it_with_guidance(
    browser, address, studio_folder, family, field, text, monkeypatch
):
    from tiny_pipelines import FAMILIES

    monkeypatch.setattr(held_models, "REFERENCE_STEPS", 6)
    FAMILIES[family].pipe().save_pretrained(studio_folder / "start" / family)
    link = f"?model=./{family}&calls=3&noises=2&solver=euler&family=uniform-trailing"
    with visit(browser, address, link=link) as visitor:
        page = visitor.page
        said = visitor.said()  # it draws nothing by itself
        assert said.startswith(f"{family} draws what you ask for")
        page.get_by_role("button", name="Class, prompt and guidance").click()
        page.fill(f"{field} input, {field} textarea", text)
        page.locator("#guidance input, #guidance textarea").fill("3")  # while the model loads with the prompt
        page.wait_for_function("field => location.search.includes(field)", arg=f"{field[1:]}=")
        page.locator("#guidance input, #guidance textarea").blur()
        page.wait_for_function("location.search.includes('guidance=3')")
        errors, images = visitor.ready(), visitor.images
        assert len(images) == 2
        page.locator("#guidance input, #guidance textarea").fill("7")
        page.locator("#guidance input, #guidance textarea").blur()
        errors = visitor.ready(after=errors)
        assert visitor.images != images
        visitor.type("#levels", "10, 1")
        visitor.ready(after=errors)
        assert page.input_value("#calls input") == "4"  # guidance takes two network calls a level


def test_folders_and_files_that_cannot_be_taken_are_refused(browser, address, studio_folder, tmp_path):
    start = studio_folder / "start"
    (start / "empty").mkdir()
    (start / "text").mkdir()
    (start / "text" / "notes.txt").write_text("no image")
    (start / "sizes").mkdir()
    for i, size in enumerate((8, 9)):
        Image.fromarray(np.zeros((size, 8), dtype=np.uint8)).save(start / "sizes" / f"{i}.png")
    with visit(browser, address, link="?model=digits&calls=3&noises=2") as visitor:
        visitor.ready()
        visitor.tab("Frequencies")
        said = set()
        for place in ("", "nowhere", str(tmp_path), "../..", "empty", "text", "sizes"):
            visitor.page.fill("#image-folder input, #image-folder textarea", place)
            visitor.page.click("#spectrum")
            visitor.page.wait_for_function(
                "(seen) => { const m = document.querySelector('#spectrum-message .problem');"
                " return m && !seen.includes(m.innerText); }", arg=list(said)
            )  # fmt: skip
            text = visitor.said("#spectrum-message")
            assert str(start) not in text
            said.add(text)
        assert sum("outside" in text for text in said) == 2
        large_and_foreign(visitor, tmp_path)


def large_and_foreign(visitor, folder):
    """A file above the limit is refused before it is sent, and one of another kind by Gradio."""
    large, small, page = folder / "large.json", folder / "small.txt", visitor.page
    with large.open("wb") as file:
        file.truncate(UPLOAD + 1)
    small.write_text("no plan")
    visitor.tab("Keep")
    page.set_input_files("#open-plan input[type=file]", large)
    assert "more than 64 MiB" in visitor.said("#open-plan")
    page.set_input_files("#open-plan input[type=file]", small)
    page.wait_for_function("!document.querySelector('#open-plan .said')")
    page.wait_for_selector("text=/Invalid file type/")


def test_a_plan_of_another_model_is_opened_with_a_warning(browser, address, tmp_path):
    model = models.load("digits")
    plan = compile_plan(schedules.build("karras", 3, model.path), "euler", model)
    replace(plan, fingerprint="sha256:" + "0" * 64).save(tmp_path / "other.json")
    with visit(browser, address, link="?model=digits&calls=4") as visitor:
        page = visitor.page
        visitor.ready()
        visitor.tab("Keep")
        page.set_input_files("#open-plan input[type=file]", tmp_path / "other.json")
        page.locator("text=made for another model >> visible=true").first.wait_for()
        page.wait_for_function("document.querySelector('#calls input').value === '3'")
        visitor.ready()


def test_a_hub_that_does_not_answer_is_said_within_seconds(browser, address, monkeypatch):
    import huggingface_hub

    over = threading.Event()
    assert hub_access.SECONDS <= 4

    def silent(url, timeout):
        over.wait(60)
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", silent)
    monkeypatch.setattr(hub_access, "_silent", {})
    monkeypatch.setattr(hub_access, "SECONDS", 1)
    with visit(browser, address, link="?model=digits&calls=3&noises=2") as visitor:
        visitor.ready()
        began = time.monotonic()
        visitor.type("#model", "nobody/nothing")
        assert "the hub cannot be reached" in visitor.said()
        assert time.monotonic() - began < 10  # of the 60 that the hub takes
        monkeypatch.setattr(hub_access, "SECONDS", 60)
        visitor.type("#model", "nobody/else")
        visitor.page.wait_for_selector("text=Loading nobody/else")
        visitor.page.click("#stop-explore")
        visitor.page.wait_for_selector("#message >> text=Stopped")
        over.set()


@pytest.mark.slow
def test_a_page_survives_the_kill_of_the_command(browser, tmp_path):
    """The real command, killed while it tunes: the page says so, and comes back with its state when the command does."""
    command = [sys.executable, "-m", "sigmatune", "studio", "digits", "--port"]

    def started(port):
        server = subprocess.Popen([*command, str(port)], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        return server, re.search(r"http\S+/", server.stdout.readline())[0]

    server, address = started(0)
    try:
        with visit(browser, address, link=LEVELS, expected=f"{GONE}|{CLOSED}") as visitor:
            page = visitor.page
            visitor.ready()
            levels = typed_levels(page)
            visitor.tab("Tune")
            page.click("#tune")
            page.wait_for_selector("#tune-message progress")
            page.evaluate("window.before = true")
            server.kill()
            server.communicate()
            page.wait_for_selector("text=/connection to the server was lost/i")
            server, _ = started(int(address.rstrip("/").rpartition(":")[2]))
            page.wait_for_function("window.before === undefined")  # it reloads by itself
            visitor.ready()
            assert page.locator("#tune-message progress").count() == 0
            assert typed_levels(page) == levels
    finally:
        server.kill()
        server.communicate()


SCREENS = [(390, False), (390, True), (1280, False), (1280, True)]


@pytest.mark.slow
def test_every_tab_fits_every_screen(browser, address, tmp_path):
    """With SIGMATUNE_SCREENSHOTS=folder it leaves an image of every tab there, 20 in all."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 256, (40, 16, 16), dtype=np.uint8))
    with visit(browser, address, dark=True, link="?model=digits&calls=5") as visitor:
        page = visitor.page
        visitor.ready()
        assert page.evaluate("document.body.classList.contains('dark')")  # as Gradio opened it
        visitor.tab("Tune")
        page.fill("#tune-calls input", "3")
        page.click("#tune")
        page.wait_for_selector("#report iframe", state="attached")
        visitor.tab("Compare")
        page.click("#compare")
        page.wait_for_selector("#comparison table")
        visitor.tab("Frequencies")
        page.click("#film")
        page.wait_for_selector("#film-frame img")
        page.set_input_files("#images input[type=file]", tmp_path / "images.npz")
        page.wait_for_selector("#images .file-preview, #images table")
        page.click("#spectrum")
        page.wait_for_selector("#spectrum-page table")
        visitor.tab("Keep")
        page.wait_for_selector("#plan:not([disabled])")
        page.wait_for_selector(".kept")
        for (width, dark), name in product(SCREENS, ("Explore", "Tune", "Compare", "Frequencies", "Keep")):
            visitor.screen(width, 900, dark=dark)
            visitor.tab(name)
            assert visitor.sideways <= 0, (name, width)
            visitor.shot(f"all_{name.lower()}_{width}_{'dark' if dark else 'light'}")
