r"""A mixture of Gaussians, one for each class of a data set, whose posterior mean costs two matrix products per class.

Images are turned into modes :math:`u = B x` by an orthonormal basis, a cosine transform of rows and columns and a
rotation of colours. Component k has full covariance :math:`U_k \Lambda_k U_k^T` in the first m modes, those of low
frequency, and independent modes beyond. So :math:`\alpha^2 C_k + s^2` is diagonal in the same axes at every level, and
with :math:`y_k = U_k^T (u - \alpha B \mu_k)`

.. math:: D = \sum_k r_k \left[ \mu_k + B^T U_k \frac{\alpha \Lambda_k}{\alpha^2 \Lambda_k + s^2} y_k \right], \quad
          r_k \propto w_k \prod_i \frac{1}{\sqrt{v_{ki}}} e^{-y_{ki}^2 / 2 v_{ki}}, \quad
          v_k = \alpha^2 \Lambda_k + s^2

is exact. With m = d every covariance is full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sigmatune.core.rng import START, noise
from sigmatune.models.analytic import DATA, choose
from sigmatune.models.exact.classes import Classes
from sigmatune.models.predictions import alpha_s
from sigmatune.noise import NoisePath, vp
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor
DRAWN = 64
"""Number of draws at a time."""


@dataclass(frozen=True, eq=False)
class Basis:
    """An orthonormal basis of images, a product of three.

    Attributes:
        colours, rows, columns: Orthonormal matrices, one mode in each row: (C, C), (H, H), (W, W).
        order: The order of the modes, (C H W,), a permutation.
    """

    colours: Tensor
    rows: Tensor
    columns: Tensor
    order: Tensor

    def modes(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) as modes (B, d) in x's dtype."""
        basis = self.to(x.dtype, x.device)
        turned = torch.tensordot(basis.colours, basis.rows @ x @ basis.columns.T, dims=([1], [1]))
        return torch.index_select(turned.transpose(0, 1).flatten(1), 1, basis.order)

    def images(self, u: Tensor) -> Tensor:
        """The inverse of :meth:`modes`; the basis is orthonormal."""
        basis = self.to(u.dtype, u.device)
        placed = torch.empty_like(u).index_copy(1, basis.order, u)
        stacked = placed.view(-1, len(basis.colours), len(basis.rows), len(basis.columns))
        turned = torch.tensordot(basis.colours, stacked, dims=([0], [1])).transpose(0, 1)
        return torch.matmul(basis.rows.T @ turned, basis.columns)

    def to(self, dtype: torch.dtype, device: torch.device) -> Basis:
        """The same in another dtype and on another device."""
        colours, rows, columns = (part.to(device, dtype) for part in (self.colours, self.rows, self.columns))
        return Basis(colours, rows, columns, self.order.to(device))


