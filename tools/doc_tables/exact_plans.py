"""Tables of tuned plans on exact data: Frechet distances, peers, the amount of noise, the efforts, and estimates."""

from __future__ import annotations

from math import exp, log
from statistics import mean, median

from doc_tables.markdown import NAMES, made_by, markdown

SPACES = ("block10", "head-pca64")
LEAST = 0.01
"""A distance below the floor counts as this share of the rival's."""


def over_rival(cell: dict, kind: str, space: str, rivals: list[str]) -> float:
    """A tuned plan's distance over that of the best rival by the same distance, the floor subtracted from both."""
    floor = cell["floor"][space]
    best = min(cell["rivals"][name][space] for name in rivals) - floor
    return max((cell["tuned"][kind][space] - floor) / best, LEAST)


def geometric(values: list[float]) -> float:
    """The geometric mean."""
    return exp(mean(map(log, values)))


def distances_table(result: dict) -> str:
    """What tuning brings by Frechet distance, over the best default by that distance."""
    rows = []
    for model in dict.fromkeys(cell["model"] for cell in result["cells"]):
        cells = [cell for cell in result["cells"] if cell["model"] == model]
        for solver in [*dict.fromkeys(cell["solver"] for cell in cells), ""]:
            for kind, of in (("levels", "rivals"), ("levels", "whole range"), ("coefficients", "rivals")):
                shown = [_short(model), NAMES.get(solver, solver) or "all", _what(kind, of)]
                rows.append([*shown, *_by_calls(cells, solver, kind, of)])
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    n = result["cells"][0]["n"]
    note = (
        f"Geometric means over the two spaces (and, in the rows of all, the solvers); {n:,} images each; the floor, the "
        f"distance of {n:,} exact draws to {result['data']:,} others, is subtracted from both. {made_by(result)}"
    )
    return markdown(["data", "solver", "tuned, over", *(f"{calls} calls" for calls in budgets)], rows, note)


def _what(kind: str, of: str) -> str:
    names = {"rivals": "best default", "whole range": "best default of the whole range"}
    return f"{kind}, {names[of]}"


def _by_calls(cells: list[dict], solver: str, kind: str, of: str) -> list[str]:
    """The geometric mean of the ratios at each number of calls."""
    shown = []
    for calls in sorted({cell["calls"] for cell in cells}):
        chosen = [cell for cell in cells if cell["calls"] == calls and solver in ("", cell["solver"])]
        ratios = [over_rival(cell, kind, space, list(cell[of])) for cell in chosen for space in SPACES]
        shown.append(f"{geometric(ratios):.2f}" if ratios else "")
    return shown


def _short(model: str) -> str:
    return model.removeprefix("exact:")


def peer_plans_table(result: dict) -> str:
    """Our plans and the kinds that others published: error under both measures, distances, cost."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    rows = []
    cells = {(cell["solver"], cell["method"], cell["calls"]): cell for cell in result["cells"]}
    for solver in dict.fromkeys(cell["solver"] for cell in result["cells"]):
        for method in dict.fromkeys(cell["method"] for cell in result["cells"] if cell["solver"] == solver):
            own = [cells[solver, method, calls] for calls in budgets if (solver, method, calls) in cells]
            cost = median(cell["evaluations"] for cell in own)
            rows.append([NAMES.get(solver, solver), method, *(_peer(cell) for cell in own), f"{cost:,.0f}"])
    floor = result["floor"]
    note = (
        "Per cell: whitened error and root mean square, each over the best default by the same error; Frechet distance "
        f"block10 / head-pca64 ({floor['block10']:.1f} / {floor['head-pca64']:.1f} for exact draws). Bold: the whole interval "
        f"of the whitened ratio lies below 1. Errors on {result['rows']} unseen noises, distances on {result['n']:,} images. "
        f"Cost: the median of the network evaluations of single images per plan. {made_by(result)}"
    )
    head = ["solver", "method", *(f"{calls} calls" for calls in budgets), "evaluations"]
    return markdown(head, rows, note)


def _peer(cell: dict) -> str:
    (white, _, high), (rms, _, _) = cell["ratio"]["whitened"], cell["ratio"]["rms"]
    first = f"**{white:.2f}**" if high < 1 else f"{white:.2f}"
    return f"{first}, {rms:.2f}; {cell['distances']['block10']:.0f} / {cell['distances']['head-pca64']:.0f}"


def noise_choice_table(result: dict) -> str:
    """Frechet distances with the papers' noise and with the spectrum's, by measure."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(cell["sampler"], cell["choice"], cell["calls"]): cell for cell in result["cells"]}
    rows = [
        [sampler, NAMED.get(choice, choice), *(_noise(cells[sampler, choice, calls]) for calls in budgets)]
        for sampler, choice in dict.fromkeys(key[:2] for key in cells)
    ]
    floor = result["floor"]
    note = (
        f"{result['n']:,} images of {_short(result['model'])}: Frechet distance block10 / head-pca64 "
        f"({floor['block10']:.1f} / {floor['head-pca64']:.1f} for exact draws), lambda_s in brackets. {made_by(result)}"
    )
    return markdown(["sampler", "noise and levels", *(f"{calls} calls" for calls in budgets)], rows, note)


