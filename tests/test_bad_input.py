"""Bad input and machines that are too small: one sentence with the place and the cure, exit code 2, nothing written.

What only a fuzzer would try is in test_fuzz.py; here stand the cases that people met, each with its neighbours.
"""

from __future__ import annotations

import copy
import errno
import functools
import json
import os
import pickle
import resource
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sigmatune
from exact import gaussian
from mutations import npy_bytes
from sigmatune import SigmaTuneError, cli
from sigmatune.cli import outside
from sigmatune.core import identity
from sigmatune.interop import conformance
from sigmatune.support import reading
from sigmatune.support.errors import MOST, of_memory, reason, sentence, shown
from sigmatune.training import checkpoint
from sigmatune.training.recipe import loads, write, yaml_of
from test_fuzz import assert_is_a_sentence, listed, pictures, plan_of
from training import recipe, trainer, written


@pytest.fixture
def refused(run, tmp_path):
    """Runs a command that has to be refused, and returns the sentence."""

    def call(*arguments):
        before = listed(tmp_path)
        code, _, said = run(*arguments)
        assert code == 2, said
        assert_is_a_sentence(said)
        assert listed(tmp_path) == before
        return said

    return call


@pytest.fixture
def closed(tmp_path, watched):
    """A folder that nobody may write to, root neither: the system's answer comes from an audit hook."""
    folder = tmp_path / "closed"
    folder.mkdir()
    watched.append(str(folder))
    yield folder
    watched.clear()


@pytest.fixture(scope="session")
def watched():
    places: list[str] = []  # a hook stays for good

    def refuse(event, arguments):
        writes = event in ("os.mkdir", "os.rename") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
        )
        if not places or not writes:
            return
        for name in arguments[: 2 if event == "os.rename" else 1]:
            if isinstance(name, str | bytes) and str(Path.cwd() / os.fsdecode(name)).startswith(places[0]):
                raise PermissionError(errno.EACCES, "Permission denied", os.fsdecode(name))

    sys.addaudithook(refuse)
    return places


# -------------------------------------------------------------------------------------------------------- no longer traces


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff", "byte 0 is not UTF-8"),
        ("14.6, 1, 0".encode("utf-16"), "not UTF-8"),
        (b"", "states what its numbers mean"),
        (b"\0" * 100, "states what its numbers mean"),
        (b'sigmatune export {"target": "comfyui", "steps": NaN}', "NaN"),
        (b"sigmatune export " + b'{"a":' * 5000 + b"}", "not JSON|deeper"),
        (b'sigmatune export {"target": 3}', "no export target '3'"),
        (b'{"SigmaTuneScheduler": 1}', "not a configuration"),
    ],
)
def test_texts_that_cannot_be_imported(refused, tmp_path, data, says):
    import re

    (tmp_path / "f").write_bytes(data)
    assert re.search(says, refused("import", "f"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: 2024-13-45", "put texts into quotes"),
        ("name: 2024-01-05", "name must be a text in quotes"),
        ("[" * 20_000, "deeper than 64"),
        ("- " * 20_000, "deeper than 64"),
        ("a: &a [*a]", "deeper than 64"),
        (
            "\n".join(["a0: &a0 [1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))]),
            "more than 100,000",
        ),
        ("name: x\nname: y", "'name' stands twice"),
        ("training: {batch: 4, batch: 8}", "'batch' stands twice"),
        ("name: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("? [a]\n: 1", "not YAML"),
        ("training: {rate: .inf}", "training.rate must be a finite number"),
        ("training: {images: 1e30}", "training.images must be a whole number"),
        ("name: \x1b[31m", "not YAML"),
    ],
)
def test_recipes(text, says):
    with pytest.raises(SigmaTuneError, match=says) as caught:
        loads(text)
    assert_is_a_sentence(f"error: {caught.value}")


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "a: [", '{"a": ', "[b, &a [", "!!seq ["])
def test_a_recipe_of_nothing_but_openings_is_refused_at_once(opening):
    """A parser of flow sequences looks a thousand brackets ahead at each of them."""
    text, began = opening * (200_000 // len(opening)), time.process_time()
    with pytest.raises(SigmaTuneError, match=r"deeper than 64|not YAML"):
        loads(text)
    assert time.process_time() - began < 0.5


def test_values_may_be_nested_as_deeply_as_in_a_json_file():
    for wrap in ("[{}]", "{{a: {}}}"):
        text = "1"
        for _ in range(reading.DEEPEST):
            text = wrap.format(text)
        assert yaml_of(text, "it")
        with pytest.raises(SigmaTuneError, match="deeper than 64"):
            yaml_of(wrap.format(wrap.format(text)), "it")
    assert yaml_of("about: '" + "[ ] " * 500 + "'", "it")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda case: case.pop("name"), "line 2: name is missing"),
        (lambda case: case.update(plan=[]), "line 2: plan must be an object"),
        (lambda case: case["expected"].update(end=None), "line 2: expected.end must be a list"),
        (lambda case: case.update(start=[0.0]), "4 numbers for the start noise"),
        (lambda case: case["plan"].pop("noise_path"), "noise path"),
        (lambda case: case.update(variance=["4"] * 4), "variance.0 must be a number without quotes, not '4'"),
        (lambda case: case["plan"].update(sigmas=[1.0]), "not a valid plan|two points|0 at the end"),
    ],
)
def test_conformance_cases(refused, tmp_path, spoil, says):
    import re

    case = copy.deepcopy(suite()[0])
    spoil(case)
    (tmp_path / "v.jsonl").write_text(conformance.dumps([case]))
    assert re.search(says, refused("conformance", "core", "--vectors", "v.jsonl"))


