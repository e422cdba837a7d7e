"""What tuning of large images takes: ``python benchmarks/memory.py``, one thread, minutes.

The model is exact and costs next to nothing, so that what is measured is ours: images of 3 x 1024 x 1024 that consist of
blocks of 8 x 8, each -1 or 1, under white detail. The mean of a block says all there is to know about its sign, so

    D(x, sigma) = v + w (x - v),  v = tanh(64 mean / (g^2 + sigma^2)),  w = g^2 / (g^2 + sigma^2),

which takes one tensor beside its input. ``tune`` runs on 12 noises of each kind through all its stages; the most memory that
the process held (the kernel's own count, VmHWM) is read, and set back, whenever a stage ends.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import logging
import re
import time
from pathlib import Path

import torch
from guard import machine

import sigmatune as st
from sigmatune.support.files import write_text
from sigmatune.tuning import Settings
from sigmatune.tuning.stages import STAGES

HERE = Path(__file__).parent
LIMIT = 2048
"""MiB that it may take."""

BLOCK, DETAIL = 8, 0.2
STAGE = re.compile(r"\d+ steps: (.+)")


def blocks(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The ideal denoiser of blocks of -1 or 1 under white detail."""
    noise = (DETAIL**2 + sigma**2).view(-1, 1, 1, 1)
    sign = torch.nn.functional.avg_pool2d(x, BLOCK).mul_(BLOCK**2).div_(noise).tanh_()
    share = DETAIL**2 / noise
    made = x * share
    places = made.view(*sign.shape[:2], sign.shape[2], BLOCK, sign.shape[3], BLOCK)
    places += (sign * (1 - share))[:, :, :, None, :, None]
    return made


def held(name: str) -> int:
    """What the kernel says about this process's memory, MiB: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) >> 10


class Peaks(logging.Handler):
    """The most memory that every stage took, by name, and the seconds."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.peaks: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.stage, self.began = "references", time.monotonic()

    def end(self, following: str) -> None:
        """Reads the count and begins anew."""
        self.peaks[self.stage] = max(self.peaks.get(self.stage, 0), held("VmHWM"))
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + time.monotonic() - self.began
        print(f"{self.stage}: {self.peaks[self.stage]} MiB, {self.seconds[self.stage]:.0f} s", flush=True)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self.stage, self.began = following, time.monotonic()

    def progress(self, what: str, done: int, total: int) -> None:
        """What tuning says it does."""
        found = STAGE.fullmatch(what)
        if found and found[1] in STAGES and found[1] != self.stage:
            self.end(found[1])

    def emit(self, record: logging.LogRecord) -> None:
        """What it writes into its log."""
        if record.args and isinstance(record.args, tuple) and record.args[0] == "guard" != self.stage:
            self.end("guard")


def measured(settings: Settings, size: int, calls: int, method: str, budget: int) -> dict[str, object]:
    """One tuning: peaks by stage and what came out."""
    model = st.load(blocks, shape=(3, size, size), sigma_min=0.02, sigma_max=80.0)
    gc.collect()
    peaks, log = Peaks(), logging.getLogger("sigmatune")
    log.addHandler(peaks)
    log.setLevel(logging.DEBUG)
    before = held("VmRSS")
    plan = st.tune(model, calls, method=method, budget=budget, settings=settings, progress=peaks.progress)
    peaks.end("")
    log.removeHandler(peaks)
    return {
        "image": list(model.shape), "calls": calls, "method": method, "budget": budget,
        "noises": {"tuning": settings.tuning, "validation": settings.validation, "held_out": settings.held_out},
        "micro_batch": plan.micro_batch, "mib_before": before, "mib": peaks.peaks,
        "peak_mib": max(peaks.peaks.values()), "seconds": {name: round(s) for name, s in peaks.seconds.items()},
        "stages": [stage["stage"] for stage in plan.cost["stages"] if stage["proposals"]],
        "network_evaluations": plan.cost["network_evaluations"], "verdict": plan.evidence["verdict"],
    }  # fmt: skip


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--noises", type=int, default=12)
    parser.add_argument("--micro-batch", type=int, default=0)
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--budget", type=int, default=3000, help="Network evaluations of the search.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    n = args.noises
    settings = Settings(
        tuning=n, validation=n, held_out=n, evaluations=12, reference_steps=8, micro_batch=args.micro_batch
    )
    result = {
        "benchmark": "benchmarks/memory.py", "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(), "threads": 1, "limit_mib": LIMIT,
        **measured(settings, args.size, args.calls, args.method, args.budget),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if (args.size, args.method) == (1024, "auto"):
        write_text(HERE / "results" / "memory.json", json.dumps(result, indent=1) + "\n")
    if result["peak_mib"] > LIMIT:
        raise SystemExit(f"{result['peak_mib']} MiB are more than {LIMIT}.")


if __name__ == "__main__":
    main()
