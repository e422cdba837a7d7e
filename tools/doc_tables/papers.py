"""Tables of the four papers' comparisons."""

from __future__ import annotations

from doc_tables.exact_plans import SPACES
from doc_tables.markdown import NAMES, made_by, markdown

SHOWN = ((("fd", SPACES[0]), "lower"), (("fd", SPACES[1]), "lower"), (("is", "logits"), "higher"))
"""Figures of a cell in their order, and which side of a difference is better; the JSON has all."""

SNAPSHOT = "cifar10-epochs-"
"""A snapshot's name, before the number of epochs."""

UNIFORM = ("uniform trailing", "uniform, both ends")


def beta_sampling_tables(result: dict) -> dict[str, str]:
    """Beta against uniform timesteps, a table for each denoiser, by the name of the table."""
    models = dict.fromkeys(cell["model"] for cell in result["cells"] if not cell["model"].startswith(SNAPSHOT))
    return {f"beta_sampling_{_plain(model)}": beta_sampling_table(result, model) for model in models}


def _plain(model: str) -> str:
    return model.removeprefix("exact:").replace("-", "_")


LOSS = ("EDM's grid, rho 7", "discretisation loss", "discretisation loss, whitened", "Beta(.5, .5)", "tune")
"""What the second paper's first phase is compared with."""


def discretisation_loss_table(result: dict) -> str:
    """The second paper's first phase on the exact denoiser."""
    return beta_sampling_table(result, "exact:cifar10-mixture-16", LOSS)


def beta_sampling_table(result: dict, model: str, labels: tuple[str, ...] = ()) -> str:
    """Frechet distances and scores of one denoiser, of all labels or some."""
    chosen = [cell for cell in result["cells"] if cell["model"] == model and (not labels or cell["schedule"] in labels)]
    cells = {(cell["solver"], cell["schedule"], cell["steps"]): cell for cell in chosen}
    budgets = sorted({cell["steps"] for cell in chosen})
    rows = [
        [NAMES.get(solver, solver), label, *(_figures(cells.get((solver, label, steps)), UNIFORM) for steps in budgets)]
        for solver, label in dict.fromkeys(key[:2] for key in cells)
    ]
    draws = {(one["name"], one["settings"]["space"]): one["value"] for one in result.get("draws", {}).get(model, [])}
    if draws:
        rows.append(["none", "exact draws", *[_row(draws, {})] * len(budgets)])
    known, searched = chosen[0]["figures"][0]["settings"]["reference"], result["evolution"]
    note = (
        f"{chosen[0]['n']:,} images of `{model}` from the same noises each, against {known['name']}: Frechet distance "
        f"{' / '.join(SPACES)} / score. + (-): better (worse) than uniform timesteps, trailing and with both ends, by paired "
        f"95% jackknife intervals; half an interval is at most {_widest(chosen)} of a distance. "
    )
    if "evolution" in {cell["schedule"] for cell in chosen}:
        note += (
            f"Evolution: {searched['trials']} subsets, {searched['images']} images each of other noises, by the Frechet "
            f"distance in {searched['space']}. "
        )
    return markdown(["solver", "timesteps", *(f"{n} steps" for n in budgets)], rows, note + made_by(result))


def training_table(result: dict) -> str:
    """How Beta timesteps compare with uniform ones after more and more training of one network."""
    cells = [cell for cell in result["cells"] if cell["model"].startswith(SNAPSHOT)]
    epochs = sorted({int(cell["model"].removeprefix(SNAPSHOT)) for cell in cells})
    by = {(cell["schedule"], cell["steps"], int(cell["model"].removeprefix(SNAPSHOT))): cell for cell in cells}
    rows = [
        [str(steps), label, *(_figures(by.get((label, steps, one)), UNIFORM) for one in epochs)]
        for steps in sorted({cell["steps"] for cell in cells})
        for label in dict.fromkeys(cell["schedule"] for cell in cells)
        if any((label, steps, one) in by for one in epochs)
    ]
    known = cells[0]["figures"][0]["settings"]["reference"]["name"]
    note = (
        f"{cells[0]['n']:,} images by DDIM from the same noises each, against {known}: Frechet distance "
        f"{' / '.join(SPACES)} / score. + (-): better (worse) than uniform timesteps, trailing and with both ends, by paired "
        f"95% jackknife intervals; half an interval is at most {_widest(cells)} of a distance. "
    )
    return markdown(
        ["steps", "timesteps", *(f"{one} epoch{'s' * (one > 1)}" for one in epochs)], rows, note + made_by(result)
    )


