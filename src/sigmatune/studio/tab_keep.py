"""The tab Keep: the plan as a file, as a line for other programs, and back from a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from sigmatune.interop.clients import clients
from sigmatune.plan import Plan
from sigmatune.plan.plan import mismatch
from sigmatune.report.html import p
from sigmatune.report.usage import python, shell
from sigmatune.studio.callbacks import Studio, Updates, offer, plan_name, sentences, uploaded_plan
from sigmatune.studio.tab_explore import LIVE, PRIVATE, ExploreTab, brought, present, stated
from sigmatune.studio.tab_tune import with_plan
from sigmatune.studio.views import said


@dataclass(frozen=True)
class Kept:
    """A text to copy."""

    program: str
    how: str
    text: str


PROGRAMS = ("diffusers", "ComfyUI", "AUTOMATIC1111 and Forge", "stable-diffusion.cpp", "k-diffusion")


def texts(plan: Plan, source: str, name: str) -> list[Kept]:
    """The texts of a plan for other programs, for Python and for the shell; an empty text where the program cannot take it."""
    known = clients(plan)
    how, text = known["diffusers"]
    opened = f"import sigmatune as st\nplan = st.load_plan({name!r})\n"  # a snippet that runs as it is copied
    known["diffusers"] = how, opened + text
    others = [Kept(program, *known[program]) for program in PROGRAMS]
    code, line = python(plan, source, None), shell(source, None)
    file = f"sigmatune sample {source} {name} -n 16 -o grid.png" if line is None else line
    return [
        *others,
        Kept("Python", "Samples with this plan.", code),
        Kept("Shell", "Samples with the downloaded file.", file),
    ]


def build(studio: Studio, explore: ExploreTab, tab: gr.Tab) -> None:
    """Builds the tab inside the present Blocks context."""
    gr.Markdown("The plan of *Explore*, to take elsewhere. The address of this page holds its state, too.")
    message = gr.HTML("", elem_id="keep-message", elem_classes="messages")
    with gr.Row(elem_classes="typed"):
        download = gr.DownloadButton("Download the plan", variant="primary", interactive=False, elem_id="plan")
        upload = gr.File(label="Open a plan file in Explore", file_types=[".json"], height=145, elem_id="open-plan")
    boxes = [(gr.HTML("", visible=False), _box(name)) for name in (*PROGRAMS, "Python", "Shell")]

    def filled(request: gr.Request, *values: Any) -> Iterator[Updates]:
        session = present(studio, request, stated(values))
        assert session.plan is not None
        assert session.state is not None
        name = plan_name(session.state, session.plan)
        updates: Updates = {download: offer(session, session.plan, name)}
        for (words, code), kept in zip(boxes, texts(session.plan, session.state.model, name), strict=True):
            updates[words] = gr.update(value=remark(kept), visible=not kept.text)
            updates[code] = gr.update(value=kept.text, info=kept.how, visible=bool(kept.text))
        yield updates

    @sentences(message)
    def opened(request: gr.Request, file: str | None, *values: Any) -> Iterator[Updates]:
        if file is None:
            return
        yield {upload: None}  # so that another file can be dropped
        plan = uploaded_plan(file)
        state = with_plan(stated(values), plan)
        differs = mismatch(plan, studio.held(state).model)
        if differs:
            gr.Warning(differs)
        yield {message: said(f"The levels of the plan are in Explore. {differs}")}
        yield from brought(studio, explore, request, state)

    pieces = [part for box in boxes for part in box]
    tab.select(lambda: "", None, message, **LIVE).then(
        sentences(message)(filled), explore.fields, [message, download, *pieces], show_progress="hidden", **PRIVATE
    )
    upload.upload(opened, [upload, *explore.fields], [message, upload, explore.tabs, *explore.outputs], **LIVE)


def _box(name: str) -> gr.Textbox:
    """A text to copy."""
    return gr.Textbox(
        label=name, lines=1, max_lines=5, buttons=["copy"], interactive=False, visible=False,
        elem_classes="kept",
    )  # fmt: skip


def remark(kept: Kept) -> str:
    """Why the program cannot take the plan."""
    return f'<h3 class="program">{escape(kept.program)}</h3>' + p(kept.how, "refused")
