"""How a tab's functions run: on a model's turn with its progress shown, and with errors as sentences."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from sigmatune.plan import Plan, load_plan
from sigmatune.studio.held_models import HeldModel, HeldModels
from sigmatune.studio.page_state import PageState
from sigmatune.studio.places import Places
from sigmatune.studio.sessions import Session, Sessions
from sigmatune.studio.turns import Cancelled, QueuedTask, TaskTurn, Turns
from sigmatune.studio.views import said, status
from sigmatune.support.errors import SigmaTuneError, of_memory

logger = logging.getLogger(__name__)

Updates = dict[Any, Any]
"""New values by component."""

Fields = tuple[list[Any], list[Any]]
"""Components that an event takes and changes."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Studio:
    """What all tabs of the page share: models, sessions, places, and the state in which a page opens."""

    models: HeldModels
    sessions: Sessions
    places: Places
    first: PageState

    def held(self, state: PageState) -> HeldModel:
        """The model that a state names.

        Raises:
            SigmaTuneError: if it lies outside the permitted places, or cannot be loaded.
        """
        with self.places.named():
            return self.models.get(self.places.model(state.model), state.condition())

    def session(self, request: gr.Request) -> Session:
        """The session of the tab that asks."""
        return self.sessions.of(request.session_hash)


def unchanged(message: gr.HTML) -> Updates:
    """Updates that change nothing; Gradio empties all outputs of a callback that ends without any."""
    return {message: gr.skip()}


def sentences(message: gr.HTML) -> Callable[[Callable[..., Iterator[Updates]]], Callable[..., Iterator[Updates]]]:
    """Turns what a callback raises into a sentence in the page's message; a bug's traceback goes to the terminal alone."""

    def around(callback: Callable[..., Iterator[Updates]]) -> Callable[..., Iterator[Updates]]:
        @wraps(callback)
        def run(*args: Any, **kwargs: Any) -> Iterator[Updates]:
            yield unchanged(message)
            try:
                yield from callback(*args, **kwargs)
            except Cancelled:
                yield {message: said("Stopped. What was measured is kept for the next time.")}
            except SigmaTuneError as error:
                yield {message: said(str(error), "problem")}
            except Exception as error:
                if of_memory(error):
                    yield {
                        message: said("The machine has too little memory for this; ask for fewer noises.", "problem")
                    }
                    return
                logger.exception("the studio")
                words = f"This went wrong ({type(error).__name__}); the terminal of the studio shows the details."
                yield {message: said(words, "problem")}

        return run

    return around


def followed(
    queue: Turns,
    stop: threading.Event,
    job: Callable[[TaskTurn], T],
    message: gr.HTML,
    more: Callable[[], Updates] = dict,
) -> Generator[Updates, None, T]:
    """Runs a job in a model's queue, yields its progress for the message and more updates, and returns its result."""
    task = QueuedTask(queue, stop, job)
    for overall in task.updates():
        shown = said("Stopping after the present step.") if stop.is_set() else status(overall)
        yield {message: shown, **more()}
    return task.result()


def pressed(
    button: gr.Button, meanwhile: str, task: Callable[..., Iterator[Updates]], between: Fields, options: Any
) -> None:
    """Connects a button to a long task. It is off, with a word, until the task has closed, which a cancel does not do at once.

    Args:
        button: The button.
        meanwhile: Its word while the task runs.
        task: The callback.
        between: The task's inputs and outputs.
        options: Options of the events.
    """
    begun = button.click(lambda: gr.update(value=meanwhile, interactive=False), None, button, **options)
    ended = begun.then(task, *between, **options)
    ended.then(lambda word=button.value: gr.update(value=word, interactive=True), None, button, **options)


def loaded(
    studio: Studio, state: PageState, stop: threading.Event, message: gr.HTML
) -> Generator[Updates, None, HeldModel]:
    """Loads the model that a state names and returns it; a cancel ends the wait, while the model loads to the end.

    Raises:
        SigmaTuneError: as :meth:`Studio.held`.
        Cancelled: if the task was cancelled.
    """
    yield {message: said(f"Loading {state.model}.")}
    task = QueuedTask(Turns(), stop, lambda turn: studio.held(state))
    for _ in task.updates():
        if stop.is_set():
            raise Cancelled
    return task.result()


def uploaded_plan(path: str) -> Plan:
    """Loads an uploaded plan.

    Raises:
        SigmaTuneError: if it is none, under the name that the visitor gave it and not the one under which it is kept.
    """
    try:
        return load_plan(path)
    except SigmaTuneError as error:
        raise SigmaTuneError(str(error).replace(path, Path(path).name)) from None


def offer(session: Session, plan: Plan, name: str) -> Any:
    """An update of a download button with a plan's file."""
    return gr.update(value=session.save(plan, name), interactive=True)


def plan_name(state: PageState, plan: Plan) -> str:
    """The name of a plan's file."""
    model = "".join(c if c.isalnum() or c in "-_" else "-" for c in state.model.rpartition("/")[2])[:40]
    return f"{model}-{plan.solver}-{plan.calls}.json"
