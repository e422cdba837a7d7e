"""What a Ray cluster decides: who gets which GPU, what happens to workers that die again and again, and Ray's client."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import engine_pieces as pieces
import sigmatune as st
from light import LIGHT, build_light, prepare_light
from sigmatune.models.network import pick_device
from sigmatune.support.engine import Held, Loader, engine
from sigmatune.support.engine.ray_address import check_client
from sigmatune.support.errors import SigmaTuneError

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'sigmatune[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402

from sigmatune.support.engine import ray_cluster  # noqa: E402
from sigmatune.support.engine.actor import Actor  # noqa: E402
from sigmatune.support.engine.ray_cluster import Ray  # noqa: E402

import ray_workers  # noqa: E402  # isort: skip

HERE = Path(__file__).parent
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Ray leaves log files open
HEAD, OTHER = "127.0.0.5", "127.0.0.6"  # Ray would rewrite 127.0.0.1


def free_port(address):
    with socket.socket() as free:
        free.bind((address, 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """The address for Ray's client of two nodes, which say that they have GPUs: the head one, the other two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGMATUNE_CACHE", "")  # so that it is put back
        build_light(tmp_path_factory.mktemp("light"))
        for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_ADDRESS": "",
                            "RAY_worker_niceness": "0",  # not 15, which waits for all other test processes
                            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "60",  # a busy machine is no failure
                            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "src")])}.items():  # fmt: skip
            patch.setenv(name, value)
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        cluster, port = Cluster(), free_port(HEAD)
        memory = {"object_store_memory": 2**27}
        cluster.add_node(num_cpus=1, num_gpus=1, node_ip_address=HEAD, ray_client_server_port=port, **memory)
        cluster.add_node(num_cpus=2, num_gpus=2, node_ip_address=OTHER, **memory)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield f"ray://{HEAD}:{port}"
        ray.shutdown()
        cluster.shutdown()


def something(accelerated):
    return [Held(None, lambda: Loader(f"counted {accelerated}", pieces.counted, (), accelerated=accelerated))]


# ------------------------------------------------------------------------------------------------------------ Ray's client


def elsewhere(client, *command):
    """Runs a command in a process that knows the cluster by its client's address alone."""
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, *command], env=env | client, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_pieces_run_through_the_client_of_ray(client):
    code = """
from ray.util.client.worker import Worker
from sigmatune.support.engine import Held, Loader, engine
import engine_pieces as pieces
begin = Worker._server_init
def abort(*_):
    Worker._server_init = begin
    raise ConnectionAbortedError("Initialization failure from server: the first time")
Worker._server_init = abort
with engine("ray") as running:
    here = lambda name: [Held(None, lambda: Loader(name, getattr(pieces, name), ()))]
    print(running.workers, list(running.run(pieces.square, here("offset"), range(5))))
    for job in ((pieces.square, here("missing"), [0]), (pieces.refused, [], [0]), (pieces.last_word, [], [0])):
        try:
            list(running.run(*job))
        except Exception as error:
            print(type(error).__name__, error)
"""
    lines = elsewhere({"RAY_ADDRESS": client}, "-c", code).splitlines()
    assert lines[0] == "3 [100, 101, 104, 109, 116]"
    assert lines[1].startswith("SigmaTuneError on the worker 127.0.0.")
    assert lines[1].endswith(": there is no folder /nowhere.")
    assert lines[2] == "SigmaTuneError piece 0 holds NaN."
    assert lines[3].startswith("SigmaTuneError 4 workers were lost on the same piece")


@pytest.mark.slow
def test_an_evaluation_through_the_client_is_the_same(client, run, tmp_path, one_thread):
    prepare_light(tmp_path, "ancestral", plan=3)
    command = ("evaluate", LIGHT, "--plan", "plan.json", "-n", "96", "--metrics", "fd", "--extractor", "pixels",
               "--spaces", "pixels-pca8", "--reference", "data.npz", "--features-only", "--device", "cpu")  # fmt: skip
    assert run(*command, "--out", "local.json")[0] == 0
    elsewhere({}, "-m", "sigmatune", *command, "--engine", client, "--out", "ray.json")
    dated = [(tmp_path / name).read_text() for name in ("local.json", "ray.json")]
    without = [[line for line in text.splitlines() if '"date"' not in line] for text in dated]
    assert without[0] == without[1]


def test_a_cluster_that_is_too_busy_for_a_client_is_not_called_missing(monkeypatch):
    asked = []

    def aborted(address, **_):
        asked.append(address)
        raise ConnectionAbortedError("Initialization failure from server:\nTraceback: ...")

    with socket.create_server((HEAD, 0)) as listening:
        address = f"ray://{HEAD}:{listening.getsockname()[1]}"
        monkeypatch.setattr("ray.init", aborted)
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        with pytest.raises(SigmaTuneError, match=f"^the Ray cluster at {address} answers .* try again") as caught:
            Ray(address)
        assert len(str(caught.value)) <= 300
        assert asked == [address] * 3


