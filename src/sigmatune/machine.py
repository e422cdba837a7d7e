r"""The linear state machine that every plan is, and the one loop that runs it.

Every sampler that is linear in the denoiser's outputs is data:

.. math::
    z_k = c_k \cdot S_k, \quad D_k = D(z_k; q_k), \quad
    S_{k+1} = A_k S_k + b_k D_k + G_k \epsilon_k, \qquad k = 0, \dots, K - 1, \qquad \text{result} = c_K \cdot S_K

S is a stack of w tensors of the shape of the data (w, the *width*: 1 for Euler, 2 for a two-step method), K the number of
network calls, q_k the noise level at which the network is asked. The run starts from
:math:`S_0 = \text{start} \, \epsilon + \text{origin} \, x_0`, with x_0 = 0 unless one starts from an image.

A solver (:mod:`sigmatune.solvers`) is a function from noise levels to these arrays. With a leading row axis the arrays
hold one sampler per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sigmatune import rng
from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError


@dataclass(frozen=True, eq=False)
class Coefficients:
    """The arrays of the linear state machine, all float64; ``...`` is empty or one row axis (R,).

    Args:
        q: Levels at which the network is asked, (..., K).
        A: State to state, (..., K, w, w).
        b: Denoiser output to state, (..., K, w).
        c: State to network input, and to the result for the last entry, (..., K + 1, w).
        start: Start noises to state, (..., w, m).
        origin: Start image to state, (..., w).
        G: Noises of each call to state, (..., K, w, g); g = 0 for a deterministic plan.

    Raises:
        SigmaTuneError: if the shapes do not fit together or an entry is not finite.
    """

    q: torch.Tensor
    A: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor
    start: torch.Tensor
    origin: torch.Tensor
    G: torch.Tensor

    def __post_init__(self) -> None:
        rows, (calls, width) = self.q.shape[:-1], self.b.shape[-2:]
        expected = {
            "q": (calls,),
            "A": (calls, width, width),
            "b": (calls, width),
            "c": (calls + 1, width),
            "start": (width, self.start.shape[-1]),
            "origin": (width,),
            "G": (calls, width, self.G.shape[-1]),
        }
        for name, shape in expected.items():
            value: torch.Tensor = getattr(self, name)
            if value.shape != (*rows, *shape):
                raise SigmaTuneError(f"coefficients {name} have shape {tuple(value.shape)}, not {(*rows, *shape)}.")
            if name != "q" and not torch.isfinite(value).all():
                raise SigmaTuneError(f"coefficients {name} are not finite.")

    @property
    def calls(self) -> int:
        """K, the number of network calls."""
        return int(self.b.shape[-2])

    @property
    def width(self) -> int:
        """w, the number of tensors that the state holds."""
        return int(self.b.shape[-1])

    @property
    def rows(self) -> int | None:
        """R if there is one sampler per row, None if all rows share one."""
        return int(self.q.shape[0]) if self.q.ndim == 2 else None

    @property
    def deterministic(self) -> bool:
        """Whether no noise is added on the way."""
        return not bool((self.G != 0).any())

    def tobytes(self) -> bytes:
        """The bits of all that decides what is computed from noise; for digests that name results."""
        return b"|".join(getattr(self, name).numpy().tobytes() for name in ("q", "A", "b", "c", "start", "G"))

    def at(self, rows: Sequence[int]) -> Coefficients:
        """Selects rows; a shared table is returned as it is."""
        if self.rows is None:
            return self
        pick = list(rows)
        return Coefficients(*(getattr(self, name)[pick] for name in ("q", "A", "b", "c", "start", "origin", "G")))


@dataclass(frozen=True)
class Step:
    """What the ``on_step`` hook sees after each network call.

    Attributes:
        call: Index of the network call, 0..K-1.
        sigma: Level of each row, (B,), float64.
        z: Unit states that the network received, (B, *shape); to be cloned if kept, for the loop reuses the memory.
        x0: Denoiser outputs, (B, *shape). To be cloned if kept.
        rows: Which of the requested rows these are.
    """

    call: int
    sigma: torch.Tensor
    z: torch.Tensor
    x0: torch.Tensor
    rows: range


def run(
    coefficients: Coefficients,
    denoiser: Denoiser,
    *,
    seed: int = 0,
    indices: Sequence[int],
    x0: torch.Tensor | None = None,
    state: Sequence[torch.Tensor] | None = None,
    micro_batch: int | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> torch.Tensor:
    """Runs the state machine for at most one micro-batch of rows: **the** loop.

    It holds w + 2 tensors of the batch's shape: the state, the denoiser's output and one scratch tensor. With gradients
    enabled nothing is overwritten, so that one can differentiate through it.

    Args:
        coefficients: The plan's table.
        denoiser: The model.
        seed: Seed of the noise.
        indices: The rows' indices in the noise; their number is the batch B.
        x0: Images to start from, (B, *shape).
        state: The w tensors of S_0, each (B, *shape), instead of a start from noise.
        micro_batch: Pad the network's batch to this size; B by default.
        on_step: Sees every network call.

    Returns:
        The result, (B, *shape).
    """
    batch = len(indices)
    dtype, device, shape = denoiser.dtype, denoiser.device, denoiser.shape
    pad = (micro_batch or batch) - batch
    ones = (1,) * len(shape)

    def table(value: torch.Tensor) -> torch.Tensor:
        # (rows or 1, ..., 1, 1, 1): the same kernels, hence the same bits, for shared and for per-row coefficients.
        value = value if coefficients.rows is not None else value.unsqueeze(0)
        return value.to(device, dtype).reshape(*value.shape, *ones)

    program, A64, b64 = _program(coefficients)
    A, G = (_entries(table(value), 3) for value in (A64, coefficients.G))
    b, c = (_entries(table(value), 2) for value in (b64, coefficients.c))
    one = (coefficients.c.detach() == 1).reshape(-1, *coefficients.c.shape[-2:]).all(dim=0).tolist()
    levels = coefficients.q if torch.is_grad_enabled() else coefficients.q.detach()
    q = (levels if coefficients.rows is not None else levels.expand(batch, -1)).unbind(1)
    S = [s.clone() for s in state] if state is not None else _start(coefficients, table, seed, indices, denoiser, x0)

    def fresh(k: int, update: Update, D: torch.Tensor, *, alone: bool) -> torch.Tensor:
        i, sources, outputs, channels = update
        terms = [(S[j], A[k][i][j]) for j in sources] + [(D, b[k][i])] * outputs
        keep = torch.is_grad_enabled() or not alone or sources[:1] != [i]
        if alone and i not in sources:
            S[i] = D  # lets go of a value that nothing needs any more
        value = _combine(terms, D, overwrite=not keep)
        for m in channels:
            eps = rng.noise(seed, indices, k + 1, shape, channel=m, dtype=dtype).to(device)
            value = value.add_(eps.mul_(G[k][i][m])) if not torch.is_grad_enabled() else value + eps * G[k][i][m]
        return value

    def turned(pivot: Pivot, D: torch.Tensor) -> torch.Tensor:
        own, weights = table(pivot.output), table(pivot.sources)
        terms = [(D, own), *((S[j], weights[:, j]) for j in pivot.used)]
        return _combine(terms, D, overwrite=not torch.is_grad_enabled())

    for k, (inputs, groups) in enumerate(program[:-1]):
        z = S[inputs[0]] if [one[k][j] for j in inputs] == [True] else _combine([(S[j], c[k][j]) for j in inputs], S[0])
        D = _padded(denoiser, z, q[k], pad)
        if on_step is not None:
            on_step(Step(k, q[k].detach(), z, D, range(batch)))
        del z
        for group in groups:
            if isinstance(group, Pivot):
                D = turned(group, D)
            elif len(group) == 1:
                S[group[0][0]] = fresh(k, group[0], D, alone=True)
            else:
                values = [fresh(k, update, D, alone=False) for update in group]
                for update in reversed(group):
                    S[update[0]] = values.pop()
        del D
    return _combine([(S[j], c[-1][j]) for j in program[-1][0]], S[0])


def _start(
    coefficients: Coefficients,
    table: Callable[[torch.Tensor], torch.Tensor],
    seed: int,
    indices: Sequence[int],
    denoiser: Denoiser,
    x0: torch.Tensor | None,
) -> list[torch.Tensor]:
    start, origin = table(coefficients.start), table(coefficients.origin)
    eps = [
        rng.noise(seed, indices, rng.START, denoiser.shape, channel=m, dtype=denoiser.dtype).to(denoiser.device)
        for m in range(start.shape[2])
    ]
    states = []
    for i in range(coefficients.width):
        terms = [
            (eps[m], start[:, i, m]) for m in range(start.shape[2]) if bool((coefficients.start[..., i, m] != 0).any())
        ]
        if x0 is not None:
            terms.append((x0, origin[:, i]))
        states.append(_combine(terms, eps[0]))
    return states


def _combine(
    terms: list[tuple[torch.Tensor, torch.Tensor]],
    like: torch.Tensor,
    *,
    overwrite: bool = False,
) -> torch.Tensor:
    """Sums coefficient times tensor, in the given order; ``overwrite`` reuses the first tensor's memory."""
    if not terms:
        return torch.zeros_like(like)
    (first, weight), *rest = terms
    total = first.mul_(weight) if overwrite else first * weight
    for tensor, weight in rest:
        total = total.add_(tensor * weight)
    return total


