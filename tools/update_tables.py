"""Writes the tables of README.md and docs/*.md from the benchmarks' JSON: ``python tools/update_tables.py``.

Everything between ``<!-- table: NAME -->`` and ``<!-- end -->`` is replaced. A test fails when the two differ.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
NAMES = {"euler": "Euler / DDIM", "heun": "Heun", "dpmpp2m": "DPM-Solver++(2M)"}


def guard_table(result: dict) -> str:
    """Error ratio of the tuned plan to the best static default, per solver and budget."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    solvers = list(dict.fromkeys(cell["solver"] for cell in result["cells"]))
    cells = {(cell["solver"], cell["calls"]): cell["evidence"] for cell in result["cells"]}
    lines = [
        "| solver | " + " | ".join(f"{calls} calls" for calls in budgets) + " |",
        "|---" * (len(budgets) + 1) + "|",
    ]
    for solver in solvers:
        entries = []
        for calls in budgets:
            if (solver, calls) not in cells:
                entries.append("not measured")
                continue
            ratio = cells[solver, calls]["error_ratio"]
            text = f"{ratio['value']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
            entries.append(f"**{text}**" if cells[solver, calls]["gain"] else f"no gain: {text}")
        lines.append(f"| {NAMES.get(solver, solver)} | " + " | ".join(entries) + " |")
    evidence = result["cells"][0]["evidence"]
    low = min(cell["cost"]["network_evaluations"]["total"] for cell in result["cells"])
    high = max(cell["cost"]["network_evaluations"]["total"] for cell in result["cells"])
    statistic, computer = evidence["statistic"], result["machine"]
    note = (
        f"{statistic['rows']} held-out noises, {statistic['confidence']:.0%} paired bootstrap intervals; one plan cost "
        f"{low:,} to {high:,} network evaluations of single images, references and guard included. Measured on "
        f"{result['date']} with torch {computer['torch']} on {computer['cores']} cores by `python {result['benchmark']}`."
    )
    return "\n".join([*lines, "", note])


def ratio(comparison: dict) -> str:
    """A ratio with its interval, bold where the whole interval lies below 1."""
    value = comparison.get("value", comparison.get("statistic"))
    text = f"{value:.2f} ({comparison['low']:.2f}-{comparison['high']:.2f})"
    return f"**{text}**" if comparison["high"] < 1 else text


def markdown(head: list[str], rows: list[list[str]], note: str) -> str:
    """A table and a sentence below it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", note])


def made_by(result: dict) -> str:
    """When, on what and by which command."""
    computer = result["machine"]
    return f"Measured on {result['date']} with torch {computer['torch']} by `python {result['benchmark']}`."


def ends_table(result: dict) -> str:
    """Tight range against the whole one, per family and number of calls."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(cell["family"], cell["calls"]): cell for cell in result["cells"]}
    first = next(iter(cells.values()))
    ranges = [cells[first["family"], calls]["tight"] for calls in budgets]
    head = ["family", *(f"{n} calls: {high:.3g} to {low:.2g}" for n, (high, low) in zip(budgets, ranges, strict=True))]
    families = dict.fromkeys(family for family, _ in cells)
    rows = [[f, *(ratio(cells[f, calls]["error_ratio"]) for calls in budgets)] for f in families]
    high, low = first["whole"]
    note = (
        f"{first['rows']} held-out noises, {first['confidence']:.0%} paired bootstrap intervals; the whole range is "
        f"{high:.3g} to {low:.2g}. {made_by(result)}"
    )
    return markdown(head, rows, note)


