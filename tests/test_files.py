"""What may be written where: files, links, modes, inputs, folders that are replaced, and what kills leave."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sigmatune.interop.exports import TARGETS
from sigmatune.plan import load_plan
from sigmatune.support import files, folders, outputs, run_folder
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_bytes, write_text
from sigmatune.support.folders import recover, whole_folder
from sigmatune.support.outputs import kind_of
from sigmatune.training.export import rehearsed

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="links, modes and signals as Linux has them")
PLAN = ("schedule", "karras", "-N", 3, "--plan")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o077)
    yield os.umask
    os.umask(before)


@pytest.fixture
def refused(run, tmp_path):
    """Runs a command that has to be refused in a sentence, with nothing changed, and returns the sentence."""

    def call(*arguments):
        before = contents(tmp_path)
        code, _, err = run(*arguments)
        assert code == 2, err
        assert err.count("\n") == 1
        assert len(err) <= 300
        assert contents(tmp_path) == before
        return err

    return call


# ------------------------------------------------------------------------------------------------------------ one file


@LINUX
def test_a_link_is_followed_and_kept(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far/a.json").write_text("old")
    (tmp_path / "a.json").symlink_to("far/a.json")
    (tmp_path / "b.json").symlink_to("a.json")
    write_text(tmp_path / "b.json", "new")
    assert (tmp_path / "b.json").is_symlink()
    assert (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "far/a.json").read_text() == "new"
    (tmp_path / "dangling").symlink_to("far/c.json")
    write_text(tmp_path / "dangling", "made")
    assert (tmp_path / "far/c.json").read_text() == "made"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SigmaTuneError, match=r"cannot write .*loop"):
        write_text(tmp_path / "loop", "never")
    assert names(tmp_path) == {"far", "a.json", "b.json", "dangling", "loop"}


@LINUX
@pytest.mark.parametrize(("mask", "new"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_modes_are_kept_and_the_umask_rules_what_is_new(umask, tmp_path, mask, new):
    umask(mask)
    write_text(tmp_path / "new", "x")
    assert mode(tmp_path / "new") == new
    for kept in (0o600, 0o640, 0o444, 0o755):
        (tmp_path / "old").write_text("old")
        (tmp_path / "old").chmod(kept)
        write_text(tmp_path / "old", "x")
        assert (mode(tmp_path / "old"), (tmp_path / "old").read_text()) == (kept, "x")


@LINUX
@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser gives files away")
def test_the_superuser_leaves_a_file_to_its_owner(tmp_path):
    (tmp_path / "theirs").write_text("old")
    os.chown(tmp_path / "theirs", 1234, 4321)
    write_text(tmp_path / "theirs", "new")
    found = (tmp_path / "theirs").stat()
    assert (found.st_uid, found.st_gid) == (1234, 4321)


@LINUX
def test_what_is_no_regular_file_is_no_output(tmp_path, capfd):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "zero", "folder", "/dev/null", "/dev/stdout", "/dev/full", "/proc/self/fd/1"):
        with pytest.raises(SigmaTuneError, match=r"not a regular file|is a folder"):
            write_text(tmp_path / name, "never")
    assert (tmp_path / "zero").is_symlink()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@LINUX
def test_where_the_program_prints_to_is_no_output(tmp_path):
    """Redirected to a file, /dev/stdout is a regular one; replacing it would cut off what is printed."""
    code = "from sigmatune.support.files import write_text as w\ntry:\n w('/dev/stdout', '')\nexcept ValueError as e: print(e)"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert "/dev/stdout is not a regular file" in (tmp_path / "out").read_text()


def test_a_name_may_be_as_long_as_names_may_be(tmp_path):
    write_text(tmp_path / ("x" * 255), "here")
    with whole_folder(tmp_path / ("y" * 255)) as new:
        (new / "a").write_text("1")
    assert names(tmp_path) == {"x" * 255, "y" * 255}


# -------------------------------------------------------------------------------------------------------- what may be


def test_the_same_command_may_run_again(run, tmp_path, tiny):
    for _ in range(2):
        assert run(*PLAN, "p.json", "-o", "s.json", "--model", tiny)[0] == 0
        assert run(*PLAN, "euler.json", "--model", tiny, "--solver", "euler")[0] == 0
        for target in TARGETS:
            chosen = ("--prediction", "epsilon") if target == "diffusers" else ()
            code, _, err = run("export", "euler.json", "--to", target, "-o", f"e.{target}", *chosen)
            assert code == 0, err
        assert run("import", "e.a1111", "-o", "back.json")[0] == 0
        assert run("conformance", "core", "--write", ".")[0] == 0
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    expected = {
        "p.json": "plan",
        "euler.json": "plan",
        "s.json": "schedule",
        "back.json": "plan",
        "vectors.jsonl": "conformance",
    }
    assert kinds == expected | {f"e.{target}": "plan" if target == "json" else "export" for target in TARGETS}


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("14.6, 0.03, 0\n", True),
        ("0.5, 0\n", True),
        ("14.6, 0.03, 0", False),
        ("14.6, 0.03\n", False),
        ("0.03, 14.6, 0\n", False),
        ("1, 1, 0\n", False),
        ("14.6,0.03,0\n", False),
        ("sigma, 0\n", False),
        ("2, 0\n3, 0\n", False),
        ("0\n", False),
    ],
)
def test_only_a_list_of_levels_passes_for_an_export_without_a_mark(tmp_path, text, known):
    (tmp_path / "list.txt").write_text(text)
    assert kind_of(tmp_path / "list.txt") == ("export" if known else None)


def test_every_kind_of_picture_and_array_is_known_again(run, tmp_path, tiny, monkeypatch):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", images=rng.integers(0, 255, (40, 8, 8, 1), dtype=np.uint8))
    commands = (
        (*PLAN, "p.json", "--model", tiny),
        ("sample", tiny, "p.json", "-n", 2, "-o", "s.png"),
        ("sample", tiny, "p.json", "-n", 2, "-o", "s.npz"),
        ("spectrum", "data.npz", "-o", "power.json", "--picture", "power.png"),
        ("spectrum", "data.npz", "--picture", "power.svg"),
        ("evaluate", "--images", "data.npz", "--reference", "data.npz", "--metrics", "sw", "--extractor", "pixels",
         "--spaces", "pixels-pca4", "--save-reference", "r.npz"),
        ("analyze", tiny, "-n", 4, "--steps", 12, "-o", "a.npz"),
    )  # fmt: skip
    for command in commands:
        code, _, err = run(*command)
        assert code == 0, (command, err)
    kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
    monkeypatch.setattr("sigmatune.analysis.figures.rendered", lambda _: (b"drawn", b"once"))
    monkeypatch.setattr("sigmatune.analysis.spectrum_picture.draw", lambda *_, **__: b"drawn")
    for command in commands:
        code, _, err = run(*command)
        assert code == 0, (command, err)
    assert kinds == {
        "data.npz": None, "p.json": "plan", "s.png": "samples", "s.npz": "samples", "power.json": "spectrum",
        "power.png": "spectrum", "power.svg": "spectrum", "evaluation.json": "evaluation", "r.npz": "reference",
        **{f"a.{ending}": "analysis" for ending in ("npz", "json", "png", "svg")},
    }  # fmt: skip


FOREIGN = {
    "notes.txt": b"my notes on sigmatune/plan files",
    "other.json": b'{"name": "mine", "about": "sigmatune/plan"}',
    "plans.json": b'{"mine": {"format": "sigmatune/plan", "version": 1}}',
    "text.json": b'a {"format": "sigmatune/plan"}',
    "photo.png": b"\x89PNG\r\n\x1a\n mine",
    "page.html": b"<!doctype html><title>sigmatune/report</title>",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_others_wrote_stays_unless_that_is_insisted_on(run, refused, tmp_path, name):
    (tmp_path / name).write_bytes(FOREIGN[name])
    assert "is no plan file that SigmaTune wrote" in refused(*PLAN, name)
    assert run(*PLAN, name, "--force")[0] == 0
    assert kind_of(tmp_path / name) == "plan"


def test_another_kind_is_not_replaced_and_nothing_is(run, refused, tmp_path):
    assert run(*PLAN, "p.json", "-o", "s.json")[0] == 0
    assert "it is a schedule; give" in refused(*PLAN, "s.json")
    assert "it is a plan file; give" in refused("export", "s.json", "--to", "a1111", "-o", "p.json")
    (tmp_path / "empty").touch()  # by mktemp
    assert run(*PLAN, "empty")[0] == 0
    assert load_plan(tmp_path / "empty").steps == 3


def test_an_input_is_never_written_to(run, refused, tmp_path, tiny):
    assert run(*PLAN, "p.json", "--model", tiny)[0] == 0
    (tmp_path / "link.json").symlink_to("p.json")
    os.link(tmp_path / "p.json", tmp_path / "hard.json")
    for out in ("p.json", "link.json", "hard.json", "./p.json", tmp_path / "p.json"):
        for force in ((), ("--force",)):
            said = refused("export", "p.json", "--to", "json", "-o", out, *force)
            assert "is an input of this command" in said
    (tmp_path / "model").symlink_to(tiny)
    before = contents(tiny)
    for out in ("model/s.png", tiny / "unet/s.png", "model/unet/../s.png"):
        assert "lies in" in refused("sample", "model", "p.json", "-o", out, "--force")
    assert "lies in" in refused("tune", "model", "--run", "model/unet/x.run", "-o", "q.json")
    assert "is an input" in refused("evaluate", "model", "--plan", "p.json", "-o", "e.json", "--save-reference", "r.npz",
                              "--run", "model")  # fmt: skip
    assert contents(tiny) == before


def test_two_outputs_are_two(refused, tmp_path):
    (tmp_path / "link.json").symlink_to("a.json")
    assert "cannot both be" in refused("tune", "digits", "-o", "a.json", "--report", "a.json")
    assert "cannot both be" in refused("tune", "digits", "-o", "a.json", "--report", "./a.json")
    assert "cannot both be" in refused("tune", "digits", "-o", "a.json", "--report", "link.json")
    assert "cannot both be" in refused(*PLAN, "p.json", "-o", "p.json")
    assert "cannot both be" in refused("tune", "digits", "-o", "p.run")


@LINUX
def test_places_that_are_no_places(refused, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for out, said in (
        ("/dev/null", "not a regular file"), ("/dev/full", "not a regular file"), ("pipe", "not a regular file"),
        ("-", "files, not -"),
        ("folder", "is a folder"), ("no/p.json", "there is no folder no"), ("/proc/p.json", "cannot write into the folder"),
    ):  # fmt: skip
        for force in ((), ("--force",)):
            assert said in refused(*PLAN, out, *force)
    (tmp_path / "link.json").symlink_to("missing/p.json")
    assert f"there is no folder {tmp_path / 'missing'}" in refused(*PLAN, "link.json")


@LINUX
def test_a_read_only_file_is_not_replaced(run, refused, tmp_path):
    assert run(*PLAN, "p.json")[0] == 0
    (tmp_path / "p.json").chmod(0o444)
    assert "p.json is read-only" in refused(*PLAN, "p.json")
    assert run(*PLAN, "p.json", "--force")[0] == 0
    assert mode(tmp_path / "p.json") == 0o444


def test_a_run_folder_is_one_of_ours_or_empty(run, refused, tmp_path, tiny):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"mine")
    for command in (
        ("tune", tiny, "--run", "photos"),
        ("analyze", tiny, "--store", "photos"),
        ("train", "--data", "d.npz", "-o", "photos"),
        ("finetune", tiny, "--data", "d.npz", "-o", "photos"),
    ):
        assert "photos holds files and is not a run folder" in refused(*command)
    for old in ("0123456789abcdef" * 2 + ".npy", "checkpoint.safetensors", "finetune.json"):
        folder = tmp_path / f"of-{old}"
        folder.mkdir()
        (folder / old).touch()
        outputs.check([], folders=[folder])


# ------------------------------------------------------------------------------------------------------- whole folders


def filled(target: Path, text: str) -> None:
    with whole_folder(target) as new:
        (new / "sub").mkdir()
        (new / "sub/a").write_text(text)


def fails(target: Path) -> None:
    with whole_folder(target) as new:
        (new / "b").touch()
        raise SigmaTuneError("no more")


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for text in ("1", "2"):
        filled(tmp_path / "model", text)
        assert contents(tmp_path) == {"model/sub/a": text.encode()}
    with pytest.raises(SigmaTuneError, match="no more"):
        fails(tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    filled(tmp_path / "link", "3")
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SigmaTuneError, match=r"cannot write .*file"):
        filled(tmp_path / "file", "4")
    assert contents(tmp_path) == {"model/sub/a": b"3", "link/sub/a": b"3", "file": b"mine"} or contents(tmp_path) == {
        "model/sub/a": b"3", "file": b"mine"
    }  # fmt: skip
    assert names(tmp_path) == {"model", "link", "file"}


@LINUX
def test_a_folder_keeps_its_mode_and_a_new_one_has_the_umask_s(umask, tmp_path):
    filled(tmp_path / "model", "1")
    assert mode(tmp_path / "model") == 0o700
    (tmp_path / "model").chmod(0o750)
    filled(tmp_path / "model", "2")
    assert mode(tmp_path / "model") == 0o750


@LINUX
def test_the_copy_of_a_read_only_folder_can_be_changed(umask, tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/a").write_text("1")
    for path, bits in ((source / "sub/a", 0o444), (source / "sub", 0o555), (source, 0o555)):
        path.chmod(bits)
    with whole_folder(tmp_path / "copy") as new:
        folders.copy(source, new)
    assert {mode(path) for path in (tmp_path / "copy").rglob("*") if path.is_file()} == {0o600}
    assert {mode(path) for path in (tmp_path / "copy").rglob("*") if path.is_dir()} == {0o700}
    for path in (source, source / "sub"):
        path.chmod(0o755)


def replace_and_die(folder: Path, where: str) -> None:
    """Replaces a folder, and is killed at a named point; with or without the system's exchange of names."""
    before, _, name = where.partition(" ")
    if before == "steps":
        folders.exchange = lambda *_: False
    die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    real = Path.rename
    seen: list[str] = []

    def rename(path, target):
        if name == f"rename-{len(seen)}":
            die()
        seen.append(str(target))
        return real(path, target)

    Path.rename = rename
    if name == "filled":
        folders._finish = die
    if name == "exchange":
        whole = folders.exchange
        folders.exchange = lambda *pair: (whole(*pair), die())
    if name == "removed":
        folders.remove = lambda path: die() if path.exists() else None
    filled(folder / "model", "new")
    die()


