r"""Log-normal with the data's own constants: every frequency ring gets the same share of the training noise.

.. math:: P_{mean} = \operatorname{mean}_k \tfrac12 \log P_k, \qquad
          P_{std}^2 = \operatorname{var}_k \tfrac12 \log P_k + \tfrac{\pi^2}{12}

as :func:`sigmatune.spectra.advice.training_density` derives it; EDM's law without a constant to choose.
"""

from __future__ import annotations

from sigmatune.spectra.advice import training_density
from sigmatune.support.errors import SigmaTuneError
from sigmatune.training.laws.base import Domain, LawKind, Shared
from sigmatune.training.laws.log_normal import log_normal


def spectral_normal(domain: Domain, *, by: str = "rings") -> Shared:
    """Draws log sigma from the normal distribution that the data's spectrum implies.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022) for the kind of law
        | https://arxiv.org/abs/2206.00364
        | The constants are derived here.

    Args:
        domain: The model and data.
        by: "rings", every ring the same share, or "modes", every mode.

    Raises:
        SigmaTuneError: if no spectrum was measured, or for another weighting.
    """
    if domain.spectrum is None:
        raise SigmaTuneError("this noise law needs the data's spectrum; measure it first.")
    density = training_density(domain.spectrum, by=by)
    return log_normal(domain, P_mean=density.mean, P_std=density.std)


KIND = LawKind("spectral-normal", spectral_normal, "EDM's law with constants from the data's spectrum")
