"""The studio's functions; what a visitor does with its page is in test_studio_page.py."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from sigmatune import models, noise, schedules
from sigmatune.interop.clients import clients
from sigmatune.plan import sample
from sigmatune.report.residual import residual
from sigmatune.solvers import PHASE_SPACE
from sigmatune.studio import axis, comparing, explore, held_models, server, turns
from sigmatune.studio.page_state import PageState, integer, numbers
from sigmatune.studio.places import Places
from sigmatune.studio.server import Gate, checked, hostname
from sigmatune.studio.sessions import PageTask, Sessions
from sigmatune.support.errors import SigmaTuneError

OUTSIDE = r"outside|no file|not a name"
STATES = [
    PageState(),
    PageState(
        "emoji", "euler", 9, "karras:rho=5", (80.0, 1 / 3, 0.1 + 0.2), 2**63, 3, "1 2", "a cat\n& dog", "?", "7.5"
    ),
    PageState(levels=(float("inf"), 1.0)),
]


@pytest.mark.parametrize("state", STATES)
def test_a_link_holds_the_whole_state_bit_for_bit(state):
    from urllib.parse import parse_qsl

    for started in (PageState(), PageState("cifar10", "heun", 9, "beta", seed=5, noises=2)):
        assert PageState.from_link(dict(parse_qsl(state.link()[1:])), started) == state


@pytest.mark.parametrize(
    "query",
    [{"calls": "six"}, {"levels": "3,x"}, {"levels": "nan"}, {"noises": "99"}, {"seed": "-1"}, {"levels": "9," * 101}],
)
def test_a_bad_link_is_refused_in_a_sentence(query):
    with pytest.raises(SigmaTuneError):
        PageState.from_link(query, PageState())


def test_numbers_are_read_as_people_type_them():
    assert numbers("3, 2;1\n0.5", "levels") == [3, 2, 1, 0.5]
    assert numbers("tensor([3.0, 2.0, 1e-1])", "levels") == numbers("[(3), 2, 0.1]", "levels") == [3, 2, 0.1]
    with pytest.raises(SigmaTuneError, match="must be numbers"):
        numbers("tensors(3)", "levels")
    assert integer("6", "calls") == integer(6.0, "calls") == 6
    assert integer(str(2**63 + 1), "seed") == 2**63 + 1


@pytest.mark.parametrize("text", ["high", "3 4", "inf", "7,5"])
def test_a_guidance_is_one_number(text):
    with pytest.raises(SigmaTuneError, match=r"guidance must be a number such as 7\.5"):
        PageState(guidance=text).condition()
    assert PageState(guidance=" 7.5 ").condition() == {"guidance": 7.5}


@pytest.fixture
def places(tmp_path):
    start = tmp_path / "start"
    for folder in (start / "inside", tmp_path / "secret", tmp_path / "uploads"):
        folder.mkdir(parents=True)
    (tmp_path / "secret" / "plan.json").write_text("{}")
    (start / "link").symlink_to(tmp_path / "secret")
    return Places(start, tmp_path / "uploads")


@pytest.mark.parametrize("name", ["../secret", "../secret/plan.json", "link/plan.json", "/etc/passwd", "~root/x", "\0"])
def test_files_outside_are_refused(places, name):
    with pytest.raises(SigmaTuneError, match=OUTSIDE):
        places.file(name)
    with pytest.raises(SigmaTuneError, match=OUTSIDE):
        places.model(name)


def test_files_inside_names_and_hub_ids_are_taken(places):
    assert places.file("inside") == places.start / "inside"
    assert places.model("digits") == "digits"
    assert places.model("owner/name") == "owner/name"
    assert places.model("./inside") == str(places.start / "inside")


def test_sentences_name_files_as_a_visitor_does(places):
    start = places.start.resolve()
    for text, shown in (
        (f"{start}/inside is no model.", "inside is no model."),
        (f"{start} is no model.", "the start folder is no model."),
        (f"{start}s/x is no model.", f"{start}s/x is no model."),
    ):
        with pytest.raises(SigmaTuneError) as refused, places.named():
            raise SigmaTuneError(text)
        assert str(refused.value) == shown


def test_the_curve_above_the_axis_is_where_noise_and_data_have_the_same_power():
    power = np.array([9.0, 4.0, 1.0, 0.25])
    assert axis.decided(power) == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert axis.frequency_at(0.7, axis.decided(power)) == "about 2 cycles per image"
    assert axis.frequency_at(3.0, axis.decided(power)).startswith("coarser")
    assert axis.frequency_at(0.1, axis.decided(power)).startswith("finer")


def test_the_axis_places_levels_by_their_logarithm_and_marks_the_range():
    path = noise.VE()
    levels = schedules.build("karras", 4, path).sigmas[:-1].tolist()
    page = axis.axis_html(levels, path, None, title="four levels")
    places = [float(x) for x in re.findall(r'class="level"[^>]*left:([\d.]+)%', page)]
    steps = np.diff(places) / -np.diff(np.log2(levels))
    assert np.allclose(steps, steps[0])
    outside = re.findall(r'class="outside" style="left:(0|[\d.]+%);', page)
    assert len(outside) == 2
    assert places[-1] == pytest.approx(float(outside[1].rstrip("%")), abs=1e-3)
    assert page.count('role="slider"') == 4
    assert "disabled" not in page


def test_a_flow_s_first_level_is_infinite_and_stays():
    page = axis.axis_html([float("inf"), 1.0, 0.1], noise.Flow(), None, title="a flow")
    assert page.count(" disabled") == 1
    assert "∞" in page


def test_octaves_of_frequency_add_up_to_the_whole_error():
    x, exact = torch.randn(2, 3, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = explore.octave_rows(residual(x, exact), residual(exact))
    assert [name for name, *_ in rows][:4] == ["mean colour", "1", "2 to 3", "4 to 7"]
    assert sum(share for _, share, _ in rows) == pytest.approx(1)
    assert explore.octave_rows(residual(2 * exact, exact), residual(exact))[2][2] == pytest.approx(1)


def test_a_long_task_gives_way_and_stops_where_it_is_cancelled():
    order, queue, stop = [], turns.Turns(), threading.Event()
    begun, waiting = threading.Event(), threading.Event()

    def long(turn):
        begun.set()
        waiting.wait(10)
        for i in range(10_000):
            order.append("long")
            turn.report("long", i, 10_000)
            time.sleep(0.001)

    first = turns.QueuedTask(queue, stop, long)
    begun.wait(10)
    second = turns.QueuedTask(queue, threading.Event(), lambda turn: order.append("short"))
    while queue.length < 2:
        time.sleep(0.001)
    waiting.set()
    second.result()
    assert order[0] == "long"
    assert "short" in order
    stop.set()
    with pytest.raises(turns.Cancelled):
        first.result()
    assert queue.length == 0
    assert len(order) < 10_000


def test_whoever_is_told_the_address_can_connect():
    class Told(Exception):
        pass

    def opened(address):
        socket.create_connection(("127.0.0.1", int(re.search(r":(\d+)/", address)[1])), 5).close()
        raise Told

    with pytest.raises(Told):
        server._run(None, server.LOCAL, None, ("127.0.0.1", 0), opened)


def test_sessions_do_not_mix_and_closing_one_cancels_its_tasks(tmp_path):
    sessions = Sessions(tmp_path)
    one, other = sessions.of("a"), sessions.of("b")
    assert one is not other
    with one.task("tune") as closed, other.task("tune") as kept, other.task("film"):
        sessions.close("a")
        assert closed.stop.is_set()
        assert not kept.stop.is_set()
        assert not kept.superseded
    assert sessions.of("a") is not one


def test_a_task_speaks_after_the_one_before_it_has_fallen_silent(tmp_path):
    session, said = Sessions(tmp_path).of("a"), []

    def earlier():
        with session.task("explore") as task:
            begun.set()
            task.stop.wait(10)
            time.sleep(0.2)  # what it was about to say is on its way
            said.append("earlier")
            assert task.superseded

    begun = threading.Event()
    thread = threading.Thread(target=earlier)
    thread.start()
    begun.wait(10)
    with session.task("explore") as task:
        said.append("later")
        assert not task.superseded
        assert not task.stop.is_set()
    thread.join()
    assert said == ["earlier", "later"]


def test_a_change_that_was_overtaken_on_its_way_does_nothing(tmp_path):
    session = Sessions(tmp_path).of("a")
    with session.task("explore", 2) as latest:
        with session.task("explore", 1) as late:
            assert late.superseded
        assert not latest.superseded
        assert not latest.stop.is_set()
        with session.task("film", 1) as other:  # of another kind
            assert not other.superseded
    with session.task("explore") as unnumbered, session.task("explore", 1) as late:
        assert not unnumbered.superseded
        assert late.superseded
    with session.task("explore", 3) as task:
        assert not task.superseded
        assert unnumbered.superseded


def test_what_ends_without_a_word_empties_no_field(tmp_path):
    gradio = pytest.importorskip("gradio", reason="gradio is not installed")
    from sigmatune.studio import callbacks, tab_explore

    with gradio.Blocks():
        message = gradio.HTML()

    def silent():
        yield from ()

    nothing = {message: gradio.skip()}
    assert list(callbacks.sentences(message)(silent)()) == [nothing]
    session, tab = Sessions(tmp_path).of("a"), SimpleNamespace(message=message)
    studio = SimpleNamespace(session=lambda request: session)

    def change():
        session._tasks["explore"].superseded = True  # another change begins before this one has said anything
        raise SigmaTuneError("what nobody reads any more.")

    told = list(tab_explore.explored(studio, tab, None, change))
    assert told
    assert all(updates == nothing for updates in told)
    session.task = lambda what, number: nullcontext(PageTask(superseded=True))  # while it waited for the one before
    assert list(tab_explore.explored(studio, tab, None, change)) == [nothing]


def test_a_field_that_was_only_looked_at_measures_nothing(tmp_path):
    gradio = pytest.importorskip("gradio", reason="gradio is not installed")
    from sigmatune.studio import tab_explore

    with gradio.Blocks():
        message = gradio.HTML()
    session, tab, state = Sessions(tmp_path).of("a"), SimpleNamespace(message=message), PageState(seed=3)
    studio = SimpleNamespace(session=lambda request: session)  # it holds no model
    session.settled = state
    for _ in range(2):
        updates = list(tab_explore.explored(studio, tab, None, lambda: PageState(seed=3)))
        assert all(one == {message: gradio.skip()} for one in updates)
        assert session.settled == state


def test_a_state_is_settled_once_the_page_has_got_its_last_update(tmp_path):
    gradio = pytest.importorskip("gradio", reason="gradio is not installed")
    from sigmatune.studio import callbacks, tab_explore

    state = PageState("digits", calls=2, noises=2)
    (tmp_path / "start").mkdir()
    places = Places(tmp_path / "start", tmp_path / "uploads", "digits")
    studio = callbacks.Studio(held_models.HeldModels("cpu"), Sessions(tmp_path / "sessions"), places, state)
    with gradio.Blocks(), gradio.Tabs() as tabs, gradio.Tab("Explore"):
        tab = tab_explore.build(studio, tabs)
    request = SimpleNamespace(headers={"origin": "http://127.0.0.1"}, session_hash="a")
    updates = tab_explore.explored(studio, tab, request, lambda: state)
    assert any(tab.errors in one for one in updates)
    updates.close()  # as a change does that overtakes this one
    assert studio.session(request).settled is None
    *_, last = tab_explore.explored(studio, tab, request, lambda: state)
    assert last[tab.message] == ""
    assert studio.session(request).settled == state
    again = list(tab_explore.explored(studio, tab, request, lambda: state))
    assert not any(tab.axis in one for one in again), "a field that was only looked at"


def test_changes_are_taken_back_one_by_one(tmp_path):
    session = Sessions(tmp_path).of("a")
    states = [PageState(seed=seed) for seed in range(3)]
    for state in (*states, states[-1]):
        session.show(state, None)
    assert [session.back(), session.back()] == [states[1], states[0]]
    session.show(states[0], None)  # the page shows what came back, which is no change
    with pytest.raises(SigmaTuneError, match="nothing to undo"):
        session.back()


def test_the_stated_plan_samples_the_same_images_in_the_page_and_in_the_library():
    held = held_models.HeldModels("cpu").get("digits", {})
    state = PageState(noises=3, calls=4)
    turn = turns.TaskTurn(held.turns, threading.Event())
    looked = explore.look(held, state, turn)
    assert_array_equal(looked.ends, sample(held.model, looked.plan, 3, seed=0))
    errors = explore.errors_of(held, looked, state, turn)
    assert {row.measure for row in errors.by_measure} == {"whitened", "rms"}
    assert all(row.low <= row.value <= row.high for row in errors.by_measure)
    moved = PageState(noises=3, levels=(50.0, 2.0, 0.5, 0.1))
    assert explore.plan_of(moved, held.model).schedule.sigmas.tolist() == [50, 2, 0.5, 0.1, 0]
    with pytest.raises(SigmaTuneError, match=r"outside|range"):
        explore.plan_of(PageState(levels=(1e6, 1.0)), held.model)
    with pytest.raises(SigmaTuneError, match="larger"):
        explore.plan_of(PageState(levels=(1.0, 2.0)), held.model)


@pytest.mark.parametrize(("solver", "calls", "steps"), [("euler", 7, 7), ("euler", 2, 2), ("heun", 7, 4)])
def test_other_calls_keep_the_curve_of_moved_levels(solver, calls, steps):
    model, levels = models.load("digits"), (60.0, 9.0, 2.0, 0.3)
    state = PageState(solver=solver, calls=calls, levels=levels)
    moved = explore.resampled(state, model)
    assert replace(moved, levels=levels) == state
    expected = schedules.Schedule(np.array([*levels, 0.0])).resample(steps).sigmas
    assert_array_equal(explore.plan_of(moved, model).schedule.sigmas, expected)
    assert explore.resampled(replace(state, calls=4, solver="euler"), model).levels == levels
    whole = models.load("digits", integer_time=True)
    snapped = explore.resampled(state, whole).levels
    assert_array_equal(explore.snapped(snapped, whole), snapped)


def test_what_a_program_does_to_a_plan_is_said_beside_its_text():
    plan = explore.plan_of(PageState(calls=4), models.load("digits"))
    how, text = clients(plan)["ComfyUI"]
    assert "sampler dpmpp_2m" in how
    assert "moved to whole timesteps" in how
    assert text
    assert clients(plan)["k-diffusion"][0] == "Pass these sigmas to the sampler that the comment names."


def test_a_plan_that_was_made_before_competes_among_its_own_calls():
    plan = explore.plan_of(PageState(calls=4), models.load("digits"))
    tuned = replace(plan, tuned_for={"calls": 5, "solver": "heun"})
    entries = [comparing.competitor(name, plan, 9) for name in ("karras", comparing.EXPLORED, "mine.json")]
    assert [(one.solver, one.budget) for one in entries] == [("dpmpp2m", 9), ("dpmpp2m", 9), ("dpmpp2m", 4)]
    entry = comparing.competitor(comparing.TUNED, tuned, 9)
    assert (entry.solver, entry.budget) == ("heun", 5)


@pytest.mark.parametrize("name", ["reduced-babo", *PHASE_SPACE])
def test_solvers_of_phase_space_are_refused(name):
    with pytest.raises(SigmaTuneError, match=f"{name} samples in phase space, which this page does not show"):
        explore.plan_of(PageState(solver=name), models.load("digits"))


def test_a_model_that_is_slow_to_download_does_not_delay_others(monkeypatch):
    slow, built, models_held = threading.Event(), [], held_models.HeldModels("cpu")
    monkeypatch.setattr(held_models, "fetch", lambda source: slow.wait(20) if source == "slow" else None)
    monkeypatch.setattr(held_models, "load", lambda source, **_: built.append(source) or source)
    waiting = [threading.Thread(target=models_held.get, args=("slow", {})) for _ in range(2)]
    for thread in waiting:
        thread.start()
    assert models_held.get("quick", {}).model == "quick"
    slow.set()
    for thread in waiting:
        thread.join()
    assert models_held.get("slow", {}) is models_held.get("slow", {})
    assert built == ["quick", "slow"]


def test_two_models_are_never_built_at_once(monkeypatch):
    """While diffusers builds a model, torch's modules are changed for all threads, and another would get no weights."""
    building, most, models_held = [], [], held_models.HeldModels("cpu")

    def load(source, **_):
        building.append(source)
        time.sleep(0.05)
        most.append(len(building))
        building.remove(source)
        return source

    monkeypatch.setattr(held_models, "load", load)
    threads = [threading.Thread(target=models_held.get, args=("a", {"guidance": g})) for g in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_levels_move_to_whole_timesteps_where_the_network_takes_no_others():
    model, levels = models.load("digits", integer_time=True), [10.0, 1.0]
    moved = explore.snapped(levels, model)
    assert moved == pytest.approx(levels, rel=0.05)
    assert_array_equal(explore.snapped(moved, model), moved)
    t = model.path.time(moved)
    assert np.allclose(t, np.rint(t), atol=1e-6)
    between = model.path.sigma(np.array([20.3, 20.7, 900.4]))  # the nearest one, above and below
    assert model.path.time(explore.snapped(between, model)) == pytest.approx([20, 21, 900], abs=1e-6)
    with pytest.raises(SigmaTuneError, match="outside"):
        explore.snapped([1e6, 1.0], model)
    assert not np.allclose(model.path.time(np.array(levels)), t, atol=1e-6)
    assert_array_equal(explore.snapped(levels, models.load("digits")), levels)


def test_a_host_needs_a_long_token():
    assert checked("127.0.0.1", "") == (("127.0.0.1", "localhost", "::1"), None)
    with pytest.raises(SigmaTuneError, match="needs --token"):
        checked("0.0.0.0", "")
    with pytest.raises(SigmaTuneError, match="at least"):
        checked("0.0.0.0", "short")
    assert checked("0.0.0.0", "a-long-enough-token") == ((), "a-long-enough-token")
    assert [hostname(text) for text in ("a:80", "[::1]:80", "A", "a.b/c")] == ["a", "::1", "a", "a.b"]


def ask(gate: Gate, query: str = "", **headers: str) -> tuple[int, dict[str, str]]:
    """The status and the headers with which a gate answers."""
    import asyncio

    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "query_string": query.encode(), "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    thread = threading.Thread(target=lambda: asyncio.run(gate(scope, None, send)))  # playwright's loop runs in this one
    thread.start()
    thread.join()
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def test_every_request_passes_the_gate():
    local, guarded = Gate(application, ("127.0.0.1",), None), Gate(application, (), "a-long-enough-token")
    assert ask(local, host="127.0.0.1:7860")[0] == 200
    assert ask(local, host="attacker.example")[0] == 421
    assert ask(local, host="127.0.0.1:7860", origin="http://attacker.example")[0] == 403
    assert "default-src 'self'" in ask(local, host="127.0.0.1")[1]["content-security-policy"]
    assert ask(guarded, host="box")[0] == 401
    assert ask(guarded, "token=wrong", host="box")[0] == 401
    code, headers = ask(guarded, "token=a-long-enough-token", host="box")
    assert code == 200
    assert ask(guarded, host="box", cookie=headers["set-cookie"].partition(";")[0])[0] == 200


def test_the_command_refuses_in_a_sentence(run):
    code, _, err = run("studio", "digits", "--host", "0.0.0.0")
    assert (code, "--token" in err, "Traceback" in err) == (2, True, False)
    assert run("studio", "--help")[0] == 0
