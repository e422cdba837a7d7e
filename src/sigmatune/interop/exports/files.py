"""The plan file itself, which holds everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigmatune import plan_file
from sigmatune.interop.exports.target import Target
from sigmatune.machine import Coefficients
from sigmatune.plan import Plan
from sigmatune.schedule import Schedule
from sigmatune.solvers import compile_plan


def read(text: str) -> Plan:
    """Reads a plan file's text."""

    def build(schedule: Schedule, name: str, options: Mapping[str, Any]) -> Coefficients:
        return compile_plan(schedule, name, **options).coefficients

    return plan_file.loads(text, build)


TARGET = Target("json", plan_file.dumps, read, "the plan file itself: every plan, with its evidence")
