"""What holds for every test."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections import Counter

import pytest
import torch
from hypothesis import settings

from sigmatune import cli
from visitor import address, browser, studio_folder  # noqa: F401 - fixtures of the studio

# A busy machine is no failure; forty examples find what a hundred do, and the fuzzers take as many as one asks for.
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("steady")


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=0, help="How many spoilt files test_fuzz.py tries in all.")
    parser.addoption("--cpu", action="store_true", help="Print the CPU seconds of every file of tests.")


def pytest_collection_finish():
    """What has been imported is never garbage: looking through it at each collection takes a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def one_thread():
    """What holds for the bits of one thread: on several, where a row stands in its batch can change its rounding."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


LONGEST = (
    ("test_engine", "test_ray", "test_slurm", "test_sharded"),
    ("test_studio_page", "test_studio_troubles", "test_models_pipeline", "test_interop_diffusers"),
    ("test_killed", "test_processors", "test_finetune", "test_time_and_cost", "test_bad_input", "test_training"),
    (
        "test_docs",
        "test_examples",
        "test_training_launch",
        "test_training_interrupt",
        "test_postgresql",
        "test_remote_folder",
    ),
)
"""Files of tests that take seconds each, by what they start: clusters, browsers, processes to kill, pages and more."""


@pytest.hookimpl(trylast=True)  # after what MARKS leaves out
def pytest_collection_modifyitems(config, items):
    """Lets every test process begin with one group of long tests.

    xdist deals the tests in equal blocks, and later moves what waits to processes that are idle. So no long test comes last,
    and a cluster or a browser starts in one process.
    """
    blocks = int(getattr(config, "workerinput", {}).get("workercount", 1))
    group_of = {name: group for group, files in enumerate(LONGEST) for name in files}
    first = [[item for item in items if group_of.get(item.path.stem) == group] for group in range(len(LONGEST))]
    others = [item for item in items if item.path.stem not in group_of]
    size, ordered = -(-len(items) // blocks), []
    for block in range(blocks):
        long = [item for group in first[block::blocks] for item in group]
        ordered += long
        ordered += [others.pop(0) for _ in range(min(max(size - len(long), 0), len(others)))]
    items[:] = ordered + others


cpu_clock = pytest.StashKey[float]()


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def pytest_configure(config):
    config.stash[cpu_clock] = cpu_seconds()
    if threading.current_thread() is threading.main_thread():
        # A shell's background job ignores it, and so would every process that a test starts and interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Notes the CPU seconds since the report before: wall clocks say little where other processes are busy."""
    report = yield
    before, item.config.stash[cpu_clock] = item.config.stash[cpu_clock], cpu_seconds()
    report.cpu = item.config.stash[cpu_clock] - before
    return report


def print_cpu_seconds(terminalreporter):
    """The files of tests by their CPU seconds; importing them is not in it."""
    spent = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if hasattr(report, "cpu"):
            spent[report.nodeid.partition("::")[0]] += report.cpu
    terminalreporter.section(f"CPU seconds: {spent.total():.0f}")
    for name, seconds in spent.most_common():
        terminalreporter.write_line(f"{seconds:7.1f} {name}")


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--cpu"):
        print_cpu_seconds(terminalreporter)
    print_spoilt_files(terminalreporter, config)


def print_spoilt_files(terminalreporter, config):
    """How many spoilt files of each entry were refused or read all the same, if many were tried."""
    module = sys.modules.get("test_fuzz")
    seen = [] if module is None else config.stash.get(module.cli_table, [])
    if not seen or not config.getoption("--fuzz"):
        return
    terminalreporter.section("spoilt files by entry")
    terminalreporter.write_line(f"{'entry':34} {'tried':>6} {'refused':>8} {'read':>6}")
    for name, codes in [*seen, ("all", {c: sum(codes.get(c, 0) for _, codes in seen) for c in (0, 1, 2)})]:
        tried, refused = sum(codes.values()), codes.get(2, 0)
        terminalreporter.write_line(f"{name:34} {tried:6} {refused:8} {tried - refused:6}")
    terminalreporter.write_line(f"peak memory {module.peak() / 2**20:,.0f} MiB")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs the command line in an empty folder and returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["sigmatune", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return call


@pytest.fixture
def little(monkeypatch):
    """Little work for what tunes: see :mod:`little`."""
    from little import lessen

    lessen(monkeypatch)


@pytest.fixture
def little_pictures(monkeypatch):
    """Little work for what tunes and lets pictures judge."""
    from little import PICTURES, lessen

    lessen(monkeypatch, pictures=True)
    return PICTURES


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A diffusers pipeline folder with an untrained network of a few hundred weights, for commands that need any model.

    The weights are the same whatever ran before.
    """
    import diffusers

    folder = tmp_path_factory.mktemp("tiny")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = diffusers.UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4,), norm_num_groups=2,
            down_block_types=("DownBlock2D",), mid_block_type=None, up_block_types=("UpBlock2D",), add_attention=False,
        )  # fmt: skip
    diffusers.DDIMPipeline(network, diffusers.DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    return folder
