"""Phase space: samplers of position and momentum for every model. One idea per file; :mod:`sigmatune.solvers` lists them.

Names of the form ``naive-LETTERS`` and ``reduced-LETTERS`` are built on request from any string of
:mod:`~sigmatune.phase_space.splitting`; listings show the usual ones.
"""

from sigmatune.core.solver import Solver
from sigmatune.phase_space import conjugate, euler_maruyama, sscs
from sigmatune.phase_space.lift import LiftedScore, lift, prior_mismatch
from sigmatune.phase_space.splitting import by_name, splitting

_WORDS = ("oba", "bao", "obab", "ba", "bab")
SAMPLERS: tuple[Solver, ...] = (
    euler_maruyama.SOLVER,
    sscs.SOLVER,
    *(splitting(word, rule) for rule in ("naive", "reduced") for word in _WORDS),
    conjugate.SOLVER,
)

__all__ = ["SAMPLERS", "LiftedScore", "by_name", "lift", "prior_mismatch", "splitting"]
