"""Which released schedulers of diffusers run a given list of levels: ``python benchmarks/diffusers_schedulers.py``.

Every scheduler class is handed levels in each way that its ``set_timesteps`` knows (``sigmas=`` with and without the final 0,
``timesteps=``), at N = 1, 2, 3, 5, 8 and 20: of the VP path of Stable Diffusion (Karras levels), of a flow with shift 3, or of
EDM. It passes if at every N the pairs (t, sigma) are those that were asked for, to 1e-6, and a run on exact Gaussian data ends
where one of our solvers ends on these levels, to 1e-4. Written to ``benchmarks/results/diffusers_schedulers.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import datetime
import inspect
import json
import warnings
from pathlib import Path

import diffusers
import numpy as np
import torch
from guard import machine

import sigmatune as st
from sigmatune.core import rng
from sigmatune.interop.conformance import STEPS, VARIANCE, Values
from sigmatune.noise import VE, Flow, NoisePath, vp
from sigmatune.solvers import POSITION
from sigmatune.support.files import write_text

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SD = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)
PLAIN = {"clip_sample": False, "thresholding": False, "shift": 1.0}


def classes() -> list[type]:
    """All scheduler classes that run models of images, by name."""
    found = {}
    for name in dir(diffusers):
        if name.endswith("Scheduler") and not name.startswith("Flax"):
            kind = getattr(diffusers, name, None)
            if isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin) and hasattr(kind, "set_timesteps"):
                found[name] = kind
    return list(found.values())


FLOW_OPTION = {
    "UniPCMultistepScheduler": {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 1.0}
}
"""Classes that take a list only in their flow mode."""


def made(kind: type) -> tuple[object, NoisePath]:
    """A scheduler that applies nothing of its own, and the noise path of its models."""
    if kind.__name__ in FLOW_OPTION:
        return kind(**FLOW_OPTION[kind.__name__]), Flow(3.0)
    takes = inspect.signature(kind.__init__).parameters
    config = {key: value for key, value in {**BETAS, **PLAIN}.items() if key in takes}
    flow = "Flow" in kind.__name__ or ("shift" in takes and "beta_start" not in takes)
    path = Flow(3.0) if flow else VE(0.002, 80.0, clock="quarter_log") if kind.__name__.startswith("EDM") else SD
    return kind(**config), path


def levels(path: NoisePath, steps: int) -> np.ndarray:
    """The list that is handed over, with the final 0, as sigma."""
    if isinstance(path, VE):  # within its own ends
        return st.build_schedule("karras", steps, path).sigmas
    family = "uniform-trailing" if isinstance(path, Flow) else "karras"
    return st.build_schedule(family, steps, path).sigmas


def shown(sigmas: np.ndarray, path: NoisePath) -> np.ndarray:
    """As the scheduler counts levels: tau for a flow."""
    with np.errstate(divide="ignore"):
        return 1 / (1 + 1 / sigmas) if isinstance(path, Flow) else sigmas


def ways(kind: type, sigmas: np.ndarray, path: NoisePath) -> dict[str, dict]:
    """The arguments by which set_timesteps takes a list."""
    takes = inspect.signature(kind.set_timesteps).parameters
    t, list_ = path.time(sigmas[:-1]), shown(sigmas, path)
    found = {}
    if "sigmas" in takes:
        found |= {"sigmas=, with 0": {"sigmas": list_.tolist()}, "sigmas=, without 0": {"sigmas": list_[:-1].tolist()}}
    if "timesteps" in takes:
        found |= {
            "timesteps=": {"timesteps": t.tolist()},
            "timesteps=, rounded": {"timesteps": np.rint(t).astype(int).tolist()},
        }
    return found


def own_sigmas(scheduler: object) -> np.ndarray | None:
    """The levels that a scheduler will use."""
    if isinstance(getattr(scheduler, "sigmas", None), torch.Tensor) and len(scheduler.sigmas) > len(
        scheduler.timesteps
    ):
        return scheduler.sigmas.double().numpy()
    return None


def hand_over(scheduler: object, given: dict, steps: int) -> None:
    """Calls set_timesteps, with the number of steps or a tensor where it insists on these."""
    if inspect.signature(scheduler.set_timesteps).parameters["num_inference_steps"].default is inspect.Parameter.empty:
        given = {"num_inference_steps": steps, **given}
    try:
        scheduler.set_timesteps(**given)
    except AttributeError:
        scheduler.set_timesteps(**{k: torch.tensor(v) if isinstance(v, list) else v for k, v in given.items()})
    except TypeError:
        scheduler.set_timesteps(**{k: np.array(v) if isinstance(v, list) else v for k, v in given.items()})


def problem(scheduler: object, sigmas: np.ndarray, path: NoisePath) -> str:
    """What is wrong with the pairs, or nothing."""
    asked_t, asked = path.time(sigmas[:-1]), shown(sigmas, path)
    if (
        getattr(scheduler, "order", 1) == 2 and len(scheduler.timesteps) == 2 * len(asked_t) - 1
    ):  # two calls per step, one for the last
        asked_t = np.concatenate([asked_t[:1], np.repeat(asked_t[1:], 2)])
        asked = np.concatenate([asked[:1], np.repeat(asked[1:-1], 2), asked[-1:]])
    t = np.asarray(scheduler.timesteps.double())
    if len(t) != len(asked_t):
        return f"{len(t)} calls instead of {len(asked_t)}"
    if not np.allclose(t, asked_t, rtol=1e-6, atol=1e-6):
        return "t is rounded" if np.allclose(t, asked_t, rtol=0, atol=0.51) else "another t"
    own = own_sigmas(scheduler)
    if own is None:
        return "no levels of its own: it looks them up at whole timesteps"
    if len(own) != len(asked) or own[-1] != 0:
        return "the final 0 is missing"
    return "" if np.allclose(own, asked, rtol=1e-6, atol=1e-9) else "another sigma"


def end_of(scheduler: object, sigmas: np.ndarray, path: NoisePath) -> torch.Tensor:
    """Where a run on Gaussian data ends, from our start noise."""
    model, eps = Values(VARIANCE, path), rng.noise(0, [0], rng.START, (1, 1, len(VARIANCE)), dtype=torch.float64)
    flow = isinstance(path, Flow)
    x = eps * float(shown(sigmas, path)[0]) if flow or own_sigmas(scheduler) is not None else eps
    n = len(sigmas) - 1
    asked = sigmas if len(scheduler.timesteps) == n else np.concatenate([sigmas[:1], np.repeat(sigmas[1:-1], 2)])
    for k, t in enumerate(scheduler.timesteps):
        sigma = float(asked[k])
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        z = seen / float(path.state_scale(sigma)) if flow else seen
        D = model(z, sigma)
        if flow:
            tau = 1 / (1 + 1 / sigma)
            output = (x - D) / tau
        else:
            alpha, s = (1 + sigma**2) ** -0.5, (1 + sigma**-2) ** -0.5
            output = (z - alpha * D) / s
        x = scheduler.step(output, t, x).prev_sample.double()
    return x


def solver_of(end: torch.Tensor, sigmas: np.ndarray, path: NoisePath, calls: int) -> set[str]:
    """The deterministic solvers of ours that end there."""
    found = set()
    for name, solver in POSITION.items():
        if not solver.deterministic():
            continue
        plan = st.compile_plan(st.Schedule(sigmas), name)
        if plan.calls == calls:
            expected = st.sample(Values(VARIANCE, path), plan, 1)
            if float((end - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max())):
                found.add(name)
    return found


def examined(kind: type) -> dict:
    """One row of the table."""
    row = {"scheduler": kind.__name__, "takes": "no list", "pairs": "", "solvers": [], "passes": False}
    takes = inspect.signature(kind.set_timesteps).parameters
    if not {"sigmas", "timesteps"} & set(takes):
        return row
    try:
        _, path = made(kind)
    except Exception as error:  # noqa: BLE001
        return {**row, "takes": "not examined", "pairs": str(error).splitlines()[0]}
    row["takes"] = ", ".join(name for name in ("sigmas", "timesteps") if name in takes)
    problems: dict[str, str] = {}
    for way in ways(kind, levels(path, 2), path):
        solvers, wrong = None, ""
        for steps in STEPS:
            sigmas = levels(path, steps)
            scheduler = made(kind)[0]
            try:
                hand_over(scheduler, ways(kind, sigmas, path)[way], steps)
                wrong = problem(scheduler, sigmas, path)
                if not wrong:
                    same = solver_of(end_of(scheduler, sigmas, path), sigmas, path, len(scheduler.timesteps))
                    solvers = same if solvers is None else solvers & same
            except Exception as error:  # noqa: BLE001
                wrong = f"refuses: {(str(error).splitlines() or [''])[0][:60]}"
            if wrong:
                wrong = f"{wrong} (N = {steps})"
                break
        if not wrong:
            return {**row, "by": way, "pairs": "exact", "solvers": sorted(solvers), "passes": bool(solvers)}
        problems[way] = wrong
    return {**row, "pairs": "; ".join(f"{way}: {wrong}" for way, wrong in problems.items())}


def main() -> None:
    """Examines all of them."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = [examined(kind) for kind in classes()]
    for row in rows:
        print(row)
    result = {
        "benchmark": "benchmarks/diffusers_schedulers.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "diffusers": diffusers.__version__,
        "steps": list(STEPS),
        "rows": rows,
    }
    write_text(Path(__file__).parent / "results" / "diffusers_schedulers.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