def spectrum_table(result: dict) -> str:
    """Constants for training from CIFAR-10's spectrum, and EDM's."""
    facts = result["facts"]
    edm, by_rings, by_modes = facts["edm"], facts["training"]["by_rings"], facts["training"]["by_modes"]
    rows = [["sigma_data", f"{facts['sigma_data']:.3f}", f"{edm['sigma_data']:g}"]]
    for label, constants in (("every ring the same", by_rings), ("every mode the same", by_modes)):
        rows += [[f"{name}, {label}", f"{constants[name]:.2f}", f"{edm[name]:g}"] for name in ("P_mean", "P_std")]
    for ends in facts["ends"]:
        rows.append(
            [f"range for {ends['steps']} steps", f"{ends['sigma_max']:.3g} to {ends['sigma_min']:.2g}",
             f"{edm['sigma_max']:g} to {edm['sigma_min']:g}" if ends is facts["ends"][-1] else ""]
        )  # fmt: skip
    law, broken = facts["laws"]["power"], facts["laws"]["broken"]
    half = result["half_resolution"]
    note = (
        f"{facts['images']:,} images. EDM's first level costs {edm['prior_mismatch_nats']:.2g} nats, its last removes "
        f"{100 * edm['lost_variance_share']:.2g} % of the variance. Power law: exponent {law['exponent']:.2f}; with a break at "
        f"k = {broken['break_at']:.1f}: {broken['low_exponent']:.2f}, then {broken['high_exponent']:.2f}. Shrunk to 16 pixels, "
        f"P_mean is {half['measured']['P_mean']:.2f} measured and {half['predicted']['P_mean']:.2f} predicted from 32 pixels. "
        f"{made_by(result)}"
    )
    return markdown(["constant", "from the data", "EDM"], rows, note)


def beta_table(result: dict) -> str:
    """Schedules against uniform timesteps with the same ends."""
    budgets = sorted({cell["steps"] for cell in result["cells"]})
    cells = {(cell["schedule"], cell["steps"]): cell for cell in result["cells"]}
    names = dict.fromkeys(name for name, _ in cells)
    rows = [[name, *(ratio(cells[name, steps]["uniform-linspace"]) for steps in budgets)] for name in names]
    first = result["cells"][0]
    note = f"{first['rows']} held-out noises, 95% paired bootstrap intervals. {made_by(result)}"
    return markdown(["levels", *(f"{steps} steps" for steps in budgets)], rows, note)


def analyses_table(result: dict) -> str:
    """When the bands change, the fitted Beta distributions, and the hand-picked ones."""
    rows = []
    for name, analysis in result["analyses"].items():
        median, fit = analysis["medians"]["state"], analysis["fit"]
        rows.append(
            [name, *(f"{median[band]['value']:.0f}" for band in ("low", "high")),
             *(f"{fit[of]['value']:.2f} ({fit[of]['low']:.2f}-{fit[of]['high']:.2f})" for of in ("a", "b", "symmetric")),
             *(f"{one['total_variation']:.2f}" for one in analysis["published"])]
        )  # fmt: skip
    head = ["model", "low band: half at tau", "high band: half at tau", "a", "b", "a = b",
            *(f"distance of ({one['a']:g}, {one['a']:g})" for one in analysis["published"])]  # fmt: skip
    one = next(iter(result["analyses"].values()))
    note = (
        f"{one['n']} samples, chains of {one['steps']} steps, T = {one['levels']}; 95% jackknife intervals. The distance is "
        f"the share of the measured change that a hand-picked density has elsewhere (total variation). {made_by(result)}"
    )
    return markdown(head, rows, note)


def sensitivity_table(result: dict) -> str:
    """The best (a, b) and what the paper's cost beside it."""
    grid = result["grid"]
    at = {hand: grid.index(hand) for hand in (0.5, 0.6, 1.0)}
    rows = []
    for what, cells in (("closed form", result["closed_form"]), (result["model"], result["model_maps"])):
        for cell in cells:
            best, table = cell["best"], cell["error"]
            shares = [table[i][i] / best["error"] if table[i][i] is not None else None for i in at.values()]
            rows.append(
                [what, cell["solver"], str(cell["steps"]), f"({best['a']:g}, {best['b']:g})",
                 *("levels meet" if share is None else f"{share:.2f}" for share in shares)]
            )  # fmt: skip
    head = ["data", "solver", "steps", "best (a, b)", *(f"({hand:g}, {hand:g}): error over best" for hand in at)]
    return markdown(head, rows, f"{result['rows']} noises on the model. {made_by(result)}")


