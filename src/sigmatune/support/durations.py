"""Durations and amounts of work as people say them, rounded, because an estimate is no measurement."""

from __future__ import annotations

import math

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def about(seconds: float) -> str:
    """A duration with one or two digits: ``3 s``, ``40 s``, ``2 min``, ``1.5 h``, ``3 days``.

    Args:
        seconds: At least 0; infinite or NaN is "an unknown time".
    """
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 1:
        return "1 s"
    if seconds < 97.5:
        return f"{_rounded(seconds):.0f} s"
    if seconds < 90 * MINUTE:
        return f"{_rounded(seconds / MINUTE):g} min"
    if seconds < 2 * DAY:
        return f"{_rounded(seconds / HOUR):g} h"
    return f"{_rounded(seconds / DAY):g} days"


def _rounded(value: float) -> float:
    """Two digits below 10 in halves, from there on in whole numbers and in fives above 20."""
    if value < 3:
        return round(value, 1) if value < 1 else round(2 * value) / 2
    return float(round(value)) if value < 20 else float(5 * round(value / 5))


def rounded(amount: float) -> str:
    """An amount with two digits and separators: ``12,000``."""
    if amount < 100:
        return f"{amount:,.0f}"
    unit = 10 ** (int(math.log10(amount)) - 1)
    return f"{unit * round(amount / unit):,.0f}"
