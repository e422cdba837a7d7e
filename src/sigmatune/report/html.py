"""Small pieces of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from sigmatune.report.facts import ReportFacts, View


def budget(view: View) -> str:
    """The budget and the solver of a plan, in words."""
    tuned_for = view.plan.tuned_for or {}
    calls, solver = tuned_for.get("calls", view.plan.calls), tuned_for.get("solver", view.plan.solver)
    return f"{calls} calls with {solver}" + ", tuned coefficients" * (view.plan.solver == "custom")


def three(value: float) -> str:
    """A positive number with three significant digits, zeros included."""
    return f"{value:#.3g}".removesuffix(".")


def p(text: str, kind: str = "") -> str:
    """A paragraph of plain text, with a class."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], kind: str = "") -> str:
    """A table of ready HTML cells; each row with its class, or "", and the table with its own."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr{_class(row_kind)}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for row_kind, cells in rows
    )
    return f'<div class="table"><table{_class(kind)}><tr>{top}</tr>{body}</table></div>'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def each(measured: ReportFacts, body: Sequence[str]) -> str:
    """One block per plan, with headings if there are several."""
    several = len(measured.views) > 1
    return "".join(
        (f"<h3>{escape(budget(view))}</h3>" if several else "") + text
        for view, text in zip(measured.views, body, strict=True)
    )
