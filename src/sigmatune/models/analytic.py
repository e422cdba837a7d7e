r"""Exact denoisers: data whose posterior mean E[x0 | z] is a formula.

In the unit state, :math:`z = \alpha x_0 + s \epsilon` with :math:`\alpha = 1/\sqrt{1+\sigma^2}`, :math:`s = \sigma
\alpha`, every formula below is regular at each level, sigma = inf (alpha = 0, s = 1) included. All arithmetic is
float64; the result has z's dtype. A path bounds the levels of schedules, but the denoisers work at any level.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.digests import touched
from sigmatune.core.rng import START, noise
from sigmatune.core.table import digits
from sigmatune.models.predictions import alpha_s
from sigmatune.noise import VE, NoisePath
from sigmatune.support.errors import SigmaTuneError

Tensor = torch.Tensor
Numbers = npt.ArrayLike | Tensor

DATA, CHOICE = 0xDA7A, 0xC401CE
"""Noise channels of drawn data, so that a draw never repeats the start noise of the same seed and index."""

NEVER = 1e300
"""Minus the exponent of an impossible member; finite, so that a chunk of impossible members is not NaN."""


class Analytic(Denoiser):
    """The common base of exact denoisers: float64 states and a fingerprint of their arrays."""

    dtype = torch.float64
    concurrent = True
    arrays: tuple[Tensor, ...]
    _printed: tuple[object, str] | None = None

    def fingerprint(self) -> str:
        stamp = touched(self.arrays), repr((type(self).__name__, self.shape, self.path.spec()))
        if self._printed is None or self._printed[0] != stamp:  # a set of images takes long to digest
            digest = hashlib.sha256(stamp[1].encode())
            for array in self.arrays:
                digest.update(digits(array.double().numpy()))
            self._printed = stamp, f"sha256:{digest.hexdigest()}"
        return self._printed[1]


class GaussianSpectrum(Analytic):
    r"""Denoises zero-mean Gaussian images with independent modes of power P in the orthonormal 2-D Fourier basis.

    .. math:: \hat D = \frac{\alpha P}{\alpha^2 P + s^2} \, \hat z
              \quad \left( = \frac{P}{P + \sigma^2} \, \hat x \right)

    References:
        | Extrapolation, Interpolation, and Smoothing of Stationary Time Series (Wiener, 1949)
        | https://doi.org/10.7551/mitpress/2946.001.0001

    Args:
        power: E|F|^2 per mode, (H, W) shared by the channels or (C, H, W), >= 0, with P[-k] = P[k] as real data has it;
            F = fft2(x0, norm="ortho").
        shape: (C, H, W).
        path: Binds schedules; EDM's range by default.

    Raises:
        SigmaTuneError: if the power does not fit the shape, is negative or not finite, or is not symmetric.
    """

    def __init__(self, power: Numbers, shape: Sequence[int], path: NoisePath | None = None) -> None:
        self.shape, self.path = tuple(int(n) for n in shape), path or VE()
        self.power = float64(power)
        if len(self.shape) != 3 or self.power.shape not in (self.shape[1:], self.shape):
            raise SigmaTuneError(
                f"a power of shape {tuple(self.power.shape)} does not fit images of shape {self.shape}."
            )
        if not bool((self.power >= 0).all() & self.power.isfinite().all()):
            raise SigmaTuneError("the power of every mode must be a number of at least 0.")
        mirrored = self.power.flip(-2, -1).roll((1, 1), (-2, -1))
        if not torch.allclose(self.power, mirrored, rtol=1e-9, atol=0):
            raise SigmaTuneError("the power must be symmetric, P[-ky, -kx] = P[ky, kx], because images are real.")
        self.arrays = (self.power,)

    def denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        alpha_t, s_t = (scale.view(-1, 1, 1, 1) for scale in alpha_s(sigma))
        return filtered(z, alpha_t * self.power / (alpha_t**2 * self.power + s_t**2))

    def flow(self, z: Tensor, sigma_from: float | Tensor, sigma_to: float | Tensor) -> Tensor:
        r"""Solves the probability-flow ODE exactly between two levels: each mode keeps its quantile.

        .. math:: \hat z_s = \hat z_t \sqrt{\frac{\alpha_s^2 P + s_s^2}{\alpha_t^2 P + s_t^2}}

        Args:
            z: Unit states at ``sigma_from``, (B, C, H, W).
            sigma_from: Level of z in (0, inf], one for all rows or (B,).
            sigma_to: Level to arrive at in [0, inf], one for all rows or (B,).

        Returns:
            Unit states at ``sigma_to``.
        """
        before, after = self._variance(sigma_from), self._variance(sigma_to)
        return filtered(z, torch.where(before == after, 1.0, (after / before).sqrt()))

    def _variance(self, sigma: float | Tensor) -> Tensor:
        alpha_t, s_t = alpha_s(torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1, 1, 1))
        return alpha_t**2 * self.power + s_t**2

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """Draws n data samples, (n, C, H, W), float64; row i depends on (seed, i) alone."""
        return filtered(noise(seed, range(n), START, self.shape, channel=DATA, dtype=torch.float64), self.power.sqrt())


class GaussianMixture(Analytic):
    r"""Denoises a mixture of Gaussians with full covariances.

    .. math:: D = \sum_k r_k \left[ \mu_k + \alpha C_k (\alpha^2 C_k + s^2)^{-1} (z - \alpha \mu_k) \right], \quad
              r_k \propto w_k \, \mathcal N(z; \alpha \mu_k, \alpha^2 C_k + s^2)

    Each covariance is decomposed once; the responsibilities come from log densities, so they neither overflow nor
    vanish.

    Args:
        weights: w, (K,), > 0, summing to 1.
        means: (K, *shape), which sets the shape of a sample.
        covariances: C, (K, d, d), d the size of a sample; symmetric, without negative eigenvalues.
        path: Binds schedules; EDM's range by default.

    Raises:
        SigmaTuneError: if the arrays do not fit together, or are not weights, means and covariances.
    """

    def __init__(self, weights: Numbers, means: Numbers, covariances: Numbers, path: NoisePath | None = None) -> None:
        self.weights, mu, covariance = float64(weights), float64(means), float64(covariances)
        k, d = len(mu), mu[0].numel()
        if self.weights.shape != (k,) or covariance.shape != (k, d, d) or mu.ndim < 2:
            raise SigmaTuneError(
                "a mixture needs weights (K,), means (K, *shape) and covariances (K, d, d), not "
                f"{tuple(self.weights.shape)}, {tuple(mu.shape)} and {tuple(covariance.shape)}."
            )
        if not (bool((self.weights > 0).all()) and abs(float(self.weights.sum()) - 1) < 1e-9):
            raise SigmaTuneError("the weights of a mixture must be positive and sum to 1.")
        if not (bool(mu.isfinite().all()) and torch.allclose(covariance, covariance.mT, rtol=1e-9, atol=1e-12)):
            raise SigmaTuneError("the means must be finite and the covariances finite and symmetric.")
        self.shape, self.path, self.means = tuple(mu.shape[1:]), path or VE(), mu.reshape(k, d)
        self.variances, self.axes = torch.linalg.eigh(covariance)
        scale = self.variances.amax(-1, keepdim=True).clamp(min=0)
        if bool((self.variances < -1e-9 * scale).any()) or bool((self.variances.amax(-1) < 0).any()):
            raise SigmaTuneError("a covariance has a negative eigenvalue.")
        self.variances = self.variances.clamp(min=0)  # rounding leaves zeros at about -1e-17
        self.arrays = (self.weights, mu, covariance)

    def denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        alpha_t, _ = (scale[:, None, None] for scale in alpha_s(sigma))
        y, variance = self._projected(z, sigma)
        r = torch.softmax(self._log_joint(y, variance), dim=1)
        within = alpha_t * self.variances * y / variance
        x0 = r @ self.means + torch.einsum("kij,bkj->bi", self.axes, r[:, :, None] * within)
        return x0.view(z.shape).to(z.dtype)

    def log_density(self, z: Tensor, sigma: Tensor) -> Tensor:
        r"""Returns log p(z) of the unit state, (B,), so that :math:`D = (z + s^2 \nabla \log p) / \alpha` (Tweedie).

        Args:
            z: (B, *shape).
            sigma: (B,), float64.
        """
        d = self.means.shape[1]
        return torch.logsumexp(self._log_joint(*self._projected(z, sigma)), dim=1) - 0.5 * d * math.log(2 * math.pi)

    def _projected(self, z: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """z - alpha mu along each component's axes and the variance there, both (B, K, d)."""
        alpha_t, s_t = (scale[:, None, None] for scale in alpha_s(sigma))
        centred = z.double().flatten(1)[:, None] - alpha_t * self.means
        return torch.einsum("kij,bki->bkj", self.axes, centred), alpha_t**2 * self.variances + s_t**2

    def _log_joint(self, y: Tensor, variance: Tensor) -> Tensor:
        """log w_k + log N_k, (B, K), without the factor of 2 pi."""
        return self.weights.log() - 0.5 * (variance.log() + y**2 / variance).sum(-1)

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """Draws n data samples, (n, *shape), float64; row i depends on (seed, i) alone."""
        k = choose(self.weights, n, seed)
        normal = noise(seed, range(n), START, self.means.shape[1:], channel=DATA, dtype=torch.float64)
        x0 = self.means[k] + torch.einsum("bij,bj->bi", self.axes[k], self.variances[k].sqrt() * normal)
        return x0.view(n, *self.shape)


