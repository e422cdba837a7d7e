"""The table of pipelines of diffusers in which a plan ran."""

from __future__ import annotations

from typing import Any

from doc_tables.markdown import markdown

EQUAL = 1e-5
"""Largest relative difference of ends that count as equal: float32 sums in another order."""


def clients_diffusers_table(results: Any) -> str:
    """One row for each pipeline class that was built, and a line that counts the others."""
    rows = [row for row in results["rows"] if "missing" not in row]
    missing = [row["pipeline"] for row in results["rows"] if "missing" in row]
    cells = [
        [f"`{row['pipeline']}`", _shape(row), _number(row.get("t_off")), _number(row.get("loop_off")), _sampled(row)]
        for row in rows
    ]
    equal = sum(row.get("sample_off", 1) <= EQUAL for row in rows)
    ran = sum("loop_off" in row for row in rows)
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    note = (
        f"A plan of {results['steps']} calls ran in {ran} of {len(rows)} pipeline classes; in {equal} of them `st.sample` "
        "ends where the pipeline ends. Not built or not called here, for want of a library, a file of the hub, an output of "
        f"latents or time: {len(missing)} ({', '.join(missing)}). "
        "Differences are relative to the largest value. "
        f"{versions}; {results['date']}, `python {results['benchmark']} --checkout DIR`."
    )
    return markdown(
        ["pipeline", "latents", "t at the network, off by", "end of the loop, off by", "`st.sample`"], cells, note
    )


def _shape(row: dict[str, Any]) -> str:
    return " x ".join(map(str, row["latents"][1:])) if "latents" in row else ""


def _number(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.0e}"


def _sampled(row: dict[str, Any]) -> str:
    if "sample_off" in row:
        equal = row["sample_off"] <= EQUAL
        why = ": its loop edits the latents between calls" if row.get("edited") else ""
        return f"{'equal' if equal else 'differs'}, {_number(row['sample_off'])}{'' if equal else why}"
    reason = str(row.get("refused") or row.get("not_run") or f"{row.get('calls')} calls of its scheduler").replace(
        "|", "/"
    )
    return f"refused: {reason}"
