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
from dataclasses import dataclass
from typing import Any

import torch

from sigmatune.core import rng
from sigmatune.core.brownian import Noise
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.program import Pivot, Update, program_of
from sigmatune.core.soundness import check_padding
from sigmatune.core.table import Coefficients


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
    noise = Noise(coefficients, seed, indices, denoiser.shape)
    for k in range(coefficients.calls):

        def eps(m: int, call: int = k) -> torch.Tensor:
            return noise(call, m, dtype).to(denoiser.device)

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
        self.program, A, b = ([], coefficients.A, coefficients.b) if several else program_of(coefficients)
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
        entry: Weight = value
        return entry

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
        of_output: Weight
        weights: Callable[[int], Weight]
        if not self._fused:
            of_output, table = self.table(pivot.output), self.table(pivot.sources)
            weights = lambda j: table[:, j]  # noqa: E731
        else:
            of_output, weights = float(pivot.output), lambda j: float(pivot.sources[j])
        terms = [(D, of_output), *((self.S[j], weights(j)) for j in pivot.used)]
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
