"""Tables of the samplers of phase space on exact data, from ``phase_space.json``."""

from __future__ import annotations

from doc_tables.markdown import REMOVED, made_by, markdown


def phase_errors_table(result: dict) -> str:
    """Squared Wasserstein error of every sampler of phase space on exact data."""
    budgets = sorted({cell["budget"] for cell in result["cells"]})
    cells = {(cell["sampler"], cell["grid"], cell["budget"]): cell["wasserstein"] for cell in result["cells"]}
    grids = list(dict.fromkeys(grid for _, grid, _ in cells))
    names = dict.fromkeys(name for name, _, _ in cells if name not in REMOVED)
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
