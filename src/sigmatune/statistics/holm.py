r"""Holm's correction for testing several hypotheses at once.

.. math:: \tilde p_{(k)} = \max_{j \le k} \; \min\bigl( 1, (m - j + 1) \, p_{(j)} \bigr)

for m p-values in rising order. Rejecting where :math:`\tilde p \le \alpha` rejects a true hypothesis with probability at most
:math:`\alpha`, however the tests depend on each other; it rejects something exactly when Bonferroni's correction does.

Reference: A Simple Sequentially Rejective Multiple Test Procedure (Holm, 1979), https://www.jstor.org/stable/4615733
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """The adjusted p-values, in the order of the given ones."""
    values, m = np.asarray(p, dtype=np.float64), len(p)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(m)
    adjusted[order] = np.maximum.accumulate(np.minimum((m - np.arange(m)) * values[order], 1.0))
    return [float(value) for value in adjusted]
