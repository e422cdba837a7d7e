"""A studio in this process, and a visitor of its page in Chromium who notes what goes wrong."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

CHROMIUM = next((str(p) for p in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if p.exists()), None)
SHOTS = os.environ.get("SIGMATUNE_SCREENSHOTS")
"""A folder to which the tests write what they saw; the pages of docs/ show these."""

LONG, SHORT = 60_000, 3_000
"""Milliseconds to wait for anything on a busy machine, and for one of several attempts."""

CLOSED = (
    r"^AbortError: signal is aborted without reason\n"
    r"\s+at \w+ \(http://127\.0\.0\.1:\d+/assets/index-[\w-]+\.js:[\d:]+\)\n\s+at [\w$]+\.close \("
)
"""What Gradio logs when a page is left or reloaded, also by Gradio itself after a restart, while its event stream is open: its
`close` aborts the stream, and the stream's reader logs that. Nothing is lost, because the new page opens a stream of its own.
An abort that anything else causes has another trace and fails the test."""

LEFT = rf"{CLOSED}|^Unexpected error Connection errored out"
"""What it logs when the page is reloaded: a stream that opens just then breaks off, too."""

FIGURES = "() => [...document.querySelectorAll('#errors td')].map(one => one.textContent).join(' ')"
"""The errors as text, which is the same whether the page is in sight or behind another."""


@pytest.fixture(scope="module")
def browser():
    """Chromium."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium (apt-get install chromium)")
    pytest.importorskip("gradio", reason="gradio is not installed")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def studio_folder(tmp_path_factory):
    """The folder in which :func:`address` runs: ``start`` is where its command was started."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "start").mkdir()
    return folder


@pytest.fixture(scope="module")
def address(studio_folder):
    """A studio of the bundled digits with a start folder of its own."""
    from little import little_work  # imports much, and most tests need no studio

    with little_work(), serving(studio_folder) as shown:
        yield shown


@contextlib.contextmanager
def serving(folder: Path, *, port: int = 0, token: str | None = None) -> Iterator[str]:
    """A studio in a thread of this process, and its address."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    import uvicorn

    from sigmatune.evaluation import paired_distance
    from sigmatune.studio import held_models, tab_frequencies
    from sigmatune.studio.page_state import PageState
    from sigmatune.studio.server import LOCAL, Gate, application

    with pytest.MonkeyPatch.context() as patch:
        if not SHOTS:  # images for the pages of docs/ show what a user gets
            patch.setattr(held_models, "REFERENCE_STEPS", 12)
            patch.setattr(paired_distance, "FIRST", 12)
            patch.setattr(tab_frequencies, "PACE", 0.3)
        patch.setenv("SIGMATUNE_CACHE", str(folder / "cache"))
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "files" / "uploads"))
        listener = socket.create_server(("127.0.0.1", port))
        app = Gate(application(PageState("digits"), folder / "start", folder / "files", "cpu"), LOCAL, token)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(10)


def timed_out() -> type[Exception]:
    """Playwright's error of a wait that ended; the module is imported where there is a browser only."""
    from playwright.sync_api import TimeoutError as timed

    return timed


