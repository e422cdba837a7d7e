"""Tuning: choosing a plan for fixed weights."""

from __future__ import annotations

from sigmatune.support.moved import forward_names
from sigmatune.tuning.settings import TuningSettings
from sigmatune.tuning.tuner import tune, tune_on
from sigmatune.tuning.workbench import Workbench

__getattr__ = forward_names(__name__, {"Settings": "TuningSettings"})
__all__ = ["TuningSettings", "Workbench", "tune", "tune_on"]
