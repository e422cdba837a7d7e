"""Tables of distances between generated images and data: metrics, training, fine-tuning."""

from __future__ import annotations

from doc_tables.markdown import made_by, markdown


def doctor_table(result: dict) -> str:
    """What each metric says of spoilt halves, and what it got wrong."""
    heads: list[str] = []
    rows, healthy, count = [], 0, 0
    for part in result["examined"]:
        for diagnosis in part["diagnoses"]:
            values = {one["what"]: one["value"] for one in diagnosis["findings"]}
            heads = heads or list(values)
            rows.append([part["data"], f"{diagnosis['metric']} {diagnosis['space']}", *(f"{values[h]:.3g}" for h in heads),
                         "yes" if diagnosis["healthy"] else f"not {', '.join(diagnosis['complaints'])}"])  # fmt: skip
            healthy, count = healthy + diagnosis["healthy"], count + 1
    sizes = ", ".join(f"{n:,} of {data}" for data, n in {p["data"]: p["n"] for p in result["examined"]}.items())
    note = (
        f"Images in each half: {sizes}. Noise in grey levels of 255, blur in pixels. Ordered as it "
        f"should be: {healthy} of {count}. {made_by(result)}"
    )
    return markdown(["data", "figure", *heads, "ordered"], rows, note)


SHOWN = {("fd", "block10"), ("fd", "head-pca64"), ("is", "logits")}
"""Figures of the sources' tables; the JSON has all."""


def _entry(cell: dict, place: int, rival: str) -> str:
    figure = cell["figures"][place]
    gap = cell["minus"].get(rival, [None] * len(cell["figures"]))[place]
    mark = ""
    if gap and not gap["low"] <= 0 <= gap["high"]:
        mark = " +" if (gap["value"] < 0) == (figure["better"] == "lower") else " -"
    value = f"{figure['value']:,.0f}" if figure["value"] >= 100 else f"{figure['value']:.3g}"
    half = (figure["high"] - figure["low"]) / 2
    return f"{value} ± {f'{half:,.0f}' if half >= 100 else f'{half:.2g}'}{mark}"


RECIPES = {
    "cifar10-spectral-cpu": "CIFAR-10, 16 x 16, recipe for a CPU",
    "cifar10-spectral": "CIFAR-10, 32 x 32",
    "emoji-64": "emoji, 64 x 64",
}


def training_overhead_table(result: dict) -> str:
    """What per-image schedules add to a step of training."""
    rows = [
        [RECIPES[row["recipe"]], str(row["batch"]), f"{row['step_ms']:.0f} ms", f"{row['law_ms']:.1f} ms",
         f"{row['telling_ms']:.1f} ms", f"{100 * row['overhead']:.1f} %"]
        for row in result["rows"]
    ]  # fmt: skip
    head = ["training", "batch", "a step", "spectra and levels", "telling the network", "added to a step"]
    note = (
        f"CPU time of one thread, mean of {result['rows'][0]['steps']} steps; added is what one curve for all would not cost. "
        f"{made_by(result)}"
    )
    return markdown(head, rows, note)


def training_table(result: dict | None) -> str:
    """Distances and scores of the laws, and where they differ significantly from SiD2."""
    if result is None:
        return "Not measured yet: `python benchmarks/training.py compare` trains, samples and measures."
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(cell["entry"], cell["calls"]): cell for cell in result["cells"]}
    first = result["cells"][0]
    rows = []
    for entry in dict.fromkeys(name for name, _ in cells):
        for place, figure in enumerate(first["figures"]):
            if (figure["name"], figure["settings"]["space"]) not in SHOWN:
                continue
            texts = []
            for calls in budgets:
                cell = cells.get((entry, calls))
                texts.append(
                    _entry({**cell, "minus": {"SiD2": cell["minus_sid2"]} if cell["minus_sid2"] else {}}, place, "SiD2")
                    if cell else "not measured"
                )  # fmt: skip
            rows.append([entry, f"{figure['name']} {figure['settings']['space']}", *texts])
    seen = next(iter(result["trainings"].values()))
    known = first["figures"][0]["settings"]["reference"]
    note = (
        f"{seen['images']:,} images seen, {seen['parameters']:,} parameters, {result['solver']}; {result['n']:,} images from "
        f"the same classes and noises each, against {known['n']:,} training images; ± is half a 95% jackknife interval. + "
        f"significantly better, - significantly worse than SiD2, by paired differences. {made_by(result)}"
    )
    return markdown(["trained and sampled", "figure", *(f"{calls} calls" for calls in budgets)], rows, note)


def finetune_table(result: dict | None) -> str:
    """Distances of every way to fine-tune, and where they differ significantly from the baseline."""
    if result is None:
        return "Not measured yet: `python benchmarks/finetune.py` tunes, trains and measures."
    rows, budgets, cells, first = _by_calls(result, "baseline grid")
    seen = [cell["images_seen"] for cell in result["cells"] if "images_seen" in cell]
    for label in dict.fromkeys(name for name, _ in cells):
        spent = [cells[label, calls] for calls in budgets if (label, calls) in cells]
        if "images_seen" in spent[0]:
            took = [f"{one['training_seconds']:.0f}" for one in spent]
            rows.append([label, "seconds of training", *took, *["not measured"] * (len(budgets) - len(took))])
    known = first["figures"][0]["settings"]["reference"]
    note = (
        f"{result['n']:,} images from the same noises each, {result['solver']}, against {known['n']:,} {known['name']}; "
        f"{max(seen, default=0):,} images seen by every fine-tuning; ± is half a 95% jackknife interval. + "
        f"significantly better, - significantly worse than the baseline grid, by paired differences. {made_by(result)}"
    )
    return markdown(["entry", "figure", *(f"{calls} calls" for calls in budgets)], rows, note)


def finetune_psld_table(result: dict | None) -> str:
    """A network of phase space against a lifted one."""
    if result is None:
        return "Not measured yet: `python benchmarks/finetune.py psld` trains, samples and measures."
    rows, budgets, _, first = _by_calls(result, "lifted")
    known, took = first["figures"][0]["settings"]["reference"], first["training"]
    note = (
        f"CIFAR-10 at 16 x 16, {took['images']:,} images seen by both, {result['solver']}, {result['n']:,} images each, "
        f"against {known['n']:,} training images; ± is half a 95% jackknife interval. + significantly better, - "
        f"significantly worse than the lifted network. {made_by(result)}"
    )
    return markdown(["network", "figure", *(f"{calls} calls" for calls in budgets)], rows, note)


def _by_calls(result: dict, rival: str) -> tuple[list[list[str]], list[int], dict, dict]:
    """Rows of an entry and a figure each, with one column for each number of calls."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells, first, rows = {(cell["entry"], cell["calls"]): cell for cell in result["cells"]}, result["cells"][0], []
    for entry in dict.fromkeys(name for name, _ in cells):
        for place, figure in enumerate(first["figures"]):
            texts = [
                _entry(cells[entry, calls], place, rival) if (entry, calls) in cells else "not measured"
                for calls in budgets
            ]
            rows.append([entry, f"{figure['name']} {figure['settings']['space']}", *texts])
    return rows, budgets, cells, first
