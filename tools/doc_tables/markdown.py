"""How a table of the documents looks, and what its figures are called."""

from __future__ import annotations

NAMES = {"euler": "Euler / DDIM", "heun": "Heun", "dpmpp2m": "DPM-Solver++(2M)"}


REMOVED = {"tpe", "conjugate-ba", "conjugate-bab"}
"""What the results hold and the package no longer has, because it lost everywhere; a test of the documents says so."""


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
    """When, on what and by which command, or how by hand where a program had to be compiled."""
    how = f"by `python {result['benchmark']}`" if "benchmark" in result else result["by_hand"]
    return f"Measured on {result['date']} with torch {result['machine']['torch']} {how}."
