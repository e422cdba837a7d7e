"""Schedules of the kinds that others have published, for comparisons: written from the papers' ideas, on our own parts.

None of them is the authors' code, hence "-type": GITS-type (dynamic programming over the teacher's points with the
local error of an Euler jump), AYS-type (the KL-weighted discretisation loss), DM-NonUniform-type (the loss with an
error that is assumed, not measured: proportional to sigma).

References:
    | GITS: On the Trajectory Regularity of ODE-based Diffusion Sampling (Chen et al., 2024), https://arxiv.org/abs/2405.11326
    | AYS: Align Your Steps (Sabour et al., 2024), https://arxiv.org/abs/2404.14507
    | DM-NonUniform: Accelerating Diffusion Sampling with Optimized Time Steps (Xue et al., 2024), https://arxiv.org/abs/2402.17376
"""

from __future__ import annotations

import numpy as np
import torch

from sigmatune.core.loop import Step
from sigmatune.core.schedule import Schedule
from sigmatune.plan import sample
from sigmatune.tuning import Workbench, discretisation
from sigmatune.tuning.error_table import ErrorTable, levels_of
from sigmatune.tuning.stages import table_of


def gits_type(bench: Workbench, steps: int) -> Schedule:
    """The cheapest way over the teacher's points; a jump costs its mean distance from the teacher where it lands."""
    plan, model = bench.reference_plan(), bench.model
    sigmas = plan.schedule.sigmas
    indices = bench.settings.rows("tuning")
    states: list[list[torch.Tensor]] = [[] for _ in sigmas[:-1]]
    outputs: list[list[torch.Tensor]] = [[] for _ in sigmas[:-1]]

    def record(step: Step) -> None:
        scale = float(np.hypot(1.0, sigmas[step.call]))
        states[step.call].append(step.z.double() * scale)
        outputs[step.call].append(step.x0.double().clone())

    size = bench.settings.micro_batch
    end = sample(model, plan, seed=bench.settings.seed, indices=indices, micro_batch=size, on_step=record).double()
    bench.spend("peer", len(indices) * plan.network_calls(model))
    x, denoised = [*map(torch.cat, states), end], list(map(torch.cat, outputs))
    cost = np.full((len(x), len(x)), np.inf)
    for i in range(len(x) - 1):
        slope = (x[i] - denoised[i]) / sigmas[i]
        for j in range(i + 1, len(x)):
            landed = x[i] + (sigmas[j] - sigmas[i]) * slope
            cost[i, j] = float((landed - x[j]).flatten(1).square().mean(dim=1).sqrt().mean())
    _, ways = discretisation.shortest(cost, steps)
    return Schedule(sigmas[ways[-1]], "GITS-type")


def ays_type(bench: Workbench, steps: int) -> Schedule:
    """The optimum of the KL-weighted discretisation loss of the model's own error table."""
    return discretisation.schedules(table_of(bench), bench.model.path, steps, weighting="kl")[-1]


def discretised(bench: Workbench, steps: int) -> Schedule:
    """The optimum of source B's discretisation loss of the model's own error table."""
    return discretisation.schedules(table_of(bench), bench.model.path, steps)[-1]


def dm_nonuniform_type(bench: Workbench, steps: int) -> Schedule:
    """The optimum of the discretisation loss for errors in proportion to sigma: model-free."""
    sigma = np.sort(levels_of(bench.model, 64))
    assumed = ErrorTable(sigma, sigma, np.zeros_like(sigma), 1, {})
    return discretisation.schedules(assumed, bench.model.path, steps)[-1]


PEERS = {
    "GITS-type": gits_type,
    "AYS-type": ays_type,
    "discretisation loss": discretised,
    "DM-NonUniform-type": dm_nonuniform_type,
}
