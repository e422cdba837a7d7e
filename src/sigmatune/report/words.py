"""The evidence and the cost in words."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isinf
from typing import Any

from sigmatune import solvers
from sigmatune.report.charts import edges_of, octaves, short
from sigmatune.report.facts import Group, ReportFacts, View
from sigmatune.spectra import Spectrum
from sigmatune.spectra.bounds import tight_ends
from sigmatune.support.errors import SigmaTuneError


def headline(view: View) -> tuple[str, str]:
    """The result in a few large words, both numbers if there is a gain, and the verdict in sentences."""
    kind, _, sentence = view.evidence["verdict"].partition(": ")
    large = view.both.large if view.gain else "The best default stays"
    sentence = sentence or kind
    return large, f"{sentence[:1].upper()}{sentence[1:]} {view.both.sentence}".strip()


def proof(view: View) -> str:
    """How the verdict was reached, in one paragraph."""
    e, s = view.evidence, view.evidence["statistic"]
    counts = {split: e["rows"][split][1] - e["rows"][split][0] for split in ("tuning", "validation", "held_out")}
    reference, distances = e["reference"], e["sliced_wasserstein_to_reference"]
    change = reference["statistic_change_on_doubling"]
    settled = (
        f"had converged: doubling its steps moved the logarithm of the ratio by {change:.2g}"
        if reference["converged"]
        else "did not converge within the allowed steps, which alone rules out a gain"
    )
    return (
        f"The schedule was searched on {counts['tuning']} noises; {counts['validation']} others chose among the candidates "
        f"and chose the best of {len(e['defaults_on_validation'])} static defaults, {e['baseline']}; the two were "
        f"compared once, on {counts['held_out']} held-out noises that no earlier step had used. Error is the "
        f"{error_words(e)}; that reference ({reference['family']}, "
        f"{reference['solver']}, {reference['steps']} steps) {settled}. The tuned schedule was worse on "
        f"{s['worse']:.0%} of the held-out noises and more than twice as bad on {s['much_worse']:.0%}; the median "
        f"ratio was {exp(s['median']):.2f}. Sliced Wasserstein distance to the set of converged images, another view "
        f"of the same samples: {distances['plan']:.3g} tuned, {distances['default']:.3g} default."
    )


def error_words(evidence: Mapping[str, Any]) -> str:
    """What the errors of some evidence are."""
    name = (evidence.get("measure") or {"name": "rms"})["name"]
    to = "distance to the converged solution from the same noise"
    known = {
        "rms": f"root mean square {to}, in the model's own scale",
        "whitened": f"whitened {to}: every ring of frequencies weighed by its own power, as a share of the data's size",
    }
    return known.get(name, f"{to} by the measure {name}")


def cost(view: View) -> dict[str, str]:
    """The cost of finding the plan: network evaluations by purpose, seconds, device."""
    spent: dict[str, Any] = dict(view.plan.cost or {})
    if not spent:
        return {}
    parts: dict[str, int] = dict(spent["network_evaluations"])
    total = parts.pop("total")
    names = {
        "reference": "reference solutions", "search": "candidates and search", "table": "error table",
        "trajectory": "trajectories", "gradient": "gradients", "guard": "defaults and guard",
    }  # fmt: skip
    threads = f"{spent['threads']} thread{'s' * (spent['threads'] != 1)}"
    rows = {names.get(name, name): f"{count:,}" for name, count in parts.items()}
    return {
        **rows,
        "in all": f"{total:,}",
        "time": f"{spent['seconds']:,.0f} s",
        **({"peak memory": f"{spent['peak_memory_mib']:,} MiB"} if spent.get("peak_memory_mib") else {}),
        "machine": f"{spent['device']}, {threads}",
    }


def curve_sentence(group: Group) -> str:
    """How to read the error against calls; the numbers are in the table and the verdict."""
    if not group.gain:
        return "Lower is better. No plan beat its default here, so all curves are defaults."
    better = [str(point.calls) for point in group.better.points.values()]
    where = f"{', '.join(better[:-1])} and {better[-1]}" if len(better) > 1 else better[0]
    same = [str(point.calls) for n, point in group.tuned.points.items() if n not in group.better.points]
    beside = f"; for {' and '.join(same)} calls the best default stays" if same else ""
    return f"Lower is better. Plans were tuned for {where} calls{beside}; everything else is a default."


def levels_sentence(view: View, sigma_min: float) -> str:
    """States where the plan spends its calls differently from its baseline."""
    if not view.gain:
        return f"The plan is {short(view.evidence['baseline'])}; these are its calls among those of the other defaults."
    edges = edges_of(view.levels, sigma_min)
    (_, plan), (name, default) = view.levels[:2]
    ends = [f"σ = {_level(q[0])} and {_level(q[-1])}" for q in (plan, default)]
    if any(max(a, b) > 1.2 * min(a, b) for a, b in zip(plan[[0, -1]], default[[0, -1]], strict=True)):
        return f"The tuned plan calls the network between {ends[0]}, {short(name)} between {ends[1]}."
    below = [octaves(q, edges)[1].cumsum() for q in (plan, default)]
    differences = below[0] - below[1]
    i = int(abs(differences).argmax())
    if differences[i] == 0:
        return "Both spend the same number of calls in every octave; their levels differ within the octaves."
    counts = [int(b[i]) for b in below]
    edge = _level(2.0 ** edges[i + 1])
    return f"Below σ = {edge} the tuned plan spends {counts[0]} of its {len(plan)} calls, {short(name)} {counts[1]}."


def ends_sentence(view: View, channels: int, side: int, sigma_min: float) -> str | None:
    """The noise range that the images' spectrum implies at this number of steps; None if they are not images."""
    if view.exact is None or not view.exact.power.max() > 0:
        return None
    solver = solvers.solver(view.default.solver)
    spectrum = Spectrum(view.exact.power, view.exact.modes, (side, side), channels=channels)
    try:
        ends = tight_ends(spectrum, view.plan.steps, order=solver.order)
    except SigmaTuneError:  # no range of noise is tight for this spectrum
        return None
    above = ends.sigma_max > max(plan.schedule.sigmas[0] for plan in (view.plan, view.default))
    high = f"σ = {_level(ends.sigma_max)}{' (above all levels of both plans)' if above else ''}"
    low = "the model's smallest" if ends.sigma_min < sigma_min else f"σ = {_level(ends.sigma_min)}"
    return (
        f"By the spectrum of the converged images alone, {view.plan.steps} steps of a solver of order {solver.order} "
        f"are best spent between {high} and {low} (tight ends; a network may need others)."
    )


