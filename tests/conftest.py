"""What holds for every test."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

from sigmatune import cli

settings.register_profile("steady", deadline=None, derandomize=True)  # a busy machine is no failure
settings.load_profile("steady")


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=0, help="How many spoilt files test_fuzz.py tries in all.")


def pytest_terminal_summary(terminalreporter, config):
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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A diffusers pipeline folder with an untrained network of a few hundred weights, for commands that need any model."""
    import diffusers

    folder = tmp_path_factory.mktemp("tiny")
    network = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4,), norm_num_groups=2,
        down_block_types=("DownBlock2D",), mid_block_type=None, up_block_types=("UpBlock2D",), add_attention=False,
    )  # fmt: skip
    diffusers.DDIMPipeline(network, diffusers.DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    return folder
