r"""ComfyUI's own spacings of a model's time, under the names of its menu.

With p = 1..T the position of a level (:mod:`sigmatune.schedules.uniform`), i = 0..N-1:

================== ================================================ =======================================
family             position of level i                              is
================== ================================================ =======================================
comfy-simple       :math:`T - \lfloor i T / N \rfloor`              uniform-trailing in whole positions
comfy-normal       :math:`T + \tfrac{i}{N - 1} (e - T)`             uniform-linspace, for flow up to the end
comfy-sgm-uniform  :math:`T + \tfrac{i}{N} (e - T)`                 the same without the last level
comfy-ddim-uniform :math:`2 + (N - 1 - i) \lfloor T / N \rfloor`    uniform-leading with an offset of 1
================== ================================================ =======================================

e is the position of the last level, 1; for a flow model ComfyUI applies the shift twice there, so that
:math:`e = \max(1, T \tau_{\min})` with :math:`\tau_{\min} = \sigma_{\min} / (1 + \sigma_{\min})` the last time **after** the
shift. The prefix says whose curves they are, because other programs have others under such names; ComfyUI's own names are
aliases, and a plan records the name with the prefix.

Source: ``simple_scheduler``, ``normal_scheduler`` and ``ddim_scheduler`` of ComfyUI's ``comfy/samplers.py``, https://github.com/comfyanonymous/ComfyUI.
"""

from __future__ import annotations

import numpy as np

from sigmatune.noise import Array, NoisePath
from sigmatune.schedules.base import Family, is_flow
from sigmatune.schedules.uniform import leading, stride


def simple(steps: int, path: NoisePath) -> Array:
    r"""Takes every (T / N)-th entry of the model's table from the noisy end, :math:`p_i = T - \lfloor i T / N \rfloor`.

    Args:
        steps: N, at most T.
        path: The noise path; T is its ``levels``.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: for more than T steps.
    """
    stride(steps, path, "comfy-simple")
    return path.at_position(path.levels - np.floor(np.arange(steps) * path.levels / steps))


def normal(steps: int, path: NoisePath) -> Array:
    r"""Spaces time evenly between both ends, :math:`p_i = T + i (e - T) / (N - 1)`.

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path; T is its ``levels``.

    Returns:
        N noise levels (sigma), descending.
    """
    return path.at_position(np.linspace(path.levels, _end(path), steps))


def sgm_uniform(steps: int, path: NoisePath) -> Array:
    r"""Spaces time evenly and stops before the last level, :math:`p_i = T + i (e - T) / N`.

    Args:
        steps: N; one step is at sigma_max.
        path: The noise path; T is its ``levels``.

    Returns:
        N noise levels (sigma), descending.
    """
    return path.at_position(np.linspace(path.levels, _end(path), steps + 1)[:-1])


def ddim_uniform(steps: int, path: NoisePath) -> Array:
    r"""Takes every floor(T / N)-th entry of the table from the second on.

    .. math:: p_i = 2 + (N - 1 - i) \lfloor T / N \rfloor

    Where N does not divide T, ComfyUI goes on to the noisy end and makes more than N steps; here it is N of them.

    Args:
        steps: N, at most T; one step is at sigma_max, N = T is all of the table.
        path: The noise path; T is its ``levels``.

    Returns:
        N noise levels (sigma), descending.

    Raises:
        SigmaTuneError: for more than T steps.
    """
    return leading(steps, path, steps_offset=int(steps < path.levels))


def _end(path: NoisePath) -> float:
    """e, the position that ComfyUI takes for that of the last level."""
    return max(1.0, path.levels / (1 + 1 / path.sigma_min)) if is_flow(path) else 1.0


SIMPLE = Family(
    "comfy-simple", simple, "ComfyUI's simple: every (T/N)-th level of the table", ends=False, published=({},)
)
NORMAL = Family("comfy-normal", normal, "ComfyUI's normal: uniform in t, both ends", ends=False, published=({},))
DDIM_UNIFORM = Family(
    "comfy-ddim-uniform",
    ddim_uniform,
    "ComfyUI's ddim_uniform: every (T/N)-th level from the clean end",
    starts=False,
    ends=False,
)
SGM_UNIFORM = Family(
    "comfy-sgm-uniform",
    sgm_uniform,
    "ComfyUI's sgm_uniform: uniform in t without the last",
    ends=False,
    published=({},),
)
