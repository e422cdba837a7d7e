"""Phase space: samplers of position and momentum for every model. One idea per file; this is the registry.

Names of the form ``naive-LETTERS``, ``reduced-LETTERS`` and ``conjugate-LETTERS`` are built on request from any string
of :mod:`~sigmatune.phase_space.splitting`; listings show the usual ones.
"""

from sigmatune.core.solver import Solver
from sigmatune.phase_space import conjugate, euler_maruyama, sscs
from sigmatune.phase_space.lift import LiftedScore, lift, prior_mismatch
from sigmatune.phase_space.splitting import by_name, splitting
from sigmatune.support.registry import Registry

_WORDS = ("oba", "bao", "obab", "ba", "bab")
_ALL = (
    euler_maruyama.SOLVER,
    sscs.SOLVER,
    *(splitting(word, rule) for rule in ("naive", "reduced") for word in _WORDS),
    conjugate.SOLVER,
    *(splitting(word, "conjugate") for word in ("ba", "bab")),
)

PHASE_SPACE: Registry[Solver] = Registry(
    "solver", {solver.name: solver for solver in _ALL}, aliases={"lambda-ddim": "conjugate"}, make=by_name
)

__all__ = ["PHASE_SPACE", "LiftedScore", "by_name", "lift", "prior_mismatch", "splitting"]
