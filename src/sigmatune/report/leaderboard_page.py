"""The leaderboard's page: the verdict first, quality against calls for each solver, then every figure with its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sigmatune import __version__
from sigmatune.report import inline_images as pictures
from sigmatune.report.charts import MARKS, short
from sigmatune.report.html import p, table
from sigmatune.report.style import STYLE
from sigmatune.report.svg import DEFAULT, OTHER, PLAN, chart, end_labels, log_ticks

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
Values = tuple[float, float]
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
BARS = (
    "Bars are 95% intervals over seeds. Entries ran on the same noises, so the data separate two of them more finely "
    "than their bars suggest; the verdict above uses this."
)


def page(
    leaderboard: Mapping[str, Any], images: Sequence[tuple[str, torch.Tensor]] = (), values: Values = (-1, 1)
) -> str:
    """Builds the page.

    Args:
        leaderboard: The result of :func:`sigmatune.evaluation.leaderboard.to_dict`.
        images: Samples of some entries from the same noises, each with what they are, (n, C, H, W).
        values: The range of the samples.
    """
    rows: Sequence[Row] = leaderboard["rows"]
    first = [*rows[0]["figures"], *_errors(rows)[:1]]
    title = f"{leaderboard['source']}: which schedule for few calls"
    verdicts = f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in leaderboard['verdict'])}</ul>"
    shown = _images(images, values)
    charts = "".join(_chart(rows, solver, i) for i, solver in enumerate(dict.fromkeys(row["solver"] for row in rows)))
    what = f"{leaderboard['n']:,} images per entry, from the same noises (seed {leaderboard['seed']})"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="sigmatune/leaderboard">\n<title>{escape(title)} - SigmaTune</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body><main>\n<h1>{escape(title)}</h1>\n"
        f'<p class="lead">{escape(what)}, ranked by {escape(_title(first[0]))}.{escape(_second(rows))}</p>\n'
        f"<section><h2>The verdict</h2>{p(headline(rows), 'big')}{verdicts}</section>\n{shown}"
        f"<section><h2>Quality against calls</h2>{charts}"
        f"{p(BARS, 'note')}"
        f"</section>\n<section><h2>All figures</h2>{_table(rows)}</section>\n"
        f"<section><h2>What the figures are</h2>{_settings(first)}</section>\n"
        f"<footer>Written by SigmaTune {__version__}. This page is one file and loads nothing.</footer>\n"
        "</main></body>\n</html>\n"
    )


def _errors(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """The paired errors of the rows that have one; older leaderboards have none."""
    return [row["paired"] for row in rows if row.get("paired")]


def _second(rows: Sequence[Row]) -> str:
    """What the second number is."""
    if not (errors := _errors(rows)):
        return ""
    settings = errors[0]["settings"]
    first, stop = settings["seeds"]["indices"]
    return (
        f" Beside it the paired error of {settings['n']} noises ({first} to {stop - 1}) to the converged solution, "
        f"{settings['space']}, lower is better: the first asks whether the images are like the data, the second whether "
        "they are those that the model draws in many steps."
    )


def _title(figure: Mapping[str, Any]) -> str:
    return f"{figure['name']} in {figure['settings']['space']} ({figure['better']} is better)"


def _chart(rows: Sequence[Row], solver: str, number: int) -> str:
    """One chart per solver: the best curve strong, that of the front blue, the others grey with marks."""
    curves: dict[str, list[Row]] = {}
    for row in rows:
        if row["solver"] == solver:
            curves.setdefault(row["name"], []).append(row)
    for points in curves.values():
        points.sort(key=lambda row: row["calls"])
    sign = 1 if rows[0]["figures"][0]["better"] == "lower" else -1
    best = min(curves, key=lambda name: sign * curves[name][-1]["figures"][0]["value"])
    positive = all(row["figures"][0]["low"] > 0 for row in rows)

    def draw(figure: Figure, narrow: bool) -> None:  # noqa: FBT001 (the argument of a chart's drawing)
        axis = figure.add_subplot()
        ends = []
        for i, (name, points) in enumerate(curves.items()):
            colour = PLAN if name == best else DEFAULT if any(row["pareto"] for row in points) else OTHER
            x = [row["calls"] for row in points]
            y = [row["figures"][0]["value"] for row in points]
            bars = [[row["figures"][0][k] for row in points] for k in ("low", "high")]
            spans = [[v - b for v, b in zip(y, bars[0], strict=True)], [b - v for v, b in zip(y, bars[1], strict=True)]]
            width = 2.4 if name == best else 1.2
            axis.errorbar(x, y, spans, color=colour, linewidth=width, marker=MARKS[i % len(MARKS)], markersize=5)
            ends.append(((x[-1], y[-1]), _plain(name), colour))
        axis.set(
            xlabel="network calls per image",
            ylabel=f"{rows[0]['figures'][0]['name']}, {rows[0]['figures'][0]['settings']['space']}",
        )
        axis.set_xscale("log")
        if positive:
            axis.set_yscale("log")
            log_ticks(axis, *axis.get_ylim())
        calls = sorted({row["calls"] for points in curves.values() for row in points})
        axis.set_xticks(calls, [str(c) for c in calls])
        axis.set_xticks([], minor=True)
        axis.grid(axis="y")
        axis.margins(x=0.03)
        end_labels(figure, axis, ends, narrow=narrow)

    label = f"{_title(rows[0]['figures'][0])} against network calls with {solver}, for {len(curves)} schedules."
    return f'<h3>{escape(solver)}</h3><div class="chart">{chart(draw, (400, 420), f"solver{number}", label)}</div>'


def _table(rows: Sequence[Row]) -> str:
    named, errors = [f"{f['name']} {f['settings']['space']}" for f in rows[0]["figures"]], _errors(rows)
    if errors:
        named.insert(1, f"paired error, {errors[0]['settings']['space']}")
    head = ["calls", "schedule", "solver", *named]
    lines = []
    for row in rows:
        figures = [_cell(figure) for figure in row["figures"]]
        if errors:
            figures.insert(1, _cell(row["paired"]) if row["paired"] else "-")
        star = " (front)" if row["pareto"] else ""
        cells = [str(row["calls"]), escape(_plain(row["name"])) + star, escape(row["solver"]), *figures]
        lines.append(("own" if row["pareto"] else "", cells))
    note = "Marked rows are the Pareto front: no other entry is better with as few calls."
    whys = dict.fromkeys(row["unpaired"] for row in rows if row.get("unpaired"))
    dashes = "".join(p(f"-: no paired error; {why.rstrip('.')}.", "note") for why in whys)
    return table(head, lines, "figures") + p(note, "note") + dashes


def _cell(figure: Mapping[str, Any]) -> str:
    span = f"{_number(figure['low'])} to {_number(figure['high'])}"
    return f'{_number(figure["value"])} <span class="low">{span}</span>'


def _settings(figures: Sequence[Mapping[str, Any]]) -> str:
    """What the figures depend on, in a table: each line once, where all figures agree in it."""
    columns = [_facts(figure["settings"]) for figure in figures]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        said = [column.get(name, "") for column in columns]
        rows.append(("", [name, *map(escape, said)]))
    return table(["", *(f"{f['name']} {f['settings']['space']}" for f in figures)], rows, "settings")


def _facts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings in words."""
    reference, extractor, seeds = (
        settings.get("reference") or {},
        settings.get("extractor") or {},
        settings.get("seeds") or {},
    )
    indices = seeds.get("indices")
    return {
        "images": f"{settings['n']:,}",
        "compared with": ", ".join(str(reference[key]) for key in ("name", "n", "steps") if key in reference)
        or "nothing",
        "extractor": str(extractor.get("name", "")),
        "seed": str(seeds.get("seed", "")),
        "noises": f"{indices[0]} to {indices[1] - 1}" if indices else "",
        "arithmetic": str(settings.get("dtype", "")),
        "torch": str((settings.get("versions") or {}).get("torch", "")),
    }


