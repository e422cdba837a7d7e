"""`sigmatune train` under the real launchers, torchrun and accelerate: two processes train as one does, on the same batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sigmatune.training.run_log import lines
from training import recipe, tensors, trainer, written

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="gloo on a loopback interface"),
]
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "torchrun": [BIN / "torchrun", "--standalone", "--nproc-per-node=2"],
    "accelerate": [BIN / "accelerate", "launch", "--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
                   "--dynamo_backend=no", "--main_process_port=0"],
}  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_launched_processes_are_one(tmp_path, launcher):
    source, one = written(tmp_path), recipe(training={"images": 48, "accumulation": 2})
    (tmp_path / "recipe.yaml").write_text(one.model_dump_json())  # JSON is YAML
    trainer(tmp_path / "one", source, recipe(training={"images": 48})).run()
    command = [*LAUNCHERS[launcher], "-m", "sigmatune", "train", tmp_path / "recipe.yaml", "--data", source, "--device", "cpu",
               "--out", tmp_path / "two"]  # fmt: skip
    threads = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "two" / "model" / "model_index.json").is_file()
    losses = [[line["loss"] for line in lines(tmp_path / name) if "loss" in line] for name in ("one", "two")]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    ours, theirs = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    for name in (name for name in ours if name.startswith("network.")):
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-4, rtol=1e-3)
