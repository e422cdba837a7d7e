"""What a large image must not cost: no array of ours grows with its values times something else."""

from __future__ import annotations

import ctypes
import gc
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.utils._python_dispatch import TorchDispatchMode

from exact import gaussian
from sigmatune.analysis.stepwise import log_magnitudes
from sigmatune.core.wrappers import Observed
from sigmatune.evaluation import doctor, generation, shards
from sigmatune.evaluation.extractors.efficientnet import EfficientNetLite0
from sigmatune.evaluation.extractors.raw_pixels import Projections, Rings
from sigmatune.noise import VE
from sigmatune.report import decoded
from sigmatune.report.measurements import measure
from sigmatune.report.residual import residual
from sigmatune.schedules import build
from sigmatune.spectra.rings import binning
from sigmatune.statistics import pieces as module
from sigmatune.statistics.pieces import pieces
from sigmatune.statistics.sliced import BLOCK, sliced_wasserstein
from sigmatune.support import pixels
from sigmatune.support.pixels import to_pixels
from sigmatune.tuning import TuningSettings, Workbench, cache, stages, trajectory, tune, tune_on
from sigmatune.tuning import gradient as by_gradient
from sigmatune.tuning.error_table import TableSize, tabulate
from sigmatune.tuning.gaussian_optimum import power_of
from sigmatune.tuning.surrogate import Surrogate

MIB = 2**20
SETTINGS = TuningSettings(tuning=6, validation=4, held_out=8, reference_steps=12, micro_batch=2, evaluations=6)


