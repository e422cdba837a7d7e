"""Engines: a Ray cluster of three nodes on this machine gives the bits of one process, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import engine_pieces as pieces
import sigmatune as st
from engine_pieces import Counted
from light import LIGHT, build_light, prepare_light
from sets import noise_pictures
from sigmatune.core.origin import derived
from sigmatune.models.imagined import Imagined
from sigmatune.models.travel import held
from sigmatune.plan.estimate import CostEstimate
from sigmatune.spectra import spectrum_of
from sigmatune.spectra.measured_spectra import measure
from sigmatune.support.engine import LOCAL, Held, Loader, engine
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning import TuningSettings
from sigmatune.workflows.finetune_settings import FinetuneSettings

HERE = Path(__file__).parent
ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")  # Ray would rewrite 127.0.0.1
SMALL = TuningSettings(tuning=4, validation=4, held_out=8, evaluations=2, micro_batch=2)
PIXELS = ("--extractor", "pixels", "--spaces", "pixels-pca8", "--reference", "data.npz")


# ------------------------------------------------------------------------------------------------------- how models travel


def again(model):
    """The model as a worker loads it."""
    return held(model).loader().load()


def test_a_model_travels_by_what_it_was_loaded_from(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    folder, function = st.load(tiny.name), st.load("engine_pieces:shrunk", shape=(1, 4, 4))
    monkeypatch.chdir(tmp_path)
    for model in (st.load("digits"), folder, function, st.load(pieces.shrunk, shape=(1, 4, 4))):
        assert again(model).fingerprint() == model.fingerprint()
    divided = derived(function, "with_path", function.path)
    assert again(divided).origin.steps[0][0] == "with_path"


def test_what_cannot_travel_is_refused_with_what_to_do(tiny):
    for thing in (lambda x, sigma: x, type("Network", (), {"__call__": lambda self, x, sigma: x})()):
        with pytest.raises(SigmaTuneError, match=r"in memory cannot travel .*'package\.module:function'"):
            held(st.load(thing, shape=(1, 4, 4))).loader()
    changed = st.load(tiny)
    next(changed.modules()[0].parameters()).data.add_(1)
    with pytest.raises(SigmaTuneError, match="another model there than here"):
        again(changed)
    with pytest.raises(SigmaTuneError, match="there is no function 'engine_pieces:none'"):
        st.load("engine_pieces:none", shape=(1, 4, 4))


def test_an_engine_of_another_name_is_refused():
    with pytest.raises(SigmaTuneError, match="an engine is local, ray, or ray://host:10001, not 'slurm'"):
        engine("slurm")


def test_without_ray_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sigmatune.support.engine.ray_cluster", raising=False)
    with pytest.raises(SigmaTuneError, match=r"pip install 'sigmatune\[ray\]'"):
        engine("ray")


@pytest.mark.parametrize("place", ["environment", "file", "argument"])
def test_a_dead_cluster_is_one_sentence_at_once(place, run, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'sigmatune[ray]'")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))  # and never listens
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        monkeypatch.setenv("RAY_ADDRESS", address if place == "environment" else "")
        file = tmp_path / "ray" / "ray_current_cluster"
        file.parent.mkdir()
        file.write_text(address)
        name = f"ray://{address}" if place == "argument" else "ray"
        np.savez("data.npz", images=noise_pictures(2, shape=(8, 8, 1)))
        code, _, err = run("spectrum", "data.npz", "--engine", name, "-o", "spectrum.json")
    assert code == 2
    if place == "file":
        assert f"the Ray cluster of this machine, {address}, was killed" in err
        assert f"delete {file}" in err.replace("\n", "")
    else:
        assert "there is no Ray cluster at" in err
        assert address in err
    assert not Path("spectrum.json").exists()


@pytest.mark.parametrize("by_class", [False, True])
def test_a_spectrum_has_the_same_bits_on_other_workers(by_class, tmp_path):
    generator = np.random.default_rng(0)
    images, labels = generator.normal(size=(50, 6, 10, 3)), np.sort(generator.integers(0, 3, 50))
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    how = {"by_class": by_class, "batch": 8, "corners": True, "values": "as-is"}
    seen = []
    here, there = (
        measure(tmp_path / "data.npz", engine=one, progress=lambda *said: seen.append(said), **how)
        for one in (LOCAL, Counted())
    )
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]
    assert here.all.to_dict() == there.all.to_dict()
    assert {name: one.to_dict() for name, one in here.classes.items()} == {
        name: one.to_dict() for name, one in there.classes.items()
    }
    assert len(here.classes) == 3 * by_class
    batches = [torch.from_numpy(images[at : at + 8]).permute(0, 3, 1, 2) for at in range(0, 50, 8)]
    assert spectrum_of(batches, engine=Counted()).to_dict() == spectrum_of(batches).to_dict()


def test_fine_tuning_judges_and_tunes_on_the_engine(run, monkeypatch):
    there, seen = Counted(), []

    def stopped(job, *_, **__):
        seen.append(job.data.engine)
        raise SigmaTuneError("stopped here.")

    monkeypatch.setattr("sigmatune.support.engine.engine", {"ray": nullcontext(there)}.__getitem__)
    monkeypatch.setattr("sigmatune.workflows.finetune.finetune", stopped)
    np.savez("data.npz", images=noise_pictures(20, shape=(8, 8, 1)))
    assert run("finetune", "digits", "--data", "data.npz", "--engine", "ray")[0] == 2
    assert seen == [there]


@pytest.fixture
def there(monkeypatch):
    """``--engine ray`` means two workers without processes."""
    counted = Counted()
    known = {"ray": counted, "local": LOCAL}
    monkeypatch.setattr("sigmatune.support.engine.engine", lambda name: nullcontext(known[name]))
    return counted


def test_images_come_back_only_where_they_are_kept(run, data, there, one_thread):
    received = {}
    for keep in ("--features-only", "--keep-images"):
        before = there.received
        flags = () if keep == "--keep-images" else (keep,)
        code, _, err = run("evaluate", LIGHT, "--plan", "short.json", "-n", 40, "--metrics", "fd", *PIXELS, *flags,
                           "--engine", "ray", "--run", f"{keep}.run", "--out", f"{keep}.json")  # fmt: skip
        assert code == 0, err
        received[keep] = there.received - before
    more = received["--keep-images"] - received["--features-only"]
    assert 40 * 768 <= more < 40 * 768 + 2000, "one byte for each of 3 x 16 x 16 values, and nothing else"
    assert (data / "--features-only.json").read_text() == (data / "--keep-images.json").read_text()


def test_two_plans_are_compared_on_the_engine(run, data, there, one_thread):
    for name in ("local", "ray"):
        code, _, err = run("evaluate", LIGHT, "--plan", "short.json", "--against", "long.json", "-n", 40, "--metrics",
                           "fd,kid", *PIXELS, "--engine", name, "--out", f"{name}.json")  # fmt: skip
        assert code == 0, err
    assert same(data / "local.json", data / "ray.json")
    assert json.loads((data / "ray.json").read_text())["differences"]


@pytest.mark.parametrize("further", [(), ("--micro-batch", 3, "--noise", "level")])
def test_images_are_sampled_on_the_engine(run, data, there, one_thread, further):
    for name in ("local", "ray"):
        assert run("sample", LIGHT, "short.json", "-n", 20, *further, "--engine", name, "-o", f"{name}.npz")[0] == 0
    ours, theirs = (np.load(data / f"{name}.npz")["images"] for name in ("ray", "local"))
    assert ours.tobytes() == theirs.tobytes()
    assert there.pieces == -(-20 // (further[1] if further else st.load_plan(data / "short.json").micro_batch))
    assert run("sample", LIGHT, "short.json", "--micro-batch", -1, "--engine", "ray", "-o", "x.npz")[0] == 2


def test_an_estimate_is_divided_by_the_workers(monkeypatch):
    model, imagined = st.load("digits"), Imagined()
    whole = CostEstimate({"images": 1000}, 0.1, besides=10.0, where="on cpu")
    assert whole.on(LOCAL, model) is whole
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert whole.on(Counted(), imagined, besides=False).seconds == pytest.approx(
        100 / 2 + 10
    )  # what was stated is that of a worker
    assert whole.on(Counted(), imagined).seconds == pytest.approx(110 / 2)
    cpu = whole.on(
        Counted(), st.load("digits", device="cpu"), besides=False
    )  # measured on four threads, a worker has one
    assert cpu.seconds == pytest.approx(100 * 4 / 2 + 10)
    assert cpu.sentence.endswith("on 2 workers")


# --------------------------------------------------------------------------------------------------------------- a cluster


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """The light model, in a cache that workers and commands know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGMATUNE_CACHE", "")  # so that it is put back
        build_light(tmp_path_factory.mktemp("light"))
        yield


