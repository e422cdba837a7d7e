"""Writes the published JSON Schema of plan files: ``python tools/write_schema.py``."""

from __future__ import annotations

import json
from pathlib import Path

import sigmatune
from sigmatune import plan_file
from sigmatune.files import write_text

if __name__ == "__main__":
    target = Path(sigmatune.__file__).with_name("plan.schema.json")
    write_text(target, json.dumps(plan_file.schema(), indent=2) + "\n")
