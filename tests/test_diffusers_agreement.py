"""The core loop against diffusers' own schedulers on the same levels, where theirs are right - and where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler

from exact import gaussian
from sigmatune.denoiser import Denoiser
from sigmatune.noise import vp
from sigmatune.plan import sample
from sigmatune.schedule import Schedule
from sigmatune.solvers import compile_plan

BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000}


def eps_hat(model: Denoiser, z: torch.Tensor, sigma: float) -> torch.Tensor:
    """What an eps-network would return: (z - alpha D) / s."""
    alpha, s = 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5
    return (z - alpha * model(z, sigma)) / s


def ours(model: Denoiser, sigmas, solver: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(start, end) of the plan with these levels."""
    starts: list[torch.Tensor] = []
    plan = compile_plan(Schedule(sigmas), solver, model)
    end = sample(model, plan, 4, on_step=lambda step: starts.append(step.z.clone()))
    return starts[0], end


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 10, 20, 50, 100])
def test_euler_is_ddim(steps):
    """Where the number of steps divides 1000: there DDIM's stride meets the timesteps of its own list."""
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    t = scheduler.timesteps.numpy()
    path = vp()
    model = gaussian(path)
    z, end = ours(model, [*path.sigma(t), 0.0], "euler")
    for step in t:
        z = scheduler.step(eps_hat(model, z, float(path.sigma(step))), int(step), z).prev_sample
    torch.testing.assert_close(end, z, rtol=0, atol=1e-4)


def test_where_ddim_is_not_right():
    """With 7 steps DDIM computes "the previous t" from a stride of 142 instead of reading its list.

    The jump that it makes then ends on a level where the network is not asked next, so it leaves the trajectory.
    """
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(7)
    t = scheduler.timesteps.numpy()
    assert t[0] - 1000 // 7 != t[1]
    path = vp()
    model = gaussian(path)
    z, end = ours(model, [*path.sigma(t), 0.0], "euler")
    for step in t:
        z = scheduler.step(eps_hat(model, z, float(path.sigma(step))), int(step), z).prev_sample
    assert (end - z).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [2, 3, 5, 8, 14, 20, 40])
@pytest.mark.parametrize("spacing", [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}])
def test_dpmpp2m_is_diffusers_dpm_solver_multistep(steps, spacing):
    """Its levels are right; the timesteps that it tells the network are rounded, so the level is used here instead."""
    scheduler = DPMSolverMultistepScheduler(**BETAS, algorithm_type="dpmsolver++", solver_order=2, **spacing)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double().numpy()
    model = gaussian(vp())
    model.path = Wide()
    z, end = ours(model, sigmas, "dpmpp2m")
    for i, t in enumerate(scheduler.timesteps):
        z = scheduler.step(eps_hat(model, z, sigmas[i]), t, z).prev_sample
    torch.testing.assert_close(end, z, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 3, 5, 8, 14, 20, 40])
def test_heun_is_diffusers_heun(steps):
    scheduler = HeunDiscreteScheduler(**BETAS, use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    sigmas = np.unique(scheduler.sigmas.double().numpy())[::-1]
    assert len(sigmas) == steps + 1
    model = gaussian(vp())
    model.path = Wide()
    z, end = ours(model, sigmas, "heun")
    x = z * float(np.hypot(1, sigmas[0]))
    assert len(scheduler.timesteps) == 2 * steps - 1
    levels = [sigmas[0], *np.repeat(sigmas[1:-1], 2)]
    for t, sigma in zip(scheduler.timesteps, levels, strict=True):
        eps = eps_hat(model, x / float(np.hypot(1, sigma)), float(sigma))
        x = scheduler.step(eps, t, x).prev_sample
    torch.testing.assert_close(end, x, rtol=2e-5, atol=1e-4)  # its levels are float32 and start at 157


class Wide(type(vp())):  # type: ignore[misc]
    """A path that admits levels which differ from its own ends by float32 rounding."""

    def __init__(self) -> None:
        super().__init__(vp().alphas_cumprod, vp().origin)

    def check(self, sigma) -> None:
        pass


def test_where_dpm_solver_multistep_is_not_right():
    """It rounds timesteps: for some N of 1..100 DPM-Solver++ with Karras levels repeats one. Ours never do."""
    repeated = 0
    for steps in range(1, 101):
        scheduler = DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True)
        scheduler.set_timesteps(steps)
        repeated += len(set(scheduler.timesteps.tolist())) < steps
    assert repeated > 10