POINTS = ["one filled", "one exchange", "one removed", "steps filled", "steps rename-0", "steps rename-1", "steps rename-2",
          "steps removed"]  # fmt: skip


@LINUX
@pytest.mark.parametrize("where", POINTS)
def test_a_kill_at_any_point_leaves_the_old_folder_or_the_new_one(tmp_path, where):
    filled(tmp_path / "model", "old")
    process = multiprocessing.get_context("fork").Process(target=replace_and_die, args=(tmp_path, where))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    recover(tmp_path / "model")  # as every reader does
    assert contents(tmp_path / "model") in ({"sub/a": b"old"}, {"sub/a": b"new"})
    if where in ("one exchange", "one removed", "steps rename-2", "steps removed"):
        assert contents(tmp_path / "model") == {"sub/a": b"new"}
    filled(tmp_path / "model", "next")
    assert names(tmp_path) == {"model"}, "what was left is cleaned by the next run"
    assert contents(tmp_path) == {"model/sub/a": b"next"}


@LINUX
def test_a_reader_completes_what_a_kill_left(tmp_path, tiny):
    from sigmatune import load

    waiting = folders._ready(tmp_path / "model")
    waiting.mkdir()
    folders.copy(tiny, waiting)
    assert load(str(tmp_path / "model")).shape == (1, 8, 8)
    assert names(tmp_path) == {"model"}