def _entries(value: torch.Tensor, axes: int) -> Any:
    """Nested lists over the axes after the first: the entries that a call takes, found without indexing tensors."""
    return value if axes == 0 else [_entries(part, axes - 1) for part in value.unbind(1)]


def _padded(denoiser: Denoiser, z: torch.Tensor, sigma: torch.Tensor, pad: int) -> torch.Tensor:
    """Calls the denoiser on z followed by ``pad`` rows of zeros and returns the output of the real rows."""
    if pad <= 0:
        return denoiser(z, sigma)
    zeros = z.new_zeros(pad, *z.shape[1:])
    return denoiser(torch.cat([z, zeros]), torch.cat([sigma, sigma[:1].expand(pad)]))[: len(z)]


Update = tuple[int, list[int], int, list[int]]
"""Row i of the state, the rows that it is made of (itself first), whether D enters (0 or 1), and the noises."""


@dataclass(frozen=True, eq=False)
class Pivot:
    """Puts a new row of the state into the memory of D, from which the rows that depend on it in a circle then take it.

    Args:
        output: Weight of D, (...).
        sources: Weights of the state's rows, (..., w).
        used: Which of them are not zero.
    """

    output: torch.Tensor
    sources: torch.Tensor
    used: list[int]


def _program(
    coefficients: Coefficients,
) -> tuple[list[tuple[list[int], list[list[Update] | Pivot]]], torch.Tensor, torch.Tensor]:
    r"""Lists, per call, which tensors really take part and in which order they can be replaced without copies.

    Rows that depend on each other in a circle (A needs the old B, B the old A) are untied by a pivot: a row that contains
    D is computed in D's memory, and in the other rows D is eliminated,

    .. math:: D = (S_i' - \textstyle\sum_j A_{ij} S_j) / b_i.

    Returns:
        Per call (the state's rows that make z, groups of updates); and A and b with D eliminated where that was needed. A
        group of several updates is a circle without a pivot, computed before any of them is replaced.
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
                groups.append([_update(free, state[k], output[k], noise[k])])
                waiting.remove(free)
                continue
            able = [i for i in sorted(waiting) if everywhere[k][i] and not any(noise[k][i])]
            pivot = min(
                able, key=lambda i: (sum(state[k][i]), -i), default=None
            )  # the one that the others take least from
            if pivot is None or any(isinstance(group, Pivot) for group in groups):
                groups.append([_update(i, state[k], output[k], noise[k]) for i in sorted(waiting)])
                break
            used_rows = [j for j, yes in enumerate(state[k][pivot]) if yes]
            groups.append(Pivot(b[..., k, pivot], A[..., k, pivot, :], used_rows))
            if not pivoted:  # the originals stay: what is differentiated through them must not change
                eliminated, pivoted = (A.clone(), b.clone()), True
            rest, share = _eliminate(A[..., k, :, :], b[..., k, :], pivot, waiting)
            eliminated[0][..., k, :, :], eliminated[1][..., k, :] = rest, share
            state[k], output[k] = used(rest), used(share)
        program.append(([j for j, yes in enumerate(inputs[k]) if yes], groups))
    return [*program, ([j for j, yes in enumerate(inputs[-1]) if yes], [])], *eliminated


def _update(i: int, state: Any, output: Any, noise: Any) -> Update:
    sources = [i] * state[i][i] + [j for j, yes in enumerate(state[i]) if yes and j != i]
    return i, sources, int(output[i]), [m for m, yes in enumerate(noise[i]) if yes]


def _eliminate(A: torch.Tensor, b: torch.Tensor, pivot: int, waiting: set[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """One call's A and b, (..., w, w) and (..., w), in which the waiting rows take the pivot's new value in D's place."""
    share = b / b[..., pivot, None]
    rest = A - share.unsqueeze(-1) * A[..., pivot, None, :]
    rest[..., pivot, :] = 0
    for i in {*range(b.shape[-1])} - waiting:  # what has its new value already stays as it is
        share = share.clone()
        rest[..., i, :], share[..., i] = A[..., i, :], b[..., i]
    return rest, share
