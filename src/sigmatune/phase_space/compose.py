r"""From the updates of a step to the linear state machine.

Every sampler of phase space is a string of updates of u = (x, m) that are linear in u and in the last score s,

.. math:: u \leftarrow F u + B s + N(0, Q),

and of places that need a new score. Between two such places the updates multiply out to one F, B and Q; the score of a
lifted denoiser, :math:`s = \Sigma^{-1} (a D - u)`, or of a native network, :math:`s = -L^{-T} \hat\epsilon`, is
substituted, and the result is a table of :class:`~sigmatune.core.loop.Coefficients` of width 2, for the one loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch

from sigmatune.core.table import Coefficients
from sigmatune.phase_space.lift import unit_row
from sigmatune.processes.parametrisation import inverse_root
from sigmatune.processes.psld import PSLD, Matching, cholesky
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor
Last = Literal["euler", "denoise"]
Native = Literal["", "hsm-lower", "hsm-upper", "dsm-lower", "dsm-upper"]
"""What a native network predicts: the eps of which matching and which triangular root; "" is a lifted denoiser."""


@dataclass(frozen=True, eq=False)
class Op:
    """One update of all N steps at once.

    Args:
        F: State to state, (..., N, 2, 2).
        B: Score to state, (..., N, 2, 2).
        Q: Covariance of fresh noise, (..., N, 2, 2).
    """

    F: Tensor
    B: Tensor
    Q: Tensor

    def after(self, first: Op) -> Op:
        """The update that does ``first`` and then this one."""
        return Op(self.F @ first.F, self.F @ first.B + self.B, self.F @ first.Q @ self.F.mT + self.Q)


@dataclass(frozen=True, eq=False)
class Ask:
    """A place in a step that needs a new score.

    Args:
        t: The time of the score, of each step, (..., N).
        sigma: sigma_eff of these times, as the schedule has it to the bit.
    """

    t: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class Grid:
    """The levels of a run as times of a process.

    Args:
        process: The process.
        sigmas: Noise levels, (..., N + 1), descending and positive.
    """

    process: PSLD
    sigmas: Tensor

    @cached_property
    def t(self) -> Tensor:
        """The times, (..., N + 1), descending."""
        return self.process.time(self.sigmas)

    @cached_property
    def h(self) -> Tensor:
        """Lengths of the steps in the clock tau, (..., N)."""
        tau = self.process.tau(self.t)
        return tau[..., :-1] - tau[..., 1:]

    @property
    def now(self) -> Ask:
        """A score at the beginning of the step."""
        return Ask(self.t[..., :-1], self.sigmas[..., :-1])

    @property
    def then(self) -> Ask:
        """A score at the end of the step."""
        return Ask(self.t[..., 1:], self.sigmas[..., 1:])


Step = Sequence[Op | Ask]


def matrix(xx: Tensor | float, xm: Tensor | float, mx: Tensor | float, mm: Tensor | float, like: Tensor) -> Tensor:
    """Lays out 2 x 2 matrices, one for each entry of ``like``."""
    entries = [torch.zeros_like(like) + value for value in (xx, xm, mx, mm)]
    return torch.stack(entries, dim=-1).reshape(*like.shape, 2, 2)


def identity(like: Tensor) -> Op:
    """The update that does nothing."""
    zero = matrix(0, 0, 0, 0, like)
    return Op(matrix(1, 0, 0, 1, like), zero, zero)


def chained(ops: Sequence[Op], like: Tensor) -> Op:
    """Multiplies updates out, the first one first."""
    product = identity(like)
    for op in ops:
        product = op.after(product)
    return product


def compiled(grid: Grid, step: Step, *, ends: bool, last: Last, native: Native, deterministic: bool) -> Coefficients:
    """Compiles a step, repeated over a grid, into the state machine.

    Args:
        grid: The positive levels.
        step: The updates of a step and its score evaluations, for all steps at once.
        ends: After the last level comes sigma = 0: one more call, whose estimate is the result. Otherwise the result is the
            unit state at the last level.
        last: How that call ends: "euler", a step of the noise-free drift over the rest of the time; "denoise", its x0.
        native: What a native network predicts; "" for a lifted denoiser.
        deterministic: The drift of the last step is that of the probability-flow ODE.

    Raises:
        SigmaTuneError: for an unknown ``last`` or ``native``.
    """
    for name, value, known in (("last", last, get_args(Last)), ("native", native, get_args(Native))):
        if value not in known:
            raise SigmaTuneError(f"{name} is one of {', '.join(map(repr, known))}, not {value!r}.")
    process, h = grid.process, grid.h
    asks = [i for i, part in enumerate(step) if isinstance(part, Ask)]
    prefix = chained([op for op in step[: asks[0]] if isinstance(op, Op)], h)
    blocks = []
    for i, j in zip(asks, [*asks[1:], len(step)], strict=True):
        blocks.append(chained([op for op in step[i + 1 : j] if isinstance(op, Op)], h))
    blocks[-1] = _shifted(prefix, h).after(blocks[-1])
    F, B, Q = (_interleaved([getattr(block, name) for block in blocks], -4) for name in "FBQ")
    t = _interleaved([step[i].t for i in asks], -2)  # type: ignore[union-attr]
    q = _interleaved([step[i].sigma for i in asks], -2)  # type: ignore[union-attr]
    if ends:
        t = torch.cat([t, grid.t[..., -1:]], dim=-1)
        q = torch.cat([q, grid.sigmas[..., -1:]], dim=-1)
        final = _final(process, grid.t[..., -1:], last, deterministic=deterministic)
        F, B, Q = (torch.cat([inner, end], dim=-3) for inner, end in zip((F, B, Q), final, strict=True))
    first = _first(prefix)
    cov, a = process.covariance(grid.t[..., 0]), process.mean(grid.t[..., 0])
    if h.shape[-1]:
        cov, a = first.F @ cov @ first.F.mT + first.Q, (first.F @ a[..., None])[..., 0]
    result = unit_row(process.law(grid.t[..., -1]))[..., 0, :] if not ends else a.new_tensor([1.0, 0.0]).expand_as(a)
    G = torch.zeros(*Q.shape[:-1], 0, dtype=Q.dtype) if deterministic else cholesky(Q)
    A, b, c = _native(process, t, F, B, result, native) if native else _lifted(process, t, F, B, result)
    return Coefficients(q, A, b, c, _start(cov, unit_row(process.law(t[..., 0]))), a, G, double=True)


def _start(cov: Tensor, row: Tensor) -> Tensor:
    """A root of the covariance of the first state, turned so that the network's first input is the first noise alone.

    So a seed starts at the same input as with every position-space solver, and only the momentum uses the second noise.
    """
    L = cholesky(cov)
    r = (row @ L)[..., 0, :]
    r = r / r.norm(dim=-1, keepdim=True)
    turn = torch.stack([r, torch.stack([-r[..., 1], r[..., 0]], dim=-1)], dim=-1)
    return L @ turn


def _lifted(process: PSLD, t: Tensor, F: Tensor, B: Tensor, result: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, b, c with the score of a lifted denoiser substituted."""
    law = process.law(t)
    b = (B @ law.precision @ law.a[..., None])[..., 0]
    c = torch.cat([unit_row(law)[..., 0, :], result[..., None, :]], dim=-2)
    return F - B @ law.precision, b, c