def tuned_cifar10_table(result: dict) -> str:
    """What auto brings on cifar10."""
    return tuners_table({**result, "cells": [cell for cell in result["cells"] if cell["model"] == "cifar10"]})


def tuners_table(result: dict) -> str:
    """What auto brings, with and without coefficients, per model, solver and number of calls."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(c["model"], c["method"], c["solver"], c["calls"]): c for c in result["cells"]}
    rows = []
    for model, method, solver in dict.fromkeys(key[:3] for key in cells if key[1].startswith("auto")):
        entries = []
        for calls in budgets:
            cell = cells[model, method, solver, calls]
            value = cell["error_ratio"]
            text = f"{value['value']:.2f} ({value['low']:.2f}-{value['high']:.2f})"
            entries.append(f"**{text}**" if cell["gain"] else f"no gain: {text}")
        what = "levels and coefficients" if "coefficients" in method else "levels"
        rows.append([model, NAMES.get(solver, solver), what, *entries])
    order = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: (order.index(row[0]), row[2] != "levels"))
    spent = [tuning_cost(part) for part in by_run(result, "auto").values()]
    learned = [tuning_cost(part) for part in by_run(result, "auto, coefficients").values()]
    more = f", {min(learned):,} to {max(learned):,} with coefficients" if learned else ""
    note = (
        f"{result['settings']['held_out']} held-out noises, 95% paired bootstrap intervals. All budgets of a row together took "
        f"{min(spent):,} to {max(spent):,} network evaluations of single images for levels{more}; reference and guard not "
        f"counted. {made_by(result)}"
    )
    return markdown(["model", "solver", "tuned", *(f"{n} calls" for n in budgets)], rows, note)


def by_run(result: dict, method: str) -> dict[tuple[str, str], list[dict]]:
    """The cells of a method, those that were tuned together in one list."""
    runs: dict[tuple[str, str], list[dict]] = {}
    for cell in result["cells"]:
        if cell["method"] == method:
            runs.setdefault((cell["model"], cell["solver"]), []).append(cell)
    return runs


def tuning_cost(cells: list[dict]) -> int:
    """Network evaluations that a budget pays for."""
    parts = [cell["cost"]["network_evaluations"] for cell in cells]
    return sum(part.get(purpose, 0) for part in parts for purpose in ("search", "table", "trajectory", "gradient"))


def queries_table(result: dict) -> str:
    """What it brings to ask at other levels than those that are stepped to."""
    ratios = [cell["error_ratio"] for cell in result["cells"]]
    row = ["cifar10", NAMES["euler"], "levels and asked levels", *(ratio(comparison) for comparison in ratios)]
    spent = max(cell["cost"]["network_evaluations"]["total"] for cell in result["cells"])
    note = (
        f"{result['held_out']} held-out noises, 95% paired bootstrap intervals; at most {spent:,} network evaluations of "
        f"single images for one budget, references and guard included. {made_by(result)}"
    )
    return markdown(["model", "solver", "tuned", *(f"{cell['calls']} calls" for cell in result["cells"])], [row], note)


def methods_table(result: dict) -> str:
    """The median ratio of each method at few and at more calls, its cost, and how often it lost."""
    rows = []
    for method in dict.fromkeys(cell["method"] for cell in result["cells"]):
        runs = by_run(result, method)
        row = [method]
        for model in dict.fromkeys(cell["model"] for cell in result["cells"]):
            for few in (True, False):
                values = [
                    cell["error_ratio"]["value"]
                    for (of, _), cells in runs.items() for cell in cells
                    if of == model and (cell["calls"] <= 6) == few
                ]  # fmt: skip
                row.append(f"{median(values):.2f}" if values else "not measured")
        cells = [cell for part in runs.values() for cell in part]
        kept = sum(not cell["gain"] for cell in cells)
        row += [f"{median([tuning_cost(part) for part in runs.values()]):,.0f}", f"{kept} of {len(cells)}"]
        rows.append(row)
    models = dict.fromkeys(cell["model"] for cell in result["cells"])
    head = ["method", *(f"{model}, {calls} calls" for model in models for calls in ("4-6", "8-10")),
            "network evaluations", "cells where the default was kept"]  # fmt: skip
    note = (
        "Network evaluations: of single images, for all five budgets of one solver, reference and guard not counted. A plan "
        f"that the guard rejects is not returned; its ratio still counts here. {made_by(result)}"
    )
    return markdown(head, rows, note)


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


def source_table(result: dict) -> str:
    """Frechet distance and score of every schedule, and where it differs significantly from the first rival."""
    budgets = sorted({cell["steps"] for cell in result["cells"]})
    cells = {(cell["schedule"], cell["steps"]): cell for cell in result["cells"]}
    first = result["cells"][0]
    # The first entry is the rival of the others, if any of them was compared with it.
    is_rival = any(first["schedule"] in cell["minus"] for cell in result["cells"])
    rival = first["schedule"] if is_rival else next(iter(first["minus"]))
    rows = []
    for schedule in dict.fromkeys(name for name, _ in cells):
        for place, figure in enumerate(first["figures"]):
            if (figure["name"], figure["settings"]["space"]) not in SHOWN:
                continue
            entries = []
            for steps in budgets:
                cell = cells.get((schedule, steps))
                entries.append(_source_entry(cell, place, rival) if cell else "not measured")
            rows.append([schedule, f"{figure['name']} {figure['settings']['space']}", *entries])
    sizes = dict.fromkeys(f"{cells_n:,}" for cells_n in (cell["n"] for cell in result["cells"]))
    settings = first["figures"][0]["settings"]
    known, network = settings["reference"], settings["extractor"]
    note = (
        f"{' or '.join(sizes)} images from the same noises each, against {known['n']:,} {known['name']} in spaces of "
        f"{network['name']} {network['version']} ({network['resize']}); ± is half a 95% jackknife interval. + "
        f"significantly better, - significantly worse than {rival}, by paired differences. {made_by(result)}"
    )
    unit = "calls" if "calls" in first and first["solver"] != "euler" else "steps"
    return markdown(
        ["schedule" if unit == "steps" else "sampler", "figure", *(f"{n} {unit}" for n in budgets)], rows, note
    )


def phase_errors_table(result: dict) -> str:
    """Squared Wasserstein error of every sampler of phase space on exact data."""
    budgets = sorted({cell["budget"] for cell in result["cells"]})
    cells = {(cell["sampler"], cell["grid"], cell["budget"]): cell["wasserstein"] for cell in result["cells"]}
    grids = list(dict.fromkeys(grid for _, grid, _ in cells))
    names = dict.fromkeys(name for name, _, _ in cells)
    rows = [
        [name, f"{result['orders'][name]:.2f}", *(f"{cells[name, grid, n]:.2g}" for grid in grids for n in budgets)]
        for name in names
    ]
    head = ["sampler", "weak order, measured", *(f"{grid}, {n} calls" for grid in grids for n in budgets)]
    return markdown(
        head, rows, f"Squared Wasserstein error over the data's variance, in closed form. {made_by(result)}"
    )


def phase_premise_table(result: dict) -> str:
    """Relative change of the position's score by the update of the momentum."""
    rows = [
        [f"{cell['t']:g}", f"{cell['share']:.0%}", *(f"{value:.2g}" for value in cell["change"])]
        for cell in result["premise"]
    ]
    head = ["time t", "step, share of the time", "strongest frequency", "typical", "weakest"]
    note = f"Root mean square change over root mean square score, exact Gaussian data. {made_by(result)}"
    return markdown(head, rows, note)


