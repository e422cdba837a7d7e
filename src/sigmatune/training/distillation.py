r"""Distillation on a plan's levels: the network learns to reach in the plan's few steps what it reaches in many.

A deterministic plan from pure noise has the triangular form (:mod:`sigmatune.core.unrolled`)

.. math:: z_k = \rho_k \epsilon + \sum_{j < k} W_{kj} D_j, \qquad \text{result} = z_K.

The *teacher*, the same network at many steps, starts from the same noise :math:`\epsilon`; it passes the plan's levels
in the states :math:`z^*_1, \dots, z^*_{K-1}` and ends in :math:`z^*_K = x^*`. The outputs that make the plan do the
same follow by forward substitution, whatever its solver:

.. math:: D^*_k = \frac{z^*_{k+1} - \rho_{k+1} \epsilon - \sum_{j < k} W_{k+1,j} D^*_j}{W_{k+1,k}}

For Euler's steps this is the secant of the teacher's trajectory instead of its tangent. A network that returns
:math:`D^*_k` at :math:`(z^*_k, q_k)` for all k, where :math:`z^*_0 = \rho_0 \epsilon` is the plan's start, reaches the
teacher's own end points: the loss

.. math:: L_k = w_k \, \frac{\lVert D_\theta(z^*_k; q_k) - D^*_k \rVert^2}{C H W}, \qquad w_k \propto W_{k+1,k}^2,

is zero for this network and for no other. With these weights every call counts by its effect: an error e of output k
moves the next state by :math:`W_{k+1,k} \, e`, so :math:`L_k` is the squared distance between the plan's step from the
teacher's state and the teacher's next state. In the unit state, a deviation of e becomes a deviation of about e
standard deviations of the data at the end, whatever the level. No data are needed. A plan that calls the network at one
level twice, such as Heun's, would have two targets for one state and is refused.

The derivation is our own. Other methods repeatedly halve the teacher's steps, or require the same output from all
states of a trajectory:

    | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans & Ho, 2022), https://arxiv.org/abs/2202.00512
    | Consistency Models (Song et al., 2023), https://arxiv.org/abs/2303.01469
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.loop import Step, run
from sigmatune.core.schedule import whole
from sigmatune.core.unrolled import Unrolled, unrolled
from sigmatune.models.network import NetworkDenoiser
from sigmatune.models.predictions import Prediction
from sigmatune.plan import Plan, check_fit
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training import draws
from sigmatune.training.data import Batch
from sigmatune.training.objective import Objective
from sigmatune.training.teacher import CALLS, followed, teacher_plan

PROBE = 2**63
"""The step whose noises :meth:`Following.scaled` measures on; training never reaches it."""

PROBED = 16
"""Trajectories that it measures on."""

MICRO_BATCH = 8
"""Trajectories that a teacher computes at once."""


class Walk(NamedTuple):
    """A teacher's trajectories from some noises, on the CPU, float64.

    Attributes:
        z: The network inputs of the plan's calls, (n, K, *shape).
        target: The outputs with which the plan follows the teacher, (n, K, *shape).
        end: End points, (n, *shape).
    """

    z: torch.Tensor
    target: torch.Tensor
    end: torch.Tensor


@dataclass(frozen=True)
class StudentConditions:
    """What the student's network is conditioned on.

    Attributes:
        classes: Names of the teacher's classes, in the network's order, of which trajectories draw one each; none for
            an unconditional network.
        drop: Share of trajectories without a class, for a network that was trained without classes, too.
        ends: sigma_min and sigma_max, for a network conditioned on the ends of its schedule.
    """

    classes: Sequence[str] = ()
    drop: float = 0.1
    ends: tuple[float, float] | None = None


class Following(Objective):
    """Trains a network on a plan to match its teacher at many steps.

    Row r of a batch trains call r mod K of trajectory r // K. A teacher computes a trajectory once for all its rows in
    a part of the batch. The target of a row depends on (seed, step, r) alone. The batch's images are not used.

    Args:
        teacher: Runs without gradients: usually the averaged network itself before distillation; or a guided one, and
            then the student needs no guidance.
        plan: The student's plan: deterministic, one schedule for all, one call per level.
        prediction: The prediction type of the student's network.
        fine: The teacher's plan, which stops at the plan's levels; or its number of calls (:func:`teacher_plan`).
        conditions: The conditions of the student's network; by default none.
        micro_batch: The teacher computes this many trajectories at once, so that its bits depend on nothing else.

    Attributes:
        weight: Of the calls, (K,), of mean 1.
        scale: Factor of all losses, 1 unless :meth:`scaled`.

    Raises:
        SigmaTuneError: for a plan that cannot be followed, or a teacher's plan that does not pass its levels.
    """

    def __init__(
        self,
        teacher: Denoiser,
        plan: Plan,
        prediction: str | Prediction,
        *,
        fine: Plan | int = CALLS,
        conditions: StudentConditions | None = None,
        micro_batch: int = MICRO_BATCH,
    ) -> None:
        conditions = conditions or StudentConditions()
        self.form = followed(plan)
        check_fit(plan, teacher)
        if isinstance(fine, Plan):
            check_fit(fine, teacher)
        self.fine = fine if isinstance(fine, Plan) else teacher_plan(teacher, plan, fine)
        unrolled(self.fine.coefficients)  # refuses plans that do not lead from one noise to one end point
        missed = set(self.levels[1:]) - set(self.fine.coefficients.q.tolist())
        if missed:
            raise SigmaTuneError(
                f"the teacher's plan does not stop at sigma {max(missed):.6g} of the student's plan; build the "
                "teacher's plan with teacher_plan()."
            )
        self.teacher, self.prediction = teacher, prediction
        self.classes, self.drop, self.ends = tuple(conditions.classes), float(conditions.drop), conditions.ends
        self.micro_batch = whole(micro_batch, "micro_batch")
        effect = torch.diagonal(self.form.W, offset=-1).square()
        self.weight = effect / effect.mean()
        self.scale = 1.0

    @property
    def levels(self) -> list[float]:
        """q, the levels of the student's network calls."""
        levels: list[float] = self.form.q.tolist()
        return levels

    def losses(self, network: torch.nn.Module, batch: Batch, seed: int) -> torch.Tensor:
        calls = len(self.levels)
        trajectories = sorted({row // calls for row in batch.rows})
        labels = self._labels(seed, batch.step, trajectories)
        walk = self.walk(seed, batch.step, trajectories, labels)
        k = torch.tensor([row % calls for row in batch.rows])
        place = torch.tensor([trajectories.index(row // calls) for row in batch.rows])

        weights = next(network.parameters())
        device, double = weights.device, weights.dtype == torch.float64
        condition: dict[str, Any] = {}
        if labels is not None:
            condition["labels"] = labels[place].to(device)
        if self.ends is not None:
            condition["ends"] = torch.tensor([self.ends] * len(k), device=device)
        denoiser = NetworkDenoiser(
            lambda x_t, t: network(x_t, t, **condition)[:, : self.teacher.shape[0]],
            self.teacher.shape, self.teacher.path, self.prediction,
            dtype=torch.float64 if double else torch.float32, device=device,
        )  # fmt: skip
        denoiser.integer_time = self.teacher.integer_time
        z, target = (value[place, k].to(device, denoiser.dtype) for value in (walk.z, walk.target))
        estimate = denoiser.denoise(z, self.form.q[k])
        return (estimate - target).square().flatten(1).mean(dim=1) * (self.weight[k] * self.scale).to(estimate)

    def evaluations(self, batch: int) -> int:
        """Network evaluations of the teacher for a batch of some rows, padding included."""
        return walks_of(batch, len(self.levels), self.micro_batch) * self.fine.network_calls(self.teacher)

    def scaling_evaluations(self, trajectories: int = PROBED) -> int:
        """Network evaluations of the teacher for :meth:`scaled`, padding included."""
        walks = walks_of(trajectories, 1, self.micro_batch) * self.fine.network_calls(self.teacher)
        return walks + trajectories * sum(self.teacher.calls_at(level) for level in self.levels)

    def walk(self, seed: int, step: int, trajectories: Sequence[int], labels: torch.Tensor | None = None) -> Walk:
        """The teacher's trajectories from the noises of a step.

        Args:
            seed, step: Of the training.
            trajectories: Indices of the step's noises.
            labels: Their class indices, (n,).
        """
        teacher, table = self._told(trajectories, labels), replace(self.fine.coefficients, double=True)
        eps = draws.normals(seed, step, trajectories, teacher.shape).double()
        inner = {level: k for k, level in enumerate(self.levels) if k}
        z = torch.empty(len(eps), len(self.levels), *teacher.shape, dtype=torch.float64)
        z[:, 0] = self.form.rho[0] * eps
        ends = []
        for first in range(0, len(eps), self.micro_batch):
            part = slice(first, first + self.micro_batch)

            def record(one: Step, part: slice = part) -> None:
                k = inner.get(float(one.sigma[0]))
                if k is not None:  # if the teacher calls a level twice, the last state counts
                    z[part, k] = one.z.to("cpu", torch.float64)

            dtype = torch.float32 if teacher.device.type == "mps" else torch.float64
            start = [share * eps[part].to(teacher.device, dtype) for share in table.start[:, 0].tolist()]
            with torch.no_grad():
                end = run(
                    table,
                    teacher,
                    indices=trajectories[part],
                    state=start,
                    micro_batch=self.micro_batch,
                    on_step=record,
                )
            ends.append(end.to("cpu", torch.float64))
        end = torch.cat(ends)
        return Walk(z, targets(self.form, eps, [*z[:, 1:].unbind(1), end]), end)

    @torch.no_grad()
    def scaled(self, seed: int = 0, trajectories: int = PROBED) -> Following:
        """A copy whose loss is one for a student with the teacher's outputs, such as the undistilled network.

        Args:
            seed: Of the training.
            trajectories: Noises on which to measure the loss.

        Raises:
            SigmaTuneError: if that student already matches the teacher.
        """
        rows = range(whole(trajectories, "trajectories"))
        labels = self._labels(seed, PROBE, rows)
        walk, teacher = self.walk(seed, PROBE, rows, labels), self._told(rows, labels).rows(rows)
        missed = [
            (teacher(z.to(teacher.device, teacher.dtype), q).to("cpu", torch.float64) - target).square().mean()
            for z, target, q in zip(walk.z.unbind(1), walk.target.unbind(1), self.levels, strict=True)
        ]
        loss = float((torch.stack(missed) * self.weight).mean())
        if not loss > 1e-12 * float(walk.target.square().mean()):
            raise SigmaTuneError("the plan already matches the teacher; there is nothing to distil.")
        other = copy.copy(self)
        other.scale = 1 / loss
        return other

    def _labels(self, seed: int, step: int, trajectories: Sequence[int]) -> torch.Tensor | None:
        """Class indices, (n,), where the number of classes means no class; None for a network without classes."""
        if not self.classes:
            return None
        uniform = draws.uniforms(seed, step, trajectories, 2)
        drawn = np.minimum((uniform[:, 0] * len(self.classes)).astype(int), len(self.classes) - 1)
        return torch.from_numpy(np.where(uniform[:, 1] < self.drop, len(self.classes), drawn))

    def _told(self, trajectories: Sequence[int], labels: torch.Tensor | None) -> Denoiser:
        if labels is None:
            return self.teacher
        names = [*self.classes, None]
        return self.teacher.conditioned(trajectories, [names[label] for label in labels.tolist()], None)


def walks_of(batch: int, levels: int, micro_batch: int = MICRO_BATCH) -> int:
    """Trajectories that a teacher computes for a batch of some rows, padding included.

    Args:
        batch: Rows of the batch.
        levels: Rows that share a trajectory: the network calls of the student's plan.
        micro_batch: Trajectories at once.
    """
    return -(-batch // (levels * micro_batch)) * micro_batch


def targets(form: Unrolled, eps: torch.Tensor, states: Sequence[torch.Tensor]) -> torch.Tensor:
    r"""The outputs that lead a plan through given states: forward substitution in its triangular form.

    .. math:: D^*_k = \Big( z^*_{k+1} - \rho_{k+1} \epsilon - \sum_{j < k} W_{k+1,j} D^*_j \Big) \Big/ W_{k+1,k}

    Args:
        form: The plan, unrolled.
        eps: The start noise, (n, *shape), float64.
        states: The desired inputs 1, ..., K-1 and result, K tensors like ``eps``.

    Returns:
        The outputs, (n, K, *shape).
    """
    outputs: list[torch.Tensor] = []
    for k, state in enumerate(states):
        rest = state - form.rho[k + 1] * eps
        for j, D in enumerate(outputs):
            rest = rest - form.W[k + 1, j] * D
        outputs.append(rest / form.W[k + 1, k])
    return torch.stack(outputs, dim=1)
