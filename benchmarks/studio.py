"""Seconds until the studio shows its first images: ``python benchmarks/studio.py [MODEL ...]``, on an idle machine.

For every model it starts ``sigmatune studio MODEL`` as a user does, waits for the address that it prints, opens the page in a
fresh Chromium, and stops the clock when all images of the plan are drawn. The page is opened several times, each time as a new
visitor; the first is the one that counts, because the server has computed nothing before it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from guard import machine
from playwright.sync_api import Browser, sync_playwright

ASKED = {"digits": 5.0, "emoji": 10.0}
"""Seconds that a model may take."""

CHROMIUM = next((str(p) for p in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if p.exists()), None)
DRAWN = """() => { const all = [...document.querySelectorAll('#samples .noises:first-of-type img')];
  return all.length > 0 && all.every((one) => one.complete && one.naturalWidth > 0); }"""


def first_images(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds from opening the page to its images, and to the errors of the plan."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, began = context.new_page(), time.monotonic()
    page.goto(address, timeout=120_000)
    page.wait_for_function(DRAWN, timeout=120_000)
    images = time.monotonic() - began
    page.wait_for_selector("#errors table", timeout=120_000)
    errors = time.monotonic() - began
    context.close()
    return images, errors


def measured(browser: Browser, model: str, visits: int) -> dict[str, object]:
    """The times of one model, each from a server of its own."""
    began = time.monotonic()
    command = [sys.executable, "-m", "sigmatune", "studio", model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(word for word in server.stdout.readline().split() if word.startswith("http"))
            started = time.monotonic() - began
            times = [first_images(browser, address) for _ in range(visits)]
        finally:
            server.terminate()
    images, errors = zip(*times, strict=True)
    return {"start": started, "images": images, "errors": errors, "asked": ASKED.get(model)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(ASKED))
    parser.add_argument("--visits", type=int, default=3)
    options = parser.parse_args()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for model in options.models:
            times = measured(browser, model, options.visits)
            print(json.dumps({"model": model, **times, "load": os.getloadavg()[0]}))
        browser.close()
    print(json.dumps({"date": datetime.date.today().isoformat(), "machine": machine()}))


if __name__ == "__main__":
    main()
