"""The core loop against diffusers' own schedulers on the same levels, where theirs are right - and where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from exact import gaussian
from sigmatune.core import rng
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.loop import run
from sigmatune.core.schedule import Schedule
from sigmatune.noise import vp
from sigmatune.plan import compile_plan, sample
from sigmatune.solvers import SOLVERS
from sigmatune.solvers.adams import inverse_distances, log_steps
from sigmatune.solvers.dpmpp2m import middle
from sigmatune.solvers.dpmpp3m import dpmpp3m
from sigmatune.solvers.multistep import multistep

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


# ------------------------------------------------------------------------------ multistep solvers, on any levels

STEPS = [1, 2, 3, 4, 7, 12, 20]
ROWS = range(4)


def levels(steps: int, last: float) -> torch.Tensor:
    """Uneven levels from 40 down to 0.05 and one more."""
    body = np.exp(np.linspace(np.log(40.0), np.log(0.05), steps) + 0.1 * np.sin(np.arange(steps)))
    return torch.from_numpy(np.append(body, last))


def theirs(scheduler, sigmas: torch.Tensor, model: Denoiser, *, seed: int = 0, noisy: bool = False) -> torch.Tensor:
    """Runs a diffusers scheduler on given levels, in float64, with our noise."""
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = sigmas
    scheduler.timesteps = torch.arange(len(sigmas) - 1, 0, -1)
    z = rng.noise(seed, ROWS, rng.START, model.shape, dtype=torch.float64) * float(
        sigmas[0] / (1 + sigmas[0] ** 2).sqrt()
    )
    for k, t in enumerate(scheduler.timesteps):
        extra = {"variance_noise": rng.noise(seed, ROWS, k + 1, model.shape, dtype=torch.float64)} if noisy else {}
        z = scheduler.step(eps_hat(model, z, float(sigmas[k])), t, z, **extra).prev_sample
    return z


def mine(name: str, sigmas: torch.Tensor, model: Denoiser, **options: float) -> torch.Tensor:
    return run(SOLVERS[name].build(sigmas, **options), model, indices=ROWS)


def multistep_scheduler(name: str, *, final: bool):
    options = {**BETAS, "lower_order_final": final}
    if name.startswith("unipc"):
        return UniPCMultistepScheduler(solver_order=int(name[-1]), solver_type="bh2", **options)
    if name.startswith("deis"):
        return DEISMultistepScheduler(solver_order=int(name[-1]), **options)
    return DPMSolverMultistepScheduler(
        solver_order=2,
        algorithm_type=name.replace("dpmpp2m", "dpmsolver++"),
        use_karras_sigmas=True,
        final_sigmas_type="zero" if final else "sigma_min",
        **options,
    )


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ["unipc1", "unipc2", "unipc3", "deis2", "deis3", "dpmpp2m", "sde-dpmpp2m"])
def test_multistep_solvers_between_positive_levels(name, steps):
    model, sigmas = gaussian(), levels(steps, 0.03)
    expected = theirs(multistep_scheduler(name, final=False), sigmas, model, noisy=name.startswith("sde"))
    torch.testing.assert_close(mine(name, sigmas, model), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ["unipc1", "unipc2", "dpmpp2m", "sde-dpmpp2m"])
def test_multistep_solvers_down_to_zero(name, steps):
    """Their last step is of first order too, given lower_order_final; DEIS has no step to 0 (it takes log 0)."""
    model, sigmas = gaussian(), levels(steps, 0.0)
    expected = theirs(multistep_scheduler(name, final=True), sigmas, model, noisy=name.startswith("sde"))
    torch.testing.assert_close(mine(name, sigmas, model), expected, rtol=0, atol=1e-6)


def test_where_unipc3_differs():
    """Down to 0 it lowers the order of the last step but one as well; between positive levels the two agree."""
    model, sigmas = gaussian(), levels(7, 0.0)
    expected = theirs(multistep_scheduler("unipc3", final=True), sigmas, model)
    assert (mine("unipc3", sigmas, model) - expected).abs().max() > 1e-4


def published_3m(sigmas: torch.Tensor, *, factor: float = 1.0, previous: torch.Tensor | None = None):
    """The third-order update of DPM-Solver++ as its authors, k-diffusion and diffusers compute it, times a factor."""
    h, g = log_steps(sigmas), inverse_distances(sigmas, previous, 2)
    two, three = (g[:, 1] == 0) | (h == 0), (g[:, 1] > 0) & (h > 0)
    safe, near, far = torch.where(three, h, 1), torch.where(three, g[:, 0], 1), torch.where(three, g[:, 1], 0.5)
    r0, r1 = 1 / near / safe, (1 / far - 1 / near) / safe
    phi_1 = torch.expm1(-safe)
    phi_2 = phi_1 / safe + 1
    phi_3 = phi_2 / safe - 0.5
    # D1 = D1_0 + r0 / (r0 + r1) (D1_0 - D1_1), D2 = (D1_0 - D1_1) / (r0 + r1)
    first, second = torch.tensor([1.0, -1.0, 0.0]) / r0[:, None], torch.tensor([0.0, 1.0, -1.0]) / r1[:, None]
    D1 = first + (r0 / (r0 + r1))[:, None] * (first - second)
    D2 = factor * (first - second) / (r0 + r1)[:, None]
    D0 = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    weights = D0 - (phi_2[:, None] * D1 - phi_3[:, None] * D2) / phi_1[:, None]
    line = torch.nn.functional.pad(middle(sigmas, None if previous is None else previous[..., -1:]), (0, 1))
    return multistep(sigmas, previous=previous, weights=torch.where(two[:, None], line, weights))


@pytest.mark.parametrize("steps", [3, 4, 7, 12, 20])
def test_where_dpmpp3m_is_not_right(steps):
    """The published coefficient of the parabola is half of what its integral is: see the orders below."""
    model, sigmas = gaussian(), levels(steps, 0.03)
    scheduler = DPMSolverMultistepScheduler(
        solver_order=3, use_karras_sigmas=True, final_sigmas_type="sigma_min", lower_order_final=False, **BETAS
    )
    expected = theirs(scheduler, sigmas, model)
    found = run(published_3m(sigmas), model, indices=ROWS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    right, double = mine("dpmpp3m", sigmas, model), run(published_3m(sigmas, factor=2.0), model, indices=ROWS)
    torch.testing.assert_close(right, double, rtol=0, atol=1e-9)
    assert (right - expected).abs().max() > 1e-4


def test_the_published_3m_is_of_second_order_and_ours_of_third():
    from test_solvers import slope

    assert slope("dpmpp3m", warm=True, build=published_3m) == pytest.approx(2, abs=0.15)
    assert slope("dpmpp3m", warm=True, build=dpmpp3m) == pytest.approx(3, abs=0.15)


# ---------------------------------------------------------------------------------------------------- stochastic solvers


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 10, 50])
def test_ancestral_is_ddim_with_eta(steps, eta):
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    path = vp()
    sigmas = torch.from_numpy(np.append(path.sigma(scheduler.timesteps.numpy()), 0.0))
    model = gaussian(path)
    z = rng.noise(0, ROWS, rng.START, model.shape, dtype=torch.float64) * float(sigmas[0] / (1 + sigmas[0] ** 2).sqrt())
    for k, t in enumerate(scheduler.timesteps):
        noise = rng.noise(0, ROWS, k + 1, model.shape, dtype=torch.float64)
        eps = eps_hat(model, z, float(sigmas[k]))
        z = scheduler.step(eps, int(t), z, eta=eta, variance_noise=noise if eta else None).prev_sample
    torch.testing.assert_close(mine("ancestral", sigmas, model, eta=eta), z, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 4, 10, 25])
def test_ancestral_is_euler_ancestral(steps, monkeypatch):
    scheduler = EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double()
    model = gaussian()
    x = rng.noise(0, ROWS, rng.START, model.shape, dtype=torch.float64) * sigmas[0]
    draws = iter(rng.noise(0, ROWS, k + 1, model.shape, dtype=torch.float64) for k in range(steps))
    module = "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor"
    monkeypatch.setattr(module, lambda *_args, **_options: next(draws))
    for k, t in enumerate(scheduler.timesteps):
        eps = eps_hat(model, x / (1 + sigmas[k] ** 2).sqrt(), float(sigmas[k]))
        x = scheduler.step(eps, t, x).prev_sample
    torch.testing.assert_close(mine("ancestral", sigmas, model), x, rtol=0, atol=1e-4)
