"""Our own ways to run a plan, as runners of the conformance suite."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sigmatune import noise
from sigmatune.interop import exports
from sigmatune.interop.conformance import Answer, Case, Runner, Values, answer, core, plan_of
from sigmatune.interop.imitations import Model
from sigmatune.interop.k_diffusion import kind_of, sampler, sigmas_of
from sigmatune.interop.ksampler import PlainKSampler, plan_ksampler
from sigmatune.interop.model_sampling import start_level
from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.registry import Registry

Tensor = torch.Tensor
Wrapped = Callable[[Tensor, Tensor], Tensor]


def diffusers(case: Case) -> Answer:
    """A pipeline's loop around SigmaTuneScheduler, in float32, with a model that predicts the data."""
    from sigmatune.interop.diffusers import SigmaTuneScheduler

    scheduler = SigmaTuneScheduler(case["plan"], "sample", seed=0)
    path = noise.from_spec(case["plan"]["noise_path"])
    model, pairs = Values(case["variance"], path), []
    x = torch.tensor(case["start"]).view(1, 1, 1, -1) * scheduler.init_noise_sigma
    scheduler.set_timesteps(scheduler.plan.calls)
    for t in scheduler.timesteps:
        sigma = float(path.sigma(_inside(path, float(t))))
        pairs.append((float(t), sigma))
        z = scheduler.scale_model_input(x, t) / float(path.state_scale(sigma))
        x = scheduler.step(model(z, sigma), t, x, return_dict=False)[0]
    return answer(pairs, x)


def k_diffusion(case: Case) -> Answer:
    """The export to k-diffusion, and the published algorithm of the sampler that it names."""
    plan = plan_of(case)
    text = exports.export(plan, "k-diffusion")
    stated = exports.read_statement(text)
    sigmas = torch.tensor(exports.load(text).schedule.sigmas.copy())
    kind = stated["sigma_kind"]
    sigmas = sigmas if kind == "ve" else 1 / (1 + 1 / sigmas)
    wrapped = _Wrapped(case, kind)
    x = torch.tensor(case["start"], dtype=torch.float64).view(1, 1, 1, -1) * sigmas[0]
    drawn = [torch.tensor(eps, dtype=torch.float64).view_as(x) for eps in case["noise"]]
    end = _algorithm(plan)(wrapped, x, sigmas, drawn, float(stated["solver_options"].get("eta", 1.0)))
    return answer(wrapped.pairs, end)


def k_sampler(case: Case) -> Answer:
    """The plan's own sampler function, which the ComfyUI node hands to ComfyUI, in float32."""
    plan = plan_of(case)
    sigmas, wrapped = sigmas_of(plan), _Wrapped(case, kind_of(plan))
    x = torch.tensor(case["start"]).view(1, 1, 1, -1) * _start(plan)
    return answer(wrapped.pairs, sampler(plan)(wrapped, x, sigmas, extra_args={"seed": 0}))


def comfyui(case: Case) -> Answer:
    """The pack's SAMPLER in an imitation of ComfyUI that rounds and scales as ComfyUI does, in float32."""
    plan, model = plan_of(case), Model(case)
    sigmas = sigmas_of(plan, start_level(plan, model.inner_model.model_sampling))
    noise_of_case = torch.tensor(case["start"]).view(1, 1, 1, -1)
    end = plan_ksampler(plan).sample(model, sigmas, {"seed": 0}, None, noise_of_case)
    return answer(model.pairs, end)


def comfyui_list(case: Case) -> Answer:
    """The text for ManualSigmas, with the sampler that ComfyUI has under the plan's name, in the same imitation."""
    plan, model = plan_of(case), Model(case)
    numbers = [float(number) for number in re.findall(r"[-+]?(?:\d*\.*\d+)", exports.export(plan, "comfyui"))]
    kind = kind_of(plan)
    if kind == "flow" and plan.solver != "euler":
        raise SigmaTuneError(
            "on flows ComfyUI's sampler moves the first level from 1; see the table of the real program."
        )
    sigmas = torch.tensor(numbers)
    noise_of_case = torch.tensor(case["start"]).view(1, 1, 1, -1)
    drawn = [torch.tensor(eps).view_as(noise_of_case) for eps in case["noise"]]
    algorithm = _algorithm(plan)

    def sample(wrapped: Model, x: Tensor, levels: Tensor, **_: Any) -> Tensor:
        return algorithm(wrapped, x, levels, drawn, float(plan.solver_options.get("eta", 1.0)))

    return answer(model.pairs, PlainKSampler(sample).sample(model, sigmas, {}, None, noise_of_case))


def _start(plan: Any) -> float:
    from sigmatune.interop.native import input_first

    q = plan.coefficients.q.numpy()
    scale = np.hypot(1.0, q) if kind_of(plan) == "ve" else noise.Flow().state_scale(q)
    return float(input_first(plan.coefficients, torch.from_numpy(np.asarray(scale))).start[0, 0])