@dataclass(frozen=True)
class Gaussians:
    """One Gaussian for each class.

    Attributes:
        weights: w, (K,), > 0, summing to 1.
        means: (K, C, H, W).
        variances: Of each component, along its own axes, then of each mode beyond them, (K, d), > 0.
        axes: U, (K, m, m), m <= d, orthonormal columns in the first m modes.
        basis: The basis of the modes.

    Raises:
        SigmaTuneError: if the arrays do not fit together.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor
    basis: Basis

    def __post_init__(self) -> None:
        k, m, d = len(self.means), self.axes.shape[-1], self.means[0].numel()
        arrays = (self.weights, self.means, self.variances, self.axes)
        fits = self.weights.shape == (k,) and self.variances.shape == (k, d) and self.axes.shape == (k, m, m) and m <= d
        if not fits:
            raise SigmaTuneError(
                "a mixture needs weights (K,), means (K, C, H, W), variances (K, d) and axes (K, m, m), not "
                f"{', '.join(str(tuple(array.shape)) for array in arrays)}."
            )
        sums = bool((self.weights > 0).all()) and abs(float(self.weights.sum()) - 1) < 1e-9
        if not (sums and bool((self.variances > 0).all())):
            raise SigmaTuneError("weights must be positive and sum to 1, and variances must be positive.")


class ClassMixture(Classes):
    """Denoises a mixture of one Gaussian for each class exactly.

    The arrays are float64; products run in ``dtype``, variances, log densities and responsibilities in float64.

    Args:
        gaussians: The components.
        classes: Names of the components; "0", "1", ... by default.
        path: Binds schedules; DDPM's linear betas by default.
        dtype: Of products and of the states.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        *,
        classes: Sequence[str] = (),
        path: NoisePath | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        k, self.m, basis = len(gaussians.means), gaussians.axes.shape[-1], gaussians.basis
        self.shape, self.path, self.dtype = tuple(gaussians.means.shape[1:]), path or vp(), dtype
        self.device, self.classes = torch.device(device), tuple(classes) or tuple(map(str, range(k)))
        self.weights, self.means, self.variances, self.axes = (
            array.to(self.device, torch.float64)
            for array in (gaussians.weights, gaussians.means, gaussians.variances, gaussians.axes)
        )
        self.basis = basis
        self.arrays = (self.weights, self.means, self.variances, self.axes)
        self._places = basis.modes(self.means)  # B mu
        self._centres = [self._along(k, u[None])[0].to(dtype) for k, u in enumerate(self._places)]  # U' B mu
        self._axes, self._basis = [axis.to(dtype) for axis in self.axes], basis.to(dtype, self.device)

    def _along(self, k: int, u: Tensor) -> Tensor:
        """Modes along the axes of a component, (B, d)."""
        axes = self.axes[k] if u.dtype == torch.float64 else self._axes[k]
        return torch.cat([u[:, : self.m] @ axes, u[:, self.m :]], dim=1)

    def _back(self, k: int, y: Tensor) -> Tensor:
        """The inverse of :meth:`_along`."""
        axes = self.axes[k] if y.dtype == torch.float64 else self._axes[k]
        return torch.cat([y[:, : self.m] @ axes.T, y[:, self.m :]], dim=1)

    def estimate(self, z: Tensor, sigma: Tensor, labels: Sequence[int | None]) -> Tensor:
        seen, log_joint, gained = self._posterior(z, sigma, labels)
        r = torch.softmax(log_joint, dim=1)
        u = r @ self._places[seen]
        for column, (k, y) in enumerate(zip(seen, gained, strict=True)):
            u = u + self._back(k, r[:, column : column + 1].to(y.dtype) * y).double()
        x0: Tensor = self._basis.images(u.to(self.dtype))
        return x0.to(z.dtype)

    def _posterior(
        self, z: Tensor, sigma: Tensor, labels: Sequence[int | None]
    ) -> tuple[list[int], Tensor, list[Tensor]]:
        """Components, log w_k N_k without the factor of 2 pi, (B, K), and alpha Lambda y / v of each, (B, d)."""
        one = len(torch.unique(sigma)) == 1 and not sigma.requires_grad  # then once for all rows
        alpha_t, s_t = (scale[: 1 if one else None, None].to(self.device) for scale in alpha_s(sigma))
        u = self._basis.modes(z.to(self.dtype))
        seen = [k for k in range(len(self.weights)) if None in labels or k in labels]
        columns, gained = [], []
        for k in seen:
            y = self._along(k, u) - alpha_t.to(self.dtype) * self._centres[k]
            v = alpha_t**2 * self.variances[k] + s_t**2
            square = (y * y / v.to(self.dtype)).sum(1, dtype=torch.float64)
            columns.append(self.weights[k].log() - 0.5 * (v.log().sum(1) + square))
            gained.append((alpha_t * self.variances[k] / v).to(self.dtype) * y)
        other = [[label not in (None, k) for k in seen] for label in labels]
        masked = torch.stack(columns, dim=1).masked_fill(torch.tensor(other, device=self.device), -torch.inf)
        return seen, masked, gained

    def log_density(self, z: Tensor, sigma: Tensor) -> Tensor:
        r"""Returns log p(z) of the unit state, (B,), so that :math:`D = (z + s^2 \nabla \log p) / \alpha` (Tweedie).

        Args:
            z: (B, C, H, W).
            sigma: (B,), float64.
        """
        labels = self.condition.rows(self._indices, len(z))
        _, log_joint, _ = self._posterior(z, sigma, labels)
        of = self.weights.new_tensor([1.0 if label is None else float(self.weights[label]) for label in labels])
        whole = torch.logsumexp(log_joint, dim=1) - of.log()
        return whole - 0.5 * self.variances.shape[1] * math.log(2 * math.pi)

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """Draws n data samples, (n, C, H, W), float64; row i depends on (seed, i) and its class alone."""
        components = torch.tensor(self.components(n, seed), device=self.device)
        x0 = torch.empty(n, *self.shape, dtype=torch.float64)
        for start in range(
            0, n, DRAWN
        ):  # always the same number of rows at a time, so that a draw does not depend on n
            rows = range(start, min(start + DRAWN, n))
            normal = torch.zeros(DRAWN, self.variances.shape[1], dtype=torch.float64)
            normal[: len(rows)] = noise(seed, rows, START, normal.shape[1:], channel=DATA, dtype=torch.float64)
            k = torch.nn.functional.pad(components[start : rows.stop], (0, DRAWN - len(rows)), value=-1)
            u = torch.zeros_like(normal, device=self.device)
            for one in sorted(set(components[start : rows.stop].tolist())):
                drawn = self._places[one] + self._back(one, self.variances[one].sqrt() * normal.to(self.device))
                u = torch.where((k == one)[:, None], drawn, u)
            x0[start : rows.stop] = self.basis.images(u)[: len(rows)].cpu()
        return x0

    def components(self, n: int, seed: int = 0) -> list[int]:
        """The component of each of n draws."""
        drawn = choose(self.weights.cpu(), n, seed).tolist()
        classes = self.condition.rows(range(n), n)
        return [k if label is None else label for k, label in zip(drawn, classes, strict=True)]
