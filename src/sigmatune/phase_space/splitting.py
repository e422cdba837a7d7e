r"""Splitting samplers: a step is a string of the letters O, A and B, and a rule says when a new score is computed.

A letter that occurs k times in the string takes a k-th of the step each time; "OBAB" is O(h) B(h/2) A(h) B(h/2). Under
the rule

- **naive**, every A and every B computes its own score, at the current state;
- **reduced**, a score serves one A and one B, until an O comes between: OBA, BAO and their mirror images compute one
  score per step, OBAB two.

The score of a letter that comes after the whole of A is conditioned on the time at the end of the step, all others on
that at its beginning; ``conditioning="start"`` switches that off. Strings without O split the probability-flow ODE.

References:
    | Towards Fast Stochastic Sampling in Diffusion Generative Models (Pandey et al., 2024), https://arxiv.org/abs/2402.07211
    | Efficient Integrators for Diffusion Generative Models (Pandey et al., 2023), https://arxiv.org/abs/2310.07894
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sigmatune.core.solver import Solver
from sigmatune.phase_space.compose import Ask, Grid, Op, Step
from sigmatune.phase_space.sampler import solver
from sigmatune.phase_space.updates import FORM, check, update_a, update_b, update_o
from sigmatune.support.errors import SigmaTuneError

RULES = ("naive", "reduced")


def splitting(letters: str, rule: str) -> Solver:
    """Makes the solver of a string and a rule, named ``rule-letters``.

    Args:
        letters: O, A and B in any order and number, upper or lower case; at least one A and one B.
        rule: "naive" or "reduced".

    Raises:
        SigmaTuneError: for other letters, or a string without A or B.
    """
    word = letters.upper()
    if not word or set(word) - set("OAB") or not {"A", "B"} <= set(word):
        raise SigmaTuneError(
            f"a splitting is a string of O, A and B with at least one A and one B, such as OBA, not {letters!r}."
        )
    asks = _asks(word, rule)
    kind = "stochastic" if "O" in word else "deterministic"
    each = f"{sum(asks)} call{'s' if sum(asks) > 1 else ''} per step"
    return solver(
        f"{rule}-{word.lower()}",
        _stochastic(word, asks) if "O" in word else _deterministic(word, asks),
        asks=sum(asks),
        order=1,
        summary=f"phase space, {word} {rule}: {kind}, {each}",
        deterministic="O" not in word,
    )


def by_name(name: str) -> Solver | None:
    """The solver of a name such as ``reduced-obab``, or None for a name of another form.

    Raises:
        SigmaTuneError: for a string that is no splitting, or a removed rule.
    """
    rule, dash, letters = name.lower().partition("-")
    if dash and rule == "conjugate":
        raise SigmaTuneError(
            f"conjugate splittings such as {name!r} were removed, because 'conjugate' and reduced splittings have a smaller "
            f"error; take one of them, such as 'reduced-ba'."
        )
    return splitting(letters, rule) if dash and rule in RULES else None


def _asks(word: str, rule: str) -> list[bool]:
    """Whether each letter needs a new score."""
    asks_by_letter, served = [], {"A", "B"}
    for letter in word:
        if letter == "O":
            asks_by_letter.append(False)
            served = {"A", "B"}
            continue
        asks = rule == "naive" or letter in served
        served = {letter} if asks else served | {letter}
        asks_by_letter.append(asks)
    return asks_by_letter


def _stochastic(word: str, asks: list[bool]) -> Callable[..., Step]:
    def step(grid: Grid, *, lambda_s: float = 1.0, form: str = FORM, conditioning: str = "end") -> Step:
        """Splits the reverse-time SDE; see the module.

        Args:
            grid: The levels.
            lambda_s: Noise of the position, >= 0, a pure number.
            form: "consistent", the only one.
            conditioning: "end" or "start".

        Raises:
            SigmaTuneError: for an option out of range.
        """
        check(lambda_s, form)
        make = {
            "O": lambda share: update_o(grid, share, lambda_s),
            "A": lambda share: update_a(grid, share, 1 + lambda_s),
            "B": lambda share: update_b(grid, share, 2.0),
        }
        return _spelled(grid, word, asks, make, conditioning)

    return step


def _deterministic(word: str, asks: list[bool]) -> Callable[..., Step]:
    def step(grid: Grid, *, conditioning: str = "end") -> Step:
        """Splits the probability-flow ODE; see the module.

        Args:
            grid: The levels.
            conditioning: "end" or "start".

        Raises:
            SigmaTuneError: for another conditioning.
        """
        make = {
            "A": lambda share: update_a(grid, share, 1.0),
            "B": lambda share: update_b(grid, share, 1.0),
        }
        return _spelled(grid, word, asks, make, conditioning)

    return step


def _spelled(
    grid: Grid, word: str, asks: list[bool], make: dict[str, Callable[[float], Op]], conditioning: str
) -> list[Op | Ask]:
    """The updates and score evaluations of a step, letter by letter."""
    if conditioning not in ("end", "start"):
        raise SigmaTuneError(f"conditioning is 'end' or 'start', not {conditioning!r}.")
    parts: list[Any] = []
    moved = 0
    for letter, ask in zip(word, asks, strict=True):
        if ask:
            parts.append(grid.then if conditioning == "end" and moved == word.count("A") else grid.now)
        moved += letter == "A"
        parts.append(make[letter](1 / word.count(letter)))
    return parts
