r"""How a call changes the state in place: which tensors take part, and in which order they can be replaced without copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sigmatune.core.table import Coefficients

Update = tuple[int, list[int], int, list[int]]
"""Row i of the state, the rows in its sum (itself first), whether D enters (0 or 1), and the noises."""


@dataclass(frozen=True, eq=False)
class Pivot:
    """Puts a new row of the state into the memory of D, for the rows that depend on it in a cycle.

    Args:
        output: Weight of D, (...).
        sources: Weights of the state's rows, (..., w).
        used: Which of them are not zero.
    """

    output: torch.Tensor
    sources: torch.Tensor
    used: list[int]


def program_of(
    coefficients: Coefficients,
) -> tuple[list[tuple[list[int], list[list[Update] | Pivot]]], torch.Tensor, torch.Tensor]:
    r"""Lists, per call, the tensors that take part and an order in which they can be replaced without copies.

    A pivot resolves rows that depend on each other in a cycle (A needs the old B, B the old A): a row that contains D
    is computed in D's memory, and D is eliminated from the other rows,

    .. math:: D = (S_i' - \textstyle\sum_j A_{ij} S_j) / b_i.

    Returns:
        Per call (the state's rows that make z, groups of updates); and A and b with D eliminated where that was needed.
        A group of several updates is a cycle without a pivot; all are computed before any is replaced.
    """
    A, b = coefficients.A, coefficients.b
    eliminated, pivoted = (A, b), False

    def used(value: torch.Tensor) -> Any:  # nested lists of booleans: not zero in some row
        nonzero = value.detach() != 0
        return (nonzero if coefficients.rows is None else nonzero.any(dim=0)).tolist()

    state, output, noise, inputs = map(used, (A, b, coefficients.G, coefficients.c))
    everywhere = (b.detach() != 0).reshape(-1, *b.shape[-2:]).all(dim=0).tolist()  # D enters in every row
    program: list[tuple[list[int], list[list[Update] | Pivot]]] = []
    for k in range(coefficients.calls):
        groups: list[list[Update] | Pivot] = []
        waiting = set(range(coefficients.width))
        while waiting:
            needed = {j for i in waiting for j, yes in enumerate(state[k][i]) if yes and j != i}
            free = next((i for i in sorted(waiting) if i not in needed), None)
            if free is not None:
                groups.append([update_of(free, state[k], output[k], noise[k])])
                waiting.remove(free)
                continue
            able = [i for i in sorted(waiting) if everywhere[k][i] and not any(noise[k][i])]
            pivot = min(
                able, key=lambda i: (sum(state[k][i]), -i), default=None
            )  # the one that the others take least from
            if pivot is None or any(isinstance(group, Pivot) for group in groups):
                groups.append([update_of(i, state[k], output[k], noise[k]) for i in sorted(waiting)])
                break
            used_rows = [j for j, yes in enumerate(state[k][pivot]) if yes]
            groups.append(Pivot(b[..., k, pivot], A[..., k, pivot, :], used_rows))
            if not pivoted:  # the originals stay: what is differentiated through them must not change
                eliminated, pivoted = (A.clone(), b.clone()), True
            rest, share = eliminate(A[..., k, :, :], b[..., k, :], pivot, waiting)
            eliminated[0][..., k, :, :], eliminated[1][..., k, :] = rest, share
            state[k], output[k] = used(rest), used(share)
        program.append(([j for j, yes in enumerate(inputs[k]) if yes], groups))
    return [*program, ([j for j, yes in enumerate(inputs[-1]) if yes], [])], *eliminated


def update_of(i: int, state: Any, output: Any, noise: Any) -> Update:
    """The terms of row i of the state."""
    sources = [i] * state[i][i] + [j for j, yes in enumerate(state[i]) if yes and j != i]
    return i, sources, int(output[i]), [m for m, yes in enumerate(noise[i]) if yes]


def eliminate(A: torch.Tensor, b: torch.Tensor, pivot: int, waiting: set[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """One call's A and b, (..., w, w) and (..., w), in which the waiting rows take the pivot's new value in D's place."""
    share = b / b[..., pivot, None]
    rest = A - share.unsqueeze(-1) * A[..., pivot, None, :]
    rest[..., pivot, :] = 0
    for i in {*range(b.shape[-1])} - waiting:  # what has its new value already stays as it is
        share = share.clone()
        rest[..., i, :], share[..., i] = A[..., i, :], b[..., i]
    return rest, share
