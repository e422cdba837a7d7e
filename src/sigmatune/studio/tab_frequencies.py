"""The tab Frequencies: the spectrum of a visitor's images, and a sampling as a film."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from sigmatune.studio.callbacks import Studio, Updates, followed, loaded, sentences
from sigmatune.studio.film import SpectrumPage, film, spectrum_page
from sigmatune.studio.tab_explore import LIVE, ExploreTab, stated
from sigmatune.studio.turns import Turns
from sigmatune.support.card import count
from sigmatune.support.errors import SigmaTuneError

PACE = 0.8
"""Seconds of a frame."""


def build(studio: Studio, explore: ExploreTab) -> None:
    """Builds the tab inside the present Blocks context."""
    gr.Markdown("### The film\nWhich frequencies are there at which call: the plan of *Explore*, step by step.")
    with gr.Row(elem_classes="fields"):
        roll = gr.Button("Film the plan of Explore", variant="primary", elem_id="film", min_width=160)
        play = gr.Button("Play", elem_id="play", min_width=90)
        stop = gr.Button("Cancel", elem_id="cancel-film", min_width=90)
    message = gr.HTML("", elem_id="film-message", elem_classes="messages")
    frame = gr.Slider(1, 2, value=1, step=1, label="Call", elem_id="frame", visible=False)
    shown = gr.HTML("", elem_id="film-frame", apply_default_css=False)
    clock = gr.Timer(PACE, active=False)
    _film(studio, explore, (roll, play, message, frame, shown, clock))
    gr.Markdown("### Your images\nTheir spectrum, the noise range that it implies, and constants for training.")
    with gr.Row(elem_classes="fields"):
        uploads = gr.File(label="Images of one size, or one .npz", file_count="multiple", height=145, elem_id="images")
        folder = gr.Textbox(label="or a folder or file below the start folder", elem_id="image-folder", min_width=220)
        go = gr.Button("Measure", elem_id="spectrum", min_width=120)
        halt = gr.Button("Cancel", elem_id="cancel-spectrum", min_width=90)
    saying = gr.HTML("", elem_id="spectrum-message", elem_classes="messages")
    page = gr.HTML("", elem_id="spectrum-page", apply_default_css=False)
    _spectrum(studio, (uploads, folder, go, saying, page))
    for button, task in ((stop, "film"), (halt, "spectrum")):
        button.click(canceller(studio, task), **LIVE)


def canceller(studio: Studio, task: str) -> Callable[[gr.Request], None]:
    """A callback that cancels a task of the tab."""

    def stopped(request: gr.Request) -> None:
        studio.session(request).cancel(task)

    return stopped


def _film(studio: Studio, explore: ExploreTab, parts: tuple[Any, ...]) -> None:
    roll, play, message, frame, shown, clock = parts

    @sentences(message)
    def filmed(request: gr.Request, *values: Any) -> Iterator[Updates]:
        state, session = stated(values), studio.session(request)
        with session.task("film") as task:
            held = yield from loaded(studio, state, task.stop, message)
            session.film = yield from followed(held.turns, task.stop, lambda turn: film(held, state, turn), message)
            last = len(session.film.frames)
            yield {
                frame: gr.update(maximum=max(last, 2), value=1, visible=True),
                shown: session.film.page(1),
                message: "",
            }

    def turned(request: gr.Request, number: float) -> str:
        kept = studio.session(request).film
        return "" if kept is None else kept.page(int(number))

    def ticked(request: gr.Request, number: float) -> tuple[Any, Any, str]:
        kept = studio.session(request).film
        last = 0 if kept is None else len(kept.frames)
        following = int(number) + 1
        if kept is None or following > last:
            return gr.update(), gr.update(active=False), gr.update()
        return following, gr.update(active=following < last), kept.page(following)

    def played(request: gr.Request, number: float) -> tuple[Any, Any]:
        kept = studio.session(request).film
        ended = kept is not None and int(number) >= len(kept.frames)
        return gr.update(active=kept is not None), 0 if ended else number

    roll.click(filmed, explore.fields, [message, frame, shown], trigger_mode="once", **LIVE)
    frame.input(turned, frame, shown, trigger_mode="always_last", **LIVE)
    play.click(played, frame, [clock, frame], **LIVE)
    clock.tick(ticked, frame, [frame, clock, shown], **LIVE)


def _spectrum(studio: Studio, parts: tuple[Any, ...]) -> None:
    uploads, folder, go, message, page = parts
    turns = Turns()

    @sentences(message)
    def measured(request: gr.Request, given: Any, place: str) -> Iterator[Updates]:
        if bool(given) == bool((place or "").strip()):
            both = "not both" if given else "first"
            raise SigmaTuneError(f"upload images, or name a folder, {both}.")
        paths = [Path(one) for one in given or []]
        source: Any = paths or studio.places.file(place.strip())
        name = count(len(paths), "uploaded file") if paths else Path(place.strip()).name
        with studio.places.named(), studio.session(request).task("spectrum") as task:
            result = yield from followed(turns, task.stop, lambda turn: spectrum_page(source, name, turn), message)
        yield {page: drawn(result), message: ""}

    go.click(measured, [uploads, folder], [message, page], trigger_mode="once", **LIVE)


def drawn(result: SpectrumPage) -> str:
    """The figure and the tables as HTML."""
    address = f"data:image/png;base64,{base64.b64encode(result.figure).decode()}"
    return f'<div class="wide"><img class="figure" alt="{escape(result.label)}" src="{address}"></div>{result.text}'
