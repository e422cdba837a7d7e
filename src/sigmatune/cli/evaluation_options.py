"""Shared by ``sigmatune evaluate`` and ``sigmatune bench``: the extractor, the metrics, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sigmatune.cli.before import check_places, check_rival
from sigmatune.cli.common import check_run, progress_bar
from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    from pathlib import Path

    from sigmatune.evaluation.evaluate import Wanted
    from sigmatune.evaluation.extractors import Extractor
    from sigmatune.evaluation.record import Figure
    from sigmatune.evaluation.reference_set import Reference
    from sigmatune.evaluation.verdict import Beside
    from sigmatune.plan import Plan
    from sigmatune.rules import SpectralRule
    from sigmatune.spectra.images import Images
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
    _opened: Reference | Images | None = field(default=None, init=False)
    _extractor: Extractor | None = field(default=None, init=False)

    @property
    def running(self) -> Engine:
        """The engine."""
        from sigmatune.support.engine import LOCAL

        return self.engine or LOCAL

    @property
    def of_sets(self) -> str:
        """The metrics of sets of images: all but the paired error."""
        return ",".join(name for name in listed(self.metrics) if name != "paired")

    def check(self, model: str, seed: int, engine: str, *, dry_run: bool = False, needed: bool = True) -> None:
        """Refuses what is wrong for any model: unknown names, a reference that is missing, unreadable or of other features.

        What it opens and loads for this, the reference and the extractor, is kept for the measurement.

        Args:
            model: What the model is going to be loaded from.
            seed, engine: The options.
            dry_run: Only an estimate is asked for, for which nothing is loaded or opened.
            needed: A metric that compares with data needs a reference; otherwise the caller has other data.

        Raises:
            SigmaTuneError: for the first that is wrong.
        """
        from sigmatune.evaluation import evaluate, measuring
        from sigmatune.evaluation.evaluate import Wanted
        from sigmatune.evaluation.extractors import EXTRACTORS
        from sigmatune.evaluation.reference_set import Reference
        from sigmatune.models.network import pick_device

        check_places("" if dry_run else self.device, engine, seed)
        measuring.check_names(self.of_sets, self.extractor)
        if dry_run or listed(self.metrics) == ["paired"]:
            return
        name = self.extractor or measuring.EXTRACTOR
        if measuring.compares(self.of_sets):
            self._opened = measuring.open_data(measuring.ReferenceSource(self.reference, self.size, self.values), model)
        if ":" in name:  # a function, which needs to know the shape of the images
            return
        self._extractor = EXTRACTORS[name](device=pick_device(self.device))
        wanted = Wanted.of(listed(self.of_sets), self._extractor, listed(self.spaces))
        if isinstance(self._opened, Reference):
            evaluate.check(wanted, self._opened, self._opened.shape)
        elif self._opened is None and needed:
            evaluate.check(wanted, None, ())

    def check_sets(self, model: str, seed: int, engine: str, *, dry_run: bool = False) -> None:
        """The same where the paired error is none of the metrics, because it has an option of its own."""
        from sigmatune.evaluation import measuring

        measuring.check_names(self.metrics, self.extractor)
        self.check(model, seed, engine, dry_run=dry_run)

    def wanted(self, shape: tuple[int, ...]) -> Wanted:
        """The requested metrics for images of a shape.

        Raises:
            SigmaTuneError: for an unknown or unsuitable name.
        """
        from sigmatune.evaluation.measuring import wanted_of

        return wanted_of(self.of_sets, self._extractor or self.extractor, self.spaces, shape, self.device)

    def data(self, model: str, wanted: Wanted, progress: Callable[[str, int, int], None]) -> Reference | None:
        """The reference: given, or a bundled model's own; None if nothing needs one.

        Raises:
            SigmaTuneError: if it cannot be read or is missing.
        """
        from sigmatune.evaluation.measuring import ReferenceSource, data_of

        source = self._opened or ReferenceSource(self.reference, self.size, self.values)
        return data_of(source, model, wanted, progress, engine=self.running)


def loaded(plan: Path | None, work: Path, against: str, metrics: list[str]) -> Plan | SpectralRule | None:
    """The plan or rule of a file, after checks of its run folder, of its rival, and of the metrics that compare both.

    Raises:
        SigmaTuneError: for the first that is wrong.
    """
    from sigmatune.rules.rule_file import load_any

    check_rival(against, metrics)
    if plan is None:
        return None
    check_run(work)
    return load_any(plan)


def check_numbers(n: int | None, batch: int | None, save_reference: Path | None, shard: str) -> None:
    """Refuses numbers of images, or a file of statistics, that cannot be such."""
    from sigmatune.cli.before import check_images
    from sigmatune.core.schedule import whole

    if save_reference is not None and save_reference.suffix != ".npz":
        raise SigmaTuneError(f"statistics must be an .npz file, not {save_reference}.")
    if save_reference is not None and shard:
        raise SigmaTuneError("a shard measures nothing, so --save-reference belongs to the run with --merge.")
    if n is not None:
        check_images(n)
    if batch is not None:
        whole(batch, "batch")


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
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from sigmatune.support.card import count

    numbers = {figure.name: figure.settings.n for figure in figures}
    most = max(numbers.values())
    few = "".join(f", {name} of {n:,}" for name, n in numbers.items() if n < most)
    shown = Table(
        title=f"{count(most, 'image')}{few}",
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for name in ("metric", "space", "value", "95% interval", "better", *(("rival", "beside it") if pairs else ())):
        right = name in ("value", "95% interval", "rival")
        shown.add_column(name, justify="right" if right else "left", no_wrap=name in ("metric", "space"))
    known = {id(pair.figure): pair for pair in pairs}
    for figure in figures:
        pair = known.get(id(figure))
        low, high = (f"{end:.3g}" if abs(end) < 1000 else number(end) for end in figure.estimate.interval)
        shown.add_row(
            figure.name, figure.settings.space, number(figure.estimate.value), f"{low} to {high}",
            figure.better, *([] if pair is None else [number(pair.rival.estimate.value), pair.side]),
        )  # fmt: skip
    Console().print(shown)


def number(value: float) -> str:
    """A figure with three or four digits."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


__all__ = ["Measuring", "check_numbers", "check_source", "left_out", "listed", "number", "progress_bar", "table"]
