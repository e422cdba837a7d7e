"""The report's section on which frequencies the model decides at which noise level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmatune.analysis.figures import brightest, change_map, draw_bands, draw_map
from sigmatune.analysis.result import Stepwise
from sigmatune.analysis.summary import order_sentence
from sigmatune.report.html import p
from sigmatune.report.svg import DEFAULT, PLAN, chart
from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def frequencies(analysis: Stepwise) -> str:
    """The change map, the band curves and a sentence; by frequency, because few samples do not determine k = 0."""
    try:
        sentence = order_sentence(analysis, relative=False)
    except SigmaTuneError as nothing:
        return p(str(nothing))
    most = brightest(change_map(analysis, relative=False))
    note = (
        f"{analysis.n} samples on a chain of {analysis.steps} steps ({analysis.about.get('solver')}), whatever the "
        "plan's solver. At every step: how much the mean log magnitude of each spatial frequency of the model's state "
        f"grows (orange) or shrinks (purple) per percent of the way, the darkest colour is {most:.2g}. Below: where on "
        "the way the lowest and the highest third of the frequencies change; half of each band's change is done at the "
        f"dotted line. tau, the position on the way, falls from {analysis.levels} at pure noise to 0 at the clean image. "
    )
    more = "The command sigmatune analyze measures it with more samples and fits Beta distributions to it."
    return p(sentence, "see") + _chart(analysis, most) + p(note + more, "note")


def _chart(analysis: Stepwise, most: float) -> str:
    def draw(figure: Figure, narrow: bool) -> None:  # noqa: FBT001 (the argument of a chart's drawing)
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.1, 1])
        draw_map(top, analysis, most, relative=False)
        draw_bands(below, analysis, relative=False, colours=(DEFAULT, PLAN))
        top.set_ylabel("cycles per image")
        below.set_ylabel("share of the change\nper percent of the way")
        below.set_xlabel("position on the way" + "  (pure noise left, clean image right)" * (not narrow))
        below.tick_params(axis="x", pad=7)
        below.legend(frameon=False, fontsize=10.5 if narrow else 12, loc="upper left")

    label = "Change of each spatial frequency from pure noise (left) to the clean image (right), and that of two bands."
    return chart(draw, (430, 400), "stepwise", label)
