"""Runnable code that uses a plan."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sigmatune.plan import Plan

Clients = Callable[[Plan], Mapping[str, tuple[str, str]]]
"""From a plan to (what to do with it, text to copy) for each program, by its name; an empty text is a refusal's reason."""


@dataclass(frozen=True)
class PlanUse:
    """What a page's code for the use of plans refers to.

    Attributes:
        source: The argument of :func:`sigmatune.load` for the model. Without it the code expects a ``model``.
        files: The plans' files, one per plan. Without them the code holds the levels themselves.
        clients: The texts of a plan for other programs; without it there are none.
    """

    source: str | None = None
    files: Sequence[str | Path] | None = None
    clients: Clients | None = None


IN_CODE = PlanUse()
"""Of a model and plans that live in code only."""


def python(plan: Plan, source: str | None, file: Path | None) -> str:
    """Python that samples with the plan.

    Args:
        plan: The plan.
        source: The argument of :func:`sigmatune.load` for its model; None for a model built in code, which the code
            then expects under the name ``model``.
        file: The plan's file; None writes the levels into the code.
    """
    lines, given = ["import sigmatune as st", ""], plan.load_options
    loaded = [f"plan = st.load_plan({str(file)!r})"] if file is not None else []
    if source is None:
        lines += [*loaded, "# `model` is the denoiser that the plan was tuned for"]
    elif not given:
        lines += [*loaded, f"model = st.load({source!r})"]
    elif file is not None:  # the plan remembers its prompts or labels, its guidance and its size
        lines += [*loaded, f"model = st.load({source!r}, **plan.load_options)"]
    else:
        options = "".join(f", {name}={value!r}" for name, value in given.items())
        lines.append(f"model = st.load({source!r}{options})")
    if file is None and plan.solver == "custom":
        lines.append("# `plan` is the plan; its coefficients live in its file, which plan.save(...) writes")
    elif file is None:
        options = "".join(f", {name}={value!r}" for name, value in plan.solver_options.items())
        lines += [sigmas(plan), f"plan = st.compile_plan(st.Schedule(sigmas), {plan.solver!r}, model{options})"]
    lines.append("images = st.sample(model, plan, n=16, seed=0)  # row i depends on (seed, i) alone")
    return "\n".join(lines)


def shell(source: str | None, file: Path | None) -> str | None:
    """The command that samples with the plan, if model and plan have names for a shell."""
    if source is None or file is None:
        return None
    return f"sigmatune sample {shlex.quote(source)} {shlex.quote(str(file))} -n 16 -o grid.png"


def sigmas(plan: Plan) -> str:
    """The levels as a Python list that reads back bit for bit."""
    numbers = [repr(level) if math.isfinite(level) else 'float("inf")' for level in plan.schedule.sigmas.tolist()]
    return "sigmas = [" + ", ".join(numbers) + "]"
