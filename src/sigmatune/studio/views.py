"""What a measurement looks like on the page, as HTML that the report's functions draw."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.measures import MEASURES
from sigmatune.report.charts import power_chart
from sigmatune.report.html import p, table, three
from sigmatune.report.inline_images import data_address
from sigmatune.studio.explore import ErrorRow, Errors, Look, octave_rows
from sigmatune.studio.held_models import shows
from sigmatune.support.card import count
from sigmatune.support.durations import about
from sigmatune.support.errors import sentence
from sigmatune.support.pixels import to_pixels
from sigmatune.support.progress import Overall

SIDE = 256
"""Most pixels of a side of an image on the page."""


def addresses(images: torch.Tensor, model: Denoiser) -> list[str]:
    """Images, (n, C, H, W), as ``data:`` addresses."""
    return [data_address(image, SIDE) for image in to_pixels(images, model.value_range)]


def image_row(images: torch.Tensor, model: Denoiser, alt: str, first: int = 0) -> str:
    """A row of images, each with a text alternative."""
    small = max(images.shape[-2:]) <= SIDE
    tags = "".join(
        f'<img alt="{escape(alt)}, noise {first + i}" src="{source}">'
        for i, source in enumerate(addresses(images, model))
    )
    return f'<div class="noises{" pixelated" if small else ""}" style="--n:{len(images)}">{tags}</div>'


def samples(looked: Look, errors: Errors | None, model: Denoiser) -> str:
    """The samples of a plan beside the converged ones."""
    if not shows(model):
        return p(
            "This model's samples are not images with one or three channels, so there is nothing to show; the errors hold."
        )
    plan, took = looked.plan, seconds(looked.seconds)
    cost = f"{count(plan.steps, 'step')}, {count(plan.network_calls(model), 'network call')} per image"
    title = f"<b>now</b> {escape(plan.solver)}, {cost} <small>{took}</small>"
    below = '<div class="noises waiting"></div>' if errors is None else image_row(errors.converged, model, "Converged")
    done = "" if errors is None else f" <small>{seconds(errors.seconds)} with the errors</small>"
    return (
        f'<figure class="samples"><figcaption>{title}</figcaption>{image_row(looked.images, model, "Sample of the plan")}'
        f"<figcaption><b>converged</b> the same noises in many steps{done}</figcaption>{below}</figure>"
    )


def seconds(measured: float) -> str:
    """A measured time."""
    return f"{measured:.2f} s" if measured < 1 else f"{measured:.1f} s" if measured < 10 else about(measured)


def error_view(looked: Look, errors: Errors) -> str:
    """The errors by measure, by octave and by frequency."""
    if not looked.plan.coefficients.deterministic:
        return p(f"{looked.plan.solver} adds noise, so no sample has one converged solution and no error of its own.")
    n = len(looked.ends)
    rows = [("", [measured_by(row.measure), _value(row, n)]) for row in errors.by_measure]
    note = (
        f"Geometric mean over {n} images with its 95% bootstrap interval; lower is better." if n > 1
        else "Of one image, without an interval; lower is better."
    )  # fmt: skip
    text = f'<div class="halves charted"><div>{table(["error by measure", "value"], rows)}{p(note, "note")}'
    if errors.of_error is None or errors.of_images is None:
        return f"{text}</div></div>"
    octaves = [
        ("", [name, f"{share:.0%}", f"{relative:.1%}"])
        for name, share, relative in octave_rows(errors.of_error, errors.of_images)
    ]
    head = ["cycles per image", "share of error", "error / image"]
    chart = power_chart(errors.of_images.power, [("error", errors.of_error.power)], "explored")
    return f"{text}{table(head, octaves)}</div><div>{chart}</div></div>"


def measured_by(measure: str) -> str:
    """A measure with what it is in a few words."""
    return f'{escape(measure)} <span class="why">{escape(MEASURES[measure].summary.partition(";")[0])}</span>'


def _value(row: ErrorRow, n: int) -> str:
    interval = f' <span class="low">{three(row.low)} to {three(row.high)}</span>' if n > 1 else ""
    return three(row.value) + interval


def status(overall: Overall) -> str:
    """How far a task is."""
    what = overall.what or "starting"
    left = "" if overall.left is None or overall.share <= 0 else f", {overall.time_left}"
    value = f' value="{overall.share:.3f}"' if overall.share > 0 else ""  # without it the bar says that it waits
    return (
        f'<div class="status"><progress max="1"{value} aria-label="progress"></progress>'
        f"<span>{escape(what)}, {overall.share:.0%}{escape(left)}</span></div>"
    )


def said(text: str, kind: str = "") -> str:
    """A message to the user in one sentence; ``kind`` is "problem" or ""."""
    role = "alert" if kind else "status"
    return f'<div class="said {kind}" role="{role}">{escape(sentence(text))}</div>'


def bullet_list(lines: Sequence[str]) -> str:
    """Sentences as a list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
