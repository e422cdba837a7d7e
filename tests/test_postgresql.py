"""A search that several processes share in PostgreSQL: one is killed, the other finishes, and every trial is counted once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exact import PATHS, gaussian
from sigmatune import load_plan
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings, Workbench
from sigmatune.tuning.blackbox import SearchSpace, tune_by_trials
from sigmatune.tuning.study import opened

optuna = pytest.importorskip("optuna")
psycopg = pytest.importorskip(
    "psycopg", reason="the driver of PostgreSQL is not installed: pip install 'sigmatune[search]'"
)
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="starts the PostgreSQL of Debian's packages"),
    pytest.mark.skipif(not BINARIES, reason="PostgreSQL is not installed: apt-get install postgresql"),
    pytest.mark.skipif(ROOT and not shutil.which("runuser"), reason="PostgreSQL refuses root, and there is no runuser"),
]
TRIALS = 16
SPACE = SearchSpace(["euler"], "subset")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL on a loopback port; yields a function from a database's name to its address."""
    home, port = Path(tempfile.mkdtemp(prefix="sigmatune-postgresql-")), free_port()
    user, binaries = ["runuser", "-u", "postgres", "--"] if ROOT else [], BINARIES[-1].parent
    if ROOT:
        shutil.chown(home, "postgres")
    data = home / "data"
    subprocess.run(
        [*user, binaries / "initdb", "-D", data, "-U", "sigmatune", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"],
        check=True, stdout=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
    options = " ".join(f"-c {name}={value!s}" if value != "" else f"-c {name}=''" for name, value in settings.items())
    control = [*user, binaries / "pg_ctl", "-D", data, "-w", "-s", "-l", home / "log"]
    subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    try:
        yield lambda name: f"postgresql+psycopg://sigmatune@127.0.0.1:{port}/{name}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, cwd="/")
        shutil.rmtree(home, ignore_errors=True)


def searched(url: str, seconds: float, trials: int):
    """Searches, with an objective that takes some time."""
    settings = TuningSettings(tuning=8, validation=8, held_out=8, micro_batch=8, reference_steps=24)
    bench = Workbench(gaussian(PATHS["vp"]), settings, study=url)

    def objective(plan):
        time.sleep(seconds)
        return bench.score(plan, "tuning")

    return tune_by_trials(bench, 4, SPACE, trials=trials, objective=objective)


def complete(url: str) -> int:
    """How many trials a database holds that are complete; 0 before there is a table of trials."""
    with psycopg.connect(url.replace("+psycopg", "")) as database:
        if database.execute("select to_regclass('trials')").fetchone() == (None,):
            return 0
        return database.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0]


def test_two_processes_share_a_study_and_one_is_killed(server):
    url = server("postgres")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["optuna", "psycopg", "test_postgresql"])
    first, second = (context.Process(target=searched, args=(url, 0.05, TRIALS)) for _ in range(2))
    first.start()
    while complete(url) < 1:  # Optuna's tables are made by one of them
        assert first.is_alive()
        time.sleep(0.05)
    second.start()
    deadline = time.monotonic() + 120
    while complete(url) < 4:
        assert time.monotonic() < deadline
        assert first.is_alive()
        assert second.is_alive()
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.join(10)
    before = complete(url)
    second.join(120)
    assert (first.exitcode, second.exitcode) == (-signal.SIGKILL, 0)
    assert before < complete(url) == TRIALS, "the other went on, and no more than was asked for"
    found = searched(url, 0.0, TRIALS)  # a third machine reads the result
    study = optuna.load_study(study_name=found.study, storage=url)
    numbers = [trial.number for trial in study.trials]
    assert numbers == list(range(len(study.trials))), "no number was given twice"
    assert TRIALS <= len(study.trials) <= TRIALS + 1, "at most the killed process's trial is left open"
    assert found.trials == TRIALS
    assert found.value == study.best_value
    assert found.plan.calls == 4


def empty(server, name: str) -> str:
    """The address of a new database."""
    with psycopg.connect(server("postgres").replace("+psycopg", ""), autocommit=True) as database:
        database.execute(f"create database {name} template template0")
    return server(name)


def test_the_command_line_takes_its_address(run, server, tiny, little, tmp_path):
    url = empty(server, "commands")
    code, _, err = run("tune", tiny, "--calls", 3, "--solver", "euler", "--method", "evolution", "--tuning", 8,
                       "--validation", 8, "--held-out", 8, "--evaluations", 3, "--study", url, "--no-report")  # fmt: skip
    assert code == 0, err
    assert load_plan(tmp_path / "plan.json").calls == 3
    assert complete(url) == 3


def test_machines_that_start_together_make_one_study(server):
    url, barrier = empty(server, "together"), threading.Barrier(4)

    def start(_):
        barrier.wait(30)
        return opened("one", url)._study_id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 1


def test_a_server_that_is_gone_is_said_in_a_sentence(server):
    with pytest.raises(SigmaTuneError, match=r"cannot open the study at postgresql.*refused"):
        searched(f"postgresql+psycopg://sigmatune@127.0.0.1:{free_port()}/postgres", 0.0, 1)
