"""The tab Explore: fields, the axis, samples and errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from typing import Any

import gradio as gr

from sigmatune.models.bundled import bundled_names
from sigmatune.studio.axis import axis_html
from sigmatune.studio.callbacks import Studio, Updates, followed, loaded, sentences, unchanged
from sigmatune.studio.explore import Errors, Look, errors_of, family_choices, look, plan_of, resampled, solver_choices
from sigmatune.studio.held_models import HeldModel
from sigmatune.studio.page_state import MOST_CALLS, PageState, integer, numbers, written
from sigmatune.studio.sessions import Session
from sigmatune.studio.views import error_view, said, samples
from sigmatune.support.errors import SigmaTuneError

SCRIPT = files("sigmatune.studio").joinpath("studio.js").read_text(encoding="utf-8")
COUNT = "(...given) => [...given.slice(0, -1), (window.changes = (window.changes || 0) + 1)]"
"""Numbers the changes of a page in the order in which they were made; the number is the last input of their callbacks."""

PRIVATE = {"api_visibility": "private"}
LIVE: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": 16, **PRIVATE}
"""Options of events: the model's own queue decides who runs, and the page shows progress itself."""


@dataclass(eq=False)
class ExploreTab:
    """The components of the tab that others use.

    Attributes:
        fields: The fields of a :class:`PageState`, in order; ``levels`` is hidden, and empty for the family's.
        message: Where sentences appear.
        link: The link that holds the page's state.
        tabs: The tabs of the page, of which this one is ``explore``.
        outputs: Everything that an exploration changes.
    """

    fields: list[Any]
    message: gr.HTML
    link: gr.Textbox
    tabs: gr.Tabs
    typed: gr.Textbox
    axis: gr.HTML
    samples: gr.HTML
    errors: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What an exploration changes."""
        return [*self.fields, self.message, self.link, self.typed, self.axis, self.samples, self.errors]


def stated(values: Sequence[Any]) -> PageState:
    """The state that the fields hold.

    Raises:
        SigmaTuneError: for a number that is none.
    """
    model, solver, calls, family, levels, seed, noises, labels, prompts, negative, guidance = values
    return PageState(
        str(model or ""), str(solver or ""), integer(calls, "calls"), str(family or ""),
        tuple(numbers(levels, "levels")) if levels else (),
        integer(seed, "the seed"), integer(noises, "images"), labels or "", prompts or "", negative or "", guidance or "",
    )  # fmt: skip


def field_values(state: PageState) -> list[Any]:
    """The values of the fields that hold a state; the inverse of :func:`stated`."""
    return [
        state.model, state.solver, state.calls, state.family, written(state.levels), str(state.seed), state.noises,
        state.labels, state.prompts, state.negative, state.guidance,
    ]  # fmt: skip


def build(studio: Studio, tabs: gr.Tabs) -> ExploreTab:
    """Builds the tab inside the present Blocks context."""
    first = studio.first
    with gr.Row(elem_classes="fields"):
        names = list(dict.fromkeys([first.model, *bundled_names()]))
        model = gr.Dropdown(
            names, value=first.model, label="Model or hub id", allow_custom_value=True, elem_id="model",
            min_width=170,
        )  # fmt: skip
        solver = gr.Dropdown(solver_choices(), value=first.solver, label="Solver", elem_id="solver", min_width=150)
        calls = gr.Number(first.calls, label="Calls per image", elem_id="calls", min_width=110)
        family = gr.Dropdown(
            family_choices(None), value=first.family, label="Family and options", allow_custom_value=True,
            elem_id="family", min_width=170,
        )  # fmt: skip
        seed = gr.Textbox(str(first.seed), label="Seed", max_lines=1, elem_id="seed", min_width=90)
        noises = gr.Number(first.noises, label="Images", elem_id="noises", min_width=90)
    with gr.Accordion("Class, prompt and guidance, for models that take them", open=False):
        with gr.Row(elem_classes="fields"):
            labels = gr.Textbox(first.labels, label="Labels", placeholder="0 1 2", elem_id="labels", min_width=120)
            guidance = gr.Textbox(
                first.guidance, label="Guidance", placeholder="the model's own", elem_id="guidance", min_width=120
            )
            negative = gr.Textbox(first.negative, label="Negative prompt", min_width=180)
        prompts = gr.Textbox(first.prompts, label="Prompts, one per line", lines=2, elem_id="prompts")
    message = gr.HTML("", elem_id="message", elem_classes="messages")
    axis = gr.HTML("", elem_id="axis", js_on_load=SCRIPT, apply_default_css=False)
    shown = gr.HTML("", elem_id="samples", apply_default_css=False)
    with gr.Row(elem_classes="typed"):
        typed = gr.Textbox(
            label="Levels, falling; change them and press Enter", elem_id="levels", scale=5, min_width=240
        )
        undo = gr.Button("Undo", elem_id="undo", scale=0, min_width=80)
        back = gr.Button("Reset", elem_id="back", scale=0, min_width=80)
        stop = gr.Button("Stop", elem_id="stop-explore", scale=0, min_width=80)
    errors = gr.HTML("", elem_id="errors", apply_default_css=False)
    # in the page, so that it survives a restart of the server
    levels = gr.Textbox(written(first.levels), visible="hidden", elem_id="moved")
    change = gr.Number(0, visible="hidden")
    link = gr.Textbox(label="Link to this page as it is", elem_id="link", buttons=["copy"], interactive=False)
    fields = [model, solver, calls, family, levels, seed, noises, labels, prompts, negative, guidance]
    tab = ExploreTab(fields, message, link, tabs, typed, axis, shown, errors)
    _connect(studio, tab, change, (undo, back, stop))
    return tab


def _connect(studio: Studio, tab: ExploreTab, change: gr.Number, buttons: tuple[gr.Button, ...]) -> None:
    undo, back, stop = buttons
    model, solver, calls, family, _, seed, noises, labels, prompts, negative, guidance = tab.fields

    def explore(
        request: gr.Request, values: tuple[Any, ...], after: Callable[[PageState], PageState]
    ) -> Iterator[Updates]:
        *sent, number = values
        yield from explored(studio, tab, request, lambda: after(stated(sent)), sent=sent, number=int(number))

    def changed(after: Callable[[gr.Request, PageState], PageState]) -> Callable[..., Iterator[Updates]]:
        def callback(request: gr.Request, *values: Any) -> Iterator[Updates]:
            yield from explore(request, values, lambda state: after(request, state))

        return callback

    def moved(event: gr.EventData, request: gr.Request, *values: Any) -> Iterator[Updates]:
        given = tuple(float("inf") if level is None else float(level) for level in event.levels)
        yield from explore(request, values, lambda state: replace(state, levels=given))

    def typed(request: gr.Request, text: str, *values: Any) -> Iterator[Updates]:
        yield from explore(request, values, lambda state: with_levels(state, text))

    def undone(request: gr.Request, number: float) -> Iterator[Updates]:
        yield from explored(studio, tab, request, studio.session(request).back, number=int(number))

    def stopped(request: gr.Request) -> None:
        studio.session(request).cancel("explore")

    # Every change begins at once and ends the one before it: what Gradio keeps for later loses the levels that it came with.
    options = {"outputs": tab.outputs, "trigger_mode": "multiple", "js": COUNT, **LIVE}
    fields = [*tab.fields, change]
    for field in (model, family):
        field.input(changed(partial(with_choice, studio)), fields, **options)
    calls.input(changed(partial(with_calls, studio)), fields, **options)
    kept = changed(lambda _, state: state)
    for field in (solver, seed, noises):
        field.input(kept, fields, **options)
    for field in (labels, prompts, negative, guidance):
        field.blur(kept, fields, **options)
    tab.axis.submit(moved, fields, **options)
    tab.typed.submit(typed, [tab.typed, *fields], **options)
    back.click(changed(lambda _, state: replace(state, levels=())), fields, **options)
    undo.click(undone, change, **options)
    stop.click(stopped, **LIVE)


def with_levels(state: PageState, text: str) -> PageState:
    """The state with typed levels.

    Raises:
        SigmaTuneError: if there is none above 0.
    """
    given = tuple(level for level in numbers(text, "levels") if level != 0)
    if not given:
        raise SigmaTuneError("type at least one level above 0; the final 0 is added for you.")
    return replace(state, levels=given)


def with_choice(studio: Studio, request: gr.Request, state: PageState) -> PageState:
    """The state with the family's levels where another model or family was chosen; fields that are only left say so, too."""
    before = studio.session(request).state
    same = before is not None and (before.model, before.family) == (state.model, state.family)
    return state if same else replace(state, levels=())


