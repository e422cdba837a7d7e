"""The table of what ``tune`` returns with its defaults, both numbers in every cell, from ``headline.json``."""

from __future__ import annotations

from doc_tables.markdown import NAMES, made_by, markdown, ratio


def headline_table(result: dict) -> str:
    """Error ratio with interval, and the ratio of the distances of sets, per model, solver, kind and number of calls."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(c["model"], c["tuned"], c["solver"], c["calls"]): c for c in result["cells"]}
    rows = []
    for model, kind, solver in dict.fromkeys(key[:3] for key in sorted(cells, key=lambda key: _order(key, result))):
        own = [cells[model, kind, solver, calls] for calls in budgets]
        spent = sorted(cell["evaluations"]["total"] for cell in own)
        rows.append([model, NAMES.get(solver, solver), kind, *map(_both, own), f"{spent[0]:,} to {spent[-1]:,}"])
    held = sorted({cell["rows"] for cell in result["cells"]})
    distances = sorted({cell["set_ratio"]["distance"] for cell in result["cells"] if cell["set_ratio"]})
    opposite = sum(cell["contradict"] and cell["gain"] for cell in result["cells"])
    note = (
        f"Per cell: error ratio (95% paired bootstrap interval); distance of sets, {' or '.join(distances)}, tuned over best "
        f"static default, on {' or '.join(map(str, held))} held-out noises. Bold: the guard found a gain. +: the set is "
        f"significantly nearer, -: significantly farther (paired jackknife, 95%). Gains whose two numbers point in opposite "
        f"directions: {opposite}. Evaluations: network evaluations of single images for one plan, references, check and guard "
        f"included. {made_by(result)}"
    )
    return markdown(["model", "solver", "tuned", *(f"{n} calls" for n in budgets), "evaluations"], rows, note)


def _order(key: tuple, result: dict) -> tuple:
    """Models as measured, levels before coefficients, solvers as measured."""
    model, kind, solver, _ = key
    models, solvers = ([cell[name] for cell in result["cells"]] for name in ("model", "solver"))
    return models.index(model), kind != "levels", solvers.index(solver)


def _both(cell: dict) -> str:
    error, sets = ratio(cell["error_ratio"]).replace("**", ""), cell["set_ratio"]
    mark = ("+" if sets["value"] < 1 else "-") if sets and sets["significant"] else ""
    text = f"{error}; {sets['value']:.2f}{mark}" if sets else error
    return f"**{text}**" if cell["gain"] else f"no gain: {text}"
