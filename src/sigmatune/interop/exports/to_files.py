"""The plan file itself, which holds everything."""

from __future__ import annotations

from sigmatune.interop.exports.target import ExportTarget
from sigmatune.plan import file as plan_file

TARGET = ExportTarget("json", plan_file.dumps, plan_file.loads, "the plan file itself: every plan, with its evidence")
