"""The table of synthetic models that judge the guard, from ``cells.json``."""

from __future__ import annotations

from statistics import median

from doc_tables.markdown import made_by, markdown


def cells_table(result: dict) -> str:
    """What the guard returned on synthetic models, and what fresh noises say of it."""
    kinds = list(dict.fromkeys(cell["model"].partition(":")[0] for cell in result["cells"]))
    worse = [tuple(one) for one in result["summary"]["worse_cells"]]
    right = [tuple(one) for one in result["summary"]["given_up_rightly"]]
    rows = []
    for kind in [*kinds, ""]:
        chosen = [cell for cell in result["cells"] if cell["model"].startswith(kind)]
        keys = {(cell["model"], cell["solver"], cell["calls"]) for cell in chosen}
        ratios = [cell["error_ratio"]["value"] for cell in chosen if cell["gain"]]
        counts = (len(chosen), len(ratios), sum(cell["given_up"] for cell in chosen), len(keys & set(right)))
        rows.append(
            [kind or "all", *map(str, counts), f"{len(keys & set(worse))}", f"{median(ratios):.2f}" if ratios else ""]
        )
    summary = result["summary"]
    note = (
        f"{summary['models']} models, Euler, Heun, DPM-Solver++(2M) and UniPC, 3 to 10 calls, rms where the data have no grid; "
        f"{summary['fresh_noises']} fresh noises per cell, Holm's correction over {summary['tests']} tests with a false alarm "
        f"rate of {summary['false_alarm_rate']:.0%} for all of them together. {made_by(result)}"
    )
    head = ["data", "cells", "gains", "given up for the second half", "of these significantly worse on fresh noises",
            "returned plans significantly worse on fresh noises", "median error ratio of the gains"]  # fmt: skip
    return markdown(head, rows, note)
