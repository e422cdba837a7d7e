"""Summaries of a stepwise analysis in numbers and sentences, which also say when the samples decide nothing."""

from __future__ import annotations

from typing import Any

from sigmatune.analysis.beta_fit import PUBLISHED, BetaFit, against_fit, fit_beta
from sigmatune.analysis.fold_intervals import JackknifeEstimate, jackknife
from sigmatune.analysis.result import Of, Stepwise


def band_medians(
    analysis: Stepwise, of: Of = "x", *, relative: bool = True
) -> tuple[JackknifeEstimate, JackknifeEstimate, JackknifeEstimate]:
    """Median tau of the change of the low band, of the high band, and their difference, with intervals.

    Raises:
        SigmaTuneError: if nothing changes.
    """

    def numbers(part: Stepwise) -> tuple[float, float, float]:
        low, high = (part.median(of, band=band, relative=relative) for band in ("low", "high"))
        return low, high, low - high

    low, high, gap = jackknife(analysis, numbers)
    return low, high, gap


def order_sentence(analysis: Stepwise, of: Of = "x", *, relative: bool = True) -> str:
    """States whether low frequencies change before high ones, as far as the samples can decide.

    Raises:
        SigmaTuneError: if nothing changes.
    """
    low, high, gap = band_medians(analysis, of, relative=relative)
    where = f"half of their change is done at tau = {low.value:.0f} and {high.value:.0f} of {analysis.levels}"
    what = "in the network's estimate " if of == "x0" else ""
    if gap.low > 0:
        return f"Low frequencies {what}change before high ones: {where}."
    if gap.high < 0:
        return f"High frequencies {what}change before low ones: {where}."
    return (
        f"Whether low frequencies {what}change before high ones cannot be decided from {analysis.n} samples: {where}, "
        f"and their difference lies between {gap.low:.0f} and {gap.high:.0f}."
    )


def fit_sentence(fitted: BetaFit) -> str:
    """States whether the paper's symmetric Beta distributions can describe the change."""
    ratio = fitted.ratio
    interval = f"b / a = {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
    if ratio.low <= 1 <= ratio.high:
        shape = f"A symmetric Beta(a, a) may describe the change: {interval}"
    else:
        side = "clean" if ratio.value > 1 else "noisy"
        shape = (
            f"No symmetric Beta(a, a) describes the change, because more of it lies towards the {side} end: {interval}"
        )
    return (
        f"{shape}; the divergence from the measured density is {fitted.divergence:.3f} nats for the free fit and "
        f"{fitted.symmetric_divergence:.3f} for a = b."
    )


def summary(analysis: Stepwise) -> dict[str, Any]:
    """Everything that the command line prints, JSON-ready.

    Raises:
        SigmaTuneError: if nothing changes, or the change has no Beta shape.
    """
    state = fit_beta(analysis)
    return {
        "n": analysis.n,
        "steps": analysis.steps,
        "levels": analysis.levels,
        "about": dict(analysis.about),
        "order": order_sentence(analysis),
        "medians": {
            name: {"low": low.to_dict(), "high": high.to_dict(), "difference": gap.to_dict()}
            for name, (low, high, gap) in _medians(analysis).items()
        },
        "fit": state.to_dict(),
        "fit_of_estimate": fit_beta(analysis, "x0").to_dict(),
        "fit_sentence": fit_sentence(state),
        "published": [against_fit(analysis, state, a) for a, _ in PUBLISHED],
        "intervals": "95%, jackknife over folds of samples: other noises of the same model on the same chain",
    }


def _medians(analysis: Stepwise) -> dict[str, tuple[JackknifeEstimate, JackknifeEstimate, JackknifeEstimate]]:
    return {
        "state": band_medians(analysis),
        "state, without k = 0": band_medians(analysis, relative=False),
        "estimate": band_medians(analysis, "x0"),
    }
