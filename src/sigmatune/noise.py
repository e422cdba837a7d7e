r"""Noise paths: how a model's own process mixes data and noise, and the exact inverse.

A path is the pair :math:`\alpha(t), s(t)` of the model's own state :math:`\alpha x_0 + s \epsilon`. Everything else in
SigmaTune speaks of the noise level

.. math:: \sigma = s / \alpha, \quad \lambda = \log \mathrm{SNR} = -2 \log \sigma,

so a path is needed in two places only: where a network wants its own ``t`` (:meth:`NoisePath.time`), and where a
schedule family is defined over the model's time (:meth:`NoisePath.at_position`).

======== ============================= ============================== ==========================
path     alpha, s                      t                              sigma
======== ============================= ============================== ==========================
VP       alpha^2 + s^2 = 1             index into the table, 0..T-1   log-linear in the index
VE, EDM  1, sigma                      sigma, or log(sigma) / 4       as given
flow     1 - tau, tau                  T tau, after the shift         tau / (1 - tau), inf at tau = 1
======== ============================= ============================== ==========================

All functions take and return float64 numpy arrays (or floats) of any shape.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sigmatune.errors import SigmaTuneError

Array = npt.NDArray[np.float64]
Levels = float | Array


class NoisePath(ABC):
    r"""Maps a model's time to its noise level and back.

    ``time`` is what the network receives. ``position`` is the coordinate in which the model's makers space their steps:
    a real number in [1, levels], 1 the cleanest level and ``levels`` the noisiest. For a VP table it is t + 1; for a
    flow model it is the time before the shift.
    """

    levels: int

    @property
    @abstractmethod
    def sigma_min(self) -> float:
        """The smallest noise level that the network knows, > 0."""

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """The largest noise level that the network knows; may be infinite."""

    @abstractmethod
    def sigma(self, t: Levels) -> Array:
        """The noise level at the network's time ``t``."""

    @abstractmethod
    def time(self, sigma: Levels) -> Array:
        """The network's time at a noise level: the exact inverse of :meth:`sigma`."""

    @abstractmethod
    def at_position(self, position: Levels) -> Array:
        """The noise level at a position in [1, levels]."""

    @abstractmethod
    def position(self, sigma: Levels) -> Array:
        """The position of a noise level: the exact inverse of :meth:`at_position`."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """A JSON-ready description that :func:`from_spec` turns back into the same path."""

    def alpha(self, t: Levels) -> Array:
        """The signal scale of the model's own state at time ``t``."""
        return alpha_of(self.sigma(t))

    def s(self, t: Levels) -> Array:
        """The noise scale of the model's own state at time ``t``."""
        return s_of(self.sigma(t))

    def logsnr(self, t: Levels) -> Array:
        """The log signal-to-noise ratio at time ``t``, -2 log sigma."""
        with np.errstate(divide="ignore"):
            return np.asarray(-2 * np.log(self.sigma(t)))

    def state_scale(self, sigma: Levels) -> Array:
        """The factor from the unit state z to the model's own state; 1 for variance-preserving paths."""
        return np.ones_like(np.asarray(sigma, dtype=np.float64))

    def check(self, sigma: Levels) -> None:
        """Refuses noise levels outside [sigma_min, sigma_max].

        Raises:
            SigmaTuneError: naming the first level that is outside.
        """
        values = np.atleast_1d(np.asarray(sigma, dtype=np.float64)).ravel()
        slack = 1e-9
        outside = ~((values >= self.sigma_min * (1 - slack)) & (values <= self.sigma_max * (1 + slack)))
        if outside.any():
            raise SigmaTuneError(
                f"sigma {values[outside][0]:.6g} is outside the model's range "
                f"[{self.sigma_min:.6g}, {self.sigma_max:.6g}]; choose noise levels inside it."
            )


