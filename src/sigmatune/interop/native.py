r"""A plan's table for foreign loops: the network's own state first, the network's own output in.

A foreign loop holds one tensor, the network's next input in the model's own scaling,
:math:`x_k = m_k z_k`, :math:`m_k` the path's ``state_scale``. So the state changes to another basis,

.. math:: S'_k = T_k S_k, \quad T_k = \begin{pmatrix} m_k c_k \\ 0 \;\; I \end{pmatrix}, \qquad
          A'_k = T_{k+1} A_k T_k^{-1}, \quad b'_k = T_{k+1} b_k, \quad G'_k = T_{k+1} G_k, \quad c'_k = e_0,

in which the first tensor *is* that input, and whatever the loop does to it between two calls (a mask that is pasted in,
a callback) is part of the run. After the last call the first tensor is the result. This needs :math:`c_{k0} \neq 0`,
which holds for all solvers, and for learned coefficients unless they drop the start noise.

Every prediction type here is affine in the network's output: :math:`D = u_k x_k + v_k f_k`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sigmatune.core.table import Coefficients
from sigmatune.models.predictions import Prediction
from sigmatune.noise import NoisePath
from sigmatune.support.errors import SigmaTuneError


@dataclass(frozen=True, eq=False)
class Native:
    """A plan's table in a model's own scaling.

    Attributes:
        table: The coefficients with the network's input as the first tensor of the state; q unchanged.
        times: What the network receives as t in each call, (K,), float64.
        input_scale: The factor on the state before it enters the network, (K,); 1 for most models.
        u, v: The estimate of the data from the state and the network's output, D = u x + v f, (K,) each.
        start: Standard deviation of the first input of a run from noise.
        origin: Weight of an image in the first input of a run from an image; None if the plan cannot start from one.
    """

    table: Coefficients
    times: torch.Tensor
    input_scale: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor
    start: float
    origin: float | None


def native(coefficients: Coefficients, path: NoisePath, prediction: Prediction) -> Native:
    """Converts a table to the scaling of a model.

    Raises:
        SigmaTuneError: if a level is outside the path's range, the plan has one schedule per row or starts from several
            noises, or an input of the network does not hold the first tensor of the state.
    """
    q = coefficients.q
    path.check(q.numpy())
    table = input_first(coefficients, torch.from_numpy(np.asarray(path.state_scale(q.numpy()))))
    # A start from an image needs a state that the first tensor determines.
    alone = not bool((table.origin[1:] != 0).any()) and not bool((table.start[1:] != 0).any())
    image = float(table.origin[0])
    return Native(
        table,
        times=torch.from_numpy(np.asarray(path.time(q.numpy()))),
        input_scale=torch.ones_like(q) if prediction.input_scale is None else prediction.input_scale(q),
        u=prediction.x0(torch.zeros_like(q), torch.ones_like(q), q),
        v=prediction.x0(torch.ones_like(q), torch.zeros_like(q), q),
        start=float(table.start[0, 0]),
        origin=image if alone and (image != 0 or bool(torch.isinf(q[0]))) else None,
    )


def first_state(table: Coefficients, x: torch.Tensor, draw: Callable[[int], torch.Tensor]) -> list[torch.Tensor]:
    """The first state of a run, given the network's first input.

    Args:
        table: On the basis of :func:`input_first`.
        x: The first input, start noise times its standard deviation, (B, *shape).
        draw: Draws the start noise of channels from 1 on, (B, *shape), such as a momentum's.
    """
    shares, fresh = (table.start[:, 0] / table.start[0, 0]).tolist(), table.start.tolist()
    state = [x, *(x * share if share else torch.zeros_like(x) for share in shares[1:])]
    for m in range(1, table.start.shape[1]):
        drawn = draw(m)
        state[1:] = [S + drawn * row[m] for S, row in zip(state[1:], fresh[1:], strict=True)]
    return state


def dtype_of(table: Coefficients, x: torch.Tensor) -> torch.dtype:
    """Dtype of the state: float64 if the plan or the loop requires it, else float32."""
    double = (table.double and x.device.type != "mps") or x.dtype == torch.float64
    return torch.float64 if double else torch.float32


def input_first(coefficients: Coefficients, scale: torch.Tensor, end: float = 1.0) -> Coefficients:
    """The table on the basis in which the network's input, times its scale, comes first.

    Args:
        coefficients: A shared table.
        scale: m_k, from the unit state to the other loop's, (K,).
        end: The same of the result; 1 at sigma = 0.

    Raises:
        SigmaTuneError: if there is no such basis, or the first input alone cannot hold the start.
    """
    if coefficients.rows is not None:
        raise SigmaTuneError(
            "the plan has one schedule per row, and other loops send one t for the whole batch; run it with sigmatune.sample."
        )
    if coefficients.ports != 1:
        raise SigmaTuneError(
            "the plan is for a network of position and momentum, and other loops hold one tensor; run it with sigmatune.sample."
        )
    c, calls, width = coefficients.c, coefficients.calls, coefficients.width
    if bool((c[:-1, 0] == 0).any()):
        raise SigmaTuneError(
            "an input of the network does not depend on the first tensor of the plan's state, so a loop that holds "
            "only that input cannot run it; run it with sigmatune.sample."
        )
    T = torch.eye(width, dtype=c.dtype).repeat(calls + 1, 1, 1)
    T[:-1, 0] = c[:-1] * scale[:, None]
    T[-1, 0] = c[-1] * end  # may drop the first tensor, because nothing follows
    back = torch.eye(width, dtype=c.dtype).repeat(calls, 1, 1)
    back[:, 0] = -T[:-1, 0] / T[:-1, 0, :1]
    back[:, 0, 0] = 1 / T[:-1, 0, 0]
    first = torch.zeros_like(c)
    first[:, 0] = 1
    start = T[0] @ coefficients.start
    if bool((start[0, 1:].abs() > 1e-9 * start[0, 0].abs()).any()):
        raise SigmaTuneError(
            f"the first input of the network combines {start.shape[-1]} noises, and other loops start from one; run it "
            "with sigmatune.sample."
        )
    return Coefficients(
        q=coefficients.q,
        A=T[1:] @ coefficients.A @ back,
        b=(T[1:] @ coefficients.b.unsqueeze(-1)).squeeze(-1),
        c=first,
        start=start,
        origin=T[0] @ coefficients.origin,
        G=T[1:] @ coefficients.G,
        double=coefficients.double,
        by_level=coefficients.by_level,
    )
