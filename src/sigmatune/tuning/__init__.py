"""Tuning: choosing a plan for fixed weights."""

from __future__ import annotations

from sigmatune.tuning.tuner import tune, tune_on
from sigmatune.tuning.workbench import TuningSettings, Workbench

__all__ = ["TuningSettings", "Workbench", "tune", "tune_on"]