@pytest.fixture(scope="module")
def cluster(light):
    """Three nodes of one worker each."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'sigmatune[ray]'")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # Ray's is 15: they would wait for all other test processes
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent / "src")]))
        patch.setenv("OMP_NUM_THREADS", "1")
        cluster = Cluster()
        cluster.nodes = [
            cluster.add_node(num_cpus=1, node_ip_address=one, object_store_memory=2**27) for one in ADDRESSES
        ]
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def workers(cluster):
    """The engine whose workers all tests share; they start with its first pieces."""
    with engine("ray") as running:
        yield running


@pytest.fixture
def on_ray(workers, monkeypatch):
    """``--engine ray`` of a command in this process means those workers."""
    known = {"ray": workers, "local": LOCAL}
    monkeypatch.setattr("sigmatune.support.engine.engine", lambda name: nullcontext(known[name]))


@pytest.fixture
def data(tmp_path, light):
    prepare_light(tmp_path, "ancestral", short=3, long=120)
    return tmp_path


@pytest.fixture
def network(tmp_path, tiny):
    """The same for a network, on whose rounding the size of a batch has an influence."""
    np.savez(tmp_path / "data.npz", images=noise_pictures(60, shape=(8, 8, 1)))
    model = st.load(tiny)
    for name, steps, solver in (("short", 3, "ancestral"), ("plan", 2, "euler")):
        plan = st.compile_plan(st.build_schedule("karras", steps, model.path), solver, model)
        plan.save(tmp_path / f"{name}.json")
    return tmp_path


def evaluation(plan, name, n, metrics="fd,sw", model=LIGHT):
    return ("evaluate", model, "--plan", f"{plan}.json", "-n", str(n), "--metrics", metrics, *PIXELS, "--features-only",
            "--engine", name, "--run", f"{name}.run", "--out", f"{name}.out.json")  # fmt: skip


def times(folder):
    """The features in a folder, and when they were written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("pixels-*/*.npz")}