def phase_stability_table(result: dict) -> str:
    """The longest stable step of the naive and the reduced rule."""
    times = list(dict.fromkeys(cell["t"] for cell in result["largest_step"]))
    cells = {(cell["word"], cell["t"]): cell for cell in result["largest_step"]}
    rows = [
        [f"{rule}-{word}", *(f"{cells[word, t][rule]:.2g}" for t in times)]
        for word in dict.fromkeys(word for word, _ in cells) for rule in ("naive", "reduced")
    ]  # fmt: skip
    return markdown(["sampler", *(f"t = {t:g}" for t in times)], rows, made_by(result))


def phase_terms_table(result: dict) -> str:
    """Leading coefficients of the local error of the covariance."""
    rows = [
        [f"{cell['t']:g}", *(f"{cell[rule][term]:.3g}" for term in ("xx", "xm", "mm") for rule in ("naive", "reduced"))]
        for cell in result["local_terms"]
    ]
    head = ["time t", *(f"{term}, {rule}" for term in ("xx", "xm", "mm") for rule in ("naive", "reduced"))]
    note = f"(covariance after a step minus the true one) / h^2, h small, the momentum in units of its own. {made_by(result)}"
    return markdown(head, rows, note)


def phase_bias_table(result: dict) -> str:
    """What remains at very many calls, by form and lambda_s."""
    values = list(dict.fromkeys(cell["lambda_s"] for cell in result["bias"]))
    cells = {(cell["form"], cell["lambda_s"]): cell for cell in result["bias"]}
    rows = [
        [form, *(f"{cells[form, v]['wasserstein']:.2g}" for v in values)] for form in dict.fromkeys(f for f, _ in cells)
    ]
    note = f"reduced-oba, quadratic grid, squared Wasserstein error over variance. {made_by(result)}"
    return markdown(["form", *(f"lambda_s = {v:g}" for v in values)], rows, note)