def test_conformance_cases_that_are_cut_off(refused, tmp_path):
    whole = conformance.dumps(suite()[:2]).splitlines(keepends=True)
    for text in ("", "\n", "[]\n", whole[0] + whole[1], whole[0] + whole[1] + whole[2][:50]):
        (tmp_path / "v.jsonl").write_text(text)
        assert (
            "not a file of conformance cases" in (said := refused("conformance", "core", "--vectors", "v.jsonl"))
            or "states 2" in said
        )


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("model_index.json", '{"unet": []}', "'unet' must be"),
        ("model_index.json", '{"unet": [1, 2]}', "'unet' must be"),
        ("model_index.json", "[]", "JSON object"),
        ("unet/config.json", '{"a":' * 20_000, "deeper than 64"),
        ("unet/config.json", '{"_class_name": ["UNet2DModel"]}', "only UNet2DModel"),
        ("unet/config.json", "\x00", "not JSON"),
        ("scheduler/scheduler_config.json", '{"_class_name": "DDIMScheduler", "beta_start": "x"}', "DDIMScheduler"),
        ("scheduler/scheduler_config.json", '{"_class_name": {}}', "not supported"),
        (
            "scheduler/scheduler_config.json",
            '{"_class_name": "DDIMScheduler", "num_train_timesteps": 1e12}',
            "whole",
        ),
        (
            "scheduler/scheduler_config.json",
            '{"_class_name": "DDIMScheduler", "num_train_timesteps": 1000000000000}',
            "whole number from 2 to",
        ),
    ],
)
def test_model_folders(refused, tmp_path, tiny, file, text, says):
    import re

    shutil.copytree(tiny, tmp_path / "m")
    plan_of().save(tmp_path / "p.json")
    (tmp_path / "m" / file).write_text(text)
    assert re.search(says, refused("sample", "m", "p.json", "-n", "1"))


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"step": -1}, "step must be a number of at least 0, not -1"),
        ({"step": 2.5}, "step must be a whole number"),
        ({"step": 10**9}, "of step 1000000000, and the training has 12"),
        ({"step": "3"}, "step must be a whole number without quotes"),
        ({"step": None}, "step must be a whole number"),
        ({"seconds": -1.0}, "seconds must be"),
        ({"scaler": []}, "scaler must be"),
        ({"extra": 1}, "extra"),
        ({"format": "x"}, "not a checkpoint of this version"),
    ],
)
def test_checkpoints(tmp_path, state, says):
    from safetensors.torch import load_file, save_file

    source = written(tmp_path)
    made = trainer(tmp_path / "run", source)
    made.run(until=3)
    file = tmp_path / "run" / checkpoint.FILE
    stated = {
        "format": checkpoint.FORMAT,
        "version": 1,
        "step": 3,
        "seconds": 1.0,
        "identity": made.identity,
        "scaler": None,
    }
    save_file(load_file(file), file, metadata={"state": json.dumps(stated | state)})
    with pytest.raises(SigmaTuneError, match=says) as caught:
        trainer(tmp_path / "run", source)
    assert_is_a_sentence(f"error: {caught.value}")
    assert "delete it" in str(caught.value) or "choose another" in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- read-only


