"""Default and tuned over each other, large, with a slider between them; below them what the model draws in many steps.

The slider needs the page's only script, which sets one number. The page's policy admits this script by its digest and nothing
from elsewhere, so no text of a file can run or load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

import torch

from sigmatune.report import inline_images as pictures
from sigmatune.report.charts import short
from sigmatune.report.facts import Group, Pair, ReportFacts, View
from sigmatune.report.html import budget, p
from sigmatune.support.pixels import to_pixels

LARGE, SIDE = 4, 320
"""Noises that are shown large, and the most pixels of a side."""

SCRIPT = """for (const box of document.querySelectorAll(".compare")) {
  const slider = box.querySelector("input");
  const move = () => box.style.setProperty("--at", slider.value + "%");
  slider.addEventListener("input", move);
  move();
}"""
"""Moves the edge between default and tuned."""

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    + "'"
)
"""The page's content security policy: its own styles, images inside it, this script, and nothing else."""


def comparison(measured: ReportFacts) -> str:
    """One comparison for each plan with a gain; a remark where there is nothing to compare."""
    if not pictures.drawable(measured.image_shape):
        return p("This model's samples are not images with one or three channels, so there is nothing to show here.")
    blocks = []
    for view in measured.views:
        shown = _pair_of(view, measured)
        if shown is not None and shown[1].plan is not None and view.gain:
            heading = f"<h3>{escape(budget(view))}</h3>" if len(measured.views) > 1 else ""
            blocks.append(heading + _block(*shown, measured))
    if not blocks:
        return p("No plan beat its default, so there is nothing to compare.")
    note = (
        "The first held-out noises, not a selection: left of the edge the best default, right of it the tuned plan, from the "
        "same noise. Below: what the model draws from it in many steps, which both should reach."
    )
    return p(note, "note") + p("On paper: the default above, the tuned plan below it.", "note paper") + "".join(blocks)


def _pair_of(view: View, measured: ReportFacts) -> tuple[Group, Pair] | None:
    for group in measured.groups:
        pair = group.pairs.get(view.plan.steps)
        if group.solver == view.default.solver and pair is not None:
            return group, pair
    return None


def _block(group: Group, pair: Pair, measured: ReportFacts) -> str:
    assert pair.plan is not None
    default, tuned, reference = (
        _row(images, measured.value_range) for images in (pair.default.images, pair.plan.images, group.reference)
    )
    soft = max(measured.image_shape[1:]) <= pictures.LARGEST
    name, note = short(pair.name).replace("*", ""), f"converged, {group.reference_calls} calls"
    return over((name, default), ("tuned", tuned), (note, reference), pixelated=soft)


Images = tuple[str, Sequence[str]]
"""A name, and the addresses of images of the same noises."""


def over(left: Images, right: Images, below: Images, *, pixelated: bool) -> str:
    """Two rows of images over each other with a slider between them, and a third row below.

    Args:
        left, right: Shown left and right of the slider's edge.
        below: A note, and the images below it.
        pixelated: Whether the browser enlarges pixels as squares.
    """
    soft, (a, b) = " pixelated" * pixelated, (escape(left[0]), escape(right[0]))
    cells = "".join(
        f'<div class="both"><img alt="{a}" src="{one}"><img alt="{b}" class="over" src="{other}"></div>'
        for one, other in zip(left[1], right[1], strict=True)
    )
    converged = "".join(f'<img alt="converged" src="{c}">' for c in below[1])
    label = f"Edge between {a}, left, and {b}, right"
    return (
        f'<div class="compare"><div class="who"><b class="default-colour">{a}</b><b class="plan-colour">{b}</b></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{label}">'
        f'<div class="large{soft}">{cells}</div>'
        f'<p class="note">{escape(below[0])}</p><div class="large{soft}">{converged}</div></div>'
    )


def _row(images: torch.Tensor, value_range: tuple[float, float]) -> list[str]:
    pixels = to_pixels(images[:LARGE], value_range)
    return [pictures.data_address(image, SIDE) for image in pixels]