def same(one, other):
    """Whether two files of figures differ in nothing but their date."""
    contents = [json.loads(file.read_text()) for file in (one, other)]
    return all(content.pop("date", True) for content in contents) and contents[0] == contents[1]


@pytest.mark.slow  # tests/test_killed.py kills commands without Ray
def test_a_killed_driver_loses_only_what_was_under_way(workers, on_ray, run, data, monkeypatch):
    monkeypatch.setattr("sigmatune.evaluation.shards.SHARD", 16)
    code = "import sigmatune.evaluation.shards as s; s.SHARD = 16; from sigmatune.cli import main; main()"
    arguments = evaluation("long", "ray", 96)
    with subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=data) as driver:
        while not times(data / "ray.run") and driver.poll() is None:
            time.sleep(0.01)
        driver.send_signal(signal.SIGKILL)
    kept = times(data / "ray.run")
    assert 0 < len(kept) < 6, "killed in the middle"
    assert run(*arguments)[0] == run(*evaluation("long", "local", 96))[0] == 0
    assert kept.items() <= times(data / "ray.run").items(), "what was kept is not done again"
    assert same(data / "ray.out.json", data / "local.out.json")


def test_results_come_in_order_and_errors_as_one_sentence(workers):
    base, nowhere = (
        Held(100, lambda name=name: Loader(name, getattr(pieces, name), ())) for name in ("offset", "missing")
    )
    counted = []
    results = list(workers.run(pieces.square, [base], range(40), tick=counted.append))
    assert results == list(LOCAL.run(pieces.square, [base], range(40)))
    assert sum(counted) == 80
    with pytest.raises(SigmaTuneError, match=r"^on the worker 127\.0\.0\.[234]: there is no folder /nowhere\.$"):
        list(workers.run(pieces.square, [nowhere], range(4)))
    with pytest.raises(SigmaTuneError, match=r"^piece 0 holds NaN\.$"):
        list(workers.run(pieces.refused, [], range(1)))
    with pytest.warns(UserWarning, match="piece 1 is small"):
        assert list(workers.run(pieces.warned, [], [1])) == [1]


