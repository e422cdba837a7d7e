"""The tab Compare: two to four plans on the same noises, a slider between two, and the leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from sigmatune.core.schedule import whole
from sigmatune.evaluation.paired_distance import MOST as MOST_PAIRS
from sigmatune.plan import Plan
from sigmatune.plan.plan import mismatch
from sigmatune.studio.callbacks import Studio, Updates, followed, loaded, pressed, sentences, uploaded_plan
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
from sigmatune.studio.tab_explore import LIVE, ExploreTab, present, stated
from sigmatune.studio.views import said
from sigmatune.support.errors import SigmaTuneError
from sigmatune.workflows.paired_errors import LEAST

MOST_IMAGES = 5000
"""Most images per plan of the leaderboard of the page; `sigmatune bench` takes more."""


@dataclass(eq=False)
class CompareTab:
    """The components of the tab: the fields of a comparison, then its results."""

    names: gr.Dropdown
    uploads: gr.File
    noises: gr.Number
    images: gr.Number
    message: gr.HTML
    left: gr.Dropdown
    right: gr.Dropdown
    slider: gr.HTML
    table: gr.HTML
    rows: gr.HTML
    page: gr.HTML


def build(studio: Studio, explore: ExploreTab) -> None:
    """Builds the tab inside the present Blocks context."""
    gr.Markdown("Two to four plans or families with the model, solver, calls and noises of *Explore*.")
    choices = [EXPLORED, TUNED, *family_choices(None)]
    names = gr.Dropdown(choices, value=[EXPLORED, "uniform-trailing"], multiselect=True, max_choices=MOST, label="Compare",
                        allow_custom_value=True, elem_id="compared",
                        info=f"options as in karras:rho=5; {MOST} in all")  # fmt: skip
    uploads = gr.File(label="Plan files to compare as well", file_count="multiple", file_types=[".json"], height=145,
                      elem_id="compare-files")  # fmt: skip
    with gr.Row(elem_classes="fields"):
        n = gr.Number(16, label="Images for the numbers", elem_id="compare-n", min_width=180)
        start = gr.Button("Compare", variant="primary", elem_id="compare", min_width=120)
        images = gr.Number(500, label="Images for the leaderboard", elem_id="compare-images", min_width=190)
        rank = gr.Button("Leaderboard", elem_id="rank", min_width=120)
        stop = gr.Button("Cancel", elem_id="cancel-compare", min_width=90)
    message = gr.HTML("", elem_id="compare-message", elem_classes="messages")
    with gr.Row(elem_classes="fields"):
        left = gr.Dropdown([], label="Left of the edge", elem_id="left", visible=False, min_width=150)
        right = gr.Dropdown([], label="Right of the edge", elem_id="right", visible=False, min_width=150)
    shown = [
        gr.HTML("", elem_id=name, apply_default_css=False)
        for name in ("slider", "comparison", "all-rows", "leaderboard")
    ]
    tab = CompareTab(names, uploads, n, images, message, left, right, *shown)
    inputs = explore.fields
    outputs = [message, left, right, tab.slider, tab.table, tab.rows]
    compared, slid, ranked, stopped = _callbacks(studio, tab)
    pressed(start, "Comparing", compared, ([names, uploads, n, *inputs], outputs), LIVE)
    pressed(rank, "Ranking", ranked, ([names, uploads, images, *inputs], [message, tab.page]), LIVE)
    for side in (left, right):
        side.input(slid, [left, right], [message, tab.slider], **LIVE)
    stop.click(stopped, **LIVE)


def _callbacks(studio: Studio, tab: CompareTab) -> tuple[Callable[..., Any], ...]:
    @sentences(tab.message)
    def compared(
        request: gr.Request, wanted: Sequence[str], given: Any, noises: Any, *values: Any
    ) -> Iterator[Updates]:
        state, session = stated(values), studio.session(request)
        pairs = pairs_of(noises)
        with session.task("compare") as task:
            held = yield from loaded(studio, state, task.stop, tab.message)
            labels, plans = listed_plans(studio, request, held, state, wanted or [], given)
            done = yield from followed(
                held.turns, task.stop, lambda turn: compare(held, labels, plans, state, pairs, turn), tab.message
            )
            session.compared = done, held
            sides = {"choices": labels, "visible": True}
            yield {
                tab.left: gr.update(value=labels[0], **sides), tab.right: gr.update(value=labels[1], **sides),
                tab.message: said(" ".join(strangers)) if (strangers := foreign(held, labels, plans)) else "",
                tab.slider: slider_view(done, held, *labels[:2]), tab.table: comparison_view(done, held),
                tab.rows: rows_view(done, held),
            }  # fmt: skip

    @sentences(tab.message)
    def slid(request: gr.Request, left: str, right: str) -> Iterator[Updates]:
        if (kept := studio.session(request).compared) is not None:
            yield {tab.slider: slider_view(*kept, left, right)}

    @sentences(tab.message)
    def ranked(request: gr.Request, wanted: Sequence[str], given: Any, number: Any, *values: Any) -> Iterator[Updates]:
        state, session = stated(values), studio.session(request)
        count = integer(number, "the images")
        whole(count, "images", most=MOST_IMAGES)
        with session.task("compare") as task:
            held = yield from loaded(studio, state, task.stop, tab.message)
            labels, plans = listed_plans(studio, request, held, state, wanted or [], given)
            text = yield from followed(
                held.turns, task.stop, lambda turn: board(held, labels, plans, state, count, turn), tab.message
            )
            frame = f'<iframe class="page" title="Leaderboard" sandbox srcdoc="{escape(text)}"></iframe>'
            yield {tab.message: "", tab.page: frame}

    def stopped(request: gr.Request) -> None:
        studio.session(request).cancel("compare")

    return compared, slid, ranked, stopped


def pairs_of(typed: Any) -> int:
    """How many noises a comparison measures.

    Raises:
        SigmaTuneError: for a number that is none, or one from which no interval follows.
    """
    pairs = integer(typed, "the images for the numbers")
    if not LEAST <= pairs <= MOST_PAIRS:
        raise SigmaTuneError(f"the numbers need {LEAST} to {MOST_PAIRS} images, not {pairs}.")
    return pairs


def foreign(held: HeldModel, labels: Sequence[str], plans: Sequence[Plan]) -> list[str]:
    """A sentence for every plan that was made for another model."""
    noted = [(name, mismatch(plan, held.model)) for name, plan in zip(labels, plans, strict=True)]
    return [f"{name}: {words}" for name, words in noted if words]


def listed_plans(
    studio: Studio, request: gr.Request, held: HeldModel, state: PageState, wanted: Sequence[str], given: Any
) -> tuple[list[str], list[Plan]]:
    """The names and plans of a comparison: those of the list, then the uploaded ones.

    Raises:
        SigmaTuneError: if there are too few or too many, or a file is no plan.
    """
    session = present(studio, request, state) if EXPLORED in wanted else studio.session(request)
    known: dict[str, Plan | None] = {EXPLORED: session.plan, TUNED: session.tuned}
    for path in given or []:
        name = Path(path).name
        if name in known:
            raise SigmaTuneError(f"two of the files are called {name}; rename one.")
        known[name] = uploaded_plan(path)
    labels = list(dict.fromkeys([*wanted, *(name for name in known if name not in (EXPLORED, TUNED))]))
    return labels, chosen(labels, state, held, known)