@LINUX
def test_left_overs_of_the_dead_go_and_what_the_living_write_stays(tmp_path):
    dead, folder = tmp_path / f"{files.PREFIX}{'0' * 16}", tmp_path / f"{files.PREFIX}{'1' * 16}"
    dead.touch()
    folder.mkdir()
    (folder / "a").touch()
    foreign = {".sigmatune-mine", f"{files.PREFIX}{'0' * 15}", f"x{files.PREFIX}{'0' * 16}"}
    for name in foreign:
        (tmp_path / name).touch()
    with files._unfinished(tmp_path / "p.json") as (living, _), whole_folder(tmp_path / "model") as new:
        files.tidy(tmp_path)
        assert living.exists()
        assert new.exists()
    assert names(tmp_path) == foreign | {"model"}


@LINUX
def test_the_rehearsal_of_a_training_that_was_killed_is_tidied_away(tmp_path):
    with rehearsed(tmp_path) as place:
        (place / "unet").mkdir()
        shutil.copytree(place, tmp_path / f"{files.PREFIX}{'0' * 16}")  # the same name, and nobody's lock
        assert files.UNFINISHED.fullmatch(place.name)
        with run_folder.held(tmp_path):
            assert names(tmp_path) == {place.name, run_folder.LOCK, run_folder.HOLDER}
    assert names(tmp_path) == {run_folder.LOCK}


