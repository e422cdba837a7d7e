"""Writes the tables of README.md from the benchmarks' JSON: ``python tools/update_readme.py``.

Everything between ``<!-- table: NAME -->`` and ``<!-- end -->`` is replaced. A test fails when the two differ.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = {"euler": "Euler / DDIM", "heun": "Heun", "dpmpp2m": "DPM-Solver++(2M)"}


def guard_table(result: dict) -> str:
    """Error ratio of the tuned plan to the best static default, per solver and budget."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    solvers = list(dict.fromkeys(cell["solver"] for cell in result["cells"]))
    cells = {(cell["solver"], cell["calls"]): cell["evidence"] for cell in result["cells"]}
    lines = [
        "| solver | " + " | ".join(f"{calls} calls" for calls in budgets) + " |",
        "|---" * (len(budgets) + 1) + "|",
    ]
    for solver in solvers:
        entries = []
        for calls in budgets:
            if (solver, calls) not in cells:
                entries.append("not measured")
                continue
            ratio = cells[solver, calls]["error_ratio"]
            text = f"{ratio['value']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
            entries.append(f"**{text}**" if cells[solver, calls]["gain"] else f"no gain: {text}")
        lines.append(f"| {NAMES.get(solver, solver)} | " + " | ".join(entries) + " |")
    evidence = result["cells"][0]["evidence"]
    low = min(cell["cost"]["network_evaluations"]["total"] for cell in result["cells"])
    high = max(cell["cost"]["network_evaluations"]["total"] for cell in result["cells"])
    statistic, computer = evidence["statistic"], result["machine"]
    note = (
        f"{statistic['rows']} held-out noises, {statistic['confidence']:.0%} paired bootstrap intervals; one plan cost "
        f"{low:,} to {high:,} network evaluations of single images, references and guard included. Measured on "
        f"{result['date']} with torch {computer['torch']} on {computer['cores']} cores by `python {result['benchmark']}`."
    )
    return "\n".join([*lines, "", note])


def tables() -> dict[str, str]:
    """All generated tables by name."""
    found = {}
    for file in sorted((ROOT / "benchmarks" / "results").glob("guard_*.json")):
        found[file.stem] = guard_table(json.loads(file.read_text()))
    return found


def updated(text: str) -> str:
    """README's text with every table replaced by the current one."""
    made = tables()
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{made[match[2]]}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text()))
