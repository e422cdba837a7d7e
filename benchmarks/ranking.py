"""How well the error of a measure ranks schedules, by Spearman's correlation with distances between sets of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import spearmanr


def summary(cells: list[dict[str, Any]], exact: dict[str, bool]) -> dict[str, Any]:
    """How well every candidate ranks schedules, over groups of one model, solver and number of calls.

    Args:
        cells: What was measured.
        exact: Whether each model is exact, so that converged samples and data are one distribution.

    Returns:
        By candidate: Spearman's correlation of its error (mean log) with each distance, lowest and mean over everything and
        means over parts; and the geometric mean of the distance to data of its favourite schedule over the least there is.
    """
    rows = [
        {"model": model, "against": against, "space": space, "rho": rho, "regret": regret, "candidate": candidate}
        for model, group in groups(cells)
        for candidate in group[0]["log"]
        for against in ("data", "converged")
        for space in group[0]["data"]
        for rho, regret in [ranked(group, candidate, against, space)]
    ]
    return {name: figures([row for row in rows if row["candidate"] == name], exact) for name in cells[0]["log"]}


def groups(cells: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The cells that are ranked among each other."""
    for key in dict.fromkeys((cell["model"], cell["solver"], cell["calls"]) for cell in cells):
        yield key[0], [cell for cell in cells if (cell["model"], cell["solver"], cell["calls"]) == key]


def ranked(group: list[dict[str, Any]], candidate: str, against: str, space: str) -> tuple[float, float]:
    """Spearman's correlation, and the log of the distance of the candidate's favourite over the least."""
    errors = np.array([cell["log"][candidate] for cell in group])
    distances = np.array([cell[against][space] for cell in group])
    rho = float(spearmanr(errors, distances).statistic)
    return rho, float(np.log(distances[errors.argmin()] / distances.min()))


def figures(rows: list[dict[str, Any]], exact: dict[str, bool]) -> dict[str, Any]:
    """The figures of one candidate."""

    def mean(what: str, **wanted: Any) -> float:
        return float(np.mean([row[what] for row in rows if all(row[key] == value for key, value in wanted.items())]))

    data = [row for row in rows if row["against"] == "data"]
    of_networks = [row for row in rows if not exact[row["model"]]]
    parts = {
        "exact, data": [row["rho"] for row in data if exact[row["model"]]],
        "networks, data": [row["rho"] for row in of_networks if row["against"] == "data"],
        "networks, converged": [row["rho"] for row in of_networks if row["against"] == "converged"],
    }
    return {
        "lowest": min(row["rho"] for row in rows),
        "mean": mean("rho"),
        **{name: float(np.mean(values)) if values else None for name, values in parts.items()},
        "spaces": {space: mean("rho", space=space) for space in dict.fromkeys(row["space"] for row in rows)},
        "models": {model: mean("rho", model=model) for model in exact},
        "regret": float(np.exp(np.mean([row["regret"] for row in data]))),
        "regret, networks": float(
            np.exp(np.mean([row["regret"] for row in data if not exact[row["model"]]] or [np.nan]))
        ),
    }