def phase_lambda_table(result: dict) -> str:
    """The error over lambda_s, consistent form."""
    values = list(dict.fromkeys(cell["lambda_s"] for cell in result["lambda_s"]))
    cells = {(cell["sampler"], cell["budget"], cell["lambda_s"]): cell["wasserstein"] for cell in result["lambda_s"]}
    rows = []
    for name, calls in dict.fromkeys((name, calls) for name, calls, _ in cells):
        errors = [cells[name, calls, v] for v in values]
        rows.append([name, str(calls), *(f"**{e:.2g}**" if e == min(errors) else f"{e:.2g}" for e in errors)])
    return markdown(["sampler", "calls", *(f"{v:g}" for v in values)], rows, f"Columns: lambda_s. {made_by(result)}")


SHOWN = {("fd", "block10"), ("fd", "head-pca64"), ("is", "logits")}
"""Figures of the sources' tables; the JSON has all."""


def _source_entry(cell: dict, place: int, rival: str) -> str:
    figure = cell["figures"][place]
    gap = cell["minus"].get(rival, [None] * len(cell["figures"]))[place]
    mark = ""
    if gap and not gap["low"] <= 0 <= gap["high"]:
        mark = " +" if (gap["value"] < 0) == (figure["better"] == "lower") else " -"
    value = f"{figure['value']:,.0f}" if figure["value"] >= 100 else f"{figure['value']:.3g}"
    half = (figure["high"] - figure["low"]) / 2
    return f"{value} ± {f'{half:,.0f}' if half >= 100 else f'{half:.2g}'}{mark}"


