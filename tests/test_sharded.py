"""Evaluations in shards: every piece belongs to one share, and joined shares are one run to the bit."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sets import noise_pictures
from sigmatune import compile_plan, load, schedules
from sigmatune.evaluation import generation, paired_distance
from sigmatune.evaluation import shards as evaluation_shards
from sigmatune.evaluation.extractors import extractor
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.share import MANIFEST, Share
from sigmatune.workflows import paired_errors, sharded
from sigmatune.workflows.sharded import ShardedJob

PIXELS = ("--extractor", "pixels", "--spaces", "pixels-pca8", "--reference", "data.npz")
EVALUATE = (
    "evaluate",
    "tiny",
    "--plan",
    "a.json",
    "--against",
    "b.json",
    "-n",
    40,
    "--metrics",
    "fd,paired",
    *PIXELS,
)
BENCH = ("bench", "tiny", "--families", "karras:rho=5,log-uniform", "--solvers", "euler", "--calls", 3, 4, "-n", 20,
         "--paired", 12, "--metrics", "fd", "--plans", "c.json", *PIXELS)  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny):
    """A network, on whose rounding the size of a batch has an influence."""
    return load(tiny)


@pytest.fixture
def files(tmp_path, tiny, model, monkeypatch, one_thread):
    """Data and plans, with pieces of 16 images and 16 noises, and a reference that settles soon."""
    monkeypatch.setattr(evaluation_shards, "SHARD", 16)
    monkeypatch.setattr(generation, "SMALL", 16)
    for module in (paired_distance, paired_errors, sharded):
        monkeypatch.setattr(module, "FIRST", 8)
    monkeypatch.setattr(paired_distance, "LAST", 64)
    monkeypatch.setattr(paired_distance, "CHANGE", 1e9)  # settles after one doubling
    shutil.copytree(tiny, tmp_path / "tiny")
    np.savez(tmp_path / "data.npz", images=noise_pictures(60, shape=(8, 8, 1)))
    for name, solver, steps in (("a", "euler", 3), ("b", "euler", 4), ("c", "ancestral", 3)):
        plan = compile_plan(schedules.build("karras", steps, model.path), solver, model)
        plan.save(tmp_path / f"{name}.json")
    return tmp_path


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_every_piece_belongs_to_one_share_and_none_is_idle_or_overloaded(costs, of):
    if of > len(costs):
        with pytest.raises(SigmaTuneError, match="fewer than"):
            Share(1, of).take(costs)
        return
    shares = [Share(number, of).take(costs) for number in range(1, of + 1)]
    assert sorted(place for share in shares for place in share) == list(range(len(costs)))
    loads = [sum(costs[place] for place in share) for share in shares]
    assert min(loads) > 0
    assert max(loads) - min(loads) <= max(costs), "one piece could not make them more equal"


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1/100000"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(SigmaTuneError, match="a shard is"):
        Share.parse(text)


@pytest.mark.parametrize(("command", "result"), [(EVALUATE, "evaluation.json"), (BENCH, "leaderboard.json")])
def test_joined_shards_are_one_run_to_the_bit(run, files, monkeypatch, command, result):
    assert run(*command, "--out", "whole.json")[0] == 0
    for number in (3, 1, 2):
        code, out, err = run(*command, "--shard", f"{number}/3")
        assert code == 0, err
        assert f"shard {number}/3 is in" in out
        assert not (files / result).exists()
    folders = sorted(path.name for path in files.glob("*-of-3.run"))
    pieces = {path.relative_to(files / "whole.run") for path in (files / "whole.run").rglob("*.np[yz]")}
    parts = [{path.relative_to(files / name) for path in (files / name).rglob("*.np[yz]")} for name in folders]
    assert all(parts)
    assert set.union(*parts) == pieces
    assert all(not one & other for one, other in combinations(parts, 2)), "nothing is done twice"
    monkeypatch.setattr(evaluation_shards, "_ends", lambda *_: pytest.fail("everything is there"))
    monkeypatch.setattr("sigmatune.cli.bench._samples", lambda *_: [])
    code, _, err = run(*command, "--merge", *folders)
    assert code == 0, err
    assert (files / result).read_bytes() == (files / "whole.json").read_bytes()


def test_a_reference_that_settles_later_for_all_noises_than_for_a_share_s_is_completed(run, files, monkeypatch):
    command = ("evaluate", "tiny", "--plan", "a.json", "-n", 20, "--metrics", "paired")
    assert [run(*command, "--shard", f"{number}/2")[0] for number in (1, 2)] == [0, 0]
    monkeypatch.setattr(paired_distance, "CHANGE", 0.1)  # the changes are 0.32, 0.044, 0.007
    code, _, err = run(*command, "--out", "whole.json")
    assert code == 0, err
    assert json.loads((files / "whole.json").read_text())["figures"][0]["settings"]["reference"]["steps"] > 16
    code, _, err = run(*command, "--merge", "evaluation-1-of-2.run", "evaluation-2-of-2.run")
    assert code == 0, err
    assert (files / "evaluation.json").read_bytes() == (files / "whole.json").read_bytes()


def test_a_killed_shard_resumes_and_is_not_joined_before(run, files, monkeypatch):
    command = (*EVALUATE, "--shard", "2/2")
    sample, left = evaluation_shards.sample, iter(range(3))

    def killed(*args, **named):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return sample(*args, **named)

    assert run(*EVALUATE, "--shard", "1/2")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_shards, "sample", killed)
        assert run(*command)[0] == 130
    before = {path: path.stat().st_mtime_ns for path in files.glob("evaluation-2-of-2.run/**/*.npz")}
    assert before
    folders = ("evaluation-1-of-2.run", "evaluation-2-of-2.run")
    code, _, err = run(*EVALUATE, "--merge", *folders)
    assert code == 2
    assert "evaluation-2-of-2.run holds no finished shard" in err
    assert run(*command)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was there is not made again"
    assert run(*EVALUATE, "--merge", *folders)[0] == 0
    assert run(*EVALUATE, "--out", "whole.json")[0] == 0
    assert (files / "whole.json").read_bytes() == (files / "evaluation.json").read_bytes()


def changed(folder: Path, **fields: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["job"].update(fields.pop("job", {}))
    (folder / MANIFEST).write_text(json.dumps(manifest | fields))


def test_only_all_shards_of_one_job_are_joined(run, files):
    base = ("evaluate", "tiny", "--plan", "a.json", "-n", 40, "--metrics", "fd", *PIXELS)
    for number in (1, 2):
        assert run(*base, "--shard", f"{number}/2")[0] == 0
    assert run(*base, "--shard", "1/3", "--run", "other.run")[0] == 0
    one, two, other = "evaluation-1-of-2.run", "evaluation-2-of-2.run", "other-1-of-3.run"
    for name in ("bad", "version", "hurt", "foreign", "path"):
        shutil.copytree(files / two, files / name)
    (files / "bad" / MANIFEST).write_text("{}")
    changed(files / "version", job={"version of torch": "1.0"})
    changed(files / "foreign", job={"model": ["sha256:0"]})
    changed(files / "path", files=["../" * 3 + "etc/passwd"])
    hurt = next((files / "hurt").rglob("*.npz"))
    hurt.write_bytes(hurt.read_bytes()[:-1])
    (files / "empty").mkdir()
    wrong = [
        (base, (one,), "of 2 shards 1 are missing: 2"),
        (base, (one, one), "are both shard 1/2"),
        (base, (one, other), "join shards of one division"),
        (base, (one, "nowhere"), "there is no folder nowhere"),
        (base, (one, "empty"), "holds no finished shard"),
        (base, (one, "bad"), "not a valid shard file"),
        (base, (one, "version"), "another version of torch (1.0, not "),
        (base, (one, "foreign"), "another model"),
        (base, (one, "path"), "was not written by SigmaTune"),
        (base, (one, "hurt"), "is missing or was changed; run shard 2/2 again"),
        ((*base, "--seed", 1), (one, two), "another seed (0, not 1)"),
        ((*base[:5], 36, *base[6:]), (one, two), "another number of images (40, not 36)"),
        ((*base[:3], "b.json", *base[4:]), (one, two), "another plan"),
        ((*base[:7], "fd,sw", *base[8:]), (one, two), "another extractor"),
        ((*base[:7], "fd,paired", *base[8:]), (one, two), "another set of paired errors"),
        ((*base, "--shard", "1/2"), (one, two), "give one of them"),
    ]
    for command, folders, words in wrong:
        code, _, err = run(*command, "--merge", *folders)
        assert code == 2, words
        assert words in err
        assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1
        assert not (files / "evaluation.json").exists()
    assert run(*base, "--merge", two, one)[0] == 0


def test_more_shards_than_pieces_and_options_of_no_meaning_are_refused(run, files):
    for arguments, words in (
        ((*EVALUATE, "--shard", "1/30"), "fewer than 30 shards"),
        ((*EVALUATE, "--shard", "one"), "written i/n, such as 2/8"),
        ((*EVALUATE, "--shard", "1/2", "--save-reference", "r.npz"), "belongs to the run with --merge"),
        (("evaluate", "--images", "data.npz", "--shard", "1/2"), "need a model and a --plan"),
    ):
        code, _, err = run(*arguments)
        assert code == 2
        assert words in err
        assert not list(files.glob("*.run"))


def test_shares_in_python(files, model, tmp_path):
    plan = compile_plan(schedules.build("karras", 3, model.path), "euler", model)
    job = ShardedJob([(model, plan)], 24, [extractor("pixels", model.shape)])
    for number in (1, 2):
        job.run(Share(number, 2), tmp_path / str(number), keep=False)
    job.merge([tmp_path / "2", tmp_path / "1"], tmp_path / "all")
    whole = generation.generate(model, plan, 24, job.extractors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_shards, "_ends", lambda *_: pytest.fail("everything is there"))
        joined = generation.generate(model, plan, 24, job.extractors, folder=tmp_path / "all", keep=False)
    assert joined.rows("pixels", "pixels").tobytes() == whole.rows("pixels", "pixels").tobytes()