def test_without_the_package_of_the_client_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.setenv("RAY_ADDRESS", "ray://host:10001")
    for address in (None, "ray://host:10001"):
        with pytest.raises(SigmaTuneError, match=r"grpcio; pip install 'sigmatune\[ray\]'"):
            check_client(address)
    check_client("127.0.0.1:6379")


def test_an_address_without_ray_in_front_is_refused_with_what_to_do():
    with pytest.raises(SigmaTuneError, match=r"not '127\.0\.0\.2:6379'; .* set RAY_ADDRESS and take ray"):
        engine("127.0.0.2:6379")


# -------------------------------------------------------------------------------------------------------------------- GPUs


def test_one_worker_on_each_gpu_loads_once(client):
    with Ray() as running:
        assert running.crew(accelerated=True) == (3, 0)
        assert running.crew(accelerated=False) == (3, 1)
        seen = list(running.run(pieces.placed, something(True), range(12)))
        assert {(node, device) for node, device, *_ in seen} == {(HEAD, "0"), (OTHER, "0"), (OTHER, "1")}
        assert len({pid for _, _, pid, *_ in seen}) == 3
        assert all(resources == {"CPU": 1, "GPU": 1} for *_, resources, _ in seen)
        assert {loads for *_, loads in seen} == {1}
        pids = {pid for _, _, pid, *_ in seen}
        again = list(running.run(pieces.placed, something(True), range(3)))
        assert {pid for _, _, pid, *_ in again} <= pids, "the workers stay"
        assert {loads for *_, loads in again} == {1}


def test_workers_share_a_gpu_or_have_none(client):
    with Ray(gpus=0.5) as running:
        assert running.crew(accelerated=True) == (3, 0), "two for each GPU, but three CPUs"
    with Ray(threads=2) as running:
        assert running.crew(accelerated=False) == (1, 2), "a worker does not span nodes"
        ((node, device, _, resources, _),) = running.run(pieces.placed, something(False), range(1))
        assert (node, device, resources) == (OTHER, "", {"CPU": 2, "GPU": 0})


def test_a_worker_without_a_gpu_sees_none_and_one_with_a_gpu_takes_its_first(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    Actor(1, accelerated=True)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(os.environ["CUDA_VISIBLE_DEVICES"]))
    assert pick_device("auto") == torch.device("cuda"), "the first that the process sees"
    Actor(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert pick_device("auto").type != "cuda"


# ----------------------------------------------------------------------------------------------------- what dies, and how often


def test_workers_that_are_killed_are_replaced(client, tmp_path):
    with Ray(workers=2) as running:
        jobs = [(i, str(tmp_path)) for i in range(7)]
        assert list(running.run(pieces.killed_once, [], jobs)) == list(range(7))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "6"]


def test_workers_that_die_again_and_again_end_the_run(client, monkeypatch):
    monkeypatch.setattr(ray_cluster, "TRIES", 2)
    with Ray(workers=2) as running:
        with pytest.raises(
            SigmaTuneError, match=r"^2 workers were lost on the same piece, perhaps for want of [^\n]*\.$"
        ):
            list(running.run(pieces.last_word, [], range(3)))
        assert list(running.run(pieces.warned, [], [])) == []
    monkeypatch.setattr(ray_cluster, "Actor", ray_workers.Stillborn)
    with (
        Ray(workers=2) as running,
        pytest.raises(SigmaTuneError, match=r"^no worker can be started on the Ray cluster: [^\n]*\.$"),
    ):
        list(running.run(pieces.last_word, [], range(3)))


def test_a_worker_that_cannot_start_leaves_the_others_at_work(client, monkeypatch):
    monkeypatch.setattr(ray_cluster, "TRIES", 2)
    monkeypatch.setattr(ray_cluster, "Actor", ray_workers.Local)
    with Ray() as running:
        assert running.workers == 3
        seen = list(running.run(pieces.placed, something(False), range(6)))
        assert {node for node, *_ in seen} == {HEAD}


# ------------------------------------------------------------------------------------------------------------------ weights


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts what Linux reads from a disk")
def test_the_workers_of_a_node_read_the_weights_from_its_disk_once(client, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(Path(st.__file__).parent / "models" / "weights" / "digits", folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with Ray(gpus=0.0, workers=2, threads=1) as running:
        held = [Held(None, lambda: Loader("disk", pieces.loaded_from_disk, (str(folder),)))]
        read = dict(running.run(pieces.reported, held, range(6)))
    assert len(read) == 2
    assert sum(read.values()) <= 1.25 * sum(path.stat().st_size for path in files)
