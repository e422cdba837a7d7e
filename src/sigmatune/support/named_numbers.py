"""Options as people type them, ``name=number``; imports nothing heavy, because the command line reads them at its start."""

from __future__ import annotations

from collections.abc import Sequence

from sigmatune.support.errors import SigmaTuneError


def named_numbers(given: Sequence[str]) -> dict[str, float]:
    """Reads ``name=value`` options.

    Raises:
        SigmaTuneError: for anything else.
    """
    numbers = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            equals = ""
            number = 0.0
        if not equals:
            raise SigmaTuneError(f"an option is written name=number, such as rho=7, not {text!r}.")
        numbers[name] = int(number) if number.is_integer() and "." not in value else number
    return numbers