# --------------------------------------------------------------------------------------------------------- run folders


def hold(folder: Path, ready, until) -> None:
    with run_folder.held(folder):
        ready.set()
        until.wait()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder "run"."""
    context = multiprocessing.get_context("fork")
    ready, until = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready, until))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


@LINUX
def test_the_second_is_told_who_holds_the_folder(run, holder, tmp_path, tiny):
    import socket

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", images=rng.integers(0, 255, (8, 8, 8, 1), dtype=np.uint8))
    run(*PLAN, "p.json", "--model", tiny)
    before = contents(tmp_path)
    pixels = ("--extractor", "pixels", "--spaces", "pixels-pca2", "--reference", "d.npz")
    for command in (
        ("tune", tiny, "--calls", 2, "--run", "run"),
        ("analyze", tiny, "-n", 2, "--steps", 2, "--store", "run"),
        ("bench", tiny, "--calls", 2, "--run", "run", *pixels),
        ("evaluate", tiny, "--plan", "p.json", "--run", "run", *pixels),
        ("train", "--data", "d.npz", "-o", "run"),
        ("finetune", tiny, "--data", "d.npz", "--calls", 2, "-o", "run"),
    ):
        code, _, err = run(*command)
        assert code == 2, command
        assert f"run is in use by process {holder.pid} on {socket.gethostname()} since 20" in err, command
        assert contents(tmp_path) == before, command


@LINUX
def test_a_lock_dies_with_its_process(holder, tmp_path):
    with pytest.raises(SigmaTuneError, match=f"process {holder.pid} "), run_folder.held(tmp_path / "run"):
        pass
    holder.kill()
    holder.join()
    assert (tmp_path / "run" / run_folder.HOLDER).exists()
    with run_folder.held(tmp_path / "run"), run_folder.held(tmp_path / "run"):
        (tmp_path / "run/x").touch()
    assert names(tmp_path / "run") == {run_folder.LOCK, "x"}


@LINUX
def test_one_process_of_a_launch_holds_the_folder_for_all(holder, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with run_folder.held(tmp_path / "run"):
        pass
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SigmaTuneError, match="in use"), run_folder.held(tmp_path / "run"):
        pass


def fails_after_work(folder: Path) -> None:
    with run_folder.held(folder):
        (folder / "measured").touch()
        raise SigmaTuneError("a clean failure")


def test_a_folder_that_was_made_for_nothing_goes_and_any_other_stays(tmp_path):
    for name in ("new", "above/new", "old"):
        if name == "old":
            (tmp_path / "old").mkdir()
        with pytest.raises(SigmaTuneError, match="clean"), run_folder.held(tmp_path / name):
            raise SigmaTuneError("a clean failure")
    assert names(tmp_path) == {"old"}
    with pytest.raises(SigmaTuneError, match="clean"):
        fails_after_work(tmp_path / "kept")
    assert "measured" in names(tmp_path / "kept")


@LINUX
def test_left_overs_in_a_run_folder_go_with_the_next_run(tmp_path):
    left = tmp_path / "run" / "sub" / f"{files.PREFIX}{'a' * 16}"
    left.parent.mkdir(parents=True)
    left.touch()
    with run_folder.held(tmp_path / "run"):
        assert not left.exists()


QUICK = ("--tuning", 4, "--validation", 4, "--held-out", 8, "--micro-batch", 4, "--solver", "euler", "--calls", 2)


@LINUX
def test_measurements_stay_where_the_plan_cannot_be_written(run, tmp_path, tiny, little, monkeypatch):
    real = files.write_bytes

    def full(path, data):
        if Path(path).name == "p.json":
            raise SigmaTuneError(f"cannot write {path}: No space left on device.")
        real(path, data)

    monkeypatch.setattr("sigmatune.support.outputs.write_bytes", full)
    command = ("tune", tiny, *QUICK, "--method", "static", "-o", "p.json", "--no-report")
    code, _, err = run(*command)
    assert code == 2
    said = [line for line in err.splitlines() if not line.startswith("tuning: ")]
    assert said == ["error: cannot write p.json: No space left on device; the measurements so far are kept in p.run."]
    kept = names(tmp_path / "p.run")
    assert any(name.endswith(".npy") for name in kept)
    monkeypatch.setattr("sigmatune.support.outputs.write_bytes", real)
    times = {name: (tmp_path / "p.run" / name).stat().st_mtime_ns for name in kept if name.endswith(".npy")}
    assert run(*command)[0] == 0
    assert all((tmp_path / "p.run" / name).stat().st_mtime_ns == time for name, time in times.items())


@pytest.mark.filterwarnings("default")
def test_no_pickle_is_read_from_a_run_folder(run, tmp_path, tiny, little):
    """A database of an older version holds pickles of Optuna's; a poisoned one that nobody reads does nothing."""
    (tmp_path / "p.run").mkdir()
    (tmp_path / "p.run" / run_folder.LOCK).touch()
    poison = b"cos\nsystem\n(S'touch poisoned'\ntR."
    for name in ("studies.db", "studies.journal", "0" * 32 + ".npy"):
        (tmp_path / "p.run" / name).write_bytes(poison)
    command = ("tune", tiny, *QUICK, "--method", "evolution", "--evaluations", 3, "-o", "p.json", "--no-report")
    code, _, err = run(*command)
    assert code == 0, err
    assert "studies.db is of an older version and is not read" in err
    assert not (tmp_path / "poisoned").exists()
    assert (tmp_path / "p.run/studies.db").read_bytes() == poison


def test_a_schedule_says_what_it_is(run, tmp_path):
    assert run("schedule", "karras", "-N", 2, "-o", "s.json")[0] == 0
    assert json.loads((tmp_path / "s.json").read_text())["format"] == "sigmatune/schedule"


def test_reading_what_a_file_is_never_fails(tmp_path):
    assert kind_of(tmp_path / "none") is None
    write_bytes(tmp_path / "half.npz", b"PK\x03\x04")
    assert kind_of(tmp_path / "half.npz") is None
    write_bytes(tmp_path / "a.npz", outputs.archive(_npz(), "samples"))
    assert kind_of(tmp_path / "a.npz") == "samples"
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["x"].tolist() == [1.0, 2.0]


def _npz() -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([1.0, 2.0]))
    return buffer.getvalue()
