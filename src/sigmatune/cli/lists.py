"""``--solver list`` and ``--method list``: what the names mean, without a model."""

from __future__ import annotations

import typer

LIST = "list"


def solver_list(value: str) -> str:
    """Prints every solver with its other names, and ends the command, where the value of ``--solver`` asks for that."""
    if value != LIST:
        return value
    from sigmatune.solvers import SOLVERS

    for name, member in SOLVERS.items():
        also = ", ".join(alias for alias, meant in SOLVERS.aliases.items() if meant == name)
        print(f"{name:24} {member.summary}{f' (also {also})' if also else ''}")
    raise typer.Exit


def stage_list(value: str) -> str:
    """Prints every stage of tuning, and ends the command, where the value of ``--method`` asks for that."""
    if value != LIST:
        return value
    from sigmatune.tuning.stage_choice import AUTO
    from sigmatune.tuning.stage_words import WORDS

    print(f"{'auto':16} {', '.join(AUTO)}, one after the other")
    for name, words in WORDS.items():
        print(f"{name:16} {words.summary}: {words.price}")
    raise typer.Exit