def tuned_alike(workers):
    model = st.load("engine_pieces:two_modes", shape=(1, 4, 4))
    plan, other = (
        st.tune(model, 3, settings=SMALL, engine=one, method="static", progress=False) for one in ("local", workers)
    )
    assert plan.coefficients.digits() == other.coefficients.digits()
    assert plan.evidence == other.evidence
    assert plan.cost["network_evaluations"] == other.cost["network_evaluations"]


def test_a_plan_is_tuned_to_the_same_bits(workers, little):
    tuned_alike(workers)


def without_seconds(file):
    """A JSON file without its durations."""
    return json.loads(
        file.read_text(), object_pairs_hook=lambda pairs: {key: value for key, value in pairs if key != "seconds"}
    )


@pytest.mark.slow
def test_a_fine_tuning_is_the_same(on_ray, run, network, tiny, little_pictures, monkeypatch):
    monkeypatch.setattr("sigmatune.workflows.finetune.FinetuneSettings", partial(FinetuneSettings, noises=SMALL))
    for name in ("local", "ray"):
        code, _, err = run("finetune", tiny, "--data", "data.npz", "--plan", "plan.json", "--rounds", 1, "--images", 8,
                           "--batch", 8, "--method", "static", "--pictures", little_pictures, "--device", "cpu",
                           "--engine", name, "-o", name)  # fmt: skip
        assert code == 0, err
    assert without_seconds(network / "local/evidence.json") == without_seconds(network / "ray/evidence.json")


@pytest.mark.slow
def test_the_figures_of_2000_images_of_a_network_are_the_same(on_ray, run, network, tiny):
    for name in ("local", "ray"):
        assert run(*evaluation("short", name, 2000, "fd", model=str(tiny)))[0] == 0
    assert same(network / "local.out.json", network / "ray.out.json")


def test_a_leaderboard_is_the_same(on_ray, run, data):
    for name in ("local", "ray"):
        code, _, err = run("bench", LIGHT, "--families", "karras,log-uniform", "--calls", 3, "-n", 40, "--paired", 4,
                           *PIXELS, "--engine", name, "--run", f"{name}.run", "--out", f"{name}.json")  # fmt: skip
        assert code == 0, err
    assert same(data / "local.json", data / "ray.json")


@pytest.fixture
def losing_a_node(cluster, workers, monkeypatch):
    """A list that fills with results; the third node dies after the fourth, and another one takes its place after the test."""
    results, take = [], workers.run

    def counted(*job, **how):
        for result in take(*job, **how):
            results.append(result)
            if len(results) == 4:
                cluster.remove_node(cluster.nodes[2])
            yield result

    monkeypatch.setattr(workers, "run", counted)
    yield results
    assert len(results) > 4
    cluster.nodes[2] = cluster.add_node(num_cpus=1, node_ip_address=ADDRESSES[2], object_store_memory=2**27)


RANKING = ("bench", LIGHT, "--families", "karras,log-uniform", "--calls", "3", "-n", "32", "--paired", "4", *PIXELS,
           "--engine", "NAME", "--run", "NAME.run", "--out", "NAME.out.json")  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(evaluation("short", "NAME", 128), id="evaluate"),
        pytest.param(RANKING, id="bench", marks=pytest.mark.slow),
    ],
)
def test_a_node_that_dies_in_the_middle_changes_nothing(command, losing_a_node, on_ray, run, data, monkeypatch):
    monkeypatch.setattr("sigmatune.evaluation.shards.SHARD", 16)
    for name in ("local", "ray"):
        code, _, err = run(*(word.replace("NAME", name) for word in command))
        assert code == 0, err
    assert same(data / "local.out.json", data / "ray.out.json")


@pytest.mark.slow
def test_a_node_that_dies_while_a_plan_is_tuned_changes_nothing(losing_a_node, workers, little):
    tuned_alike(workers)


def test_a_piece_that_ends_its_workers_ends_the_run(workers, monkeypatch):
    monkeypatch.setattr("sigmatune.support.engine.ray_cluster.TRIES", 2)
    with pytest.raises(SigmaTuneError, match="2 workers were lost on the same piece"):
        list(workers.run(pieces.last_word, [], [0]))
    assert list(workers.run(pieces.warned, [], [])) == []
