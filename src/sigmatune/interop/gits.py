"""The tables of GITS (Geometry-Inspired Time Scheduling), read from the user's own copy of the file that holds them.

The authors' code and ComfyUI (``comfy_extras/nodes_gits.py``) keep them as one Python dictionary, ``NOISE_LEVELS``: for each
coefficient, from 0.8 to 1.5, a list of levels for each number of steps from 2 on. The file is parsed, not run. Its last level
is replaced by the final 0, and more steps than listed are read from the longest list, as these programs do.

Reference: On the Trajectory Regularity of ODE-based Diffusion Sampling (Chen et al., 2024), https://arxiv.org/abs/2405.11326
"""

from __future__ import annotations

import ast

import numpy as np

from sigmatune.core.schedule import Schedule
from sigmatune.support.errors import SigmaTuneError

NAME = "NOISE_LEVELS"
SOURCE = (
    "On the Trajectory Regularity of ODE-based Diffusion Sampling (Chen et al., 2024), https://arxiv.org/abs/2405.11326"
)


def load(text: str, coefficient: float, steps: int) -> Schedule:
    """Reads the levels of a coefficient and a number of steps.

    Args:
        text: The file's text.
        coefficient: The table's key, 1.2 by default in ComfyUI.
        steps: N, at least 2.

    Raises:
        SigmaTuneError: if the text holds no such tables, or none of this coefficient and number of steps.
    """
    tables = _tables(text)
    levels = next((lists for key, lists in tables.items() if abs(key - coefficient) < 1e-6), None)
    if levels is None:
        known = ", ".join(f"{key:g}" for key in tables)
        raise SigmaTuneError(f"the file has no table of the coefficient {coefficient:g}; it has {known}.")
    longest = np.array(max(levels, key=len))
    listed = next((np.array(one) for one in levels if len(one) == steps + 1), None)
    if listed is None and steps < len(longest):
        shortest = min(map(len, levels)) - 1
        raise SigmaTuneError(f"the table {coefficient:g} has no list of {steps} steps; the shortest has {shortest}.")
    if listed is None:
        places = np.linspace(0, 1, len(longest))
        listed = np.exp(np.interp(np.linspace(0, 1, steps + 1), places, np.log(longest)))
    return Schedule(np.append(listed[:-1], 0.0), "gits", {"source": SOURCE, "coefficient": float(coefficient)})


def _tables(text: str) -> dict[float, list[list[float]]]:
    try:
        body = ast.parse(text).body
        value = next(
            node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == NAME
        )
        tables = {
            float(key): [[float(level) for level in one] for one in many]
            for key, many in ast.literal_eval(value).items()
        }
    except (StopIteration, SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
        raise SigmaTuneError(
            f"the file holds no dictionary {NAME} of lists of levels, as nodes_gits.py of ComfyUI does."
        ) from None
    if not all(len(one) > 1 and min(one) > 0 for many in tables.values() for one in many or [[]]):
        raise SigmaTuneError(f"{NAME} must hold lists of at least two positive levels.")
    return tables
