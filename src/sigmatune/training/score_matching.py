r"""Training in phase space: a network that predicts the noise of position and momentum at once.

Phase-space Langevin diffusion (:mod:`sigmatune.processes.psld`) noises an image together with a momentum, in closed
form, so a step needs no simulation. With t uniform between the first trained time and T, and L a triangular root of the
covariance, :math:`\Sigma = L L^T`,

.. math:: t \sim U(t_\epsilon, T), \quad \epsilon \sim N(0, I), \quad (x, m)_t = \mu(t) + L(t) \, \epsilon, \qquad
          \mathcal{L} = \frac{\lVert \hat\epsilon((x, m)_t, t) - \epsilon \rVert^2}{2 C H W},

======= ================================================== ==================================================================
``hsm`` :math:`\mu = a(t) \, x_0`                          hybrid score matching: the first momentum is marginalised
``dsm`` :math:`\mu = e^{\int F} (x_0, m_0)`                denoising score matching: :math:`m_0 \sim N(0, \kappa M)` is drawn
======= ================================================== ==================================================================

The minimiser is :math:`\epsilon^* = -L^T \nabla \log p_t(x, m)` for both and for either root (lower or upper): one
score, which :func:`~sigmatune.processes.parametrisation.score_of` gives back. They differ in the gradient noise of a
training step and in the loss at the optimum, which is lower for hsm, because more of the state is noise that the
network predicts. The loss of eps weighs scores by :math:`1 / \lVert L^{-T} \rVert^2`, the papers' choice for images.

References:
    | A Complete Recipe for Diffusion Generative Models (Pandey & Mandt, 2023), https://arxiv.org/abs/2303.01748
    | Towards Fast Stochastic Sampling in Diffusion Generative Models (Pandey et al., 2024), https://arxiv.org/abs/2402.07211
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sigmatune import schedules
from sigmatune.core.denoiser import Denoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.models.psld_network import TIME_SCALE, PSLDScheduler, from_unet
from sigmatune.plan import Plan, compile_plan
from sigmatune.processes import PSLD, PhasePath, perturb
from sigmatune.processes.psld import Matching
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import draws
from sigmatune.training.data import Batch
from sigmatune.training.networks import build
from sigmatune.training.objective import Objective
from sigmatune.training.recipe import LossSection, Network, NoiseSection, ProcessSection, Recipe
from sigmatune.training.training_task import Material, TrainingTask

SOLVER = "reduced-oba"
"""The solver of previews: one call per step."""


@dataclass(frozen=True, eq=False)
class ScoreMatching(Objective):
    """Predicts the noise of (x, m); see the module.

    Args:
        process: The process.
        matching: "hsm" or "dsm".
        upper: Take the upper triangular root of the covariance.
        eps: The first time, 0 < eps < T.
        time_scale: The factor from t to what the network receives.
    """

    process: PSLD
    matching: Matching = "hsm"
    upper: bool = False
    eps: float = 1e-3
    time_scale: float = TIME_SCALE

    def losses(self, network: torch.nn.Module, batch: Batch, seed: int) -> torch.Tensor:
        x_0 = batch.images
        uniform = torch.from_numpy(draws.uniforms(seed, batch.step, batch.rows, 1)[:, 0])
        t = self.eps + (self.process.T - self.eps) * uniform
        channels, *size = x_0.shape[1:]
        halves = 3 if self.matching == "dsm" else 2
        noise = draws.normals(seed, batch.step, batch.rows, (halves * channels, *size))
        eps, first = noise[:, : 2 * channels], noise[:, 2 * channels :]
        m_0 = math.sqrt(self.process.kappa * self.process.mass) * first if self.matching == "dsm" else None
        u_t = perturb(self.process, x_0, t, eps, m0=m_0, upper=self.upper)
        device = next(network.parameters()).device
        estimate: torch.Tensor = network(u_t.to(device), (t * self.time_scale).to(u_t).to(device))
        return (estimate.to(eps.dtype) - eps.to(device)).square().flatten(1).mean(dim=1)


@dataclass(frozen=True, eq=False)
class PhaseSpace(TrainingTask):
    """Learns the score of position and momentum."""

    objective: ScoreMatching
    network: Conditioned
    scheduler: PSLDScheduler

    @staticmethod
    def check(recipe: Recipe) -> None:
        settings = {
            "noise": recipe.noise != NoiseSection(),
            "loss": recipe.loss != LossSection(),
            "data.low": recipe.data.low is not None,
            "model.kind": recipe.model.kind != Network().kind,
            "model.classes": recipe.model.classes,
            "model.ends": recipe.model.ends,
        }
        if any(settings.values()):
            raise SigmaTuneError(
                "a phase-space network (process.kind psld) is an unconditional unet that learns eps at uniform times; "
                f"leave out {', '.join(name for name, there in settings.items() if there)}."
            )
        process_of(recipe.process)

    @classmethod
    def of(cls, recipe: Recipe, material: Material) -> PhaseSpace:
        section, process = recipe.process, process_of(recipe.process)
        channels, *size = material.probe.shape[1:]
        objective = ScoreMatching(process, section.matching, section.root == "upper", section.eps)
        scheduler = PSLDScheduler(process, f"{section.matching}-{section.root}", section.eps, objective.time_scale)
        return cls(objective, build(recipe.model, (2 * channels, *size)), scheduler)

    def denoiser(self, network: Conditioned) -> Denoiser:
        return from_unet(network.backbone, self.scheduler.config)

    def preview(
        self, model: Denoiser, images: torch.Tensor, labels: list[str] | None, calls: int
    ) -> tuple[Denoiser, Plan]:
        """By reduced OBA on the quadratic grid of the papers."""
        grid = schedules.build(
            "phase-time", calls, model.path, eps=self.scheduler.eps, **self.scheduler.process.spec()
        )  # fmt: skip
        return model, compile_plan(grid, SOLVER, model)


def process_of(section: ProcessSection) -> PSLD:
    """The process of a recipe.

    Raises:
        SigmaTuneError: for an invalid process, or a first time outside it.
    """
    try:
        fields = ("gamma", "nu", "kappa", "beta_start", "beta_end", "T")
        process = PSLD(**{name: getattr(section, name) for name in fields})
        PhasePath(process, section.eps)
    except SigmaTuneError as error:
        raise SigmaTuneError(f"process: {error}") from None
    return process