def overhead_table(result: dict) -> str:
    """Cost of a scheduler's step against diffusers' own."""
    rows = []
    for row in result["rows"]:
        each = row["microseconds_per_step"]
        rows.append([row["latents"], f"{each['sigmatune']:.0f}", f"{each['diffusers']:.0f}", f"{row['ratio']:.2f}"])
    note = f"Medians of {result['turns']} runs of {result['steps']} steps each, taking turns, on one thread. {made_by(result)}"
    return markdown(["latents", "SigmaTuneScheduler, µs", "DPMSolverMultistepScheduler, µs", "ratio"], rows, note)


def diffusers_schedulers_table(result: dict) -> str:
    """Which of diffusers' schedulers take a list and run it."""
    rows, none = [], 0
    for row in result["rows"]:
        if row["takes"] == "no list":
            none += 1
            continue
        exact = f"exact, by {row['by']}" if row["pairs"] == "exact" else row["pairs"].split("; ")[0].split(": ", 1)[-1]
        ends = ", ".join(name for name in row["solvers"] if name not in ("ipndm1", "multistep")) or "-"
        rows.append(
            [f"`{row['scheduler']}`", row["takes"], exact.replace("|", "/"), ends, "yes" if row["passes"] else "no"]
        )
    passed, every = sum(row["passes"] for row in result["rows"]), len(result["rows"])
    note = (
        f"diffusers {result['diffusers']}: {passed} of {every} classes pass, {none} take no list at all. N = "
        f"{', '.join(map(str, result['steps']))}. {made_by(result)}"
    )
    return markdown(["scheduler", "takes", "(t, sigma) at the network", "ends where ours ends", "passes"], rows, note)


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
                    _source_entry({**cell, "minus": {"SiD2": cell["minus_sid2"]} if cell["minus_sid2"] else {}}, place, "SiD2")
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
                _source_entry(cells[entry, calls], place, rival) if (entry, calls) in cells else "not measured"
                for calls in budgets
            ]
            rows.append([entry, f"{figure['name']} {figure['settings']['space']}", *texts])
    return rows, budgets, cells, first


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


def exact_calls_table(result: dict) -> str:
    """Frechet distance to exact draws against calls."""
    part = result.get("calls")
    if part is None:
        return "Not measured yet: `python benchmarks/exact.py calls` samples and measures."
    budgets = sorted({cell["calls"] for cell in part["cells"]})
    cells = {(cell["family"], cell["calls"]): cell for cell in part["cells"]}
    rows = []
    for family in dict.fromkeys(name for name, _ in cells):
        for place, figure in enumerate(part["cells"][0]["figures"]):
            figures = [
                cells[family, calls]["figures"][place] if (family, calls) in cells else None for calls in budgets
            ]
            shown = [
                f"{one['value']:.1f} ± {(one['high'] - one['low']) / 2:.1f}" if one else "not measured"
                for one in figures
            ]
            rows.append([family, figure["settings"]["space"], *shown])
    note = (
        f"`{part['name']}`, Euler (DDIM), {part['n']:,} images from the same noises each, against {part['reference']['name']}; "
        "± is half a 95% jackknife interval. "
    )
    head = ["levels", "space", *(f"{calls} calls" for calls in budgets)]
    return markdown(head, rows, note + made_by({**part, "benchmark": f"{result['benchmark']} calls"}))


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