def headline(rows: Sequence[Row]) -> str:
    """Which schedule is best at which budgets, and whether the paired errors agree."""
    budgets = list(dict.fromkeys(row["budget"] for row in rows))
    first = {budget: next(row for row in rows if row["budget"] == budget) for budget in budgets}
    wins: dict[str, list[int]] = {}
    for budget, row in first.items():
        wins.setdefault(f"{_plain(row['name'])} with {row['solver']}", []).append(budget)
    leads = [f"{name} at {', '.join(map(str, won))} calls" for name, won in wins.items()]
    said = f"Best: {'; '.join(leads[:3])}" + (f"; {len(leads) - 3} more" if len(leads) > 3 else "")
    against = [b for b, row in first.items() if not _nearest(row, [other for other in rows if other["budget"] == b])]
    return said + (f"; the paired error disagrees at {', '.join(map(str, against))}" if against else "")


def _nearest(row: Row, others: Sequence[Row]) -> bool:
    """Whether an entry also has the smallest paired error of its budget, as far as errors are known."""
    known = [other["paired"]["value"] for other in others if other.get("paired")]
    return not known or (bool(row.get("paired")) and row["paired"]["value"] <= min(known))


def _plain(name: str) -> str:
    """A schedule's name in brief; of the model's own default in words, because marks mean something else in tables."""
    return short(name).replace("*", " (the model's own)")


def _images(images: Sequence[tuple[str, torch.Tensor]], values: Values) -> str:
    """Rows of samples from the same noises."""
    drawn = [(name, one) for name, one in images if pictures.drawable(tuple(one.shape[1:]))]
    if not drawn:
        return ""
    strips = "".join(
        f'<div class="strip"><div class="who"><b>{escape(name)}</b></div>{pictures.strip(one, values, name)}</div>'
        for name, one in drawn
    )
    note = p("The first noises, not a selection; each column starts from one noise.", "note")
    return f"<section><h2>Images from the same noises</h2>{note}{strips}</section>\n"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
