r"""Flow: the time of a straight path uniform, after a shift.

.. math:: \sigma = \frac{\tau}{1 - \tau}, \qquad \tau = \frac{s v}{1 + (s - 1) v}
          \;\Longrightarrow\; \lambda = -2 \, (\operatorname{logit} v + \log s), \qquad v \text{ linear in } u
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from sigmatune.noise import Array
from sigmatune.support.options import positive
from sigmatune.training.laws.base import Domain, LawKind, Shared


def flow(domain: Domain, *, shift: float = 1.0) -> Shared:
    r"""Draws the unshifted time of a flow model uniformly.

    References:
        | Flow Matching for Generative Modeling (Lipman et al., 2022), https://arxiv.org/abs/2210.02747
        | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024) for the shift
        | https://arxiv.org/abs/2403.03206

    Args:
        domain: The model and data.
        shift: s > 0; above 1 draws more noise.

    Raises:
        SigmaTuneError: if shift is not positive.
    """
    positive(shift=shift)
    first, last = expit(np.log(np.array([domain.path.sigma_min, domain.path.sigma_max])) - np.log(shift))

    def v(u: Array) -> Array:
        return np.asarray(first + u * (last - first))

    def slope(u: Array) -> Array:
        return np.asarray(2 * (last - first) / (v(u) * (1 - v(u))))

    return Shared(lambda u: np.asarray(-2 * (logit(v(u)) + np.log(shift))), slope)


KIND = LawKind("flow", flow, "time of a straight path uniform, with a shift")