NAMED = {
    "papers": "the papers' settings",
    "whitened": "by the spectrum, whitened",
    "rms": "by the spectrum, root mean square",
}
"""What the choices of noise are called."""


def _noise(cell: dict) -> str:
    both = " / ".join(f"{cell['distances'][space]:.0f}" for space in SPACES)
    return f"{both} ({cell['lambda_s']:.2g})"


def network_distances_table(result: dict) -> str:
    """What tuning brings to networks' images, against data and against converged samples."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    cells = {(cell["model"], cell["solver"], cell["calls"]): cell for cell in result["cells"]}
    rows = [
        [
            model,
            NAMES.get(solver, solver),
            kind,
            place,
            *(_gap(cells[model, solver, calls], kind, place) for calls in budgets),
        ]
        for model, solver in dict.fromkeys(key[:2] for key in cells)
        for kind in ("levels", "coefficients")
        for place in cells[model, solver, budgets[0]]["tuned"][kind]["distances"]
    ]
    sizes = ", ".join(f"{n:,} of {model}" for model, n in dict.fromkeys((c["model"], c["n"]) for c in result["cells"]))
    note = (
        "Frechet distance minus that of the static default that is best by the same distance, which is in brackets; + all of "
        "the paired 95% jackknife interval is below 0, - all of it is above. * No gain was reported, and the plan is a "
        f"default. Images: {sizes}; {result['converged']:,} converged samples. {made_by(result)}"
    )
    return markdown(
        ["model", "solver", "tuned", "distance to, space", *(f"{calls} calls" for calls in budgets)], rows, note
    )


def _gap(cell: dict, kind: str, place: str) -> str:
    found, gain = cell["tuned"][kind]["minus the best"][place], cell["tuned"][kind]["gain"]
    value, half = found["value"], found["half"]
    sign = " +" if value + half < 0 else " -" if value - half > 0 else ""
    return f"{value:.1f} ± {half:.1f}{sign} ({cell['rivals'][found['rival']][place]:.0f}){'' if gain else ' *'}"


def effort_table(result: dict) -> str:
    """What the efforts cost, and what their plans lose to those of the highest."""
    rows = []
    for effort in dict.fromkeys(row["effort"] for row in result["rows"]):
        own = [row for row in result["rows"] if row["effort"] == effort]
        ratios = [row["ratio"][0] for row in own]
        search = [_search(row["evaluations"]) for row in own]
        together = [row["evaluations_together"]["total"] for row in own]
        rows.append(
            [effort, f"{geometric(ratios):.3f}", f"{max(ratios):.3f}", f"{sum(row['gain'] for row in own)} of {len(own)}",
             f"{median(search):,.0f}", f"{max(search):,}", f"{median(row['evaluations']['total'] for row in own):,.0f}",
             f"{max(row['evaluations']['total'] for row in own):,}", f"{median(together):,.0f}"]
        )  # fmt: skip
    note = (
        f"Errors over those of effort high on unseen noises: digits and the mixture of CIFAR-10 at 16 x 16, {NAMES['euler']} "
        f"and {NAMES['dpmpp2m']}, 4, 6 and 10 calls. Network evaluations of single images. {made_by(result)}"
    )
    head = ["effort", "error over high, mean", "worst", "gains", "search, median", "most", "all in, median", "most",
            "three budgets together, all in"]  # fmt: skip
    return markdown(head, rows, note)


def _search(spent: dict) -> int:
    """The evaluations that a search's budget pays for: neither references nor the guard."""
    return int(spent["total"] - spent.get("reference", 0) - spent.get("guard", 0))


def estimates_table(result: dict) -> str:
    """How many network evaluations were forecast, over those that tuning took."""
    budgets = sorted({cell["calls"] for cell in result["cells"]})
    rows = []
    for model in dict.fromkeys(cell["model"] for cell in result["cells"]):
        of = {cell["calls"]: cell for cell in result["cells"] if cell["model"] == model}
        rows.append(
            [
                model,
                *(f"{of[n]['evaluations_ratio']:.2f} of {of[n]['evaluations']:,}" if n in of else "" for n in budgets),
            ]
        )
    note = (
        "Network evaluations of single images, the forecast over what tuning took, with the defaults. pipeline: a tiny Stable "
        f"Diffusion pipeline under guidance. {made_by(result)}"
    )
    return markdown(["model", *(f"{calls} calls" for calls in budgets)], rows, note)
