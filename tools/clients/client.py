"""What the checks of clients share: their arguments, plans, comparison, and file of results.

A check drives a real program at a checkout. Each of its rows says, for one plan, how far the program is from the plan:
``t`` is the largest difference at the network, ``sigma`` the largest relative one, ``end`` the largest difference of the end
from the plan's own state machine on the same network and noise, relative to the largest value (at least 1).
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sigmatune as st
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.loop import run
from sigmatune.core.schedule import Schedule
from sigmatune.core.unrolled import rolled, unrolled
from sigmatune.noise import NoisePath
from sigmatune.plan import Plan
from sigmatune.support.files import write_text

ROOT = Path(__file__).resolve().parents[2]
EQUAL = 1e-4
"""The end of a run is the plan's if it is this near; programs compute in float32."""


def checkout(program: str, repository: str, needs: str, file: str) -> argparse.Namespace:
    """The arguments of a check, whose --checkout must hold a file of the program.

    Without one the check says how to get it and exits with 2.
    """
    parser = argparse.ArgumentParser(description=f"Checks plans inside {program}.")
    parser.add_argument("--checkout", type=Path, help=f"a checkout of {repository}")
    parser.add_argument("--out", type=Path, help="file of results; by default in benchmarks/results")
    given = parser.parse_args()
    if given.checkout is None or not (given.checkout / file).is_file():
        where = "no --checkout was given" if given.checkout is None else f"{given.checkout} holds no {file}"
        print(
            f"{where}: run `git clone --depth 1 {repository} DIR`, {needs}, and pass --checkout DIR.", file=sys.stderr
        )
        raise SystemExit(2)
    given.checkout = given.checkout.resolve()
    return given


def commit(folder: Path) -> str:
    """The commit of a checkout, or "unknown"."""
    asked = ["git", "-C", str(folder), "log", "-1", "--format=%h of %cs"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def plan_on(path: NoisePath, solver: str, steps: int = 6, family: str = "uniform-trailing") -> Plan:
    """A plan; "learned" has the coefficients of DPM++ 2M in a table of its own."""
    schedule = st.build_schedule(family, steps, path)
    if solver != "learned":
        return st.compile_plan(schedule, solver).with_notes(path=path.spec())
    table = st.compile_plan(schedule, "dpmpp2m").coefficients
    return Plan(schedule, "custom", rolled(unrolled(table)), path.spec())


def expected(plan: Plan, model: Denoiser, noise: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The end of a plan from given start noise, (B, *shape), by the plan's own state machine."""
    start = plan.coefficients.start[:, 0].tolist()
    return run(
        plan.coefficients, model, seed=seed, indices=range(len(noise)), state=[weight * noise for weight in start]
    )


def compared(
    plan: Plan, calls: Iterable[tuple[float, float]], end: torch.Tensor, target: torch.Tensor, times: float = 1.0
) -> dict[str, Any]:
    """The numbers of a row, from the pairs (t, sigma) at the network and the end of the run."""
    path, q = plan.noise_path(), plan.coefficients.q.numpy()
    pairs = np.array(list(calls), dtype=np.float64).reshape(-1, 2)
    if len(pairs) != len(q):
        return {"calls": len(pairs), "asked": len(q), "equal": False}
    wanted = path.time(q) * times
    finite = np.isfinite(q)
    t = float(np.abs(pairs[:, 0] - wanted).max())
    sigma = float(np.abs(pairs[finite, 1] / q[finite] - 1).max(initial=0))
    off = float((end.double() - target.double()).abs().max()) / max(1.0, float(target.abs().max()))
    found = {"calls": len(pairs), "asked": len(q), "t": round(t, 7), "sigma": rounded(sigma), "end": rounded(off)}
    return {**found, "equal": bool(off <= EQUAL and t <= 1e-3 * times)}


def rounded(value: float) -> float:
    """Two digits."""
    return float(f"{value:.2g}") if math.isfinite(value) else value


def whole(schedule: Schedule, path: NoisePath) -> Schedule:
    """The schedule on whole timesteps."""
    return schedule.moved(path.sigma(np.rint(path.time(schedule.sigmas[:-1]))), "snapped")


def save(name: str, given: argparse.Namespace, client: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Writes the results."""
    sys.path.append(str(ROOT / "benchmarks"))
    from guard import machine

    result = {
        "benchmark": f"tools/clients/{name}.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "client": {**client, "commit": commit(given.checkout)},
        "rows": list(rows),
    }
    out = given.out or ROOT / "benchmarks" / "results" / f"clients_{name}.json"
    write_text(out, json.dumps(result, indent=1) + "\n")
    print(f"{sum(row['equal'] for row in rows)} of {len(rows)} rows equal; written to {out}")


def row(names: dict[str, Any], check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row, with the reason where the program or SigmaTune refuses."""
    try:
        found = {**names, **check()}
    except Exception as error:  # noqa: BLE001 - another program's
        found = {**names, "equal": False, "refused": (str(error).splitlines() or [type(error).__name__])[0][:200]}
    print(found, flush=True)
    return found
