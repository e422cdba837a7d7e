"""What a scheduler costs outside the network: ``python benchmarks/overhead.py``.

SigmaTuneScheduler with a plan of DPM-Solver++(2M) against diffusers' DPMSolverMultistepScheduler of the same method, on the
same latents and the same ready-made network output: ``scale_model_input`` and ``step`` as a pipeline calls them, 20 steps. The
two take turns within one run, so that both meet the same load; the ratio is of medians over the turns.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datetime
import json
import time
from pathlib import Path
from statistics import median

import torch
from diffusers import DPMSolverMultistepScheduler
from guard import machine

import sigmatune as st
from sigmatune.noise import vp
from sigmatune.support.files import write_text

STEPS, TURNS = 20, 60
SHAPES = {
    "one 512 x 512 latent": (1, 4, 64, 64),
    "four of them": (4, 4, 64, 64),
    "one 1024 x 1024 latent": (1, 4, 128, 128),
}
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def once(scheduler: object, x: torch.Tensor, output: torch.Tensor) -> float:
    """Seconds per step of one run."""
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps
    began = time.perf_counter()
    for t in timesteps:
        scheduler.scale_model_input(x, t)
        x = scheduler.step(output, t, x, return_dict=False)[0]
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    """Measures."""
    torch.set_num_threads(1)
    theirs = DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True)
    path = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)
    plan = st.compile_plan(st.build_schedule("karras", STEPS, path), "dpmpp2m").with_notes(path=path.spec())
    ours = st.interop.diffusers.scheduler(plan, theirs)
    rows = []
    for name, shape in SHAPES.items():
        x, output = (torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in range(2))
        seconds: dict[str, list[float]] = {"sigmatune": [], "diffusers": []}
        for turn in range(TURNS + 5):
            for label, scheduler in (("sigmatune", ours), ("diffusers", theirs)):
                took = once(scheduler, x, output)
                if turn >= 5:
                    seconds[label].append(took)
        each = {label: 1e6 * median(values) for label, values in seconds.items()}
        rows.append(
            {
                "latents": name,
                "shape": list(shape),
                "microseconds_per_step": each,
                "ratio": each["sigmatune"] / each["diffusers"],
            }
        )
        print(rows[-1])
    result = {
        "benchmark": "benchmarks/overhead.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "threads": 1,
        "steps": STEPS,
        "turns": TURNS,
        "rows": rows,
    }
    write_text(Path(__file__).parent / "results" / "overhead.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
