"""Shared by ``sigmatune evaluate`` and ``sigmatune bench``: the extractor, the metrics, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigmatune.cli.common import progress_bar

if TYPE_CHECKING:
    from sigmatune.evaluation.evaluate import Wanted
    from sigmatune.evaluation.record import Figure
    from sigmatune.evaluation.reference_set import Reference
    from sigmatune.evaluation.verdict import Beside


@dataclass(frozen=True)
class Measuring:
    """The options about metrics; empty means not given."""

    metrics: str
    extractor: str
    spaces: str
    reference: str
    size: int
    device: str
    values: str = "auto"

    def wanted(self, shape: tuple[int, ...]) -> Wanted:
        """The requested metrics for images of a shape.

        Raises:
            SigmaTuneError: for an unknown or unsuitable name.
        """
        from sigmatune.evaluation.measuring import wanted_of

        return wanted_of(self.metrics, self.extractor, self.spaces, shape, self.device)

    def data(self, model: str, wanted: Wanted, progress: Callable[[str, int, int], None]) -> Reference | None:
        """The reference: given, or a bundled model's own; None if nothing needs one.

        Raises:
            SigmaTuneError: if it cannot be read or is missing.
        """
        from sigmatune.evaluation.measuring import data_of

        return data_of(self.reference, model, wanted, progress, size=self.size, values=self.values)


def left_out(records: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """Reports of skipped files, one line per folder."""
    from sigmatune.spectra.images import left_out_told

    return [text for about in records if about and (text := left_out_told(about))]


def listed(text: str) -> list[str]:
    """The names in a text, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def table(figures: list[Figure], pairs: Sequence[Beside] = ()) -> None:
    """Prints figures, one per line, and beside them a rival's.

    Args:
        figures: The figures.
        pairs: The same figures beside the rival's, as far as there are any.
    """
    from rich.console import Console
    from rich.table import Table

    shown = Table(title_justify="left")
    for name, side in (("metric", "left"), ("space", "left"), ("value", "right"), ("95% interval", "right"),
                       ("better", "left"), ("n", "right")):  # fmt: skip
        shown.add_column(name, justify="left" if side == "left" else "right")
    for name in ("rival", "beside it") if pairs else ():
        shown.add_column(name, justify="right" if name == "rival" else "left")
    known = {id(pair.figure): pair for pair in pairs}
    for figure in figures:
        pair = known.get(id(figure))
        low, high = figure.estimate.interval
        shown.add_row(
            figure.name, figure.settings.space, number(figure.estimate.value), f"{number(low)} to {number(high)}",
            figure.better, f"{figure.settings.n:,}", *([] if pair is None else [number(pair.rival.estimate.value), pair.side]),
        )  # fmt: skip
    Console().print(shown)


def number(value: float) -> str:
    """A figure with three or four digits."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


__all__ = ["Measuring", "left_out", "listed", "number", "progress_bar", "table"]
