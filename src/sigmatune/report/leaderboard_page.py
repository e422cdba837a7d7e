"""The leaderboard's page: the verdict first, quality against calls for each solver, then every figure with its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sigmatune import __version__
from sigmatune.report import inline_images as pictures
from sigmatune.report.html import p, table
from sigmatune.report.leaderboard_charts import charts, plain, title
from sigmatune.report.style import STYLE

if TYPE_CHECKING:
    import torch

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
    what_for = f"{leaderboard['source']}: which schedule for few calls"
    verdicts = f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in leaderboard['verdict'])}</ul>"
    shown = _images(images, values)
    heading, drawn = charts(rows)
    what = f"{leaderboard['n']:,} images per entry, from the same noises (seed {leaderboard['seed']})"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="sigmatune/leaderboard">\n<title>{escape(what_for)} - SigmaTune</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body><main>\n<h1>{escape(what_for)}</h1>\n"
        f'<p class="lead">{escape(what)}, ranked by {escape(title(first[0]))}.{escape(_second(rows))}</p>\n'
        f"<section><h2>The verdict</h2>{p(headline(rows), 'big')}{verdicts}</section>\n{shown}"
        f"<section><h2>{heading}</h2>{drawn}"
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
        cells = [str(row["calls"]), escape(plain(row["name"])) + star, escape(row["solver"]), *figures]
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
        wins.setdefault(f"{plain(row['name'])} with {row['solver']}", []).append(budget)
    leads = [f"{name} at {', '.join(map(str, won))} calls" for name, won in wins.items()]
    said = f"Best: {'; '.join(leads[:3])}" + (f"; {len(leads) - 3} more" if len(leads) > 3 else "")
    against = [b for b, row in first.items() if not _nearest(row, [other for other in rows if other["budget"] == b])]
    return said + (f"; the paired error disagrees at {', '.join(map(str, against))}" if against else "")


def _nearest(row: Row, others: Sequence[Row]) -> bool:
    """Whether an entry also has the smallest paired error of its budget, as far as errors are known."""
    known = [other["paired"]["value"] for other in others if other.get("paired")]
    return not known or (bool(row.get("paired")) and row["paired"]["value"] <= min(known))


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
