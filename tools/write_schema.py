"""Writes the published JSON Schemas of plan and rule files: ``python tools/write_schema.py``."""

from __future__ import annotations

import json
from pathlib import Path

import sigmatune
from sigmatune.plan import file as plan_file
from sigmatune.rules import rule_file
from sigmatune.support.files import write_text

if __name__ == "__main__":
    for name, schema in (("plan", plan_file.schema()), ("rule", rule_file.schema())):
        target = Path(sigmatune.__file__).with_name(f"{name}.schema.json")
        write_text(target, json.dumps(schema, indent=2) + "\n")
