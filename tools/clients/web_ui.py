"""What the checks of k-diffusion and of the programs around it share: their packages without what only training needs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import client
import torch
from solver_values import Path1d

from sigmatune.interop import exports
from sigmatune.interop.conformance import VARIANCE, Values
from sigmatune.interop.exports import to_k_diffusion
from sigmatune.interop.exports.target import on_timesteps
from sigmatune.noise import vp
from sigmatune.plan import Plan

SD = vp("scaled_linear", beta_start=0.00085, beta_end=0.012)
SHAPE = (1, 1, 1, len(VARIANCE))
NAMES = to_k_diffusion.SAMPLERS.names
"""k-diffusion's functions, which the programs around it call, too, by the names of our solvers."""


def package(folder: Path, *modules: str) -> None:
    """Imports a package's modules without its __init__, which imports what only training needs."""
    name = folder.name
    if importlib.util.find_spec("torchvision") is None:  # k-diffusion imports it for training
        for part in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[part] = types.ModuleType(part)
        sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]
    for module in modules:
        setattr(sys.modules[name], module, importlib.import_module(f"{name}.{module}"))


class Net(torch.nn.Module):
    """A network of noise for Gaussian data, which answers for the t that it receives; records the t."""

    def __init__(self) -> None:
        super().__init__()
        self.data, self.seen = Values(VARIANCE, SD), list[float]()
        self.alphas_cumprod = torch.from_numpy(SD.alphas_cumprod.copy()).float()
        self.parameterization = "eps"

    def apply_model(self, z: torch.Tensor, t: torch.Tensor, **_: Any) -> torch.Tensor:
        """The noise in the unit state z."""
        self.seen.append(float(t.reshape(-1)[0]))
        sigma = float(SD.sigma(min(max(self.seen[-1], 0.0), SD.levels - 1.0)))
        data = self.data.denoise(z.double(), torch.tensor([sigma], dtype=torch.float64))
        return ((z.double() * (1 + sigma**2) ** 0.5 - data) / sigma).to(z.dtype)


def noises(plan: Plan) -> Callable[..., torch.Tensor]:
    """The noise of the plan's calls in place of a program's own: a Brownian path through their levels."""
    from sigmatune.core import rng

    drawn = torch.cat([rng.noise(0, [0], call, SHAPE[-1:]) for call in range(1, plan.calls + 1)])
    return Path1d([*plan.coefficients.q.tolist(), float(plan.schedule.sigmas[-1])], drawn)


def rows(
    way: str, timesteps: str, run: Callable[[Plan, str], tuple[Net, list[float], torch.Tensor]], names: Iterable[str]
) -> Iterator[Any]:
    """A row for every named solver, on Karras levels, between the whole timesteps."""
    for solver in names:
        plan = client.plan_on(SD, solver, family="karras")

        def check(plan: Plan = plan) -> dict[str, Any]:
            schedule, _ = on_timesteps(plan, timesteps)
            moved = client.st.compile_plan(schedule, plan.solver, **plan.solver_options).with_notes(path=plan.path)
            noise = start()
            net, sigmas, end = run(plan, timesteps)
            target = client.expected(moved, Values(VARIANCE, SD), noise.double())
            return client.compared(moved, zip(net.seen, sigmas, strict=True), end, target)

        yield client.row({"way": way, "model": "SD 1.5", "solver": solver}, check)


def start() -> torch.Tensor:
    """The start noise of a plan's run, (1, 1, 1, n)."""
    from sigmatune.core import rng

    return rng.noise(0, [0], rng.START, SHAPE[1:])


def exported(plan: Plan, timesteps: str, schedulers: types.ModuleType) -> Any:
    """Runs the exported extension script; returns the entry that it adds to the program's list of schedulers."""
    exec(compile(exports.export(plan, "a1111", timesteps=timesteps), "script", "exec"), {})
    return schedulers.schedulers[-1]
