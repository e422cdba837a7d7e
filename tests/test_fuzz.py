"""Every entry that reads a file, given files that are spoilt in every way: one sentence, exit code 2, nothing left behind.

A handful of inputs of each entry by default; ``pytest tests/test_fuzz.py --fuzz 2000`` tries so many in all and prints how many
of each entry were refused. Inputs are drawn by hypothesis, the same ones in every run.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import unicodedata
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import sigmatune.training.data
from exact import gaussian
from mutations import emptied, spoil
from sigmatune import SigmaTuneError, cli
from sigmatune.interop import conformance, exports
from sigmatune.noise import vp
from sigmatune.studio.page_state import PageState
from sigmatune.support.errors import MOST

SECONDS = 300
"""After so long an input has hung a command, on a machine however busy."""

PEAK = 2 * 2**30
"""Bytes that the process may have taken at most."""

INTERNALS = re.compile(
    r"pydantic|functools|<function|<class|Traceback|site-packages|0x[0-9a-f]{8}|enforce fail|_internal"
)


@dataclass
class Entry:
    """One way to hand a file over.

    Attributes:
        name: Of the kind of file.
        make: Writes good files into a folder.
        command: The command line, or a function of the folder that may raise SigmaTuneError.
        spoilt: Glob of the files that are spoilt.
        share: How many inputs it gets, relative to others.
        codes: Exit codes that are no failure.
        keeps: Prefixes of what may be there afterwards though the command refused: a run's own work.
    """

    name: str
    make: Callable[[Path], None]
    command: list[str] | Callable[[Path], object]
    spoilt: str
    share: float = 1.0
    codes: tuple[int, ...] = (0, 2)
    keeps: tuple[str, ...] = ()
    seen: dict[int, int] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------------- good files


def plan_of(path=None, solver="euler", steps=3):
    path = path or vp()
    schedule = sigmatune.build_schedule("karras", steps, path)
    return sigmatune.compile_plan(schedule, solver).with_notes(
        path=path.spec(), tuned_for={"calls": steps, "solver": solver}, evidence={"verdict": "no gain"}
    )


def plans(folder):
    plan_of().save(folder / "plan.json")


def custom(folder):
    from sigmatune.interop.conformance import _learned

    _learned(sigmatune.build_schedule("karras", 3, vp())).with_notes(path=vp().spec()).save(folder / "plan.json")


def pictures(n=6, size=8, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


def spectra(folder):
    from sigmatune.spectra.measured_spectra import measure
    from sigmatune.spectra.spectrum_file import save_measured

    save_measured(measure(pictures(12, 16)), folder / "spectrum.json")


def mixture(folder):
    from sigmatune.spectra.mixture_fit import fit

    x = torch.from_numpy(pictures(24, 16).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    fit([x]).save(folder / "mixture.json")


def rule(folder):
    from sigmatune.rules import SpectralRule
    from sigmatune.spectra.mixture import Mixture

    mixture(folder)
    SpectralRule("spectral-mixed", 3, vp(), Mixture.load(folder / "mixture.json")).save(folder / "rule.json")
    (folder / "mixture.json").unlink()


def recipes(folder):
    from sigmatune.training.recipe import write
    from training import recipe, written

    (folder / "recipe.yaml").write_text(write(recipe()))
    written(folder)


def vectors(folder):
    (folder / "v.jsonl").write_text(conformance.dumps(conformance.cases()[:3]))


def exported(target):
    def make(folder):
        options = {"prediction": "epsilon"} if target == "diffusers" else {}
        (folder / "export.txt").write_text(exports.export(plan_of(), target, **options))

    return make


def levels(folder):
    (folder / "list.txt").write_text("14.6, 3.5, 0.9, 0\n")


def arrays(folder):
    np.savez(folder / "x.npz", images=pictures(), labels=np.arange(6) % 2)


def array(folder):
    np.save(folder / "x.npy", pictures()[..., 0])


def image_folder(folder):
    for i, ending in enumerate(("png", "jpg", "png", "png")):
        place = folder / "data" / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures(1, 16, 3, seed=i)[0]).save(place / f"{i}.{ending}")


def reference(folder):
    from sigmatune.evaluation import reference_set as references
    from sigmatune.evaluation.extractors import extractor
    from sigmatune.spectra.sources import open_images

    np.savez(folder / "x.npz", images=pictures(16, 8, 1))
    made = extractor("pixels", (1, 8, 8))
    references.measure(open_images(folder / "x.npz"), [made]).save(folder / "reference.npz")


def words(folder):
    (folder / "prompts.txt").write_text("a cat\na dog\n")


def labels(ending):
    def make(folder):
        file, values = folder / f"labels.{ending}", [0, 1, 1]
        if ending == "npy":
            np.save(file, np.array(values))
        else:
            file.write_text(json.dumps(values) if ending == "json" else "0\n1\n1\n")

    return make


def error_table(folder):
    from sigmatune.tuning.error_table import ErrorTable

    ErrorTable(np.array([0.1, 1.0, 5.0]), np.array([0.1, 0.2, 0.3]), np.full(3, 0.01), 4).save(folder / "errors.json")


def analysis(folder):
    from sigmatune.analysis.stepwise import analyze, chain

    analyze(gaussian(), 8, plan=chain(gaussian(), 4)).save(folder / "a.npz")


def read_labels(ending):
    def read(folder):
        from sigmatune.training.data import read_labels

        return read_labels(folder / f"labels.{ending}", 3)

    return read


def read_table(folder):
    from sigmatune.tuning.error_table import ErrorTable

    return ErrorTable.load(folder / "errors.json").rising


def read_analysis(folder):
    from sigmatune.analysis.result import Stepwise

    return Stepwise.load(folder / "a.npz").median()


def read_conditions(folder):
    from sigmatune.cli.common import conditions

    return conditions(folder / "prompts.txt", [], None, None, None, 0)


def read_prepared(folder):
    """A recipe as far as the network with fresh weights."""
    from sigmatune.training.recipe import read
    from sigmatune.training.run import prepare

    return prepare(read(folder / "recipe.yaml"), str(folder / "images.npz"))


def link(folder):
    state = PageState(calls=4, levels=(9.5, 2.0, 0.25), labels="1 2", prompts="a cat\na dog", guidance="2.5")
    (folder / "link.txt").write_text(state.link())


def read_link(folder):
    """What the studio reads from its address, which is a text in any case."""
    file = folder / "link.txt"
    query = ""
    if file.is_file() and os.access(file, os.R_OK):
        with file.open("rb") as opened:
            query = opened.read(2**16).decode(errors="replace").removeprefix("?")
    return PageState.from_link(dict(parse_qsl(query)), PageState()).condition()


# ---------------------------------------------------------------------------------------------------------------- entries

TINY = "model"
TRAIN = ["train", "recipe.yaml", "--data", "images.npz", "--out", "run.run", "--device", "cpu"]
TUNE = [
    "tune",
    TINY,
    "--calls",
    "3",
    "--solver",
    "euler",
    "--method",
    "evolution",
    "--evaluations",
    "3",
    "--tuning",
    "4",
    "--validation",
    "4",
    "--held-out",
    "8",
    "--no-report",
    "--run",
    "work.run",
]
EVALUATE = [
    "evaluate",
    TINY,
    "--plan",
    "plan.json",
    "-n",
    "8",
    "--extractor",
    "pixels",
    "--metrics",
    "spectrum",
    "--run",
    "work.run",
    "--reference",
    "x.npz",
]
MANY = ["600" if word == "8" else word for word in EVALUATE]  # more than one piece
SHARDS = [f"work-{i}-of-2.run" for i in (1, 2)]
ANALYZE = ["analyze", TINY, "-n", "8", "--steps", "3", "--store", "work.run"]

LIGHT = [
    Entry("plan", plans, ["check", "plan.json"], "plan.json", 3),
    Entry("plan with coefficients", custom, ["check", "plan.json"], "plan.json", 2),
    Entry("plan, exported", plans, ["export", "plan.json", "--to", "k-diffusion"], "plan.json"),
    Entry("plan, sampled", plans, ["sample", TINY, "plan.json", "-n", "2"], "plan.json", 1.5),
    Entry(
        "plan beside a spectrum",
        lambda f: (plans(f), spectra(f)),
        ["spectrum", "spectrum.json", "--plan", "plan.json"],
        "plan.json",
    ),
    Entry("rule", rule, ["check", "rule.json"], "rule.json", 2),
    Entry("spectrum", spectra, ["spectrum", "spectrum.json"], "spectrum.json", 2),
    Entry(
        "spectrum of a schedule", spectra, ["schedule", "spectral-mixed", "--data", "spectrum.json"], "spectrum.json"
    ),
    Entry(
        "mixture of spectra",
        mixture,
        ["schedule", "spectral-mixed", "--data", "mixture.json", "--per-image", "--plan", "r.json"],
        "mixture.json",
    ),
    Entry("recipe", recipes, ["train", "recipe.yaml", "--data", "nowhere.npz"], "recipe.yaml", 3),
    Entry("recipe, prepared", recipes, read_prepared, "recipe.yaml", 0.7),
    Entry(
        "conformance vectors", vectors, ["conformance", "core", "--vectors", "v.jsonl"], "v.jsonl", 2, codes=(0, 1, 2)
    ),
    *(
        Entry(f"import of {t}", exported(t), ["import", "export.txt", "-o", "made.json"], "export.txt")
        for t in exports.TARGETS
    ),
    Entry("import of sigmas", levels, ["import", "list.txt", "--kind", "ve", "-o", "made.json"], "list.txt"),
    Entry("import of taus", levels, ["import", "list.txt", "--kind", "flow", "-o", "made.json"], "list.txt", 0.5),
    Entry("npz", arrays, ["spectrum", "x.npz", "--by-class"], "x.npz", 3),
    Entry("npy", array, ["spectrum", "x.npy"], "x.npy", 1.5),
    Entry("images", image_folder, ["spectrum", "data"], "data/*/*", 2),
    Entry("npz, trained on", arrays, lambda f: sigmatune.training.data.load(str(f / "x.npz")), "x.npz"),
    Entry(
        "reference",
        reference,
        ["evaluate", "--images", "x.npz", "--reference", "reference.npz", "--extractor", "pixels", "--metrics", "fd"],
        "reference.npz",
        1.5,
    ),
    Entry("prompts", words, read_conditions, "prompts.txt", 0.5),
    *(Entry(f"labels, {e}", labels(e), read_labels(e), "labels.*", 0.5) for e in ("npy", "json", "txt")),
    Entry("link of the studio", link, read_link, "link.txt"),
    Entry("error table", error_table, read_table, "errors.json", 0.5),
    Entry("analysis", analysis, read_analysis, "a.*", 0.5),
    Entry("model, index and configurations", plans, ["sample", TINY, "plan.json", "-n", "1"], "model/**/*.json", 2),
    Entry("model, weights", plans, ["sample", TINY, "plan.json", "-n", "1"], "model/unet/*.safetensors", 1),
]

HEAVY = [
    Entry("checkpoint", recipes, TRAIN, "run.run/checkpoint.safetensors", 1.5, keeps=("run.run",)),
    Entry("log of a training", recipes, TRAIN, "run.run/log.jsonl", 0.5, keeps=("run.run",)),
    Entry("run folder of a tuning", plans, TUNE, "work.run/**/*", 0.5, keeps=("work.run",)),
    Entry(
        "run folder of an evaluation",
        lambda f: (plans(f), arrays(f)),
        EVALUATE,
        "work.run/**/*",
        0.5,
        keeps=("work.run",),
    ),
    Entry(
        "shards that are joined",
        lambda f: (plans(f), arrays(f)),
        [*MANY, "--merge", *SHARDS],
        "work-*-of-2.run/**/*",
        1,
        keeps=("work.run",),
    ),
    Entry("store of an analysis", plans, ANALYZE, "work.run/**/*", 0.3, keeps=("work.run",)),
    Entry(
        "model that is told classes",
        recipes,
        ["sample", "run.run/model", "--solver", "euler", "--calls", "2", "-n", "1"],
        "run.run/model/**/*.[js]*[ns]",
        1,
    ),
]
STARTED = {
    "checkpoint",
    "log of a training",
    "run folder of a tuning",
    "run folder of an evaluation",
    "model that is told classes",
}
ENTRIES = [*LIGHT, *HEAVY]
SMALL = 110
"""Inputs of all entries by default."""


def examples(entry: Entry, total: int) -> int:
    most = sum(one.share for one in ENTRIES)
    return max(1, -int(-total * entry.share // most))


# -------------------------------------------------------------------------------------------------------------- the tests


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def total(pytestconfig):
    return pytestconfig.getoption("--fuzz") or SMALL


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_spoilt_file_gets_one_sentence(entry, folder, tiny, total, tmp_path_factory, capsys, pytestconfig):
    good = tmp_path_factory.mktemp("good")
    if isinstance(entry.command, list) and TINY in entry.command:
        shutil.copytree(tiny, good / TINY)
    entry.make(good)
    started(entry, good)

    @settings(
        max_examples=examples(entry, total),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def spoilt(data):
        emptied(folder)
        shutil.copytree(good, folder, dirs_exist_ok=True)
        files = sorted(file for file in folder.glob(entry.spoilt) if file.is_file())
        assert files
        spoil(data.draw, data.draw(st.sampled_from(files)))
        before = listed(folder)
        code, said = attempt(entry, folder, capsys)
        entry.seen[code] = entry.seen.get(code, 0) + 1
        assert code in entry.codes, said
        if code == 2:
            assert_is_a_sentence(said)
            new = {name for name in listed(folder) - before if not name.startswith(entry.keeps or ("\0",))}
            assert not new, said

    spoilt()
    pytestconfig.stash.setdefault(cli_table, []).append((entry.name, dict(entry.seen)))
    assert peak() < PEAK


def started(entry: Entry, good: Path) -> None:
    """Runs a command once, so that there is work of its own to be spoilt."""
    if entry.name in STARTED:
        command = TRAIN if entry.make is recipes else entry.command
        with inside(good):
            assert called(command) in (0, 130), command
    elif entry.name == "shards that are joined":
        with inside(good):
            for i in (1, 2):
                assert called([*MANY, "--shard", f"{i}/2"]) == 0
    elif entry.name == "store of an analysis":  # is removed when it is done
        from sigmatune.analysis.stepwise import analyze, chain

        model = sigmatune.load(good / TINY)
        analyze(model, 8, plan=chain(model, 3), store=good / "work.run")


def attempt(entry: Entry, folder: Path, capsys) -> tuple[int, str]:
    """Runs what an entry runs; returns the exit code and the sentence."""
    capsys.readouterr()
    with no_longer_than(SECONDS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(entry.command, list):
            code = called(entry.command)
            return code, capsys.readouterr().err
        try:
            entry.command(folder)
        except SigmaTuneError as error:
            return 2, f"error: {error}\n"
        return 0, ""


def called(command: list[str]) -> int:
    given, sys.argv = sys.argv, ["sigmatune", *command]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = given
    return 0


def assert_is_a_sentence(said: str) -> None:
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    sentence = lines[0].removeprefix("error: ")
    assert 10 < len(sentence) <= MOST, sentence
    assert not INTERNALS.search(sentence), sentence
    assert not [c for c in said if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"], repr(said)
    assert sentence.rstrip(")")[-1] in ".?", sentence


def listed(folder: Path) -> set[str]:
    return {
        str(Path(place, name).relative_to(folder)) for place, below, files in os.walk(folder) for name in below + files
    }


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def inside(folder: Path):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def no_longer_than(seconds: int):
    def stop(*_):
        raise AssertionError(f"still at work after {seconds} s")

    before, began = signal.signal(signal.SIGALRM, stop), time.monotonic()
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < seconds


cli_table = pytest.StashKey[list]()
