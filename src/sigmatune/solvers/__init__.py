"""Solvers: how to step between the levels of a schedule. One file each; this is the one registry.

The samplers of :mod:`~sigmatune.phase_space` are listed in it like all others. :func:`solver` also reads names that
describe one, such as ``reduced-babo``.
"""

from __future__ import annotations

from collections.abc import Mapping

from sigmatune.phase_space import SAMPLERS, by_name
from sigmatune.solvers import (
    ancestral,
    deis,
    dpmpp2m,
    dpmpp2s_ancestral,
    dpmpp3m,
    dpmpp_sde,
    er_sde,
    euler,
    gradient_estimation,
    heun,
    ipndm,
    lcm,
    multistep,
    res2s,
    res_multistep,
    sa_solver,
    sde_dpmpp2m,
    sde_dpmpp3m,
    seeds,
    unipc,
    unipc_bh,
)
from sigmatune.solvers.base import Solver
from sigmatune.support.registry import Registry

_MEMBERS = (
    euler.SOLVER,
    heun.SOLVER,
    dpmpp2m.SOLVER,
    dpmpp3m.SOLVER,
    *unipc.SOLVERS,
    *unipc_bh.SOLVERS,
    *deis.SOLVERS,
    *ipndm.SOLVERS,
    gradient_estimation.SOLVER,
    *res_multistep.SOLVERS,
    res2s.SOLVER,
    ancestral.SOLVER,
    dpmpp2s_ancestral.SOLVER,
    dpmpp_sde.SOLVER,
    sde_dpmpp2m.SOLVER,
    sde_dpmpp3m.SOLVER,
    *seeds.SOLVERS,
    er_sde.SOLVER,
    sa_solver.SOLVER,
    lcm.SOLVER,
    multistep.SOLVER,
    *SAMPLERS,
)

SOLVERS: Registry[Solver] = Registry(
    "solver",
    {member.name: member for member in _MEMBERS},
    aliases={
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
        "dpmpp_3m_sde": "sde-dpmpp3m",
        "dpmpp_sde": "dpmpp-sde",
        "dpmpp_2s_ancestral": "dpmpp2s-ancestral",
        "uni_pc": "unipc-bh1",
        "uni_pc_bh2": "unipc-bh2",
        "res_multistep": "res-multistep",
        "res_multistep_ancestral": "res-multistep-ancestral",
        "res_2s": "res2s",
        "gradient_estimation": "gradient-estimation",
        "seeds_2": "seeds2",
        "seeds_3": "seeds3",
        "er_sde": "er-sde",
        "sa_solver": "sa-solver",
        "lambda-ddim": "conjugate",
    },
    make=by_name,
)
"""All solvers by name, those of phase space behind those of position."""

POSITION: Mapping[str, Solver] = {name: member for name, member in SOLVERS.items() if not member.augmented}
"""The position-space solvers: those that are not ``augmented``."""

PHASE_SPACE: Mapping[str, Solver] = {name: member for name, member in SOLVERS.items() if member.augmented}
"""The samplers of phase space: those that are ``augmented``."""


def solver(name: str) -> Solver:
    """The solver of any name: one that is listed, an alias, or a string such as ``reduced-babo``.

    Raises:
        SigmaTuneError: for an unknown name, or a string that is no splitting.
    """
    return SOLVERS[name]


__all__ = ["PHASE_SPACE", "POSITION", "SOLVERS", "Solver", "solver"]