@pytest.mark.parametrize(
    "command",
    [
        ("train", "recipe.yaml", "--data", "images.npz", "--out", "closed/run", "--device", "cpu"),
        ("train", "recipe.yaml", "--data", "images.npz", "--out", "closed", "--device", "cpu"),
        (
            "evaluate",
            "m",
            "--plan",
            "p.json",
            "-n",
            "4",
            "--extractor",
            "pixels",
            "--metrics",
            "spectrum",
            "--reference",
            "x.npz",
            "--run",
            "closed/run",
            "-o",
            "closed/e.json",
        ),
        (
            "finetune",
            "m",
            "--data",
            "x.npz",
            "--plan",
            "p.json",
            "--images",
            "8",
            "--batch",
            "4",
            "--pictures",
            "64",
            "--out",
            "closed/ft",
        ),
        ("analyze", "m", "-n", "4", "--steps", "2", "-o", "closed/a.npz"),
        ("sample", "m", "p.json", "-n", "1", "-o", "closed/s.png"),
        ("export", "p.json", "--to", "json", "-o", "closed/x.json"),
        ("schedule", "karras", "--plan", "closed/p.json"),
        ("spectrum", "x.npz", "-o", "closed/s.json"),
    ],
    ids=lambda command: command[0],
)
def test_read_only_folders(refused, tmp_path, tiny, closed, command):
    shutil.copytree(tiny, tmp_path / "m")
    plan_of().save(tmp_path / "p.json")
    np.savez(tmp_path / "x.npz", images=pictures(16, 8))
    (tmp_path / "recipe.yaml").write_text(write(recipe()))
    written(tmp_path)
    said = refused(*command)
    assert "closed" in said
    assert "Permission denied" in said


# --------------------------------------------------------------------------------------------------------------- messages


def test_a_number_in_quotes_among_many(refused, tmp_path):
    """What pydantic says of it has many thousand characters."""
    fields = json.loads(Path(_saved(tmp_path)).read_text())
    for change, says in (
        ({"sigmas": [f"{sigma}" for sigma in fields["sigmas"]]}, "sigmas.0 must be a number without quotes, not '"),
        ({"sigmas": [*fields["sigmas"][:2], "1", 0]}, "sigmas.2 must be a number without quotes, not '1'"),
        ({"sigmas": [[5.0, "1", 0.0]] * 300}, "sigmas.0.1 must be a number without quotes, not '1'"),
        ({"network_times": {"a": 1}}, "network_times must be a list [...], not an object"),
        ({"steps": "3"}, "steps must be a whole number without quotes, not '3'"),
        ({"family_options": []}, "family_options must be an object {...}, not a list of 0"),
        ({"x" * 5000: 1}, "there is no such key"),
        ({"\x1b[31m": 1}, "\\x1b[31m: there is no such key"),
        ({"solver": "\u202edlo"}, "\\u202edlo"),
        ({"solver": "é" * 5000}, "there is no solver"),
        ({"table": {"q": [1.0], "A": [[["x"]]]}}, "table.A.0.0.0 must be a number without quotes"),
    ):
        (tmp_path / "plan.json").write_text(json.dumps(fields | change))
        assert says in refused("check", "plan.json")


@functools.cache
def suite():
    """The suite of cases, which takes seconds to compute."""
    return conformance.cases()


