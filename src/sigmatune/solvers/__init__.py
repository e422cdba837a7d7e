"""Solvers: how to step between the levels of a schedule. One file each; this is the registry."""

from __future__ import annotations

from collections.abc import Mapping

from sigmatune.phase_space import PHASE_SPACE, by_name
from sigmatune.solvers import ancestral, deis, dpmpp2m, dpmpp3m, euler, heun, ipndm, multistep, sde_dpmpp2m, unipc
from sigmatune.solvers.base import Solver
from sigmatune.support.registry import Registry

_ALL = (
    euler.SOLVER,
    heun.SOLVER,
    dpmpp2m.SOLVER,
    dpmpp3m.SOLVER,
    *unipc.SOLVERS,
    *deis.SOLVERS,
    *ipndm.SOLVERS,
    ancestral.SOLVER,
    sde_dpmpp2m.SOLVER,
    multistep.SOLVER,
)

SOLVERS: Registry[Solver] = Registry(
    "solver",
    {**{solver.name: solver for solver in _ALL}, **PHASE_SPACE},
    aliases={
        **PHASE_SPACE.aliases,
        "ddim": "euler",
        "dpm++2m": "dpmpp2m",
        "dpmpp_2m": "dpmpp2m",
        "dpm++3m": "dpmpp3m",
        "unipc": "unipc2",
        "deis": "deis3",
        "ipndm": "ipndm4",
        "ddpm": "ancestral",
        "euler_ancestral": "ancestral",
        "sde-dpmsolver++": "sde-dpmpp2m",
        "dpmpp_2m_sde": "sde-dpmpp2m",
    },
    make=by_name,
)
"""All solvers by name, those of phase space behind those of position."""

POSITION: Mapping[str, Solver] = {solver.name: solver for solver in _ALL}
"""The position-space solvers: those that are not ``augmented``."""


__all__ = ["POSITION", "SOLVERS", "Solver"]
