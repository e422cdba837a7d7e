"""Which worker takes the next piece: laws of the crew, without any worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigmatune.support.engine import crew as crews
from sigmatune.support.engine.crew import Crew
from sigmatune.support.errors import SigmaTuneError


def of(workers, waiting):
    crew = Crew()
    crew.expect(waiting)
    for worker in range(workers):
        crew.join(worker)
    return crew


def test_a_second_piece_lies_at_a_worker_only_while_others_wait_for_all():
    crew = of(2, 5)
    assert [crew.take(piece) for piece in "abc"] == [0, 1, 0], "five and three wait for two workers"
    assert crew.pieces == {0: ["a", "c"], 1: ["b"]}
    assert crew._next() is None, "two wait: each of them gets an idle worker"
    crew.give(1, "b")
    assert crew.take("d") == 1
    crew.give(0, "a")
    assert crew._next() is None
    crew.give(0, "c")
    assert (crew.take("e"), crew.waiting) == (0, 0)


@given(st.integers(1, 5), st.integers(0, 30), st.randoms())
def test_every_piece_is_taken_once_and_no_worker_is_idle_while_one_waits(workers, pieces, random):
    crew, done, left = of(workers, pieces), [], list(range(pieces))
    while left or any(crew.pieces.values()):
        while left and crew._next() is not None:
            crew.take(left.pop())
        assert all(len(has) <= crews.AHEAD for has in crew.pieces.values())
        assert not left or all(crew.pieces.values())
        worker = random.choice([one for one, has in crew.pieces.items() if has])
        done.append(crew.pieces[worker][0])
        crew.give(worker, done[-1])
    assert sorted(done) == list(range(pieces))


def test_a_lost_worker_is_news_once_and_the_piece_that_it_was_at_is_to_blame():
    crew = of(1, 3)
    for piece in "ab":
        crew.take(piece)
    assert crew.lost(0, "b") == (True, False)
    assert crew.lost(0, "a") == (False, True)
    crew.give(0, "a")
    assert crew.pieces == {}


def test_whoever_waits_gets_the_next_worker_or_the_error(monkeypatch):
    crew = of(0, 2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(crew.take, "a")
        crew.join("worker")
        assert first.result(10) == "worker"
        second = pool.submit(crew.take, "b")
        crew.end(SigmaTuneError("over."))
        with pytest.raises(SigmaTuneError, match="over"):
            second.result(10)
    monkeypatch.setattr(crews, "PATIENCE", 1)
    with pytest.raises(SigmaTuneError, match="no room for a worker"):
        of(0, 1).take("a")