def _saved(folder):
    plan_of().save(folder / "plan.json")
    return folder / "plan.json"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"format": "sigmatune/plan", "format": "sigmatune/plan"}', "the key 'format' twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e309}', "'1e309', which is beyond float64"),
        ('{"a": "\\ud800"}', "surrogate"),
        ("\ufeff{}", "byte-order mark"),
        ('{"a": 1,}', "line 1, column"),
        ("{'a': 1}", "line 1, column 2"),
    ],
)
def test_json_that_others_let_pass(refused, tmp_path, text, says):
    (tmp_path / "p.json").write_text(text)
    for command in (("check", "p.json"), ("spectrum", "p.json")):
        assert says in refused(*command)


@pytest.mark.parametrize("kind", ["npy", "pickled npy", "npz"])
def test_python_objects_are_refused_without_numpys_advice(refused, tmp_path, kind):
    file = tmp_path / f"x.{kind.split()[-1]}"
    if kind == "npy":
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    elif kind == "npz":
        np.savez(file, images=np.array([{}], dtype=object))
    else:
        file.write_bytes(pickle.dumps({}))
    said = refused("spectrum", file.name)
    assert "allow_pickle" not in said
    assert "objects" in said


def test_a_plan_of_more_rows_per_call_than_can_be_counted(refused, tmp_path):
    plan_of().save(tmp_path / "p.json")
    fields = json.loads((tmp_path / "p.json").read_text())
    (tmp_path / "p.json").write_text(json.dumps({**fields, "micro_batch": 10**30}))
    assert "micro_batch" in refused("check", "p.json")
    with pytest.raises(
        SigmaTuneError, match="micro_batch must be a whole number of at most 1,048,576, not a number of"
    ):
        sigmatune.sample(gaussian(), plan_of(), 1, micro_batch=10**80)


def test_messages_are_fit_to_be_shown():
    assert sentence("a\n b\t c") == "a b c"
    assert sentence("\x1b[31m\u202e\x07") == r"\x1b[31m\u202e\x07"
    assert sentence("größer als 3 – ja") == "größer als 3 – ja"
    long = sentence("place " + "x" * 10**7 + " cure.")
    assert len(long) <= MOST
    assert long.startswith("place")
    assert long.endswith("cure.")
    assert sentence(long) == long
    assert str(SigmaTuneError("y" * 1000 + "!")).endswith("!")
    assert shown("a" * 10**6) == shown("a" * 10**6)[:62]
    assert len(shown(10**4000)) < 40
    assert shown(len) == "..."
    assert reason(ValueError("<function f at 0x7f00aa00bb11> takes x\nand more")) == "... takes x"
    assert reason(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert reason(ValueError()) == "ValueError"
    with pytest.raises(ValueError, match="limit") as caught:
        int("9" * 5000)
    assert reason(caught.value) == "a whole number has too many digits"


# ----------------------------------------------------------------------------------------------------------- size and kind


@pytest.mark.parametrize(
    "command",
    [
        ("check", "{}"),
        ("spectrum", "{}"),
        ("conformance", "core", "--vectors", "{}"),
        ("import", "{}"),
        ("train", "{}", "--data", "x"),
        ("evaluate", "--images", "{}"),
        ("spectrum", "x.npz", "--plan", "{}"),
        ("sample", "{}", "p.json"),
        ("export", "{}", "--to", "json"),
        ("schedule", "spectral-mixed", "--data", "{}"),
        ("sample", "m", "--solver", "euler", "--calls", "2", "--prompts", "{}"),
    ],
    ids=lambda command: command[0],
)
def test_what_is_no_regular_file(refused, tmp_path, command):
    np.savez(tmp_path / "x.npz", images=pictures(16, 8))
    os.mkfifo(tmp_path / "pipe.json")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("socket")
    (tmp_path / "device.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    for name in ("/dev/zero", "/dev/null", "pipe.json", "socket", "device.json", "folder.json", "circle", "n" * 5000):
        refused(*(word.format(name) for word in command))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("p.json", ("check", "p.json")),
        ("s.json", ("spectrum", "s.json")),
        ("r.yaml", ("train", "r.yaml")),
        ("text", ("import", "text")),
        ("v.jsonl", ("conformance", "core", "--vectors", "v.jsonl")),
    ],
)
def test_texts_that_are_too_large(refused, tmp_path, name, command):
    with (tmp_path / name).open("wb") as file:
        file.truncate(70 * 2**20)
    assert "and at most" in refused(*command)


