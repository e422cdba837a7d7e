"""Processes beyond a noise path: phase-space Langevin diffusion, its closed forms and its parametrisations."""

from sigmatune.processes.effective_path import PhasePath
from sigmatune.processes.parametrisation import eps_of, perturb, score_of, x0_of
from sigmatune.processes.psld import PSLD

__all__ = ["PSLD", "PhasePath", "eps_of", "perturb", "score_of", "x0_of"]
