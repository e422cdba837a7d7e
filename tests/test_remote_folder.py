"""Run folders on object storage, on a local S3 server: what one machine measured, another one resumes from."""

from __future__ import annotations

import json
import os
import shutil
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest

from sets import noise_pictures
from sigmatune import compile_plan, load, schedules
from sigmatune.evaluation import shards as evaluation_shards
from sigmatune.support import remote_folder
from sigmatune.support.errors import SigmaTuneError

s3fs = pytest.importorskip("s3fs", reason="pip install 'sigmatune[remote]'")
moto = pytest.importorskip("moto.server", reason="the local S3 server is not installed: pip install 'sigmatune[dev]'")
EVALUATE = ("evaluate", "tiny", "--plan", "a.json", "-n", 40, "--metrics", "fd", "--extractor", "pixels", "--spaces",
            "pixels-pca8", "--reference", "data.npz")  # fmt: skip


@pytest.fixture(scope="module")
def server():
    """A local S3 server's address; from a proxy of the environment nothing is asked."""
    with pytest.MonkeyPatch.context() as patch:
        started = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        started.start()
        host, port = started.get_host_and_port()
        for name, value in {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "NO_PROXY": "*",
                            "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # of a server before, which has another port
        yield
        started.stop()


@pytest.fixture
def store(server, request):
    """A bucket of its own."""
    system = s3fs.S3FileSystem(skip_instance_cache=True)
    name = f"b{abs(hash(request.node.name)) % 10**9}"
    system.mkdir(name)
    return system, name


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this process another machine: without any mirror, and with another cache."""

    def other(number):
        remote_folder._stores.clear()
        monkeypatch.setenv("SIGMATUNE_CACHE", str(tmp_path / f"cache-{number}"))

    yield other
    remote_folder._stores.clear()


@pytest.fixture
def files(tmp_path, tiny, monkeypatch, one_thread):
    monkeypatch.setattr(evaluation_shards, "SHARD", 16)
    np.savez(tmp_path / "data.npz", images=noise_pictures(60, shape=(8, 8, 1)))
    shutil.copytree(tiny, tmp_path / "tiny")
    model = load(tiny)
    compile_plan(schedules.build("karras", 3, model.path), "euler", model).save(tmp_path / "a.json")
    return tmp_path


def test_another_machine_resumes_where_the_first_died(run, files, store, machine, monkeypatch):
    system, bucket = store
    assert run(*EVALUATE, "--out", "whole.json")[0] == 0
    sample, left = evaluation_shards.sample, iter(range(2))

    def killed(*args, **named):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return sample(*args, **named)

    machine(1)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_shards, "sample", killed)
        assert run(*EVALUATE, "--run", f"s3://{bucket}/run")[0] == 130
    system.invalidate_cache()
    there = [name for name in system.find(f"{bucket}/run") if name.endswith(".npz")]
    assert 0 < len(there) < 3, "pieces are in the store as soon as they are whole"
    machine(2)
    again = []
    monkeypatch.setattr(evaluation_shards, "sample", lambda *args, **named: again.append(1) or sample(*args, **named))
    code, out, err = run(*EVALUATE, "--run", f"s3://{bucket}/run")
    assert code == 0, err
    assert f"s3://{bucket}/run (a later run resumes" in out
    assert (files / "evaluation.json").read_bytes() == (files / "whole.json").read_bytes()
    assert 0 < len(again) <= 2, "only what was missing is sampled"
    assert not (files / "s3:").exists()
    assert not system.exists(f"{bucket}/run/{remote_folder.OWNER}")


def test_shards_meet_in_a_bucket(run, files, store, machine, monkeypatch):
    _, bucket = store
    assert run(*EVALUATE, "--out", "whole.json")[0] == 0
    for number in (1, 2):
        machine(number)
        code, out, err = run(*EVALUATE, "--shard", f"{number}/2", "--run", f"s3://{bucket}/one.run", "--features-only")
        assert code == 0, err
        assert f"is in s3://{bucket}/one-{number}-of-2.run;" in out
    machine(3)
    monkeypatch.setattr(evaluation_shards, "_ends", lambda *_: pytest.fail("everything is there"))
    code, _, err = run(*EVALUATE, "--merge", *(f"s3://{bucket}/one-{number}-of-2.run" for number in (1, 2)))
    assert code == 0, err
    assert (files / "evaluation.json").read_bytes() == (files / "whole.json").read_bytes()


def test_a_store_of_measurements_may_be_remote(run, files, store, machine, little):
    system, bucket = store
    machine(1)
    tune = ("tune", "tiny", "--calls", 3, "--solver", "euler", "--method", "static", "--tuning", 8, "--validation", 8,
            "--held-out", 8, "--no-report", "--run", f"s3://{bucket}/tune")  # fmt: skip
    code, _, err = run(*tune)
    assert code == 0, err
    first, kept = (files / "plan.json").read_text(), len(system.find(f"{bucket}/tune"))
    assert kept > 2
    machine(2)
    assert run(*tune)[0] == 0
    system.invalidate_cache()
    assert json.loads((files / "plan.json").read_text())["sigmas"] == json.loads(first)["sigmas"]
    assert len(system.find(f"{bucket}/tune")) == kept, "nothing was measured again"


def test_another_owner_is_warned_of(store, machine):
    system, bucket = store
    machine(1)
    folder = remote_folder.local(Path(f"s3://{bucket}/run"))
    for host, pid, warned in (("elsewhere", 7, True), (socket.gethostname(), 2**22 + 1, False)):
        about = {"host": host, "pid": pid, "since": "2026-01-01 00:00:00"}
        system.pipe_file(f"{bucket}/run/{remote_folder.OWNER}", json.dumps(about).encode())
        with pytest.MonkeyPatch.context() as patch:
            said = []
            patch.setattr(warnings, "warn", lambda text, said=said, **_: said.append(text))
            with remote_folder.owned(folder):
                held = json.loads(system.cat_file(f"{bucket}/run/{remote_folder.OWNER}"))
                assert held["pid"] == os.getpid()
        assert bool(said) is warned
        assert not warned or f"s3://{bucket}/run is marked as in use by process 7 on elsewhere" in said[0]


def test_what_cannot_be_reached_is_said_in_one_sentence(run, files, store, machine):
    machine(1)
    for run_folder, words in (
        ("s3://no-such-bucket-here/run", "s3://no-such-bucket-here/run"),
        ("nosuch://x/run", "nosuch"),
    ):
        code, _, err = run(*EVALUATE, "--run", run_folder)
        assert code == 2
        assert words in err
        assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1
        assert not (files / "evaluation.json").exists()
    with pytest.raises(SigmaTuneError, match="no address of a run folder"):
        remote_folder.local(Path("nosuch://x/run"))


def test_a_local_path_is_itself(tmp_path):
    for name in (tmp_path / "run", *map(Path, ("run", "c:/run", "a:b/run"))):
        assert remote_folder.local(name) is name
