r"""The triangular form of a plan: every network input as a sum of the start noise and of all outputs so far.

.. math:: z_k = \rho_k \epsilon + \sum_{j < k} W_{kj} D_j, \qquad \text{result} = \rho_K \epsilon + \sum_{j < K} W_{Kj} D_j

Every deterministic plan from pure noise has one, whatever its solver; and every such table is a plan with the largest
state, which keeps all outputs. Learned coefficients use this form.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from sigmatune.core.table import Coefficients
from sigmatune.support.errors import SigmaTuneError


class Unrolled(NamedTuple):
    """A plan in triangular form, float64.

    Attributes:
        q: Levels of the network calls, (K,).
        rho: Weight of the start noise in each input and in the result, (K + 1,).
        W: Weights of the outputs, (K + 1, K), zero on and above the diagonal.
    """

    q: torch.Tensor
    rho: torch.Tensor
    W: torch.Tensor


def unrolled(coefficients: Coefficients) -> Unrolled:
    """Unrolls a shared, deterministic table; differentiable.

    Raises:
        SigmaTuneError: for a table with rows or with noise, or one that starts from several noises.
    """
    if coefficients.rows is not None or not coefficients.deterministic or coefficients.start.shape[-1] != 1:
        raise SigmaTuneError(
            "only a deterministic plan with one schedule for all rows and one start noise can be unrolled."
        )
    calls = coefficients.calls
    outputs = torch.eye(calls, dtype=coefficients.q.dtype)
    state = torch.cat([coefficients.start, coefficients.start.new_zeros(coefficients.width, calls)], dim=1)
    rows = []
    for k in range(calls):
        rows.append(coefficients.c[k] @ state)
        said = torch.cat([outputs.new_zeros(1), outputs[k]])
        state = coefficients.A[k] @ state + coefficients.b[k][:, None] * said
    rows.append(coefficients.c[-1] @ state)
    table = torch.stack(rows)
    return Unrolled(coefficients.q, table[:, 0], table[:, 1:])


def rolled(form: Unrolled) -> Coefficients:
    """Builds the table, of width K + 1: the state holds the start noise and all outputs; the inverse of unrolling."""
    calls = len(form.q)
    one = torch.eye(calls + 1, dtype=form.q.dtype)
    return Coefficients(
        q=form.q,
        A=one.expand(calls, -1, -1),
        b=one[1:],
        c=torch.cat([form.rho[:, None], form.W], dim=1),
        start=one[:, :1],
        origin=one.new_zeros(calls + 1),
        G=one.new_zeros(calls, calls + 1, 0),
    )