def _native(
    process: PSLD, t: Tensor, F: Tensor, B: Tensor, result: Tensor, native: Native
) -> tuple[Tensor, Tensor, Tensor]:
    """A, b, c for a network that takes (x, m) and returns eps of both."""
    one = torch.eye(2, dtype=F.dtype).expand_as(F)
    final = torch.stack([result, torch.zeros_like(result)], dim=-2)
    return F, -B @ _root_of(process, t, native).mT, torch.cat([one, final[..., None, :, :]], dim=-3)


def _root_of(process: PSLD, t: Tensor, native: Native) -> Tensor:
    matching, triangle = native.split("-")
    kind: Matching = "hsm" if matching == "hsm" else "dsm"
    return inverse_root(process, t, kind, upper=triangle == "upper")


def _final(process: PSLD, t: Tensor, last: Last, *, deterministic: bool) -> tuple[Tensor, Tensor, Tensor]:
    """F, B and Q of the last call, whose x is the result and whose m is dropped; (..., 1, 2, 2)."""
    zero = matrix(0, 0, 0, 0, t)
    if last == "denoise":  # x0 = a' (s + Sigma^-1 u) / g
        law = process.law(t)
        row = law.a[..., None, :] / law.information[..., None, None]
        B = torch.cat([row, torch.zeros_like(row)], dim=-2)
        return B @ law.precision, B, zero
    h, gamma = process.tau(t), process.gamma
    F = matrix(1 + gamma * h, -h / process.mass, 0, 0, t)
    return F, matrix((1 if deterministic else 2) * gamma * h, 0, 0, 0, t), zero


def _shifted(prefix: Op, h: Tensor) -> Op:
    """The prefix of the next step, for every step; the identity after the last."""
    none = identity(h[..., :1])
    parts = [torch.cat([getattr(prefix, n)[..., 1:, :, :], getattr(none, n)], dim=-3) for n in "FBQ"]
    return Op(*parts) if h.shape[-1] else prefix


def _first(prefix: Op) -> Op:
    return Op(*(getattr(prefix, name)[..., :1, :, :].sum(dim=-3) for name in "FBQ"))


def _interleaved(parts: list[Tensor], axis: int) -> Tensor:
    """Orders the score evaluations of all steps one after the other."""
    stacked = torch.stack(parts, dim=axis + 1)
    return stacked.flatten(axis, axis + 1)
