"""The plan file itself, which holds everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigmatune.core.machine import Coefficients
from sigmatune.core.schedule import Schedule
from sigmatune.interop.exports.target import ExportTarget
from sigmatune.plan import Plan, compile_plan
from sigmatune.plan import file as plan_file


def read(text: str) -> Plan:
    """Reads a plan file's text."""

    def build(schedule: Schedule, name: str, options: Mapping[str, Any]) -> Coefficients:
        return compile_plan(schedule, name, **options).coefficients

    return plan_file.loads(text, build)


TARGET = ExportTarget("json", plan_file.dumps, read, "the plan file itself: every plan, with its evidence")
