"""The error table of a workbench's model on its own samples, which all numbers of calls share."""

from __future__ import annotations

from typing import Any

import numpy as np

from sigmatune.noise import Array
from sigmatune.tuning.error_table import ErrorTable, TableSize, evaluations, tabulate
from sigmatune.tuning.workbench import Workbench

ROWS, LEVELS = 16, 32
TABLE = "error table"


def table_of(bench: Workbench) -> ErrorTable:
    """The model's error table on its own samples; measured once, and kept in the workbench's store."""
    images, model, settings = bench.reference("tuning")[:ROWS], bench.model, bench.settings
    measure = None if bench.measure.name == "rms" else bench.measure

    def measured() -> Array:
        def progress(done: int, total: int) -> None:
            bench.progress(TABLE, done, total)

        tabulated = tabulate(model, images, size_of(bench), measure=measure, progress=progress, engine=bench.engine)
        return np.stack([tabulated.sigma, tabulated.error, tabulated.standard_error])

    name = bench.by_measure(f"error table of {len(images)}")
    columns = bench.array(name, measured, purpose="table", evaluations=table_price(bench))
    about: dict[str, Any] = {"fingerprint": model.fingerprint(), "seed": settings.seed}
    about |= {} if measure is None else {"measure": measure.to_dict()}
    return bench.once(TABLE, lambda: ErrorTable(columns[0], columns[1], columns[2], len(images), about))


def table_price(bench: Workbench) -> int:
    """The network evaluations of the table."""
    return evaluations(bench.model, min(ROWS, bench.settings.tuning), size_of(bench))


def size_of(bench: Workbench) -> TableSize:
    """How the table is sampled: with the workbench's seed and micro-batches."""
    return TableSize(LEVELS, bench.settings.seed, bench.settings.micro_batch)
