"""Tables of exact denoisers and of measures on them, from ``exact.json`` and ``measures.json``."""

from __future__ import annotations

from doc_tables.exact_plans import SPACES
from doc_tables.markdown import NAMES, made_by, markdown


def exact_speed_table(result: dict) -> str:
    """Images per second of the exact denoisers."""
    part = result.get("speed")
    if part is None:
        return "Not measured yet: `python benchmarks/exact.py speed` measures what is built."
    batches = list(part["rows"][0]["images_per_second"])
    rows = [
        [f"`exact:{row['name']}`", *(f"{row['images_per_second'][batch]:,.0f}" for batch in batches),
         f"{max(row['off'].values()):.0e}", f"{row['mebibytes']:.0f} MiB"]
        for row in part["rows"]
    ]  # fmt: skip
    head = ["model", *(f"images a second, batch {batch}" for batch in batches), "float32 off by", "file"]
    note = (
        f"Calls at sigma 1 by processor time of one thread, medians of {part['turns']}; root mean square difference from "
        f"float64, the largest over sigma {', '.join(f'{level:g}' for level in part['levels'])}. "
    )
    return markdown(head, rows, note + made_by({**part, "benchmark": f"{result['benchmark']} speed"}))


def exact_held_out_table(result: dict) -> str:
    """Bits per value of test images under every structure of the covariances."""
    part = result.get("held_out")
    if part is None:
        return "Not measured yet: `python benchmarks/exact.py held-out` fits and measures."
    rows = [
        [f"{row['size']} x {row['size']}", row["structure"], f"{row['full_modes']}", f"{row['bits']:.3f}"]
        for row in sorted(part["rows"], key=lambda row: row["size"])
    ]
    first = part["rows"][0]
    note = f"{first['n']:,} test images of {' and '.join(first['classes'])}. "
    return markdown(
        ["size", "covariance of each class", "modes with full covariance", "bits per value"], rows,
        note + made_by({**part, "benchmark": f"{result['benchmark']} held-out"}),
    )  # fmt: skip


def calls_table(result: dict) -> str:
    """Frechet distance against calls, of every network and exact denoiser."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(cell["model"], cell["family"], cell["calls"]): cell for cell in result["cells"]}
    rows = []
    for model, family in dict.fromkeys(key[:2] for key in cells):
        for place, space in enumerate(SPACES):
            own = [cells.get((model, family, calls)) for calls in budgets]
            figures = [cell["figures"][place] if cell else None for cell in own]
            shown = [f"{f['value']:,.1f} ± {(f['high'] - f['low']) / 2:,.1f}" if f else "not measured" for f in figures]
            n = next(cell["n"] for cell in own if cell)
            rows.append([f"`{model}`", f"{n:,}", family, space, *shown])
    note = (
        "Euler (DDIM), images of a row from the same noises, against training images or, of exact denoisers, exact draws; ± is "
        f"half a 95% jackknife interval. {made_by(result)}"
    )
    return markdown(["model", "images", "levels", "space", *(f"{calls} calls" for calls in budgets)], rows, note)


MEASURES = {
    "rms": "root mean square",
    **{f"{of}, {p}": f"{of}, exponent {p}" for of in ("rings", "colours") for p in (0.25, 0.5, 0.75, 1)},
}
"""What candidates are called in tables."""


def measures_table(result: dict) -> str:
    """How well every candidate for a measure ranks schedules."""
    parts = ("exact, data", "networks, data", "networks, converged")
    head = ["error", "lowest", "mean", "exact data", "networks, data", "networks, converged", "chosen over best"]
    rows = [
        [
            MEASURES.get(name, name),
            *(f"{record[part]:.2f}" for part in ("lowest", "mean", *parts)),
            f"{record['regret']:.2f}",
        ]
        for name, record in result["summary"].items()
    ]
    counts = " or ".join(str(n) for n in sorted({about["rows"] for about in result["subjects"].values()}))
    note = (
        f"{len(result['subjects'])} models, {len(result['cells'])} pairs of schedule and solver ({NAMES['euler']}, "
        f"{NAMES['dpmpp2m']}; 4, 6 and 10 calls), each on {counts} noises. {made_by(result)}"
    )
    return markdown(head, rows, note)


def measures_models_table(result: dict) -> str:
    """The mean correlation of some candidates, model by model."""
    whitened = [f"{of}, {p}" for of in ("rings", "colours") for p in (0.5, 0.75, 1)]
    chosen = ("rms", *whitened, "features, block10", "features, head-pca64")
    rows = [
        [model, *(f"{result['summary'][name]['models'][model]:.2f}" for name in chosen), f"{about['rows']}"]
        for model, about in result["subjects"].items()
    ]
    note = "Mean over solvers, numbers of calls, both spaces, and distances to data and to converged samples."
    return markdown(["model", *(MEASURES.get(name, name) for name in chosen), "noises"], rows, note)
