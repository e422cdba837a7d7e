"""Writes the published JSON Schemas of plan and rule files: ``python tools/write_schema.py``."""

from __future__ import annotations

import json
from pathlib import Path

from sigmatune import plan, rules
from sigmatune.plan.document import schema as plan_schema
from sigmatune.rules.rule_document import schema as rule_schema
from sigmatune.support.files import write_text

if __name__ == "__main__":
    for name, package, schema in (
        ("plan.schema.json", plan, plan_schema()),
        ("rule.schema.json", rules, rule_schema()),
    ):
        target = Path(str(package.__file__)).with_name(name)
        write_text(target, json.dumps(schema, indent=2) + "\n")