def _archive(file, **members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def test_archives_that_unpack_to_far_more(refused, tmp_path):
    """Row by row an archive of any size may be measured; what is read at once is weighed before."""
    header = npy_bytes((1, 40_000, 40_000, 3), "|u1")
    _archive(tmp_path / "row.npz", images=header)
    assert "rows of 4.5 GiB" in refused("spectrum", "row.npz")
    _archive(tmp_path / "reference.npz", header=npy_bytes((), "<U400000000", data=bytes(1000)))
    np.savez(tmp_path / "x.npz", images=pictures(16, 8))
    evaluate = ("evaluate", "--images", "x.npz", "--extractor", "pixels", "--metrics", "fd", "--reference")
    assert "states arrays of 1.5 GiB" in refused(*evaluate, "reference.npz")
    _archive(
        tmp_path / "labels.npz",
        images=npy_bytes((2, 8, 8), "|u1", data=bytes(128)),
        labels=npy_bytes((2,), "<U100000000"),
    )
    assert "shorten them" in refused("spectrum", "labels.npz", "--by-class")
    _archive(tmp_path / "lie.npz", images=npy_bytes((10**9, 8, 8), "|u1", data=bytes(128)))
    assert "images is cut off: its header states 59.6 GiB, and 128 bytes follow" in refused("spectrum", "lie.npz")
    (tmp_path / "lie.npy").write_bytes(npy_bytes((10**9, 8, 8), "|u1", data=bytes(128)))
    assert "is cut off: its header states 59.6 GiB, and 128 bytes follow" in refused("spectrum", "lie.npy")
    (tmp_path / "below.npy").write_bytes(npy_bytes((-1, 8, 8), "|u1", data=bytes(128)))
    assert "its header states a negative length" in refused("spectrum", "below.npy")
    _archive(tmp_path / "short.npz", header=npy_bytes((4,), "<f8", data=bytes(8)))
    assert "header is cut off: its header states 32 bytes, and 8 bytes follow" in refused(*evaluate, "short.npz")


def test_an_archive_whose_directory_says_too_much(refused, tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", images=pictures(16, 8))
    np.savez_compressed(tmp_path / "reference.npz", header=np.array("x"), more=np.zeros(2**20))
    monkeypatch.setattr(sys.modules["sigmatune.spectra.npz"].whole, "__kwdefaults__", {"most": 2**20})
    said = refused(
        "evaluate", "--images", "x.npz", "--extractor", "pixels", "--metrics", "fd", "--reference", "reference.npz"
    )
    assert "unpacks to 8.0 MiB, and at most 1.0 MiB are read" in said


def test_training_images_that_memory_does_not_hold(refused, tmp_path, monkeypatch):
    (tmp_path / "recipe.yaml").write_text(write(recipe()))
    written(tmp_path)
    monkeypatch.setattr(reading, "free_memory", lambda: 5000)
    assert "of memory and 4.9 KiB are free" in refused("train", "recipe.yaml", "--data", "images.npz")


def test_pictures_of_billions_of_pixels(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (12, 30):  # Pillow warns of the first and refuses the second
        Image.fromarray(pictures(1, side, 3)[0]).save(tmp_path / "x.png")
        assert "more than 100 pixels" in refused("spectrum", "x.png")


# ------------------------------------------------------------------------------------------------------- a machine too small


@pytest.mark.parametrize("limit", [200, 700, 1400])
@pytest.mark.parametrize("command", [("check", "p.json")])
def test_little_memory_is_a_sentence(tmp_path, limit, command):
    """The command works or says why not, however far the libraries came in being loaded."""
    plan_of().save(tmp_path / "p.json")

    def little():
        resource.setrlimit(resource.RLIMIT_AS, (limit * 10**6,) * 2)

    done = subprocess.run(
        [sys.executable, "-c", "from sigmatune.cli import main; main()", *command],
        cwd=tmp_path,
        preexec_fn=little,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 2), done.stderr
    if done.returncode:
        assert_is_a_sentence(done.stderr)
        assert "not enough memory" in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
    ids=str,
)
def test_memory_that_runs_out_in_the_middle(run, monkeypatch, error):
    monkeypatch.setattr(outside, "check_memory", _raising(error))
    code, out, said = run("schedule", "list")
    assert (code, out) == (2, "")
    assert_is_a_sentence(said)
    assert "not enough memory" in said
    assert of_memory(error)
    assert reason(error) == "there is not enough memory"


SHORT_OF_MEMORY = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
import torch
import sigmatune.training.checkpoint as module
from sigmatune import SigmaTuneError

network, folder = torch.nn.Linear(2048, 2048), Path(sys.argv[1])  # 16 MiB
state, optimizer = module.State(1, 1.0, "x"), SimpleNamespace(state={})
module.store(folder, state, network, optimizer, [])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 40 * 2**20,) * 2)
try:
    module.store(folder, replace(state, step=2), network, optimizer, [])
