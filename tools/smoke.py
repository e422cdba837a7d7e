"""Tries the main commands on small models, to see that versions of libraries fit: ``python tools/smoke.py``.

Every command runs as a process of its own, as people run them. Prints one line each and exits with 1 at the first that fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIGMATUNE = "import sys; from sigmatune.cli import main; sys.exit(main())"
NOISES = ("--tuning", "4", "--validation", "4", "--held-out", "8", "--evaluations", "4")
SMALL = (
    "--set", "model.channels=[8]", "--set", "model.layers=1", "--set", "model.groups=4", "--set", "model.attention=[false]",
    "--set", "training.images=64", "--set", "training.batch=8", "--set", "training.warmup=2",
)  # fmt: skip
DATA = """
import numpy as np
np.savez("data.npz", images=np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), dtype=np.uint8))
"""
SCHEDULER = """
import torch
import sigmatune as st
from sigmatune.interop.diffusers import scheduler
from sigmatune.schedules import build
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
unet = UNet2DModel(sample_size=8, in_channels=3, out_channels=3, block_out_channels=(32, 32), layers_per_block=1,
                   down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"))
DDPMPipeline(unet=unet, scheduler=DDPMScheduler()).save_pretrained("tiny")
pipe = DDPMPipeline.from_pretrained("tiny")
plan = st.compile_plan(build("karras", 4, st.load("tiny").path), "euler")
pipe.scheduler = scheduler(plan, pipe)
images = pipe(batch_size=2, num_inference_steps=4, output_type="np", generator=torch.manual_seed(0)).images
assert images.shape == (2, 8, 8, 3), images.shape
"""
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("-c", SIGMATUNE, "--help"),
    ("-c", SIGMATUNE, "tune", "--help"),
    (
        "-c",
        SIGMATUNE,
        "tune",
        "digits",
        "--calls",
        "4",
        "--method",
        "static",
        "--no-report",
        *NOISES,
        "-o",
        "plan.json",
    ),
    ("-c", SIGMATUNE, "check", "plan.json"),
    ("-c", SIGMATUNE, "sample", "digits", "plan.json", "-n", "4", "-o", "images.npz"),
    ("-c", SIGMATUNE, "evaluate", "digits", "--plan", "plan.json", "-n", "64", "-o", "figures.json"),
    ("-c", DATA),
    ("-c", SIGMATUNE, "spectrum", "data.npz"),
    ("-c", SIGMATUNE, "train", "--data", "data.npz", "-o", "trained.run", *SMALL),
    ("-c", SCHEDULER),
)


def main() -> None:
    """Runs all commands in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, *command], cwd=Path(folder), capture_output=True, text=True, check=False
            )
            said = " ".join(command[2:]) or command[1].strip().splitlines()[-1]
            print(
                f"{'ok    ' if done.returncode == 0 else 'FAILED'}  {said}  {time.monotonic() - began:.0f} s",
                flush=True,
            )
            if done.returncode:
                sys.exit(done.stdout[-2000:] + done.stderr[-4000:])


if __name__ == "__main__":
    main()
