"""The sections of the page, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from sigmatune.report import charts, usage, words
from sigmatune.report import inline_images as pictures
from sigmatune.report.facts import Group, Pair, Point, ReportFacts, View
from sigmatune.report.html import budget, each, p, table, three
from sigmatune.tuning.guard_evidence import statement

LEVELS = "In a loop of your own, these are the levels, in full precision:"
LEARNED = (
    "This plan has coefficients of its own, so its levels alone are not the plan: a loop of your own also reads table in the "
    "plan's file (docs: Your own loop). The levels, in full precision:"
)


def curves(measured: ReportFacts) -> str:
    """Error against calls: chart and tables."""
    parts = []
    for i, group in enumerate(measured.groups):
        parts += [
            f"<h3>{escape(group.solver)}</h3>" * (len(measured.groups) > 1),
            p(words.curve_sentence(group), "see"),
            charts.error_chart(group, f"error{i}"),
            p(_curve_note(group, measured), "note"),
            _pairs_table(group),
            f"<details><summary>All curves as numbers</summary>{_all_table(group)}</details>",
        ]
    return "".join(parts)


def _curve_note(group: Group, measured: ReportFacts) -> str:
    text = (
        f"Typical error: geometric mean over the first {measured.rows} held-out noises of the "
        f"{words.error_words(measured.views[0].evidence)}; bars are 95% bootstrap intervals over noises. "
        "Bars of two curves may overlap although the difference is significant, because both use the same noises; the "
        f"verdict above compares them in pairs, on all {measured.held_out} held-out noises."
    )
    if any(curve.name.endswith("(the model's own)") for curve in group.defaults):
        text += " An asterisk marks the default that the model's authors chose."
    return text


def _with_interval(mean: float, low: float, high: float) -> str:
    return f'{three(mean)} <span class="low">{three(low)} to {three(high)}</span>'


def _pairs_table(group: Group) -> str:
    rows = []
    for n, pair in group.pairs.items():
        none = "no gain" if n in group.tuned.points else "not tuned"
        cells = [str(pair.default.calls), escape(charts.short(pair.name)), _point_cell(pair.default)]
        cells += [_point_cell(pair.plan) if pair.plan is not None else none] if group.gain else []
        rows.append(("own" if pair.plan is not None else "", cells))
    head = ["calls", "best default", "its error", *(["tuned, error"] if group.gain else [])]
    return table(head, rows, "pairs")


def _point_cell(point: Point) -> str:
    return _with_interval(point.mean, point.low, point.high)


def _all_table(group: Group) -> str:
    steps = sorted({n for curve in group.defaults for n in curve.points} | set(group.tuned.points))
    curves = [*([group.better] if group.gain else []), *group.defaults]
    calls = {n: curve.points[n].calls for curve in curves for n in steps if n in curve.points}
    rows = [
        ("", [escape(curve.name), *(_point_cell(curve.points[n]) if n in curve.points else "" for n in steps)])
        for curve in curves
    ]
    return table(["", *(f"{calls[n]} calls" for n in steps)], rows, "all")


def samples(measured: ReportFacts) -> str:
    """The same noises through defaults and plans."""
    if not pictures.drawable(measured.image_shape):
        return p("This model's samples are not images with one or three channels, so there is nothing to show here.")
    parts = []
    for group in measured.groups:
        parts.append(f"<h3>{escape(group.solver)}</h3>" * (len(measured.groups) > 1))
        parts.append(
            p("Each column starts from one noise: the closer to the reference in the first row, the better.", "see")
        )
        note = "These are the first held-out noises, not a selection."
        if measured.latents:
            note += " Samples are latents, decoded by the model's autoencoder; all errors are those of the latents."
        if not group.gain:
            note += " No plan beat its default here, so only the best default is shown."
        parts.append(p(note, "note"))
        reference = pictures.strip(group.reference, measured.value_range, "converged reference")
        who = f"<b>reference</b> <span>{group.reference_calls} calls, converged</span>"
        parts.append(f'<div class="reference">{_strip(who, reference)}</div>')
        parts += [_budget_block(pair, measured) for pair in group.pairs.values()]
    return "".join(parts)


def _budget_block(pair: Pair, measured: ReportFacts) -> str:
    calls = pair.default.calls
    default = pictures.strip(pair.default.images, measured.value_range, f"{pair.name}, {calls} calls")
    strips = [_strip(f'<b class="default-colour">{escape(charts.short(pair.name))}</b>', default)]
    if pair.plan is not None:
        images = pictures.strip(pair.plan.images, measured.value_range, f"tuned, {calls} calls")
        strips.append(_strip('<b class="plan-colour">tuned</b>', images))
    return f'<div class="budget"><h3>{calls} calls</h3>{"".join(strips)}</div>'


def _strip(who: str, images: str) -> str:
    return f'<div class="strip"><div class="who">{who}</div>{images}</div>'


def levels(measured: ReportFacts) -> str:
    """The levels of every schedule, and calls per octave."""
    colours = "orange the tuned plan, blue the best default" if any(v.gain for v in measured.views) else "blue the plan"
    note = f"Each dot is one network call at its noise level: {colours}."
    body = [
        p(words.levels_sentence(view, measured.sigma_min), "see")
        + _tight(view, measured)
        + charts.levels_chart(view, measured.sigma_min, f"levels{i}")
        for i, view in enumerate(measured.views)
    ]
    return p(note, "note") + each(measured, body)


def _tight(view: View, measured: ReportFacts) -> str:
    if view.exact is None:
        return ""
    sentence = words.ends_sentence(view, measured.shape[0], min(measured.shape[-2:]), measured.sigma_min)
    return p(sentence, "note") if sentence else ""


def residuals(measured: ReportFacts) -> str:
    """The location of the error in the image and in frequency."""
    if any(view.residual is None for view in measured.views):
        return p("Samples of this model are not images (C, H, W), so their error has no location and no frequency.")
    note = f"Over all {measured.held_out} held-out noises, as the guard saw them."
    return p(note, "note") + each(measured, [_residual(view, i) for i, view in enumerate(measured.views)])


def _residual(view: View, i: int) -> str:
    assert view.residual is not None
    plan, default = view.residual
    most = float(max(plan.where.max(), default.where.max()))
    maps = [("best default", default.where)] + [("tuned", plan.where)] * view.gain
    figures = [
        _map(label, pictures.heat(where, 0, most, "viridis"), "viridis", ("0", f"{most:.2g}")) for label, where in maps
    ]
    return (
        p(words.map_sentence(view), "see")
        + f'<div class="maps">{"".join(figures)}</div>'
        + p(words.frequency_sentence(view), "see")
        + charts.spectrum_chart(view, f"spectrum{i}")
    )


def _map(label: str, image: str, colours: str, ends: Sequence[str]) -> str:
    scale = "".join(f"<span>{end}</span>" for end in ends)
    bar = f'<div class="bar" style="background:{pictures.gradient(colours)}"></div><div class="ends">{scale}</div>'
    return f'<figure><b>{label}</b><img alt="map of the squared error, {label}" src="{image}">{bar}</figure>'


def evidence(measured: ReportFacts) -> str:
    """The verdicts, and how they were reached."""
    body = []
    for view in measured.views:
        scores = view.evidence["defaults_on_validation"]  # best first
        rows = [
            ("", [_default(score), f"{np.exp(score['mean_log_error']):.4g}", f"{score.get('rows', '')}"])
            for score in scores
        ]
        scored = table(["static default", "typical error", "on so many validation noises"], rows)
        body.append(
            p(words.proof(view))
            + _no_loss(view)
            + f"<details><summary>How the defaults scored</summary>{scored}</details>"
        )
    return each(measured, body)


def _default(score: dict[str, Any]) -> str:
    """The name of a static default, and of others with the same levels."""
    same = score.get("same_levels", ())
    return escape(score["name"] + (f" (also {', '.join(same)})" if same else ""))


def _no_loss(view: View) -> str:
    """The second half of the guard, other measures and the best family with searched ends, where the evidence has them."""
    tests = view.evidence.get("no_loss", {}).get("tests", ())
    if not tests:
        return ""
    rows = [("", [escape(test["name"]), f"{test['plan']:.4g}", f"{test['rival']:.4g}", f"{test['adjusted_p']:.2g}"])
            for test in tests]  # fmt: skip
    tested = table(["no loss in", "tuned", "default", "p of a loss, corrected"], rows)
    others = "".join(p(escape(line), "note") for line in statement({**view.evidence, "no_loss": {}}))
    return f"<details><summary>What the tuned plan must not lose</summary>{tested}{others}</details>"


def cost(measured: ReportFacts) -> str:
    """The cost of finding the plans."""
    spent = [words.cost(view) for view in measured.views]
    kinds = list(dict.fromkeys(kind for column in spent for kind in column))
    rows = [("", [kind, *(column.get(kind, "") for column in spent)]) for kind in kinds]
    head = ["network evaluations for", *(budget(view) for view in measured.views)]
    note = (
        "A network evaluation is one image through the network once, padding included."
        + " The plans share references; each plan's cost includes them." * (len(measured.views) > 1)
    )
    stages = each(measured, [_stages(view) for view in measured.views])
    return table(head, rows) + p(note, "note") + stages + p(words.own_cost(measured), "note")


def _stages(view: View) -> str:
    """The gain and cost of each tuning stage; empty for plans without stages."""
    log = (view.plan.cost or {}).get("stages", [])
    best, rows = None, []
    for entry in log:
        value = float(np.exp(entry["validation"]))
        change = "" if best is None else f"{100 * (min(value / best, 1) - 1):.1f} %".replace("-", "\N{MINUS SIGN}")
        best = value if best is None else min(best, value)
        spent = sum(entry["network_evaluations"].values())
        memory = f"{entry['peak_memory_mib']:,}"
        cells = [escape(entry["stage"]), f"{spent:,}", f"{entry['seconds']:.1f}", memory,
                 three(float(np.exp(entry["tuning"]))), three(value), change]  # fmt: skip
        rows.append(("own" if entry["paid"] else "", cells))
    head = ["stage", "network evaluations", "seconds", "peak memory, MiB", "error, tuning noises", "validation noises",
            "change"]  # fmt: skip
    text = (
        "The typical error of the best plan after each stage, and how much the stage lowered it on the validation "
        "noises. Marked: stages that lowered the error."
    )
    return table(head, rows, "stages") + p(text, "note") if rows else ""


def use(measured: ReportFacts, plans: usage.PlanUse) -> str:
    """How to use the plans."""
    body = []
    for i, view in enumerate(measured.views):
        file = Path(plans.files[i]) if plans.files else None
        line = usage.shell(plans.source, file)
        body.append(
            f'<pre><code class="python">{escape(usage.python(view.plan, plans.source, file))}</code></pre>'
            + (f'<p>On the command line:</p><pre><code class="shell">{escape(line)}</code></pre>' if line else "")
            + p(LEARNED if view.plan.solver == "custom" else LEVELS)
            + f'<pre><code class="sigmas">{escape(usage.sigmas(view.plan))}</code></pre>'
            + ("" if plans.clients is None else "".join(_client(*one) for one in plans.clients(view.plan).items()))
        )
    note = (
        "σ is the noise level of x = x0 + σ ε (the variance-exploding convention, as in k-diffusion), whatever the model's own "
        "scaling; the levels fall and end in an explicit 0. A flow model's time is σ / (1 + σ), after its shift. The plan file "
        "also names the timestep that the network receives at each call. The levels belong to this solver; with another one "
        "the evidence does not carry over."
    )
    where = "Paths are as given to SigmaTune; run the code in the same folder." if plans.files else ""
    return (p(where, "note") if where else "") + each(measured, body) + p(note, "note")


def _client(name: str, entry: tuple[str, str]) -> str:
    """What one program takes, folded; or why it cannot run the plan."""
    how, text = entry
    body = f"<pre><code>{escape(text.strip())}</code></pre>" if text else ""
    return f"<details><summary>{escape(name)}</summary>{p(how, 'note')}{body}</details>"