def with_calls(studio: Studio, request: gr.Request, state: PageState) -> PageState:
    """The state with as many levels as its calls allow, on the curve that was moved or typed last.

    A family makes its levels by itself, also instead of a single one, which is no curve.
    """
    curves = studio.session(request).curves
    curve = curves.get(state.levels, state.levels)
    if len(curve) < 2:
        return replace(state, levels=())
    after = resampled(replace(state, levels=curve), studio.held(state).model)
    curves[after.levels] = curve  # the 1 of a 12 that is being typed must not leave a single level of it
    return after


def explored(
    studio: Studio,
    tab: ExploreTab,
    request: gr.Request,
    change: Callable[[], PageState],
    sent: Sequence[Any] = (),
    number: int | None = None,
) -> Iterator[Updates]:
    """Makes a change and shows its state: first the axis, then samples, then the converged solution and the errors.

    ``sent`` is what the page's fields held, see :func:`fields_of`, and ``number`` the change's, see :data:`COUNT`.
    """
    yield unchanged(tab.message)  # it may be superseded before it can say anything
    with studio.session(request).task("explore", number) as task:
        if task.superseded:  # a later change overtook it on the way
            return
        for updates in sentences(tab.message)(_steps)(studio, tab, request, change, sent, task.stop):
            if task.superseded:  # another change speaks for itself
                return
            yield updates