def _widest(cells: list[dict]) -> str:
    """The largest share of a Frechet distance that half its interval is."""
    shares = [
        (one["high"] - one["low"]) / 2 / one["value"]
        for cell in cells
        for one in cell["figures"]
        if one["name"] == "fd"
    ]
    return f"{100 * max(shares):.0f} %"


def _figures(cell: dict | None, rivals: tuple[str, ...]) -> str:
    """The figures of a cell, marked where they differ from all its rivals in one direction."""
    if cell is None:
        return "not measured"
    values = {(one["name"], one["settings"]["space"]): one["value"] for one in cell["figures"]}
    marks = {}
    for figure, better in SHOWN:
        against = [sign(cell, rival, figure, better) for rival in rivals if rival in cell["minus"]]
        marks[figure] = against[0] if len(set(against)) == 1 and len(against) == len(rivals) else ""
    return _row(values, marks)


def _row(values: dict, marks: dict) -> str:
    """Distances and score, each with its mark."""
    return " / ".join(
        f"{values[figure]:{'.3g' if values[figure] < 100 else ',.0f'}}{marks.get(figure, '')}" for figure, _ in SHOWN
    )


def sign(cell: dict, rival: str, figure: tuple[str, str], better: str = "lower") -> str:
    """The mark of a figure against a rival: + significantly better, - worse, nothing for neither."""
    gap = next(one for one in cell["minus"][rival] if (one["name"], one["space"]) == figure)
    if gap["low"] <= 0 <= gap["high"]:
        return ""
    return "+" if (gap["value"] < 0) == (better == "lower") else "-"


def told_stepped_table(result: dict) -> str:
    """What a spectral network is told and what it is stepped with."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(cell["told"], cell["stepped"], cell["calls"]): cell for cell in result["cells"]}
    rows = []
    for told, stepped in dict.fromkeys(key[:2] for key in cells):
        shown = []
        for calls in budgets:
            cell = cells[told, stepped, calls]
            values = {(one["name"], one["settings"]["space"]): one["value"] for one in cell["figures"]}
            gaps = {("fd", gap["space"]): gap for gap in cell["minus"] if gap["name"] == "fd"}
            shown.append(" / ".join(f"{values['fd', space]:.0f}{_mark(gaps.get(('fd', space)))}" for space in SPACES))
        rows.append([told, stepped, *shown])
    note = (
        f"{result['cells'][0]['n']:,} images of cifar10-spectral-cpu, trained once, from the same classes and noises each, "
        f"against {result['reference']:,} training images: Frechet distance {' / '.join(SPACES)}. + better, - worse than drawn "
        f"and drawn, by paired 95% jackknife intervals over images. {made_by(result)}"
    )
    return markdown(["conditioned on", "stepped with", *(f"{calls} calls" for calls in budgets)], rows, note)


def _mark(gap: dict | None) -> str:
    """Whether a Frechet distance differs significantly."""
    if gap is None or gap["low"] <= 0 <= gap["high"]:
        return ""
    return "+" if gap["value"] < 0 else "-"


def splitting_table(result: dict) -> str:
    """Samplers of phase space on the lifted exact denoiser."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(cell["sampler"], cell["set"], cell["calls"]): cell for cell in result["cells"]}
    rows = [
        [sampler, SETTINGS[how], *(_split(cells.get((sampler, how, calls))) for calls in budgets)]
        for sampler, how in dict.fromkeys(key[:2] for key in cells)
    ]
    known = result["reference"]
    note = (
        f"{result['cells'][0]['n']:,} images of `{result['model']}`, lifted, against {known['name']}: Frechet "
        f"distance {' / '.join(SPACES)}; lambda_s in brackets where it was chosen. + better, - worse than reduced OBA with the "
        f"papers' settings, by paired 95% jackknife intervals. By distance: the best of lambda_s = "
        f"{', '.join(f'{value:g}' for value in result['grid'])} by {result['tried']} images of other noises. {made_by(result)}"
    )
    return markdown(["sampler", "settings", *(f"{calls} calls" for calls in budgets)], rows, note)


SETTINGS = {
    "papers": "the papers'",
    "lambda_s by distance": "lambda_s by Frechet distance",
    "by the spectrum": "noise and levels by the spectrum",
    "position": "in position space",
}
"""What the ways to set a sampler are called."""


def _split(cell: dict | None) -> str:
    if cell is None:
        return "not measured"
    gaps = {gap["space"]: gap for gap in cell["minus"]}
    both = " / ".join(f"{one['value']:.3g}{_mark(gaps[one['settings']['space']])}" for one in cell["figures"])
    return both if cell["set"] in ("papers", "position") else f"{both} ({cell['lambda_s']:.2g})"