except (SigmaTuneError, MemoryError) as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads how much memory is taken as Linux says it")
def test_a_checkpoint_for_which_memory_is_short_leaves_the_last_one(tmp_path):
    """Safetensors aborts the process with a backtrace where it gets no memory."""
    command = [sys.executable, "-c", SHORT_OF_MEMORY, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "there is not enough memory for a checkpoint of 16.0 MiB" in done.stdout
    assert checkpoint.peek(tmp_path).step == 1


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")], ids=["python", "system"]
)
def test_a_checkpoint_is_not_called_damaged_for_want_of_memory(tmp_path, monkeypatch, error):
    trainer(tmp_path / "run", source := written(tmp_path)).run(until=3)
    monkeypatch.setattr(checkpoint, "safe_open", lambda *_, **__: _raising(error)())
    with pytest.raises(type(error)):
        trainer(tmp_path / "run", source)


def test_a_name_is_not_shortened_for_want_of_memory(monkeypatch):
    """The answers on a probe are part of a model's name; without them, its measurements would not be found again."""
    model = gaussian()
    assert "answers" in identity.answers(model.denoise, model)
    assert identity.answers(_failing(RuntimeError("a bug")), model) == ""
    with pytest.raises(RuntimeError, match="memory"):
        identity.answers(_failing(RuntimeError("DefaultCPUAllocator: can't allocate memory")), model)


def _failing(error):
    return lambda z, sigma: _raising(error)()


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENAMETOOLONG, errno.EDQUOT]
)
def test_what_the_system_refuses_is_a_sentence(run, monkeypatch, number):
    monkeypatch.setattr(outside, "check_memory", _raising(OSError(number, os.strerror(number), "a\x1b.txt")))
    code, _, said = run("schedule", "list")
    assert code == 2
    assert_is_a_sentence(said)
    assert r"a\x1b.txt" in said


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("x"), RuntimeError("shape"), TypeError(), FileNotFoundError(2, "x"), AssertionError()],
)
def test_an_error_of_our_own_is_a_traceback(run, monkeypatch, error):
    monkeypatch.setattr(outside, "check_memory", _raising(error))
    with pytest.raises(type(error)):
        run("schedule", "list")


def _raising(error):
    def check():
        raise error

    return check


def test_interrupted_and_cut_off(run, monkeypatch):
    monkeypatch.setattr(outside, "check_memory", _raising(KeyboardInterrupt()))
    code, _, said = run("schedule", "list")
    assert code == cli.INTERRUPTED
    assert "Traceback" not in said


def test_an_output_that_nobody_reads_or_that_is_full(tmp_path):
    base = [sys.executable, "-c", "from sigmatune.cli import main; main()", "--help"]
    read, write_end = os.pipe()
    os.close(read)
    done = subprocess.run(base, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (cli.CUT_OFF, "")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(base, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert_is_a_sentence(done.stderr)
    assert "No space left" in done.stderr
