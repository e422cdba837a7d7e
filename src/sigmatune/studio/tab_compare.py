"""The tab Compare: two to four plans on the same noises, a slider between two, and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from sigmatune.plan import Plan, load_plan
from sigmatune.studio.callbacks import Studio, Updates, followed, sentences
from sigmatune.studio.comparing import (
    EXPLORED,
    MOST,
    TUNED,
    board,
    chosen,
    compare,
    comparison_view,
    rows_view,
    slider_view,
)
from sigmatune.studio.explore import family_choices
from sigmatune.studio.held_models import HeldModel
from sigmatune.studio.page_state import PageState, integer
from sigmatune.studio.sessions import Session
from sigmatune.studio.tab_explore import LIVE, ExploreTab, stated
from sigmatune.studio.views import said
from sigmatune.support.errors import SigmaTuneError
from sigmatune.workflows.paired_errors import asked_for

MOST_IMAGES = 5000
"""Most images per plan of the leaderboard of the page; `sigmatune bench` takes more."""


def build(studio: Studio, explore: ExploreTab) -> None:
    """Builds the tab inside the present Blocks context."""
    gr.Markdown("Two to four plans or families with the model, solver, calls and noises of *Explore*.")
    names = gr.Dropdown([EXPLORED, TUNED, *family_choices(None)], value=[EXPLORED, "uniform-trailing"], multiselect=True,
                        max_choices=MOST, allow_custom_value=True, label="Compare", elem_id="compared",
                        info="families take options, as in karras:rho=5")  # fmt: skip
    uploads = gr.File(label="Plan files to compare as well", file_count="multiple", file_types=[".json"], height=110,
                      elem_id="compare-files")  # fmt: skip
    with gr.Row(elem_classes="fields"):
        n = gr.Number(
            16, label="Noises of the numbers", minimum=4, maximum=256, precision=0, elem_id="compare-n", min_width=120
        )
        start = gr.Button("Compare", variant="primary", elem_id="compare", min_width=120)
        images = gr.Number(
            500, label="Images of the leaderboard", minimum=20, maximum=MOST_IMAGES, precision=0, min_width=120
        )
        rank = gr.Button("Leaderboard", elem_id="rank", min_width=120)
        stop = gr.Button("Cancel", elem_id="cancel-compare", min_width=90)
    message = gr.HTML("", elem_id="compare-message", elem_classes="messages")
    with gr.Row(elem_classes="fields"):
        left = gr.Dropdown([], label="Left of the edge", elem_id="left", visible=False, min_width=150)
        right = gr.Dropdown([], label="Right of it", elem_id="right", visible=False, min_width=150)
    slider = gr.HTML("", elem_id="slider", apply_default_css=False)
    table = gr.HTML("", elem_id="comparison", apply_default_css=False)
    rows = gr.HTML("", elem_id="compare-rows", apply_default_css=False)
    page = gr.HTML("", elem_id="leaderboard", apply_default_css=False)

    @sentences(message)
    def compared(
        request: gr.Request, wanted: Sequence[str], given: Any, noises: Any, *values: Any
    ) -> Iterator[Updates]:
        state, session = stated(values), studio.session(request)
        stopping = session.begin("compare")
        yield {message: said(f"Loading {state.model}.")}
        held = studio.held(state)
        labels, plans = listed_plans(session, held, state, wanted, given)
        pairs = asked_for(integer(noises, "the noises"), 256)
        done = yield from followed(
            held, stopping, lambda turn: compare(held, labels, plans, state, pairs, turn), message
        )
        session.compared = done, held
        first = {"choices": labels, "visible": True}
        yield {
            left: gr.update(value=labels[0], **first), right: gr.update(value=labels[1], **first), message: "",
            slider: slider_view(done, held, labels[0], labels[1]), table: comparison_view(done, held), rows: rows_view(done, held),
        }  # fmt: skip

    @sentences(message)
    def slid(request: gr.Request, a: str, b: str) -> Iterator[Updates]:
        if (kept := studio.session(request).compared) is not None:
            yield {slider: slider_view(*kept, a, b)}

    @sentences(message)
    def ranked(request: gr.Request, wanted: Sequence[str], given: Any, number: Any, *values: Any) -> Iterator[Updates]:
        state, session = stated(values), studio.session(request)
        stopping, count = session.begin("compare"), min(integer(number, "the images"), MOST_IMAGES)
        yield {message: said(f"Loading {state.model}.")}
        held = studio.held(state)
        labels, plans = listed_plans(session, held, state, wanted, given)
        text = yield from followed(held, stopping, lambda turn: board(held, labels, plans, state, count, turn), message)
        yield {message: "", page: f'<iframe class="page" title="Leaderboard" sandbox srcdoc="{escape(text)}"></iframe>'}

    def stopped(request: gr.Request) -> None:
        studio.session(request).cancel("compare")

    outputs = [message, left, right, slider, table, rows]
    start.click(compared, [names, uploads, n, *explore.fields], outputs, trigger_mode="once", **LIVE)
    rank.click(ranked, [names, uploads, images, *explore.fields], [message, page], trigger_mode="once", **LIVE)
    for side in (left, right):
        side.input(slid, [left, right], [message, slider], **LIVE)
    stop.click(stopped, **LIVE)


def listed_plans(
    session: Session, held: HeldModel, state: PageState, wanted: Sequence[str], given: Any
) -> tuple[list[str], list[Plan]]:
    """The names and plans of a comparison: those of the list, then the uploaded ones.

    Raises:
        SigmaTuneError: if there are too few or too many, or a file is no plan.
    """
    known: dict[str, Plan | None] = {EXPLORED: session.plan, TUNED: session.tuned}
    for path in given or []:
        name = Path(path).name
        if name in known:
            raise SigmaTuneError(f"two of the files are called {name}; rename one.")
        known[name] = load_plan(path)
    labels = list(dict.fromkeys([*(wanted or []), *(name for name in known if name not in (EXPLORED, TUNED))]))
    return labels, chosen(labels, state, held, known)
