"""Rules: plans with a separate schedule for every sample.

A plan is one table for all rows, or one per row. A rule makes the table of a row from (seed, index): it draws a
spectrum, builds the schedule for this spectrum and compiles it with a solver. :func:`sigmatune.plan.sample`
accepts rules wherever it accepts plans, and row i is the same in every batch.
"""

from __future__ import annotations

from sigmatune.rules.rule import Control, SpectralRule
from sigmatune.rules.rule_file import load_rule

__all__ = ["Control", "SpectralRule", "load_rule"]