def peak(work: Callable[[], object]) -> int:
    """The most bytes that numpy held at once, above what it held before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


class Largest(TorchDispatchMode):
    """The largest tensor of a precision that an operation returned, in numbers; of double precision unless told."""

    numbers, dtype, least = 0, torch.float64, 0  # only of images with a side of at least so many pixels

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else [result]:
            if not isinstance(one, torch.Tensor) or one.dtype != self.dtype or one.data_ptr() in _pointers(args):
                continue
            if not self.least or (one.ndim == 4 and max(one.shape[2:]) >= self.least):
                self.numbers = max(self.numbers, one.numel())
        return result


def _pointers(args) -> set[int]:
    return {one.data_ptr() for one in args if isinstance(one, torch.Tensor)}


# ------------------------------------------------------------------------------------------------------- projections


def test_a_sliced_distance_of_large_images_holds_one_block_of_directions():
    """The whole matrix of directions would be 200 MiB for the smaller of the two, and twice that while it is scaled."""
    a, b = (torch.randn(2, size) for size in (100_000, 300_000))
    small, large = (peak(lambda x=x: sliced_wasserstein(x, x + 1)) for x in (a, b))
    assert large < 4 * BLOCK * 256 * 8
    assert large < small + 2 * MIB


def test_blocks_of_directions_are_the_rows_of_one_matrix(monkeypatch):
    x, y = torch.randn(5, 1000, dtype=torch.float64), torch.randn(5, 1000, dtype=torch.float64)
    directions = np.random.default_rng(3).standard_normal((1000, 256))
    directions /= np.linalg.norm(directions, axis=0)
    gap = np.sort(x.numpy() @ directions, axis=0) - np.sort(y.numpy() @ directions, axis=0)
    for block in (7, 1000, 10**6):
        monkeypatch.setattr("sigmatune.statistics.sliced.BLOCK", block)
        assert sliced_wasserstein(x, y, seed=3) == pytest.approx(np.sqrt(np.mean(gap**2)), rel=1e-12)


def test_projections_of_large_pictures_are_those_of_the_whole_matrix(monkeypatch):
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 40, 40), dtype=np.uint8))
    whole = Projections().features(pictures)["projections"]
    drawn = np.random.default_rng(0).standard_normal((4800, 128))
    directions = torch.from_numpy((drawn / np.linalg.norm(drawn, axis=0)).astype(np.float32))
    assert torch.equal(whole, (pictures.float() / 127.5 - 1).flatten(1) @ directions)
    for most in (0, 10**9):
        monkeypatch.setattr("sigmatune.evaluation.extractors.raw_pixels.BLOCK", 700)
        monkeypatch.setattr("sigmatune.evaluation.extractors.raw_pixels.MOST_KEPT", most)
        extractor = Projections()
        for _ in range(2):  # the second batch finds what the first has left
            torch.testing.assert_close(extractor.features(pictures)["projections"], whole, rtol=1e-4, atol=1e-4)
        smaller = extractor.features(pictures[:, :, :8])["projections"]
        torch.testing.assert_close(
            smaller, Projections().features(pictures[:, :, :8])["projections"], rtol=1e-4, atol=1e-4
        )


def test_projections_of_a_large_picture_hold_one_block(monkeypatch):
    monkeypatch.setattr("sigmatune.evaluation.extractors.raw_pixels.BLOCK", 2**13)
    monkeypatch.setattr("sigmatune.evaluation.extractors.raw_pixels.MOST_KEPT", 0)
    picture = torch.zeros(1, 1, 256, 1024, dtype=torch.uint8)
    assert peak(lambda: Projections().features(picture)) < 5 * 2**13 * 128 * 8  # the whole matrix: 256 MiB


def test_noise_on_pictures_is_drawn_one_by_one_and_is_the_same():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    noise = np.random.default_rng(0).standard_normal(pixels.shape) * 10
    assert np.array_equal(doctor.noised(10)(pixels), (pixels + noise).round().clip(0, 255).astype(np.uint8))
    assert peak(lambda: doctor.noised(10)(pixels)) < 2 * pixels.nbytes


# ------------------------------------------------------------------------------------------------------------- tuning


def test_pieces_are_the_rows_in_order(monkeypatch):
    x = torch.arange(60.0).view(10, 3, 2)
    for most, count in ((10**6, 1), (18, 4), (6, 10), (1, 10)):
        monkeypatch.setattr(module, "LARGEST", most)
        parts = list(pieces(x))
        assert len(parts) == count
        assert torch.equal(torch.cat(parts), x)


def _single(size: int = 12):
    """A model in single precision, so that double precision is what statistics convert to."""
    model = gaussian(VE(0.02, 20.0), size)
    model.dtype = torch.float32
    return model


def _numbers() -> dict[str, np.ndarray]:
    """Everything that tuning measures of end points."""
    bench = Workbench(_single(), SETTINGS)
    plan = bench.plan(build("karras", 4, bench.model.path), "dpmpp2m")
    images = bench.reference("tuning")
    stand_in, table = Surrogate(bench), tabulate(bench.model, images, TableSize(5, micro_batch=6))
    path = trajectory.tune_by_trajectory(bench, 3, "dpmpp2m", grid=8)
    return {
        "errors": bench.errors(plan, "tuning"), "held out": bench.errors(plan, "held_out"),
        "table": table.error, "modes": stand_in.exact.abs().sum(dim=1).numpy(),
        "stand-in": np.array([float(stand_in.score(plan.coefficients))]),
        "spectrum": power_of(images).power, "trajectory": np.concatenate([one.sigmas for one in path]),
        "scores": np.array([one.options["score"] for one in path]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((3, 32, 32), 16), ((3, 256, 256), 16), ((3, 512, 512), 8), ((3, 1024, 1024), 2), ((3, 4096, 4096), 1)],
)
def test_a_network_call_holds_fewer_large_images_unless_told(shape, rows):
    assert TuningSettings().of(shape).micro_batch == rows
    assert TuningSettings(micro_batch=7).of(shape).micro_batch == 7
    model = gaussian()
    model.shape = shape
    assert Workbench(model).settings == TuningSettings(micro_batch=rows)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_what_large_rows_took_is_given_back(monkeypatch):
    """Every other of many blocks is freed, in which nothing large has room, as tuning of large images leaves them."""
    blocks = [bytearray(2**16) for _ in range(4000)]  # 250 MiB, in pieces below the size that the system maps apart
    del blocks[::2], blocks[-1000:]
    before = _resident()
    module.give_back(module.LARGE - 1)
    assert abs(_resident() - before) < 8 * MIB
    module.give_back(module.LARGE)
    assert before - _resident() > 32 * MIB
    del blocks
    asked = []
    monkeypatch.setattr("sigmatune.tuning.workbench.give_back", asked.append)
    tune(gaussian(VE(0.02, 20.0)), 3, solver="euler", method="gradient", settings=SETTINGS)
    assert len(asked) > 10
    assert set(asked) == {64}


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) * 1024


def test_rows_taken_one_by_one_give_the_same_numbers(monkeypatch):
    whole = _numbers()
    monkeypatch.setattr(module, "LARGEST", 1)
    for name, value in _numbers().items():
        assert_allclose(value, whole[name], rtol=1e-9, err_msg=name)


def test_no_measure_converts_all_rows_at_once(monkeypatch):
    """In double precision there is one row at a time, here of 4096 values, beside what the network itself makes."""
    model, row = _single(64), 64 * 64
    bench = Workbench(model, SETTINGS)
    images, plan = bench.reference("tuning"), bench.plan(build("karras", 2, model.path), "euler")
    bench.outputs(plan, "held_out")
    bench.reference("held_out")
    monkeypatch.setattr(module, "LARGEST", row)
    node = SimpleNamespace(measures=[bench.measure.at(0.0)], teacher=[images + 1], least=bench.least)
    measures = {
        "errors": lambda: bench.errors(plan, "held_out"),
        "spectrum": lambda: power_of(images),
        "weighted spectrum": lambda: power_of(images, bench.measure),
        "score of a trajectory": lambda: trajectory._Search._score(node, images, 0),
        "stand-in": lambda: Surrogate.modes(bench.once("surrogate", lambda: Surrogate(bench)), images),
    }
    for name, measured in measures.items():
        measured()  # once, so that what is kept is there
        with Largest() as largest:
            measured()
        assert 0 < largest.numbers <= 2 * row, name


def test_the_guard_keeps_few_sets_of_large_images_and_decides_the_same(monkeypatch):
    def tuned():
        bench = Workbench(gaussian(VE(0.02, 20.0)), SETTINGS)
        plans = tune_on(bench, [3, 5], solver="euler", method="static")
        return plans, len(bench._cache.evictable), bench

    rich, many, _ = tuned()
    monkeypatch.setattr(cache, "KEPT", 0)
    poor, few, bench = tuned()
    assert few <= cache.FEWEST < many
    for calls, plan in rich.items():
        assert poor[calls].schedule == plan.schedule
        assert poor[calls].evidence == plan.evidence
    spent = bench.spent("reference")
    bench.reference("tuning")
    bench.reference("validation")
    assert bench.spent("reference") == spent, "what the search compares with is never forgotten"


def test_trajectories_hold_what_they_say(monkeypatch):
    """The states that are alive whenever the network is asked, against the bytes that the stage reckons with."""
    alive = []

    def watch(z, sigma, x0):
        shape, seen = tuple(z.shape[1:]), {}
        for one in gc.get_objects():
            if type(one) is torch.Tensor and tuple(one.shape[-3:]) == shape:
                seen[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        alive.append(sum(seen.values()))

    model = gaussian(VE(0.02, 20.0), 16)
    bench = Workbench(model, replace(SETTINGS, tuning=4))
    bench.reference("tuning")
    gc.collect()
    watch(torch.zeros(1, *model.shape), None, None)
    before = alive.pop()
    bench.model = Observed(model, lambda *seen: watch(*seen) if len(alive) % 4 == 0 else alive.append(0))
    levels = trajectory.nodes(bench, 10)
    trajectory.tune_by_trajectory(bench, 4, "dpmpp2m", grid=10)
    row = int(np.prod(model.shape)) * 8
    bound = 4 * trajectory.memory(bench, levels, solver="dpmpp2m") + 8 * SETTINGS.micro_batch * row
    assert 0.5 * bound < max(alive) - before < bound


def test_trajectories_of_large_images_follow_fewer_noises_or_rest(monkeypatch):
    model = gaussian(VE(0.02, 20.0))
    bench = Workbench(model, SETTINGS)
    plan = tune_on(bench, 4, solver="dpmpp2m", method="trajectory")
    each = trajectory.memory(bench, trajectory.nodes(bench, 32), solver="dpmpp2m")
    assert "trajectory" in [stage["stage"] for stage in plan.cost["stages"] if stage["proposals"]]
    for rows, runs in ((3, True), (1, False)):
        monkeypatch.setattr(stages, "TRAJECTORY_MEMORY", rows * each + each // 2)
        seen = Workbench(model, SETTINGS)
        plan = tune_on(seen, 4, solver="dpmpp2m", method="trajectory")
        levels = trajectory.nodes(seen, 32)
        price = trajectory.cost(seen, 4, levels, solver="dpmpp2m", rows=rows)
        assert seen.spent("trajectory") == (price if runs else 0)


def test_a_gradient_of_large_images_takes_rows_one_after_the_other(monkeypatch):
    def found():
        bench = Workbench(gaussian(VE(0.02, 20.0)), replace(SETTINGS, micro_batch=6))
        start = build("karras", 4, bench.model.path)
        parameters = by_gradient.Parameters(start, "euler", (0.02, 20.0), by_gradient.Freedom())
        objective = by_gradient._Objective(bench, parameters)
        return objective.at_once, objective(np.zeros(objective.size)), bench.spent("gradient")

    together, (value, slope), price = found()
    monkeypatch.setattr(by_gradient, "MEMORY", 1)
    one, (again, same), cheaper = found()
    assert (together, one) == (6, 1)
    assert again == pytest.approx(value, rel=1e-9)
    assert_allclose(same, slope, rtol=1e-6, atol=1e-10)
    assert cheaper == price == 3 * 6 * 4


def test_a_shard_of_large_pictures_is_sampled_a_few_at_a_time(monkeypatch):
    model = gaussian(VE(0.02, 20.0))
    model.value_range = (-3.0, 3.0)
    plan = Workbench(model, SETTINGS).plan(build("karras", 2, model.path), "euler").with_notes(micro_batch=4)

    def shard_of() -> np.ndarray:
        piece = shards._Piece(plan, 0, range(10), shards.rows_at_once(model, plan), None, (), keep=True)
        return shards._made(model, [], piece, lambda rows: None)[0]

    assert shards.rows_at_once(model, plan) == shards.SHARD
    shard = shard_of()
    monkeypatch.setattr(shards, "AT_ONCE", 5 * 64)
    assert shards.rows_at_once(model, plan) == 4
    assert np.array_equal(shard_of(), shard)


def test_tuning_is_the_same_however_few_rows_are_held(monkeypatch):
    model = _single()
    plain = tune(model, 4, solver="euler", method="surrogate", settings=SETTINGS)
    monkeypatch.setattr(module, "LARGEST", 1)
    again = tune(model, 4, solver="euler", method="surrogate", settings=SETTINGS)
    assert_allclose(again.schedule.sigmas, plain.schedule.sigmas, rtol=1e-5)
    assert again.evidence["verdict"] == plain.evidence["verdict"]


# ---------------------------------------------------------------------------------------- images, analyses and reports


def test_images_become_pixels_one_by_one(monkeypatch):
    x = torch.randn(6, 3, 20, 20) * 1.5
    whole = to_pixels(x, (-2.0, 2.0))
    assert np.array_equal(whole, ((x.double() + 2) * 63.75).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    monkeypatch.setattr(pixels, "CONVERTED", 1)
    with Largest() as largest:
        assert np.array_equal(to_pixels(x, (-2.0, 2.0)), whole)
    assert largest.numbers == 3 * 20 * 20
    assert to_pixels(x[:0]).shape == (0, 20, 20, 3)


def test_spectra_of_an_analysis_are_taken_one_by_one(monkeypatch):
    x = torch.randn(6, 3, 20, 20)
    whole = log_magnitudes(x)
    monkeypatch.setattr(module, "LARGEST", 1)
    with Largest() as largest:
        assert np.array_equal(log_magnitudes(x), whole)
    assert largest.numbers == 3 * 20 * 20


@pytest.mark.parametrize(
    "make", [Rings, Projections, lambda: EfficientNetLite0(64)], ids=["rings", "random", "network"]
)
def test_features_of_large_images_convert_few_at_once(monkeypatch, make):
    side = 160
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 3, side, side), dtype=np.uint8))
    images, extractor = images.contiguous(memory_format=torch.channels_last), make()
    with torch.no_grad():
        whole = extractor.features(images)
    monkeypatch.setattr(module, "LARGEST", 1)
    with Largest() as largest, torch.no_grad():
        largest.dtype, largest.least = torch.float32, side  # wider than what follows the resizing
        few = extractor.features(images)
    assert largest.numbers < 6 * 3 * side * side
    for name, value in whole.items():
        torch.testing.assert_close(few[name], value, rtol=1e-5, atol=1e-5)


def test_a_shard_of_large_images_has_fewer_of_them(monkeypatch, tmp_path):
    model = gaussian(VE(0.02, 20.0))
    model.value_range = (-3.0, 3.0)
    plan = Workbench(model, SETTINGS).plan(build("karras", 2, model.path), "euler").with_notes(micro_batch=2)
    whole = generation.generate(model, plan, 10, [Rings()], folder=tmp_path / "whole")
    monkeypatch.setattr(shards, "KEPT_AT_ONCE", 5 * 64)
    calls = generation.evaluations(model, plan, 10)
    few = generation.generate(model, plan, 10, [Rings()], folder=tmp_path / "few")
    assert np.array_equal(few.rows("rings", "rings"), whole.rows("rings", "rings"))
    assert sorted(file.stem for file in (tmp_path / "few").rglob("pictures/*.npy")) == [
        "00000000-00000004", "00000004-00000008", "00000008-00000010",
    ]  # fmt: skip
    assert calls == 2 * 10


def test_a_residual_is_taken_one_by_one(monkeypatch):
    x, exact = torch.randn(6, 3, 22, 26), torch.randn(6, 3, 22, 26)
    whole = residual(x, exact)
    assert_allclose(whole.where, residual(x.double() - exact.double()).where, rtol=1e-12)
    monkeypatch.setattr(module, "LARGEST", 1)
    monkeypatch.setattr(sys.modules["sigmatune.spectra.rings"], "_MATRIX_AT_MOST", 0)
    binning.cache_clear()
    with Largest() as largest:
        few = residual(x, exact)
    binning.cache_clear()
    assert largest.numbers < 2 * 3 * 22 * 26
    assert_allclose(few.where, whole.where, rtol=1e-12)
    assert_allclose(few.power, whole.power, rtol=1e-5)


def test_a_report_keeps_only_what_it_shows(monkeypatch):
    bench = Workbench(_single(16), SETTINGS)
    plan = tune_on(bench, 2, solver="euler", method="static")
    before = bench.spent("report")
    whole = measure(bench, [plan], rows=4)
    spent = bench.spent("report") - before
    monkeypatch.setattr(module, "LARGEST", 1)
    monkeypatch.setattr(cache, "KEPT", 0)
    monkeypatch.setattr(decoded, "SIDE", 8)
    poor = Workbench(bench.model, SETTINGS)
    again = tune_on(poor, 2, solver="euler", method="static")
    before = poor.spent("report")
    few = measure(poor, [again], rows=4)
    assert poor.spent("report") - before <= spent + 4 * 2 * 8  # the guard's end points may have been forgotten
    for one, other in zip(few.views[0].residual, whole.views[0].residual, strict=True):
        assert_allclose(one.where, other.where, rtol=1e-9)
        assert_allclose(one.power, other.power, rtol=1e-9)
    for facts, side in ((whole, 16), (few, 8)):
        for image in _images(facts):
            assert tuple(image.shape) == (4, 1, side, side)
            assert image.untyped_storage().nbytes() == image.nbytes, "a slice keeps all end points"


def _images(facts) -> list[torch.Tensor]:
    (group,) = facts.groups
    return [group.reference, *(point.images for curve in group.defaults for point in curve.points.values())]