class _Wrapped:
    """model(x, sigma) of k-diffusion around the case's data; records the pairs that the network receives."""

    def __init__(self, case: Case, kind: str) -> None:
        self.path, self.kind = noise.from_spec(case["plan"]["noise_path"]), kind
        self.model = Values(case["variance"], self.path)
        self.pairs: list[tuple[float, float]] = []

    def __call__(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        level = float(sigma.reshape(-1)[0])
        if self.kind == "flow":
            level = level / (1 - level) if level < 1 else float("inf")
        self.pairs.append((float(self.path.time(level)), level))
        scale = np.hypot(1.0, level) if self.kind == "ve" else float(noise.Flow().state_scale(level))
        return self.model((x / scale).double(), level).to(x.dtype)


def _euler(model: Wrapped, x: Tensor, sigmas: Tensor, drawn: list[Tensor], eta: float) -> Tensor:  # noqa: ARG001
    for t, s in itertools.pairwise(sigmas):
        x = x + (x - model(x, t)) / t * (s - t)
    return x


def _heun(model: Wrapped, x: Tensor, sigmas: Tensor, drawn: list[Tensor], eta: float) -> Tensor:  # noqa: ARG001
    for t, s in itertools.pairwise(sigmas):
        slope = (x - model(x, t)) / t
        ahead = x + slope * (s - t)
        x = ahead if s == 0 else x + (slope + (ahead - model(ahead, s)) / s) / 2 * (s - t)
    return x


def _2m(model: Wrapped, x: Tensor, sigmas: Tensor, drawn: list[Tensor], eta: float, *, noisy: bool = False) -> Tensor:
    eta = eta if noisy else 0.0
    old, last = None, torch.tensor(0.0)
    for k, (t, s) in enumerate(itertools.pairwise(sigmas)):
        D = model(x, t)
        if s == 0:
            return D
        h = (t / s).log()
        middle = D if old is None else D + (D - old) * (h / last) / 2
        x = s / t * torch.exp(-eta * h) * x - torch.expm1(-h - eta * h) * middle
        if eta:
            x = x + s * (-torch.expm1(-2 * eta * h)).sqrt() * drawn[k]
        old, last = D, h
    return x


def _2m_sde(model: Wrapped, x: Tensor, sigmas: Tensor, drawn: list[Tensor], eta: float) -> Tensor:
    return _2m(model, x, sigmas, drawn, eta, noisy=True)


def _ancestral(model: Wrapped, x: Tensor, sigmas: Tensor, drawn: list[Tensor], eta: float) -> Tensor:
    for k, (t, s) in enumerate(itertools.pairwise(sigmas)):
        up = torch.minimum(s, eta * (s**2 * (t**2 - s**2) / t**2).sqrt())
        down = (s**2 - up**2).sqrt()
        x = x + (x - model(x, t)) / t * (down - t)
        if s > 0:
            x = x + up * drawn[k]
    return x


_ALGORITHMS = {
    "sample_euler": _euler,
    "sample_heun": _heun,
    "sample_dpmpp_2m": _2m,
    "sample_euler_ancestral": _ancestral,
    "sample_dpmpp_2m_sde": _2m_sde,
}


def _algorithm(plan: Plan) -> Callable[..., Tensor]:
    """Our imitation of the sampler under a solver's name.

    Raises:
        SigmaTuneError: if there is none; ``tools/clients`` run the programs' own.
    """
    name = exports.k_diffusion.SAMPLERS.names.get(plan.solver, "")
    if name not in _ALGORITHMS:
        raise SigmaTuneError(f"{plan.solver} is compared with the program itself only (tools/clients).")
    return _ALGORITHMS[name]


def _inside(path: noise.NoisePath, t: float) -> float:
    """A t that float32 has rounded out of a path's range."""
    low, high = sorted((float(path.time(path.sigma_min)), float(path.time(path.sigma_max))))
    clipped = min(max(t, low), high)
    if abs(clipped - t) > path.time_tolerance(t):
        raise SigmaTuneError(f"t = {t:g} is outside the model's range.")
    return clipped


RUNNERS: Registry[Runner] = Registry(
    "conformance runner",
    {
        "core": core,
        "diffusers": diffusers,
        "k-sampler": k_sampler,
        "k-diffusion": k_diffusion,
        "comfyui": comfyui,
        "comfyui-list": comfyui_list,
    },
)


def runner_of(name: str) -> Runner:
    """A runner by its name: one of ours, ``module:function``, or a command.

    Raises:
        SigmaTuneError: for an unknown runner.
    """
    from sigmatune.interop.runners import RUNNERS

    if RUNNERS.knows(name):
        return RUNNERS[name]
    module, colon, function = name.partition(":")
    if colon and "/" not in module and " " not in name:
        try:
            runner: Runner = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise SigmaTuneError(f"there is no function {name}: {error}.") from None
        return runner
    return _command(name)


def _command(line: str) -> Runner:
    """Runs a command for each case: JSON in, JSON out."""
    words = shlex.split(line)

    def call(case: Case) -> Answer:
        done = subprocess.run(words, input=json.dumps(case) + "\n", capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-200:]}")
        given: Answer = json.loads(done.stdout.strip().splitlines()[-1])
        return given

    if not words or not _exists(words[0]):
        raise SigmaTuneError(f"there is no runner {line!r}: neither one of ours, nor module:function, nor a command.")
    return call


def _exists(word: str) -> bool:
    from shutil import which

    return which(word) is not None
