"""Shared by ``sigmatune evaluate`` and ``sigmatune bench``: the extractor, the metrics, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigmatune.cli.common import progress_bar
from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    from pathlib import Path

    from sigmatune.evaluation.evaluate import Wanted
    from sigmatune.evaluation.record import Figure
    from sigmatune.evaluation.reference_set import Reference
    from sigmatune.evaluation.verdict import Beside
    from sigmatune.support.engine import Engine


@dataclass
class Measuring:
    """The options about metrics; empty means not given, and the engine is known once the work begins."""

    metrics: str
    extractor: str
    spaces: str
    reference: str
    size: int
    device: str
    values: str = "auto"
    engine: Engine | None = None

    @property
    def running(self) -> Engine:
        """The engine."""
        from sigmatune.support.engine import LOCAL

        return self.engine or LOCAL

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
        from sigmatune.evaluation.measuring import ReferenceSource, data_of

        source = ReferenceSource(self.reference, self.size, self.values)
        return data_of(source, model, wanted, progress, engine=self.running)


def check_numbers(n: int | None, save_reference: Path | None, shard: str) -> None:
    """Refuses a number of images, or a file of statistics, that cannot be one."""
    from sigmatune.core.schedule import whole

    if save_reference is not None and save_reference.suffix != ".npz":
        raise SigmaTuneError(f"statistics must be an .npz file, not {save_reference}.")
    if save_reference is not None and shard:
        raise SigmaTuneError("a shard measures nothing, so --save-reference belongs to the run with --merge.")
    if n is not None:
        whole(n, "n")


def check_source(model: str, plan: Path | None, images: str, *, divided: bool, compared: bool) -> None:
    """Refuses anything but a model with a plan, or existing images, and options that do not fit these."""
    if bool(images) == bool(plan) or bool(plan) != bool(model):
        raise SigmaTuneError("give a model and its --plan, or existing --images.")
    if images and (compared or divided):
        name = "--shard and --merge" if divided else "--against and paired"
        raise SigmaTuneError(f"{name} need a model and a --plan, not --images.")


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


__all__ = ["Measuring", "check_numbers", "check_source", "left_out", "listed", "number", "progress_bar", "table"]
