"""What is said while work is being done: nothing by default, lines on stderr with --verbose, and help at every level."""

from __future__ import annotations

import io
import json
import logging
import re
import runpy
import sys

import pytest
import typer
from rich.console import Console

import sigmatune
from sigmatune import cli
from sigmatune.cli import logs
from sigmatune.cli.common import progress_bar
from sigmatune.cli.other_names import ALIKE

LOGGER = logging.getLogger("sigmatune")
TUNE = ["--calls", 4, "--solver", "euler", "--method", "static", "--tuning", 8, "--validation", 8, "--held-out", 8,
        "--micro-batch", 8, "--no-report", "--json", "-o", "plan.json"]  # fmt: skip
COMMANDS = sorted(typer.main.get_command(cli.app).commands)


def listeners() -> list[type]:
    return [type(handler) for handler in LOGGER.handlers]


def test_verbose_tells_of_model_stages_and_files_on_stderr_alone(run, tiny, little):
    quiet = run("tune", tiny, *TUNE)
    assert (quiet[0], quiet[2]) == (0, "")
    code, out, err = run("--verbose", "tune", tiny, *TUNE)
    assert code == 0
    assert json.loads(out)["sigmas"] == json.loads(quiet[1])["sigmas"]
    for said in (f"loading {tiny}", "shape (1, 8, 8), float32 on cpu, noise path VP from ", "tuning euler for 4 calls, 4 steps",
                 "measurements are kept in plan.run, which holds ", "stage static proposed 5 plans for ", "gain: on 8 held-out",
                 "wrote plan.json, "):  # fmt: skip
        assert said in err, said
    assert "found in the store" not in err
    assert ".npy" not in err, "a store's files are details"

    code, _, err = run("-vv", "tune", tiny, *TUNE)
    assert code == 0
    assert "DEBUG sigmatune.tuning.store: found in the store: plan.run/" in err
    assert "DEBUG sigmatune.plan: sampling" not in err, "everything was in the store"
    assert listeners() == [logging.NullHandler]
    assert LOGGER.level == logging.NOTSET


def test_nobody_listens_after_a_command_that_failed(run):
    code, out, err = run("-v", "check", "absent.json")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert listeners() == [logging.NullHandler]


def test_a_program_hears_the_same_lines_without_any_handler_of_ours(caplog, tiny, tmp_path):
    with caplog.at_level(logging.INFO, logger="sigmatune"):
        model = sigmatune.load(str(tiny))
        sigmatune.compile_plan(sigmatune.Schedule([5.0, 1.0, 0.0]), "euler", model).save(tmp_path / "plan.json")
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == f"loading {tiny}"
    assert said[-1] == f"wrote {tmp_path / 'plan.json'}, {(tmp_path / 'plan.json').stat().st_size:,} bytes"


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "\rover", "bell\x07", "\x9b31m", "\x7f"])
def test_a_name_forges_no_line_and_colours_nothing(name):
    record = logging.LogRecord("sigmatune", logging.INFO, "", 0, "wrote %s", (name,), None)
    line = logs.OneLine("%(message)s").format(record)
    assert line.isprintable()
    assert line.startswith("wrote ")
    assert logs.OneLine("%(message)s").format(logging.makeLogRecord({"msg": "grün σ 画"})) == "grün σ 画"


def test_on_a_terminal_lines_stand_above_the_bar_of_the_same_console(monkeypatch):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=100)
    monkeypatch.setattr(logs, "console", lambda: terminal)
    monkeypatch.setattr("sigmatune.support.progress.console", lambda: terminal)
    with logs.logged(1), progress_bar("trying") as report:
        report("sampling", 1, 2)
        logging.getLogger("sigmatune.support.files").info("wrote [bold]plan.json[/bold]")
        logging.getLogger("sigmatune.support.files").debug("a detail")
    said = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text.getvalue())
    assert re.search(r"\d\d:\d\d:\d\d INFO +wrote \[bold\]plan.json\[/bold\] *\n", said), "names are no markup"
    assert "a detail" not in said
    assert "sampling" in said


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "sigmatune"
)
def test_h_is_help_at_every_level(run, command):
    short, long = (run(*command, option) for option in ("-h", "--help"))
    assert short == long
    assert short[0] == 0
    assert "Usage: " in short[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-v"], "error: name a command, such as tune; sigmatune --help lists them.\n"),
        (["tune", "digits", "-v"], "error: -v goes before the command, as in sigmatune -v tune ...\n"),
        (["check", "--verbose", "x"], "error: --verbose goes before the command, as in sigmatune --verbose check ...\n"),
        (["tune", "digits", "--verbos"], "error: No such option: --verbos"),
        (["evaluate", "digits", "--data", "x"], "error: No such option: --data; here it is --reference.\n"),
        (["bench", "digits", "--solver", "x"], "error: No such option: --solver; here it is --solvers.\n"),
        (["schedule", "--calls", "4"], "error: No such option: --calls; here it is --steps.\n"),
        (["sample", "digits", "--cfg-scale", "7"], "error: No such option: --cfg-scale; here it is --guidance.\n"),
        (["check", "x", "--calls", "4"], "error: No such option: --calls"),
    ],
)  # fmt: skip
def test_a_misplaced_option_is_told_its_place(run, words, says):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(says)


def test_every_other_name_of_an_option_belongs_to_one_group():
    names = [name for group in ALIKE for name in group]
    assert len(set(names)) == len(names)


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sigmatune", "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("sigmatune", run_name="__main__")
    assert stop.value.code in (0, None)
    assert capsys.readouterr().out == f"{sigmatune.__version__}\n"