def alpha_of(sigma: Levels) -> Array:
    """The signal scale 1 / sqrt(1 + sigma^2) of the unit state; 0 at sigma = inf."""
    return np.asarray(1 / np.hypot(1.0, sigma))


def s_of(sigma: Levels) -> Array:
    """The noise scale sigma / sqrt(1 + sigma^2) of the unit state; 1 at sigma = inf and 0 at sigma = 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.hypot(1.0, 1 / np.asarray(sigma, dtype=np.float64)))


@dataclass(frozen=True, eq=False)
class VP(NoisePath):
    r"""The variance-preserving path of a discrete table :math:`\bar\alpha_0 > \dots > \bar\alpha_{T-1}`.

    .. math:: \sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}

    Between two entries log sigma is linear in t. A table that ends in exactly 0 (zero terminal SNR) ends at
    sigma = inf; on that last interval 1 / sigma is linear in t instead.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020)
        | https://arxiv.org/abs/2006.11239

    Args:
        alphas_cumprod: The table, (T,), strictly decreasing inside (0, 1), the last entry may be 0.
        origin: How the table was made, for :meth:`spec`; the table itself when empty.

    Raises:
        SigmaTuneError: if the table is too short or not strictly decreasing inside [0, 1).
    """

    alphas_cumprod: Array
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = np.array(self.alphas_cumprod, dtype=np.float64)
        if table.ndim != 1 or len(table) < 2:
            raise SigmaTuneError(f"alphas_cumprod must be a list of at least two numbers, not shape {table.shape}.")
        if not (np.all(np.isfinite(table)) and table[0] < 1 and table[-1] >= 0 and np.all(np.diff(table) < 0)):
            raise SigmaTuneError("alphas_cumprod must fall strictly from below 1 to at least 0.")
        table.flags.writeable = False
        object.__setattr__(self, "alphas_cumprod", table)
        if not np.all(np.diff(self._log_sigma) > 0):
            raise SigmaTuneError("two entries of alphas_cumprod are too close to be told apart as noise levels.")

    @property
    def levels(self) -> int:  # type: ignore[override]
        return len(self.alphas_cumprod)

    @cached_property
    def _log_sigma(self) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray(0.5 * (np.log1p(-self.alphas_cumprod) - np.log(self.alphas_cumprod)))

    @property
    def sigma_min(self) -> float:
        return float(np.exp(self._log_sigma[0]))

    @property
    def sigma_max(self) -> float:
        return float(np.exp(self._log_sigma[-1]))

    @property
    def _finite(self) -> int:
        """The number of table entries with a finite sigma."""
        return self.levels - int(self.alphas_cumprod[-1] == 0)

    def sigma(self, t: Levels) -> Array:
        t = np.asarray(t, dtype=np.float64)
        if np.any((t < 0) | (t > self.levels - 1) | np.isnan(t)):
            raise SigmaTuneError(f"t must lie in [0, {self.levels - 1}].")
        last = self._finite - 1
        sigma = np.exp(np.interp(t, np.arange(self._finite), self._log_sigma[: self._finite]))
        if last == self.levels - 1:
            return np.asarray(sigma)
        with np.errstate(divide="ignore"):
            tail = np.exp(self._log_sigma[last]) / (1 - np.clip(t - last, 0, 1))
        return np.where(t > last, tail, sigma)

    def time(self, sigma: Levels) -> Array:
        self.check(sigma)
        sigma = np.asarray(sigma, dtype=np.float64)
        last = self._finite - 1
        t = np.interp(np.log(sigma), self._log_sigma[: self._finite], np.arange(self._finite))
        if last == self.levels - 1:
            return np.asarray(t)
        top = np.exp(self._log_sigma[last])
        return np.where(sigma > top, last + 1 - top / sigma, t)

    def at_position(self, position: Levels) -> Array:
        return self.sigma(np.asarray(position, dtype=np.float64) - 1)

    def position(self, sigma: Levels) -> Array:
        return self.time(sigma) + 1

    def spec(self) -> dict[str, Any]:
        return {"kind": "vp", **(self.origin or {"alphas_cumprod": self.alphas_cumprod.tolist()})}


def vp(
    betas: Literal["linear", "scaled_linear", "cosine"] = "linear",
    *,
    levels: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    zero_terminal_snr: bool = False,
) -> VP:
    r"""Builds the VP path of one of the usual beta tables, in the float32 arithmetic in which models met it.

    Args:
        betas: ``linear``; ``scaled_linear`` (linear in sqrt(beta), Stable Diffusion); ``cosine`` (Nichol and Dhariwal,
            betas capped at 0.999).
        levels: T.
        beta_start, beta_end: Ends of the two linear tables.
        zero_terminal_snr: Rescale so that the last level has no signal at all (Lin et al., 2023, arXiv 2305.08891).

    Raises:
        SigmaTuneError: for an unknown table or ends outside 0 < beta_start <= beta_end < 1.
    """
    if not 0 < beta_start <= beta_end < 1 or levels < 2:
        raise SigmaTuneError(
            f"need 0 < beta_start <= beta_end < 1 and levels >= 2, got {beta_start}, {beta_end}, {levels}."
        )
    import torch  # float32 rounding differs between libraries by up to 6e-4 in sigma_min; models saw torch's

    if betas == "linear":
        table = torch.linspace(beta_start, beta_end, levels, dtype=torch.float32)
    elif betas == "scaled_linear":
        table = torch.linspace(beta_start**0.5, beta_end**0.5, levels, dtype=torch.float32) ** 2
    elif betas == "cosine":
        bar = np.cos((np.arange(levels + 1) / levels + 0.008) / 1.008 * np.pi / 2) ** 2
        table = torch.from_numpy(np.minimum(1 - bar[1:] / bar[:-1], 0.999)).float()
    else:
        raise SigmaTuneError(f"there is no beta table {betas!r}; choose linear, scaled_linear or cosine.")
    alphas = torch.cumprod(1 - table, dim=0)
    if zero_terminal_snr:
        root = alphas.sqrt()
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        ratios = torch.cat([root[:1] ** 2, root[1:] ** 2 / root[:-1] ** 2])
        alphas = torch.cumprod(1 - (1 - ratios), dim=0)  # the detour over betas is part of the published tables
    origin: dict[str, Any] = {"betas": betas, "levels": levels}
    if betas != "cosine":
        origin |= {"beta_start": beta_start, "beta_end": beta_end}
    if zero_terminal_snr:
        origin["zero_terminal_snr"] = True
    return VP(alphas.double().numpy(), origin)


@dataclass(frozen=True)
class VE(NoisePath):
    r"""The variance-exploding path, :math:`x = x_0 + \sigma \epsilon`, also the one of EDM.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364

    Args:
        sigma_low, sigma_high: The model's range, 0 < low < high < inf.
        clock: What the network calls t: ``sigma`` itself or EDM's ``quarter_log``, log(sigma) / 4.
        levels: How many positions the range is divided into; positions are linear in sigma.
    """

    sigma_low: float = 0.002
    sigma_high: float = 80.0
    clock: Literal["sigma", "quarter_log"] = "sigma"
    levels: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.sigma_low < self.sigma_high < np.inf:
            raise SigmaTuneError(f"need 0 < sigma_min < sigma_max < inf, got {self.sigma_low} and {self.sigma_high}.")
        if self.clock not in ("sigma", "quarter_log"):
            raise SigmaTuneError(f"the clock must be 'sigma' or 'quarter_log', not {self.clock!r}.")
        if self.levels < 2:
            raise SigmaTuneError(f"a path has at least two levels, not {self.levels}.")

    @property
    def sigma_min(self) -> float:
        return self.sigma_low

    @property
    def sigma_max(self) -> float:
        return self.sigma_high

    def sigma(self, t: Levels) -> Array:
        t = np.asarray(t, dtype=np.float64)
        sigma = np.exp(4 * t) if self.clock == "quarter_log" else t
        self.check(sigma)
        return np.asarray(sigma)

    def time(self, sigma: Levels) -> Array:
        self.check(sigma)
        sigma = np.asarray(sigma, dtype=np.float64)
        return np.asarray(np.log(sigma) / 4 if self.clock == "quarter_log" else sigma)

    def alpha(self, t: Levels) -> Array:
        return np.ones_like(self.sigma(t))

    def s(self, t: Levels) -> Array:
        return self.sigma(t)

    def at_position(self, position: Levels) -> Array:
        share = (np.asarray(position, dtype=np.float64) - 1) / (self.levels - 1)
        return np.asarray(self.sigma_low + share * (self.sigma_high - self.sigma_low))

    def position(self, sigma: Levels) -> Array:
        self.check(sigma)
        share = (np.asarray(sigma, dtype=np.float64) - self.sigma_low) / (self.sigma_high - self.sigma_low)
        return np.asarray(1 + share * (self.levels - 1))

    def state_scale(self, sigma: Levels) -> Array:
        return np.hypot(1.0, np.asarray(sigma, dtype=np.float64))

    def spec(self) -> dict[str, Any]:
        return {"kind": "ve", "sigma_min": self.sigma_low, "sigma_max": self.sigma_high, "clock": self.clock,
                "levels": self.levels}  # fmt: skip


def shift(tau: Levels, by: float) -> Array:
    r"""Shifts flow time towards noise, :math:`\tau' = m \tau / (1 + (m - 1) \tau)`, which multiplies sigma by m.

    References:
        | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024)
        | https://arxiv.org/abs/2403.03206
    """
    tau = np.asarray(tau, dtype=np.float64)
    return np.asarray(by * tau / (by * tau + (1 - tau)))  # exactly 1 at tau = 1, which the usual form is not


def unshift(tau: Levels, by: float) -> Array:
    """Undoes :func:`shift` exactly."""
    return shift(tau, 1 / by)


@dataclass(frozen=True)
class Flow(NoisePath):
    r"""The straight path of flow matching, :math:`(1 - \tau) x_0 + \tau \epsilon`.

    The network receives :math:`t = T \tau` **after** the shift; positions are T times the time **before** it, so a grid
    that is uniform in position is what pipelines shift once.

    References:
        | Flow Matching for Generative Modeling (Lipman et al., 2022)
        | https://arxiv.org/abs/2210.02747

    Args:
        shift_by: The shift m > 0 (SD3: 3).
        levels: T.
    """

    shift_by: float = 1.0
    levels: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.shift_by < np.inf or self.levels < 2:
            raise SigmaTuneError(f"need shift > 0 and levels >= 2, got {self.shift_by} and {self.levels}.")

    @property
    def sigma_min(self) -> float:
        return float(self.at_position(1.0))

    @property
    def sigma_max(self) -> float:
        return float("inf")

    def sigma(self, t: Levels) -> Array:
        tau = np.asarray(t, dtype=np.float64) / self.levels
        if np.any(~((tau >= 0) & (tau <= 1))):
            raise SigmaTuneError(f"t must lie in [0, {self.levels}].")
        with np.errstate(divide="ignore"):
            return np.asarray(tau / (1 - tau))

    def time(self, sigma: Levels) -> Array:
        self.check(sigma)
        return np.asarray(self.levels / (1 + 1 / np.asarray(sigma, dtype=np.float64)))

    def alpha(self, t: Levels) -> Array:
        return np.asarray(1 - np.asarray(t, dtype=np.float64) / self.levels)

    def s(self, t: Levels) -> Array:
        return np.asarray(np.asarray(t, dtype=np.float64) / self.levels)

    def at_position(self, position: Levels) -> Array:
        u = np.asarray(position, dtype=np.float64) / self.levels
        with np.errstate(divide="ignore"):
            return np.asarray(self.shift_by * u / (1 - u))

    def position(self, sigma: Levels) -> Array:
        self.check(sigma)
        return np.asarray(self.levels / (1 + self.shift_by / np.asarray(sigma, dtype=np.float64)))

    def state_scale(self, sigma: Levels) -> Array:
        # (1 - tau) x0 + tau eps over alpha x0 + s eps: both scale x0 by 1 / (1 + sigma) and 1 / sqrt(1 + sigma^2).
        r = 1 / np.asarray(sigma, dtype=np.float64)
        return np.hypot(1.0, r) / (1 + r)

    def spec(self) -> dict[str, Any]:
        return {"kind": "flow", "shift": self.shift_by, "levels": self.levels}


@dataclass(frozen=True)
class Narrowed(NoisePath):
    """Restricts a path to a part of its range; positions are spread over that part, the network's time is unchanged.

    Args:
        inner: The model's own path.
        low, high: The new sigma_min and sigma_max, inside the path's range; ``high`` may be infinite if the path's is.

    Raises:
        SigmaTuneError: if the ends are not numbers with low < high, or lie outside the path's range.
    """

    inner: NoisePath
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise SigmaTuneError(f"need 0 < sigma_min < sigma_max, got {self.low:.6g} and {self.high:.6g}.")
        self.inner.check(np.array([self.low, self.high]))

    @property
    def levels(self) -> int:  # type: ignore[override]
        return self.inner.levels

    @property
    def sigma_min(self) -> float:
        return self.low

    @property
    def sigma_max(self) -> float:
        return self.high

    def sigma(self, t: Levels) -> Array:
        sigma = self.inner.sigma(t)
        self.check(sigma)
        return sigma

    def time(self, sigma: Levels) -> Array:
        self.check(sigma)
        return self.inner.time(sigma)

    def alpha(self, t: Levels) -> Array:
        return self.inner.alpha(t)

    def s(self, t: Levels) -> Array:
        return self.inner.s(t)

    def state_scale(self, sigma: Levels) -> Array:
        return self.inner.state_scale(sigma)

    @cached_property
    def _ends(self) -> Array:
        return self.inner.position(np.array([self.low, self.high]))

    def at_position(self, position: Levels) -> Array:
        return self.inner.at_position(np.interp(position, [1, self.levels], self._ends))

    def position(self, sigma: Levels) -> Array:
        self.check(sigma)
        return np.asarray(np.interp(self.inner.position(sigma), self._ends, [1, self.levels]))

    def spec(self) -> dict[str, Any]:
        return {"kind": "narrowed", "of": self.inner.spec(), "sigma_min": self.low, "sigma_max": self.high}


def from_spec(spec: Mapping[str, Any]) -> NoisePath:
    """Rebuilds a path from :meth:`NoisePath.spec`.

    Raises:
        SigmaTuneError: for an unknown kind or unknown fields.
    """
    fields = dict(spec)
    kind = fields.pop("kind", None)
    try:
        if kind == "vp" and "alphas_cumprod" in fields:
            return VP(np.asarray(fields.pop("alphas_cumprod"), dtype=np.float64), **fields)
        if kind == "vp":
            return vp(fields.pop("betas"), **fields)
        if kind == "ve":
            return VE(fields.pop("sigma_min"), fields.pop("sigma_max"), **fields)
        if kind == "flow":
            return Flow(fields.pop("shift"), **fields)
        if kind == "narrowed":
            return Narrowed(from_spec(fields.pop("of")), fields.pop("sigma_min"), fields.pop("sigma_max"), **fields)
    except (KeyError, TypeError) as error:
        raise SigmaTuneError(f"the noise path {dict(spec)!r} cannot be read: {error}.") from None
    raise SigmaTuneError(f"there is no noise path of kind {kind!r}; the known ones are vp, ve, flow, narrowed.")
