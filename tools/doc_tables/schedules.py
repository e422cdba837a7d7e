"""Tables of schedules and their spectra: ends, levels, Beta distributions."""

from __future__ import annotations

from doc_tables.markdown import NAMES, made_by, markdown, ratio


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


def overhead_table(result: dict) -> str:
    """Cost of a scheduler's step against diffusers' own."""
    rows = []
    for row in result["rows"]:
        each = row["microseconds_per_step"]
        rows.append([row["latents"], f"{each['sigmatune']:.0f}", f"{each['diffusers']:.0f}", f"{row['ratio']:.2f}"])
    note = f"Medians of {result['turns']} runs of {result['steps']} steps each, taking turns, on one thread. {made_by(result)}"
    return markdown(["latents", "SigmaTuneScheduler, µs", "DPMSolverMultistepScheduler, µs", "ratio"], rows, note)


def beta_spectra_table(result: dict) -> str:
    """The best a = b for a spectrum, by measure, solver and number of steps."""
    budgets = sorted({row["steps"] for row in result["rows"]})
    cells = {(row["spectrum"], row["measure"], row["solver"], row["steps"]): row for row in result["rows"]}
    rows = []
    shown = (key[:3] for key in cells if key[1] != "whitened, exponent 0.75" and key[2] != "unipc")
    for spectrum, measure, solver in dict.fromkeys(shown):
        best = [cells[spectrum, measure, solver, steps]["closed"]["best, a = b"]["a"] for steps in budgets]
        rows.append([spectrum, measure, NAMES.get(solver, solver), *(f"{a:.2f}" for a in best)])
    head = ["spectrum", "error", "solver", *(f"{steps} steps" for steps in budgets)]
    return markdown(head, rows, made_by(result))


def beta_errors_table(result: dict, *, steps: int = 10, solver: str = "euler") -> str:
    """What the hand-picked pairs, the best ones and free levels reach."""
    hand = ("uniform", "Beta(.6, .6)", "Beta(.5, .5)")
    rows = []
    for row in result["rows"]:
        if (row["steps"], row["solver"]) != (steps, solver):
            continue
        closed = row["closed"]
        best = closed["best"]
        rows.append(
            [row["spectrum"], row["measure"], *(f"{closed[name]:.2f}" if name in closed else "levels meet" for name in hand),
             f"{closed['best, a = b']['error']:.2f} ({closed['best, a = b']['a']:.2f})",
             f"{best['error']:.2f} ({best['a']:.2f}, {best['b']:.2f})", f"{row['free levels']:.2f}"]
        )  # fmt: skip
    head = ["spectrum", "error", *hand, "best a = b", "best (a, b)", "free levels"]
    note = f"{NAMES.get(solver, solver)}, {steps} steps; errors as shares of the size of the data. {made_by(result)}"
    return markdown(head, rows, note)
