"""Tables of what tuning gains and costs, from ``guard_*.json``, ``tuners.json`` and ``queries.json``."""

from __future__ import annotations

from statistics import median

from doc_tables.markdown import NAMES, REMOVED, made_by, markdown, ratio


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


def tuners_table(result: dict) -> str:
    """What auto brings, with and without coefficients, per model, solver and number of calls."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(c["model"], c["method"], c["solver"], c["calls"]): c for c in result["cells"]}
    rows = []
    for model, method, solver in dict.fromkeys(key[:3] for key in cells if key[1].startswith("auto")):
        entries = []
        for calls in budgets:
            cell = cells[model, method, solver, calls]
            value = cell["error_ratio"]
            text = f"{value['value']:.2f} ({value['low']:.2f}-{value['high']:.2f})"
            entries.append(f"**{text}**" if cell["gain"] else f"no gain: {text}")
        what = "levels and coefficients" if "coefficients" in method else "levels"
        rows.append([model, NAMES.get(solver, solver), what, *entries])
    order = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: (order.index(row[0]), row[2] != "levels"))
    spent = [tuning_cost(part) for part in by_run(result, "auto").values()]
    learned = [tuning_cost(part) for part in by_run(result, "auto, coefficients").values()]
    more = f", {min(learned):,} to {max(learned):,} with coefficients" if learned else ""
    note = (
        f"{result['settings']['held_out']} held-out noises, 95% paired bootstrap intervals. All budgets of a row together took "
        f"{min(spent):,} to {max(spent):,} network evaluations of single images for levels{more}; reference and guard not "
        f"counted. {made_by(result)}"
    )
    return markdown(["model", "solver", "tuned", *(f"{n} calls" for n in budgets)], rows, note)


def by_run(result: dict, method: str) -> dict[tuple[str, str], list[dict]]:
    """The cells of a method, those that were tuned together in one list."""
    runs: dict[tuple[str, str], list[dict]] = {}
    for cell in result["cells"]:
        if cell["method"] == method:
            runs.setdefault((cell["model"], cell["solver"]), []).append(cell)
    return runs


def tuning_cost(cells: list[dict]) -> int:
    """Network evaluations that a budget pays for."""
    parts = [cell["cost"]["network_evaluations"] for cell in cells]
    return sum(part.get(purpose, 0) for part in parts for purpose in ("search", "table", "trajectory", "gradient"))


def queries_table(result: dict) -> str:
    """What it brings to ask at other levels than those that are stepped to."""
    ratios = [cell["error_ratio"] for cell in result["cells"]]
    row = ["cifar10", NAMES["euler"], "levels and asked levels", *(ratio(comparison) for comparison in ratios)]
    spent = max(cell["cost"]["network_evaluations"]["total"] for cell in result["cells"])
    note = (
        f"{result['held_out']} held-out noises, 95% paired bootstrap intervals; at most {spent:,} network evaluations of "
        f"single images for one budget, references and guard included. {made_by(result)}"
    )
    return markdown(["model", "solver", "tuned", *(f"{cell['calls']} calls" for cell in result["cells"])], [row], note)


def methods_table(result: dict) -> str:
    """The median ratio of each method at few and at more calls, its cost, and how often it lost."""
    rows = []
    for method in dict.fromkeys(cell["method"] for cell in result["cells"] if cell["method"] not in REMOVED):
        runs = by_run(result, method)
        row = [method]
        for model in dict.fromkeys(cell["model"] for cell in result["cells"]):
            for few in (True, False):
                values = [
                    cell["error_ratio"]["value"]
                    for (of, _), cells in runs.items() for cell in cells
                    if of == model and (cell["calls"] <= 6) == few
                ]  # fmt: skip
                row.append(f"{median(values):.2f}" if values else "not measured")
        cells = [cell for part in runs.values() for cell in part]
        kept = sum(not cell["gain"] for cell in cells)
        row += [f"{median([tuning_cost(part) for part in runs.values()]):,.0f}", f"{kept} of {len(cells)}"]
        rows.append(row)
    models = dict.fromkeys(cell["model"] for cell in result["cells"])
    head = ["method", *(f"{model}, {calls} calls" for model in models for calls in ("4-6", "8-10")),
            "network evaluations", "cells where the default was kept"]  # fmt: skip
    note = (
        "Network evaluations: of single images, for all five budgets of one solver, reference and guard not counted. A plan "
        f"that the guard rejects is not returned; its ratio still counts here. {made_by(result)}"
    )
    return markdown(head, rows, note)
