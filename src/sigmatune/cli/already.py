"""What is already there when a command begins: plans that it replaces, measurements that it resumes from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sigmatune.support.errors import SigmaTuneError

_RESULT = re.compile(r"[0-9a-f]{32}\.np[yz]")


def replaced(files: Iterable[Path]) -> list[str]:
    """A sentence for each file that holds a plan, with its calls and its solver."""
    from sigmatune.plan import load_plan
    from sigmatune.plan.tuned_for import solver_of
    from sigmatune.support.outputs import kind_of

    said = []
    for file in files:
        if not file.is_file() or kind_of(file) != "plan":
            continue
        with suppress(SigmaTuneError):  # a plan that cannot be read is no loss
            plan = load_plan(file)
            calls = (plan.tuned_for or {}).get("calls", plan.calls)
            said.append(f"{file}: replaces a plan of {calls} calls by {solver_of(plan)}")
    return said


def check_tuned(file: Path | None, *, force: bool) -> None:
    """Refuses to put an untuned plan in the place of a tuned one.

    Args:
        file: Where the plan would go; nothing is checked for None.
        force: The option ``--force``.

    Raises:
        SigmaTuneError: if it holds a tuned plan, and ``force`` is not set.
    """
    from sigmatune.plan import load_plan
    from sigmatune.support.outputs import kind_of

    if file is None or force or not file.is_file() or kind_of(file) != "plan":
        return
    tuned = False
    with suppress(SigmaTuneError):  # a plan that cannot be read is no loss
        tuned = bool(load_plan(file).evidence)
    if tuned:
        raise SigmaTuneError(f"{file} holds a tuned plan; write the untuned one to another file, or add --force.")


def kept(work: Path) -> list[str]:
    """A sentence about the results in a run folder, if there are any; which of them apply is known once they are needed."""
    from sigmatune.support import card

    results = sum(bool(_RESULT.fullmatch(path.name)) for path in work.iterdir()) if work.is_dir() else 0
    if not results:
        return []
    return [f"{work} holds {card.count(results, 'earlier result')}; those that apply are not computed again"]