def gaussian(mean: Numbers, covariance: Numbers, path: NoisePath | None = None) -> GaussianMixture:
    """Builds the denoiser of one Gaussian: a mixture with a single component.

    Args:
        mean: (*shape).
        covariance: (d, d).
        path: Binds schedules.

    Raises:
        SigmaTuneError: as :class:`GaussianMixture`.
    """
    return GaussianMixture([1.0], float64(mean)[None], float64(covariance)[None], path)


class Empirical(Analytic):
    r"""Denoises a finite set of images exactly: the mean of the set under the posterior of each member.

    .. math:: D = \sum_i r_i x_i, \quad r_i \propto \exp\left( -\frac{\|z - \alpha x_i\|^2}{2 s^2} \right)

    The images pass once, in chunks, as in attention: the largest exponent so far scales what has been summed, so
    nothing overflows or vanishes at any level. Besides the images, memory is one number per row and image of a chunk.

    References:
        | Online normalizer calculation for softmax (Milakov and Gimelshein, 2018)
        | https://arxiv.org/abs/1805.02867

    Args:
        images: (n, *shape), any floating dtype; kept as given.
        path: Binds schedules; EDM's range by default.
        chunk: Images converted at a time.
        dtype: Of the products with images; exponents and sums are float64. In float32 the exponents are off by about
            ``1e-7 |z| |x| / s^2``, which matters only among images that the noise makes indistinguishable anyway.

    Raises:
        SigmaTuneError: for an empty set or images that are not finite floats.
    """

    def __init__(
        self,
        images: Numbers,
        path: NoisePath | None = None,
        *,
        chunk: int = 4096,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.images = images.detach().cpu() if isinstance(images, Tensor) else torch.from_numpy(np.asarray(images))
        if self.images.ndim < 2 or self.images.numel() == 0 or chunk < 1:
            raise SigmaTuneError(
                f"need at least one image, (n, *shape), and a chunk of at least 1, not {tuple(self.images.shape)}."
            )
        if not self.images.is_floating_point() or not bool(self.images.isfinite().all()):
            raise SigmaTuneError(
                "the images must be finite floats in the range that they are denoised to, such as [-1, 1]."
            )
        self.shape, self.path, self.chunk = tuple(self.images.shape[1:]), path or VE(), int(chunk)
        self.dtype, self.arrays = dtype, (self.images,)
        self._squares = torch.cat([x.double().square().sum(1) for _, x in self._chunks(range(len(self.images)))])

    def denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        return self.posterior_mean(z, sigma, [range(len(self.images))] * len(z))

    def posterior_mean(self, z: Tensor, sigma: Tensor, members: Sequence[range]) -> Tensor:
        """The mean of some images under the posterior, shaped like z.

        Args:
            z: (B, *shape).
            sigma: (B,), float64.
            members: The images over which each row is the mean, B ranges, none empty.
        """
        alpha_t, s_t = (scale[:, None].to(z.device) for scale in alpha_s(sigma))
        precision = 1 / s_t.square().clamp(min=1e-200)  # at sigma = 0 the result is the nearest image
        rows = z.flatten(1).to(self.dtype)
        first, last = (torch.tensor([getattr(of, end) for of in members], device=z.device)[:, None]
                       for end in ("start", "stop"))  # fmt: skip
        top = rows.new_full((len(rows), 1), -NEVER, dtype=torch.float64)
        total, x0 = torch.zeros_like(top), torch.zeros_like(rows, dtype=torch.float64)
        for chunk, x in self._chunks(range(int(first.min()), int(last.max()))):
            place = torch.arange(chunk.start, chunk.stop, device=z.device)
            # |z - alpha x|^2 without the |z|^2 that all share.
            exponent = alpha_t * ((rows @ x.T).double() - alpha_t / 2 * self._squares[place]) * precision
            exponent = exponent.where((place >= first) & (place < last), -NEVER)
            higher = torch.maximum(top, exponent.detach().amax(1, keepdim=True))
            r, fade = torch.exp(exponent - higher), torch.exp(top - higher)
            top, total = higher, total * fade + r.sum(1, keepdim=True)
            x0 = x0 * fade + (r.to(self.dtype) @ x).double()
        return (x0 / total).view(z.shape).to(z.dtype)

    def _chunks(self, members: range) -> Iterator[tuple[range, Tensor]]:
        """Images (c, d) in the dtype of the products, with their places."""
        for start in range(members.start, members.stop, self.chunk):
            chunk = range(start, min(start + self.chunk, members.stop))
            yield chunk, self.images[chunk.start : chunk.stop].flatten(1).to(self.dtype)

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """Draws n members with replacement, (n, *shape), float64; row i depends on (seed, i) alone."""
        return self.images[choose(torch.ones(len(self.images)).double(), n, seed)].double()


def float64(values: Numbers) -> Tensor:
    """Returns a detached float64 copy on the CPU."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64, copy=True)
    return torch.from_numpy(np.array(values, dtype=np.float64))


def filtered(x: Tensor, gain: Tensor) -> Tensor:
    """Multiplies the orthonormal 2-D Fourier modes of x by a symmetric real gain; float64 inside, x's dtype outside."""
    modes = torch.fft.fft2(x.double(), norm="ortho") * gain
    result: Tensor = torch.fft.ifft2(modes, norm="ortho").real.to(x.dtype)
    return result


def choose(weights: Tensor, n: int, seed: int) -> Tensor:
    """Draws n indices with the given weights, (n,), int64; draw i depends on (seed, i) alone."""
    uniform = ndtr(noise(seed, range(n), START, (1,), channel=CHOICE, dtype=torch.float64).numpy()[:, 0])
    edges = np.cumsum(weights.numpy() / float(weights.sum()))
    return torch.from_numpy(np.minimum(np.searchsorted(edges, uniform, side="right"), len(edges) - 1))