def _steps(
    studio: Studio,
    tab: ExploreTab,
    request: gr.Request,
    change: Callable[[], PageState],
    sent: Sequence[Any],
    stop: threading.Event,
) -> Iterator[Updates]:
    session = studio.session(request)
    settled, session.settled = session.settled, None
    state = change()
    if state == settled:  # a field was only looked at
        session.settled = settled
        return
    held = yield from loaded(studio, state, stop, tab.message)
    plan = plan_of(state, held.model)
    if state.levels:  # the levels decide, and the field follows
        state = replace(state, calls=min(plan.network_calls(held.model), MOST_CALLS))
    session.show(state, plan)
    yield {**fields_of(tab, state, request, sent), **axis_of(tab, held, state, session)}
    looked = yield from followed(held.turns, stop, lambda turn: look(held, state, turn), tab.message)
    yield {tab.samples: samples(looked, None, held.model), tab.message: said("Solving for the converged images.")}
    errors = yield from followed(held.turns, stop, lambda turn: errors_of(held, looked, state, turn), tab.message)
    yield finished(tab, held, looked, errors)
    session.settled = state  # the page has got it: a change that overtakes this one drops what is not yet sent


def present(studio: Studio, request: gr.Request, state: PageState) -> Session:
    """The session of a page whose state is given; a restarted server has forgotten its plan, and compiles it again."""
    session = studio.session(request)
    if session.plan is None:
        session.show(state, plan_of(state, studio.held(state).model))
    return session


def brought(studio: Studio, tab: ExploreTab, request: gr.Request, state: PageState) -> Iterator[Updates]:
    """Turns to this tab and shows a state that another tab brings; what goes wrong from then on is said here."""
    yield {tab.tabs: gr.Tabs(selected="explore")}
    yield from explored(studio, tab, request, lambda: state)


def fields_of(tab: ExploreTab, state: PageState, request: gr.Request, sent: Sequence[Any] = ()) -> Updates:
    """Updates of the fields to a state, and of the link.

    Where the page has sent what its fields held, only those that differ change, so that what a visitor types into another
    field meanwhile stays.
    """
    origin = request.headers.get("origin", "null")  # the browser's, because a proxy may encrypt
    place = origin if origin != "null" else f"http://{request.headers['host']}"
    values = field_values(state)
    pairs = zip(tab.fields, values, sent or [object()] * len(values), strict=True)
    changed = {field: value for field, value, held in pairs if value != held}
    return {**changed, tab.link: f"{place}/{state.link()}"}


def axis_of(tab: ExploreTab, held: HeldModel, state: PageState, session: Session) -> Updates:
    """Updates of the axis, of the typed levels and of the facts to the session's plan."""
    assert session.plan is not None
    levels = session.plan.schedule.sigmas[:-1].tolist()
    what = "moved levels" if state.levels else state.family
    title = f"Noise levels of {what}, {len(levels)} steps"
    return {
        tab.axis: axis_html(levels, held.model.path, held.spectrum(), title=title),
        tab.typed: ", ".join(f"{level:.6g}" for level in levels),
    }


def finished(tab: ExploreTab, held: HeldModel, looked: Look, errors: Errors) -> Updates:
    """Updates when everything is measured."""
    return {
        tab.samples: samples(looked, errors, held.model),
        tab.errors: error_view(looked, errors),
        tab.message: "",
    }


__all__ = ["ExploreTab", "brought", "build", "explored", "stated"]
