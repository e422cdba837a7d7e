"""A phase-space sampler: a step of updates and score evaluations, compiled into a solver of noise levels.

A sampler file holds one function, ``step(grid, *, option=default, ...)``, which returns the updates of a step in order,
and the :class:`~sigmatune.core.solver.Solver` that this module builds from it. The options of the process are common to all
samplers and are added here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from sigmatune.core.solver import Solver
from sigmatune.core.table import Coefficients
from sigmatune.phase_space.compose import Grid, Step, compiled
from sigmatune.processes import PSLD
from sigmatune.support.errors import SigmaTuneError

PROCESS: dict[str, float] = PSLD().spec()
"""The options that every phase-space solver has, with CIFAR-10's values of the papers."""


def solver(
    name: str,
    step: Callable[..., Step],
    *,
    asks: int,
    order: int,
    summary: str,
    deterministic: bool = False,
) -> Solver:
    """Builds a solver from a step.

    Its schedule has N + 1 levels like any other: N - 1 steps between the positive ones and one last call. So N steps
    cost ``asks`` (N - 1) + 1 calls, the last denoise counted as one.

    Args:
        name: Its name in the registry.
        step: ``step(grid, *, option=default, ...)``.
        asks: Score evaluations per step.
        order: Weak order (of mean and covariance) on levels that end above 0.
        summary: One line for listings.
        deterministic: It adds no noise.
    """

    def build(sigmas: torch.Tensor, *, previous: torch.Tensor | None = None, **options: Any) -> Coefficients:
        if previous is not None and previous.shape[-1]:
            raise SigmaTuneError(f"{name} is a one-step solver and takes no starting history.")
        full = {**common, **parameters, **options}
        process = PSLD(**{key: full[key] for key in PROCESS})
        ends = not bool((sigmas[..., -1] > 0).any())
        grid = Grid(process, sigmas[..., :-1] if ends else sigmas)
        if not bool(torch.isfinite(grid.sigmas).all()):
            raise SigmaTuneError(f"{name} starts at a finite level; give its schedule a sigma_max such as 80.")
        operations = step(grid, **{key: full[key] for key in parameters})
        return compiled(
            grid, operations, ends=ends, last=full["last"], native=full["native"], deterministic=deterministic
        )  # fmt: skip

    common: dict[str, Any] = {"last": "euler", "native": "", **PROCESS}
    parameters = {p.name: p.default for p in inspect.signature(step).parameters.values() if p.kind is p.KEYWORD_ONLY}
    keyword = inspect.Parameter.KEYWORD_ONLY
    build.__doc__ = step.__doc__
    build.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what the options are read from
        [
            inspect.Parameter("sigmas", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            inspect.Parameter("previous", keyword, default=None),
            *(inspect.Parameter(key, keyword, default=value) for key, value in {**parameters, **common}.items()),
        ]
    )
    build.__name__, build.__qualname__, build.__module__ = step.__name__, step.__qualname__, step.__module__
    return Solver(
        name=name,
        build=build,
        calls=lambda steps: asks * (steps - 1) + 1,
        width=2,
        order=order,
        cold_order=order,
        summary=summary,
        noisy=not deterministic,
        highest=lambda **options: PSLD(**{key: {**common, **options}[key] for key in PROCESS}).largest,
        augmented=True,
    )
