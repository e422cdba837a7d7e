r"""The arrays of the linear state machine that every plan is.

.. math::
    z_k = c_k \cdot S_k, \quad D_k = D(z_k; q_k), \quad
    S_{k+1} = A_k S_k + b_k D_k + G_k \epsilon_k, \qquad k = 0, \dots, K - 1, \qquad \text{result} = c_K \cdot S_K

The loop that runs them is :mod:`sigmatune.core.loop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sigmatune.noise import Array
from sigmatune.support.errors import SigmaTuneError


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
        by_level: The noise of a call belongs to the levels of its step, not to its number (:mod:`sigmatune.core.brownian`).

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
    by_level: bool = False

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
        return b"|".join([*(array.tobytes() for array in self._deciding()), *self._told])

    def digits(self) -> bytes:
        """The same to nine digits, for digests that name results: a run folder then serves other processors too."""
        return b"|".join([*(digits(array) for array in self._deciding()), *self._told])

    @property
    def _told(self) -> list[bytes]:
        """What decides besides the arrays; nothing for noise by call, so that older digests stay."""
        return [b"by level"] if self.by_level else []

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