def _level(sigma: float) -> str:
    return "∞" if isinf(sigma) else f"{sigma:.3g}"


def frequency_sentence(view: View) -> str:
    """The frequencies of the errors."""
    assert view.residual is not None
    plan, default = view.residual
    energy = plan.power * plan.modes
    half = int((energy.cumsum() >= energy.sum() / 2).argmax())
    least = f"half of the squared error sits at or below {half} cycle{'s' * (half != 1)} per image"
    if not view.gain:
        return f"H{least[1:]}."
    lower = int((plan.power < default.power).sum())
    return f"The tuned plan has less error at {lower} of {len(plan.power)} frequencies; {least}."


def map_sentence(view: View) -> str:
    """The size of the errors in the maps."""
    assert view.residual is not None
    plan, default = view.residual
    if not view.gain:
        return f"Mean squared error at each pixel, {plan.mean_square:.3g} on average."
    name = (view.evidence.get("measure") or {"name": "rms"})["name"]
    other = (
        "" if name == "rms" else f" (of pixels as they are; the gain above is by the measure {name}, which weighs them)"
    )
    return f"Mean squared error over the image: {plan.mean_square:.3g} tuned, {default.mean_square:.3g} default{other}."


def own_cost(measured: ReportFacts) -> str:
    """The cost of the report itself."""
    spent = measured.cost
    count, seconds = spent["network_evaluations"], spent["seconds"]
    return f"The measurements for this report took another {count:,} network evaluations and {seconds:.0f} s."
