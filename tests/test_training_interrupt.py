"""Ctrl-C during a training ends the step and keeps it; a second one stops at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from sigmatune.support.interrupts import deferred_interrupt
from sigmatune.training import checkpoint
from sigmatune.training.run import facts, prepare
from sigmatune.training.run_log import unlearned
from sigmatune.training.run_options import Hooks
from training import losses, recipe, same, trainer, written

RARELY = recipe(saving={"every": 1000, "log": 1000})


def interrupt(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def stopped_at(step, folder, source, times=1):
    """A training that receives the signal during a step."""
    one = trainer(folder, source, RARELY)
    with pytest.raises(KeyboardInterrupt):
        one.run(Hooks(step=lambda done: interrupt(times) if done == step else None))
    return one


def test_a_stopped_training_goes_on_where_it_was(tmp_path, capfd):
    source = written(tmp_path)
    trainer(tmp_path / "whole", source, RARELY).run()
    handler = signal.getsignal(signal.SIGINT)
    stopped_at(3, tmp_path / "stopped", source)
    assert "a checkpoint is written; Ctrl-C again stops at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler
    assert checkpoint.peek(tmp_path / "stopped").step == 4  # the signal came after step 3 had been taken
    stopped_at(7, tmp_path / "stopped", source)
    trainer(tmp_path / "stopped", source, RARELY).run()
    same(tmp_path / "whole", tmp_path / "stopped")


def test_the_loss_of_a_training_is_that_of_its_last_steps_wherever_it_was_stopped(tmp_path):
    """Lines of the log are as long as the steps between them, and a stop adds one."""
    source, asked = written(tmp_path), recipe(training={"images": 200}, saving={"every": 1000, "log": 2})
    whole = trainer(tmp_path / "whole", source, asked)
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "stopped", source, asked).run(Hooks(step=lambda done: interrupt() if done == 22 else None))
    again = trainer(tmp_path / "stopped", source, asked)
    again.run()
    job = prepare(asked, source)
    expected = (np.mean(losses(tmp_path / "whole")[-3:]), 3)  # an eighth of 25 steps
    assert all((facts(job, run)["loss"], facts(job, run)["loss_steps"]) == expected for run in (whole, again))


def test_a_training_that_learned_little_says_so(tmp_path):
    log = tmp_path / "log.jsonl"
    assert unlearned(tmp_path, 1.0) == ""  # no log
    log.write_text('{"step": 2, "losses": [1.25, 2]}\n{"step": 4, "losses": [0.1, 0.1]}\n')
    assert "from 1.25 at the first step to 1.00), so the model draws little but noise" in unlearned(tmp_path, 1.0)
    assert unlearned(tmp_path, 0.99) == unlearned(tmp_path, None) == ""


def test_a_second_signal_stops_at_once(tmp_path):
    one = stopped_at(3, tmp_path / "run", written(tmp_path), times=2)
    assert one.step == 3
    assert checkpoint.peek(tmp_path / "run") is None


def test_several_processes_stop_at_once(tmp_path, monkeypatch):
    """One that waited for the others' checkpoint would wait for ever."""
    one = trainer(tmp_path / "run", written(tmp_path), RARELY)
    monkeypatch.setattr(type(one.accelerator), "num_processes", 2)
    with pytest.raises(KeyboardInterrupt):
        one.run(Hooks(step=lambda done: interrupt() if done == 3 else None))
    assert one.step == 3


def test_where_the_signal_is_ignored_or_another_thread_works_nothing_changes():
    def never(asked):
        assert not asked()

    def inside():
        before = signal.getsignal(signal.SIGINT)
        with deferred_interrupt("stopping") as asked:
            never(asked)
            assert signal.getsignal(signal.SIGINT) is before
        results.append(True)

    results = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        inside()
    finally:
        signal.signal(signal.SIGINT, before)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert results == [True, True]


def test_the_command_keeps_the_step_and_goes_on(run, tmp_path):
    command = ["train", "--data", written(tmp_path), "-o", str(tmp_path / "run"),
               *(part for key in ("training.images=1600", "training.batch=8", "model.channels=[8]", "model.groups=4",
                                  "model.layers=1", "model.attention=[false]", "previews.every=0", "saving.trackers=[]",
                                  "saving.spectra=false") for part in ("--set", key))]  # fmt: skip
    running = subprocess.Popen([sys.executable, "-m", "sigmatune", *command], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    for _ in range(1200):
        if log.is_file() and log.read_text():
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "run the same command again" in err
    step = checkpoint.peek(tmp_path / "run").step
    assert 0 < step < 200
    assert json.loads(log.read_text().splitlines()[-1])["step"] == step
    code, _, err = run(*command)
    assert code == 0
    assert f"from step {step}" in err
    assert (tmp_path / "run" / "model").is_dir()
