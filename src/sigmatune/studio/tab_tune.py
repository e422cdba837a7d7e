"""The tab Tune: a tuning with its stages as they come, its verdict, its report and its plan."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from sigmatune.measures import MEASURES
from sigmatune.plan import Plan
from sigmatune.studio.callbacks import Studio, Updates, followed, loaded, offer, plan_name, pressed, sentences
from sigmatune.studio.explore import solver_choices
from sigmatune.studio.page_state import PageState, integer
from sigmatune.studio.sessions import Session
from sigmatune.studio.tab_explore import LIVE, ExploreTab, brought, stated
from sigmatune.studio.tuning_task import TuningTask, stage_table, verdict
from sigmatune.studio.views import said
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.effort import EFFORTS

DEFAULT_MEASURE = "by the samples"


@dataclass(eq=False)
class TuneTab:
    """The components of the tab."""

    message: gr.HTML
    stages: gr.HTML
    verdict: gr.HTML
    plan: gr.DownloadButton
    report: gr.DownloadButton
    page: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What a tuning changes."""
        return [self.message, self.stages, self.verdict, self.plan, self.report, self.page]


def build(studio: Studio, explore: ExploreTab) -> None:
    """Builds the tab inside the present Blocks context."""
    gr.Markdown("Finds the noise levels that get the most out of the calls for the model of *Explore*, and tests them "
                "on noises that no earlier step has used.")  # fmt: skip
    with gr.Row(elem_classes="fields"):
        solvers = [choice for choice in solver_choices() if "adds noise" not in choice[0]]
        solver = gr.Dropdown(solvers, value=studio.first.solver if studio.first.solver in dict(solvers).values() else "dpmpp2m",
                             label="Solver", elem_id="tune-solver", min_width=150)  # fmt: skip
        calls = gr.Number(studio.first.calls, label="Calls per image", min_width=110, elem_id="tune-calls")
        effort = gr.Radio(list(EFFORTS), value="low", label="Effort", elem_id="effort", min_width=290)
        measure = gr.Dropdown([DEFAULT_MEASURE, *MEASURES], value=DEFAULT_MEASURE, label="Measure", elem_id="measure",
                              min_width=150)  # fmt: skip
        budget = gr.Textbox(label="Budget", placeholder="4000 or 5min", elem_id="budget", min_width=150)
    with gr.Row():
        start = gr.Button("Tune", variant="primary", elem_id="tune", min_width=120)
        stop = gr.Button("Cancel", elem_id="cancel-tune", min_width=120)
    message = gr.HTML("", elem_id="tune-message", elem_classes="messages")
    stages = gr.HTML("", elem_id="stages", apply_default_css=False)
    result = gr.HTML("", elem_id="verdict", apply_default_css=False)
    with gr.Row():
        plan = gr.DownloadButton("Download the plan", interactive=False, elem_id="tuned-plan", min_width=120)
        report = gr.DownloadButton("Download the report", interactive=False, elem_id="tuned-report", min_width=120)
        take = gr.Button("Show its levels in Explore", elem_id="take", min_width=120)
    page = gr.HTML("", elem_id="report", apply_default_css=False)
    tab = TuneTab(message, stages, result, plan, report, page)
    _connect(studio, explore, tab, (start, stop, take), [solver, calls, effort, measure, budget])


def _connect(
    studio: Studio, explore: ExploreTab, tab: TuneTab, buttons: tuple[gr.Button, ...], options: list[Any]
) -> None:
    start, stop, take = buttons

    @sentences(tab.message)
    def tuned(request: gr.Request, *values: Any) -> Iterator[Updates]:
        (solver, calls, effort, measure, budget), rest = values[:5], values[5:]
        state = replace(stated(rest), solver=solver, calls=integer(calls, "calls"), levels=())
        task = TuningTask(solver, state.calls, "" if measure == DEFAULT_MEASURE else measure, effort, budget or "")
        yield from run(studio, tab, request, state, task)

    @sentences(tab.message)
    def taken(request: gr.Request, *values: Any) -> Iterator[Updates]:
        session = studio.session(request)
        plan = session.tuned or session.best
        if plan is None:
            raise SigmaTuneError("there is no tuned plan yet; press Tune first.")
        state = with_plan(stated(values), plan)
        yield {tab.message: said("Its levels are in Explore.")}
        yield from brought(studio, explore, request, state)

    def stopped(request: gr.Request) -> None:
        studio.session(request).cancel("tune")

    pressed(start, "Tuning", tuned, ([*options, *explore.fields], tab.outputs), LIVE)
    stop.click(stopped, **LIVE)
    take.click(taken, explore.fields, [tab.message, explore.tabs, *explore.outputs], **LIVE)


def with_plan(state: PageState, plan: Plan) -> PageState:
    """The state that explores a plan.

    Raises:
        SigmaTuneError: for a plan whose coefficients are not its solver's, or one with a schedule per row.
    """
    if plan.solver == "custom" or plan.schedule.rows is not None:
        raise SigmaTuneError(
            "this plan has coefficients of its own or a schedule per image, which Explore cannot move."
        )
    levels = tuple(float(level) for level in plan.schedule.sigmas[:-1])
    return replace(state, solver=plan.solver, calls=plan.calls, levels=levels)


def run(studio: Studio, tab: TuneTab, request: gr.Request, state: PageState, task: TuningTask) -> Iterator[Updates]:
    """Tunes, shows the verdict, then writes the report."""
    session = studio.session(request)
    cleared = {
        tab.plan: gr.update(interactive=False),
        tab.report: gr.update(interactive=False),
        tab.verdict: "",
        tab.page: "",
    }
    with session.task("tune") as running:
        yield {tab.stages: stage_table([]), **cleared}
        yield from _run(studio, tab, session, state, task, running.stop)


def _run(
    studio: Studio, tab: TuneTab, session: Session, state: PageState, task: TuningTask, stop: threading.Event
) -> Iterator[Updates]:
    held = yield from loaded(studio, state, stop, tab.message)
    session.tuned = session.best = None

    def so_far() -> Updates:
        session.best = task.best
        return {tab.stages: stage_table(task.stages)}

    plan = yield from followed(held.turns, stop, lambda turn: task.run(held, turn), tab.message, so_far)
    session.tuned = plan
    name = f"tuned-{plan_name(state, plan)}"
    file = Path(session.save(plan, name))
    yield {**so_far(), tab.verdict: verdict(plan), tab.plan: offer(session, plan, name)}
    text = yield from followed(held.turns, stop, lambda turn: task.report(held, plan, file, turn), tab.message)
    frame = (
        f'<iframe class="page" title="Report of the tuning" sandbox="allow-scripts" srcdoc="{escape(text)}"></iframe>'
    )
    yield {
        tab.report: gr.update(value=str(file.with_suffix(".html")), interactive=True),
        tab.page: f"<details><summary>The report</summary>{frame}</details>",
        tab.message: "",
    }