def cells_table(result: dict) -> str:
    """What the guard returned on synthetic models, and what fresh noises say of it."""
    kinds = list(dict.fromkeys(cell["model"].partition(":")[0] for cell in result["cells"]))
    worse = [tuple(one) for one in result["summary"]["worse_cells"]]
    right = [tuple(one) for one in result["summary"]["given_up_rightly"]]
    rows = []
    for kind in [*kinds, ""]:
        chosen = [cell for cell in result["cells"] if cell["model"].startswith(kind)]
        keys = {(cell["model"], cell["solver"], cell["calls"]) for cell in chosen}
        ratios = [cell["error_ratio"]["value"] for cell in chosen if cell["gain"]]
        counts = (len(chosen), len(ratios), sum(cell["given_up"] for cell in chosen), len(keys & set(right)))
        rows.append(
            [kind or "all", *map(str, counts), f"{len(keys & set(worse))}", f"{median(ratios):.2f}" if ratios else ""]
        )
    summary = result["summary"]
    note = (
        f"{summary['models']} models, Euler, Heun, DPM-Solver++(2M) and UniPC, 3 to 10 calls, rms where the data have no grid; "
        f"{summary['fresh_noises']} fresh noises per cell, Holm's correction over {summary['tests']} tests with a false alarm "
        f"rate of {summary['false_alarm_rate']:.0%} for all of them together. {made_by(result)}"
    )
    head = ["data", "cells", "gains", "given up for the second half", "of these significantly worse on fresh noises",
            "returned plans significantly worse on fresh noises", "median error ratio of the gains"]  # fmt: skip
    return markdown(head, rows, note)


MEASURES = {
    "rms": "root mean square",
    **{f"{of}, {p}": f"{of}, exponent {p}" for of in ("rings", "colours") for p in (0.25, 0.5, 0.75, 1)},
}
"""What candidates are called in tables."""

MAKERS = {
    "source_a": (source_table, "source_a"),
    "source_b": (source_table, "source_b"),
    "source_d": (source_table, "source_d"),
    "peers": (source_table, "source_peers"),
    "phase_errors": (phase_errors_table, "phase_space"),
    "phase_premise": (phase_premise_table, "phase_space"),
    "phase_stability": (phase_stability_table, "phase_space"),
    "phase_terms": (phase_terms_table, "phase_space"),
    "phase_bias": (phase_bias_table, "phase_space"),
    "phase_lambda": (phase_lambda_table, "phase_space"),
    "overhead": (overhead_table, "overhead"),
    "diffusers_schedulers": (diffusers_schedulers_table, "diffusers_schedulers"),
    "doctor": (doctor_table, "doctor"),
    "tuned_cifar10": (tuned_cifar10_table, "tuners"),
    "tuners": (tuners_table, "tuners"),
    "queries": (queries_table, "queries"),
    "cells": (cells_table, "cells"),
    "methods": (methods_table, "tuners"),
    "ends": (ends_table, "ends"),
    "spectrum": (spectrum_table, "spectrum"),
    "beta": (beta_table, "beta"),
    "analyses": (analyses_table, "beta"),
    "sensitivity": (sensitivity_table, "sensitivity"),
    "training_overhead": (training_overhead_table, "training_overhead"),
    "training": (training_table, "training"),
    "finetune": (finetune_table, "finetune"),
    "finetune_psld": (finetune_psld_table, "finetune_psld"),
    "exact_speed": (exact_speed_table, "exact"),
    "exact_held_out": (exact_held_out_table, "exact"),
    "exact_calls": (exact_calls_table, "exact"),
    "measures": (measures_table, "measures"),
    "measures_models": (measures_models_table, "measures"),
}
LONG = ("training", "finetune", "finetune_psld")
"""Runs that take hours on a CPU, whose results may be missing."""

"""Table by name: its maker and the file of results."""


def documents() -> list[Path]:
    """The files that hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def tables() -> dict[str, str]:
    """All generated tables by name."""
    results = ROOT / "benchmarks" / "results"
    texts = {}
    for file in sorted(results.glob("guard_*.json")):
        texts[file.stem] = guard_table(json.loads(file.read_text()))
    for name, (make, stem) in MAKERS.items():
        file = results / f"{stem}.json"
        measured = name not in LONG or file.is_file()
        texts[name] = make(json.loads(file.read_text()) if measured else None)
    return texts


def updated(text: str) -> str:
    """A document's text with every table replaced by the current one."""
    texts = tables()
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{texts[match[2]]}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for document in documents():
        document.write_text(updated(document.read_text()))
