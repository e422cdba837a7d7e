r"""Every plan is a linear state machine; this module defines it and the only loop that runs it.

Every sampler that is linear in the denoiser's outputs is data:

.. math::
    z_k = c_k \cdot S_k, \quad D_k = D(z_k; q_k), \quad
    S_{k+1} = A_k S_k + b_k D_k + G_k \epsilon_k, \qquad k = 0, \dots, K - 1, \qquad \text{result} = c_K \cdot S_K

S is a stack of w tensors of the shape of the data (w, the *width*: 1 for Euler, 2 for a two-step method), K the number
of network calls, q_k the noise level of the network call. The run starts from :math:`S_0 = \text{start} \,
\epsilon + \text{origin} \, x_0`, with x_0 = 0 except for a start from an image.

A solver (:mod:`sigmatune.solvers`) is a function from noise levels to these arrays. With a leading row axis the arrays
hold one sampler per row. A network of phase space takes and returns p = 2 tensors at once, position and momentum; then
c_k has p rows and b_k p columns, one for each of these *ports*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sigmatune import rng
from sigmatune.denoiser import Denoiser
from sigmatune.errors import SigmaTuneError
from sigmatune.noise import Array
from sigmatune.soundness import check_padding


@dataclass(frozen=True, eq=False)
class Coefficients:
    """The arrays of the linear state machine, all float64; ``...`` is empty or one row axis (R,).

    Args:
        q: Levels of the network calls, (..., K).
        A: State to state, (..., K, w, w).
        b: Denoiser output to state, (..., K, w).
        c: State to network input, and to the result for the last entry, (..., K + 1, w).
        start: Start noises to state, (..., w, m).
        origin: Start image to state, (..., w).
        G: Noises of each call to state, (..., K, w, g); g = 0 for a deterministic plan.
        double: The state is kept in float64 (on devices that have it), whatever the network's dtype.

    With p > 1 ports c is (..., K + 1, p, w), whose last entry's first row gives the result, and b is (..., K, w, p).

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
    double: bool = False

    def __post_init__(self) -> None:
        rows, (calls, width) = self.q.shape[:-1], self.A.shape[-3:-1]
        several = self.ports > 1
        expected = {
            "q": (calls,),
            "A": (calls, width, width),
            "b": (calls, width, self.ports) if several else (calls, width),
            "c": (calls + 1, self.ports, width) if several else (calls + 1, width),
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

    def __repr__(self) -> str:
        return (
            f"Coefficients(calls={self.calls}, width={self.width}, ports={self.ports}, rows={self.rows}, "
            f"deterministic={self.deterministic})"
        )

    @property
    def calls(self) -> int:
        """K, the number of network calls."""
        return int(self.A.shape[-3])

    @property
    def width(self) -> int:
        """w, the number of tensors that the state holds."""
        return int(self.A.shape[-1])

    @property
    def ports(self) -> int:
        """p, the number of tensors that the network takes and returns at once."""
        return int(self.c.shape[-2]) if self.c.ndim - self.q.ndim == 2 else 1

    @property
    def rows(self) -> int | None:
        """R if there is one sampler per row, None if all rows share one."""
        return int(self.q.shape[0]) if self.q.ndim == 2 else None

    @property
    def deterministic(self) -> bool:
        """Whether sampling adds no noise."""
        return not bool((self.G != 0).any())

    def tobytes(self) -> bytes:
        """The bits of everything that determines the result from a noise."""
        return b"|".join(array.tobytes() for array in self._deciding())

    def digits(self) -> bytes:
        """The same to nine digits, for digests that name results: a run folder then serves other processors too."""
        return b"|".join(digits(array) for array in self._deciding())

    def _deciding(self) -> list[Array]:
        return [getattr(self, name).numpy() for name in ("q", "A", "b", "c", "start", "G")]

    def at(self, rows: Sequence[int]) -> Coefficients:
        """Selects rows; a shared table is returned as it is."""
        if self.rows is None:
            return self
        pick = list(rows)
        names = ("q", "A", "b", "c", "start", "origin", "G")
        return replace(self, **{name: getattr(self, name)[pick] for name in names})


def digits(values: Array) -> bytes:
    """The first 30 binary digits of some numbers, for digests that name results: processors differ in the last digits.

    They are counted from the point, or from the number's own first digit where it is above 1.
    """
    known = np.where(np.isfinite(values), values, 0.0)
    scale = np.ldexp(1.0, 30 - np.frexp(np.maximum(np.abs(known), 1.0))[1])
    return np.where(np.isfinite(values), np.rint(known * scale) / scale + 0.0, values).tobytes()  # + 0: there is no -0


@dataclass(frozen=True)
class Step:
    """The data of the ``on_step`` hook after each network call.

    Attributes:
        call: Index of the network call, 0..K-1.
        sigma: Level of each row, (B,), float64.
        z: Unit states that the network received, (B, *shape); clone to keep them, because the loop reuses the memory.
        x0: Denoiser outputs, (B, *shape). Clone to keep them.
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
    enabled nothing is overwritten, so the loop is differentiable.

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
    pad = (micro_batch or batch) - batch
    model = denoiser.rows(indices, pad)
    dtype = torch.float64 if coefficients.double and denoiser.device.type != "mps" else denoiser.dtype
    machine = Machine(coefficients, dtype, denoiser.device, len(denoiser.shape))
    levels = coefficients.q if torch.is_grad_enabled() else coefficients.q.detach()
    q = (levels if coefficients.rows is not None else levels.expand(batch, -1)).unbind(1)
    machine.S = [s.clone() for s in state] if state is not None else _start(machine, seed, indices, denoiser, x0)
    for k in range(coefficients.calls):

        def eps(m: int, call: int = k + 1) -> torch.Tensor:
            drawn = rng.noise(seed, indices, call, denoiser.shape, channel=m, dtype=dtype)
            return drawn.to(denoiser.device)

        z = machine.input(k).to(denoiser.dtype)
        D = _padded(model, z, q[k], pad, first=k == 0)
        if on_step is not None:
            on_step(Step(k, q[k].detach(), z, D, range(batch)))
        del z
        machine.advance(k, D.to(dtype), eps)
        del D
    return machine.result()


class Machine:
    """The state between network calls, and its update by a call's output: the body of any loop.

    Set ``S``, then for each call k evaluate the network at :meth:`input` and pass its estimate to :meth:`advance`; at
    the end take :meth:`result`.

    Args:
        coefficients: The table.
        dtype, device: Those of the state.
        ndim: Dimensions of one sample.
        fused: Multiply and add in one kernel, for a shared table and without gradients: faster, but its last bits
            differ from those of a table with rows. The state may then keep D, so the caller must not reuse it.

    Attributes:
        S: The w tensors of the state, each (B, *shape).
        owned: The first tensor of the state may be overwritten. False if it belongs to a foreign loop.
    """

    def __init__(
        self, coefficients: Coefficients, dtype: torch.dtype, device: torch.device, ndim: int, *, fused: bool = False
    ) -> None:
        self.coefficients, self.dtype, self.device = coefficients, dtype, device
        self._ones, self._fused = (1,) * ndim, fused
        several = coefficients.ports > 1
        self.program, A, b = ([], coefficients.A, coefficients.b) if several else _program(coefficients)
        tables = (A, b, coefficients.c, coefficients.G)
        axes = (3, 3, 3, 3) if several else (3, 2, 2, 3)
        self._entries = [
            value.tolist() if fused else _entries(self.table(value), count)
            for value, count in zip(tables, axes, strict=True)
        ]
        c = coefficients.c.detach()
        self._one = (c == 1).reshape(-1, *c.shape[-2:]).all(dim=0).tolist() if not several else []
        self.S: list[torch.Tensor] = []
        self.owned = True

    def table(self, value: torch.Tensor) -> torch.Tensor:
        """Coefficients shaped to multiply states: (rows or 1, ..., 1, 1, 1)."""
        # The same kernels, hence the same bits, for shared and for per-row coefficients.
        value = value if self.coefficients.rows is not None else value.unsqueeze(0)
        return value.to(self.device, self.dtype).reshape(*value.shape, *self._ones)

    def input(self, k: int) -> torch.Tensor:
        """The network's input in call k, (B, *shape); may be a tensor of the state itself.

        For a network of several ports it is (B, p C, ...), the ports side by side in the channels.
        """
        if self.coefficients.ports > 1:
            return torch.cat([self._port(k, r) for r in range(self.coefficients.ports)], dim=1)
        inputs = self.program[k][0]
        if len(inputs) == 1 and self._one[k][inputs[0]]:
            return self.S[inputs[0]]
        return _combine([(self.S[j], self._weight(2, k, j)) for j in inputs], self.S[0])

    def _port(self, k: int, r: int) -> torch.Tensor:
        return _combine([(S, self._weight(2, k, r, j)) for j, S in enumerate(self.S)], self.S[0])

    def result(self) -> torch.Tensor:
        """The result of the last state, (B, *shape), a new tensor."""
        if self.coefficients.ports > 1:
            return self._port(-1, 0)
        return _combine([(self.S[j], self._weight(2, -1, j)) for j in self.program[-1][0]], self.S[0])

    def _weight(self, which: int, *place: int) -> Weight:
        """An entry of A, b, c or G (0 to 3): a tensor that multiplies states, or a number where kernels are fused."""
        value: Any = self._entries[which]
        for i in place:
            value = value[i]
        found: Weight = value
        return found

    def advance(self, k: int, D: torch.Tensor, eps: Callable[[int], torch.Tensor]) -> None:
        """Replaces the state by the one after call k.

        Args:
            k: The call.
            D: The denoiser's output, (B, *shape). Its memory may be reused.
            eps: Draws a noise of this call by its channel, (B, *shape); its memory is reused.
        """
        if self.coefficients.ports > 1:
            self._advance_ports(k, D, eps)
            return
        groups = self.program[k][1]
        for group in groups:
            if isinstance(group, Pivot):
                D = self._turned(group, D)
            elif self._fused and group is groups[-1] and self._keeps(k, group):
                self.S[group[0][0]] = D
            elif len(group) == 1:
                self.S[group[0][0]] = self._fresh(k, group[0], D, eps, alone=True)
            else:
                values = [self._fresh(k, update, D, eps, alone=False) for update in group]
                for update in reversed(group):
                    self.S[update[0]] = values.pop()

    def _advance_ports(self, k: int, D: torch.Tensor, eps: Callable[[int], torch.Tensor]) -> None:
        """The same for a network of several ports; the whole new state briefly coexists with the old one."""
        outputs, states = D.chunk(self.coefficients.ports, dim=1), range(self.coefficients.width)
        drawn = [eps(m) for m in range(self.coefficients.G.shape[-1])]
        fresh = []
        for i in states:
            terms = [(self.S[j], self._weight(0, k, i, j)) for j in states]
            terms += [(output, self._weight(1, k, i, r)) for r, output in enumerate(outputs)]
            terms += [(noise, self._weight(3, k, i, m)) for m, noise in enumerate(drawn)]
            fresh.append(_combine(terms, D))
        self.S = fresh

    def _keeps(self, k: int, group: list[Update]) -> bool:
        """Whether call k only has to store D."""
        (i, sources, outputs, channels), *more = group
        return not more and not sources and not channels and outputs == 1 and bool(self._weight(1, k, i) == 1)

    def _fresh(
        self, k: int, update: Update, D: torch.Tensor, eps: Callable[[int], torch.Tensor], *, alone: bool
    ) -> torch.Tensor:
        i, sources, outputs, channels = update
        S = self.S
        terms = [(S[j], self._weight(0, k, i, j)) for j in sources] + [(D, self._weight(1, k, i))] * outputs
        keep = torch.is_grad_enabled() or not alone or sources[:1] != [i] or not (i or self.owned)
        if alone and i not in sources:
            S[i] = D  # releases a value that is no longer needed
        value = _combine(terms, D, overwrite=not keep)
        for m in channels:
            drawn, weight = eps(m), self._weight(3, k, i, m)
            value = value.add_(drawn.mul_(weight)) if not torch.is_grad_enabled() else value + drawn * weight
        return value

    def _turned(self, pivot: Pivot, D: torch.Tensor) -> torch.Tensor:
        own: Weight
        weights: Callable[[int], Weight]
        if not self._fused:
            own, table = self.table(pivot.output), self.table(pivot.sources)
            weights = lambda j: table[:, j]  # noqa: E731
        else:
            own, weights = float(pivot.output), lambda j: float(pivot.sources[j])
        terms = [(D, own), *((self.S[j], weights(j)) for j in pivot.used)]
        return _combine(terms, D, overwrite=not torch.is_grad_enabled())


def _start(
    machine: Machine, seed: int, indices: Sequence[int], denoiser: Denoiser, x0: torch.Tensor | None
) -> list[torch.Tensor]:
    coefficients = machine.coefficients
    start, origin = machine.table(coefficients.start), machine.table(coefficients.origin)
    eps = [
        rng.noise(seed, indices, rng.START, denoiser.shape, channel=m, dtype=machine.dtype).to(denoiser.device)
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


Weight = torch.Tensor | float


def _combine(
    terms: Sequence[tuple[torch.Tensor, Weight]],
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
        total = total.add_(tensor, alpha=weight) if isinstance(weight, float) else total.add_(tensor * weight)
    return total


def _entries(value: torch.Tensor, axes: int) -> Any:
    """Nested lists over the axes after the first: the entries of a call, without indexing tensors."""
    return value if axes == 0 else [_entries(part, axes - 1) for part in value.unbind(1)]


def _padded(denoiser: Denoiser, z: torch.Tensor, sigma: torch.Tensor, pad: int, *, first: bool) -> torch.Tensor:
    """Calls the denoiser on z followed by ``pad`` rows of zeros and returns the output of the real rows.

    Raises:
        SigmaTuneError: in the first call, if equal rows of zeros have different outputs.
    """
    if pad <= 0:
        return denoiser(z, sigma)
    zeros = z.new_zeros(pad, *z.shape[1:])
    answers = denoiser(torch.cat([z, zeros]), torch.cat([sigma, sigma[:1].expand(pad)]))
    if first:
        check_padding(answers[len(z) :].detach(), torch.finfo(denoiser.network_dtype or denoiser.dtype).eps)
    return answers[: len(z)]


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


def _program(
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
                groups.append([_update(free, state[k], output[k], noise[k])])
                waiting.remove(free)
                continue
            able = [i for i in sorted(waiting) if everywhere[k][i] and not any(noise[k][i])]
            pivot = min(able, key=lambda i: (sum(state[k][i]), -i), default=None)  # the row that the others use least
            if pivot is None or any(isinstance(group, Pivot) for group in groups):
                groups.append([_update(i, state[k], output[k], noise[k]) for i in sorted(waiting)])
                break
            used_rows = [j for j, yes in enumerate(state[k][pivot]) if yes]
            groups.append(Pivot(b[..., k, pivot], A[..., k, pivot, :], used_rows))
            if not pivoted:  # the originals stay, because gradients flow through them
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
    for i in {*range(b.shape[-1])} - waiting:  # rows with their new value stay
        share = share.clone()
        rest[..., i, :], share[..., i] = A[..., i, :], b[..., i]
    return rest, share