class Visitor:
    """A page that notes what goes wrong on it; ``expected`` matches console errors that belong to the test.

    All visitors share a context of the browser, whose cache halves the time of opening a page.
    """

    def __init__(self, browser, address, *, width=1280, height=900, dark=False, link="", expected="$^"):
        context = browser.contexts[0] if browser.contexts else browser.new_context(accept_downloads=True)
        self.page = context.new_page()
        self.screen(width, height, dark=dark)
        self.page.set_default_timeout(LONG)
        self.problems, self.hosts, self.expected = [], set(), expected
        self.page.on("console", lambda m: self.problems.append(f"{m.text} {m.location}") if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.problems.append(e.stack or str(e)))
        self.page.on("request", lambda r: self.hosts.add(re.sub(r"^\w+://([^/:]+).*", r"\1", r.url)))
        self.answer = self.page.goto(address + link)

    def screen(self, width, height, *, dark):
        """Shows the page on another screen."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme="dark" if dark else "light")
        self.page.evaluate(
            "dark => document.body?.classList.toggle('dark', dark)", dark
        )  # Gradio does so when it opens

    def reload(self):
        """Loads the page again; what the page logs while it is left does not count."""
        kept = len(self.problems)
        self.page.reload()
        self.problems[kept:] = [problem for problem in self.problems[kept:] if not re.search(LEFT, problem)]

    def ready(self, *, after=""):
        """Waits until the errors of the present plan are there, and differ from earlier ones.

        Chromium draws one frame a second of a page behind another, and Playwright waits for frames, so this shows the page.
        """
        self.page.bring_to_front()
        try:
            self.page.wait_for_function(
                f"before => {{ const m = document.querySelector('#message'), e = ({FIGURES})();"
                " return m && e && !m.innerText.trim() && e !== before; }", arg=after
            )  # fmt: skip
        except timed_out():
            fields = self.page.eval_on_selector_all("input", "all => all.map(one => one.ariaLabel + ': ' + one.value)")
            said = self.page.inner_text("#message")
            raise AssertionError(
                f"{said!r}, errors {self.errors!r} after {after!r}, {fields}, {self.problems}"
            ) from None
        return self.errors

    @property
    def errors(self):
        return self.page.evaluate(FIGURES)

    @property
    def images(self):
        return self.page.eval_on_selector_all("#samples .noises:first-of-type img", "all => all.map(one => one.src)")

    @property
    def sideways(self):
        """Pixels by which the page is wider than the screen."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def said(self, place="#message"):
        """The sentence about what is wrong."""
        self.page.wait_for_selector(f"{place} .problem")
        text = self.page.inner_text(f"{place} .problem")
        assert text.endswith((".", "?"))
        assert "Traceback" not in text
        return text

    def type(self, field, text):
        """Fills a field and presses Enter."""
        self.page.fill(f"{field} input, {field} textarea", text)
        self.page.press(f"{field} input, {field} textarea", "Enter")

    def tab(self, name):
        """Turns to a tab, also to one that a narrow screen keeps in the menu "More tabs".

        Gradio decides a frame after the page opens or changes its width which tabs fit, so a tab that was in the menu may be
        outside a moment later, and the menu gone. Every attempt therefore looks again.
        """
        page, ends = self.page, time.monotonic() + LONG / 1000
        page.bring_to_front()
        tab, chosen = (page.get_by_role("tab", name=name, exact=True, **which) for which in ({}, {"selected": True}))
        more = page.get_by_role("button", name="More tabs")
        while not chosen.is_visible():
            assert time.monotonic() < ends, f"the tab {name} cannot be opened"
            with contextlib.suppress(timed_out()):
                if tab.is_visible():
                    tab.click(timeout=SHORT)
                elif more.is_visible():
                    more.click(timeout=SHORT)
                    page.locator(".overflow-dropdown button", has_text=name).click(timeout=SHORT)
                chosen.wait_for(timeout=SHORT)

    def shot(self, name, *, top=0):
        """Writes a screenshot of the whole page, or of its first pixels."""
        if SHOTS:
            self.page.mouse.move(0, 0)
            self.page.wait_for_timeout(400)
            clip = {"x": 0, "y": 0, "width": self.page.viewport_size["width"], "height": top} if top else None
            file = Path(SHOTS) / f"studio_{name}.png"
            self.page.screenshot(path=file, full_page=True, clip=clip)
            Image.open(file).convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE).save(file, optimize=True)

    def close(self):
        self.page.close()
        unexpected = [problem for problem in self.problems if not re.search(self.expected, problem)]
        assert not unexpected, unexpected
        assert self.hosts <= {"127.0.0.1"} | {host for host in self.hosts if host.startswith(("data:", "blob:"))}


@contextlib.contextmanager
def visit(browser, address, **how):
    """A visitor, whose page must have had no console error and no other host when the block ends."""
    visitor = Visitor(browser, address, **how)
    try:
        yield visitor
    finally:
        visitor.close()
