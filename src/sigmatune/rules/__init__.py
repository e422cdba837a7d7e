"""Rules: plans with a schedule of its own for every sample.

A plan is one table for all rows, or one per row. A rule makes the table of a row from (seed, index): it draws a
spectrum, builds the schedule that this spectrum asks for and compiles it with a solver. :func:`sigmatune.plan.sample`
takes rules where it takes plans, and row i is the same in every batch.
"""

from __future__ import annotations

from sigmatune.rules.rule import Control, SpectralRule
from sigmatune.rules.rule_file import load_rule

__all__ = ["Control", "SpectralRule", "load_rule"]
