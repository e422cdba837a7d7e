r"""Shift and resolution of flow models, as one invertible operation on noise levels.

Shifting time by m multiplies every level by m: :math:`\tau' = m \tau / (1 + (m - 1) \tau)` is :math:`\sigma' = m
\sigma` (:func:`sigmatune.noise.shift`). Static shifts are numbers (SD3: 3); dynamic ones follow the number of patches n
of an image,

.. math:: m = e^{\mu}, \quad \mu = \mu_0 + (n - n_0) \frac{\mu_1 - \mu_0}{n_1 - n_0}

through two points (Flux: :math:`(256, 0.5)` and :math:`(4096, 1.15)`).

A plan is converted in one of two ways. *levels* keeps its noise levels: the same sigmas reach the network with the same
t, because t is counted after the shift; only the pipeline's shift changes. *positions* keeps the positions of the
levels in the time before the shift, so all levels are multiplied by the ratio of the shifts, as a pipeline does at
another resolution. Either way the evidence belongs to the old setting.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from sigmatune import noise
from sigmatune.core.schedule import Schedule, whole
from sigmatune.models.network import process_of
from sigmatune.noise import Flow, NoisePath
from sigmatune.plan import Plan, compile_plan
from sigmatune.support.errors import PlanMismatch, SigmaTuneError
from sigmatune.support.options import positive


def mu(patches: int, first: tuple[float, float] = (256, 0.5), second: tuple[float, float] = (4096, 1.15)) -> float:
    r"""The logarithm of a dynamic shift, on the line through two points.

    Args:
        patches: n, the number of patches of the image: pixels over 16 x 16 for Flux.
        first, second: (n, mu) of the two points.

    Raises:
        SigmaTuneError: if the points have the same n.

    Source: FLUX.1 (Black Forest Labs, 2024), https://github.com/black-forest-labs/flux
    """
    (n_0, mu_0), (n_1, mu_1) = first, second
    if n_0 == n_1:
        raise SigmaTuneError(f"two points with different numbers of patches are needed, not {n_0:g} twice.")
    return float(mu_0 + (whole(patches, "patches") - n_0) * (mu_1 - mu_0) / (n_1 - n_0))


def patches_for(
    shift: float, first: tuple[float, float] = (256, 0.5), second: tuple[float, float] = (4096, 1.15)
) -> float:
    """The number of patches with a dynamic shift: the inverse of exp(:func:`mu`)."""
    positive(shift=shift)
    (n_0, mu_0), (n_1, mu_1) = first, second
    return float(n_0 + (np.log(shift) - mu_0) * (n_1 - n_0) / (mu_1 - mu_0))


def convert(plan: Plan, shift: float, *, keep: Literal["levels", "positions"] = "levels") -> Plan:
    """Turns a plan of a flow model into one for another shift, that is for another resolution.

    Args:
        plan: A plan of a flow model.
        shift: The new shift m, such as exp(:func:`mu`).
        keep: Keep the noise "levels", or their "positions" in the time before the shift.

    Raises:
        SigmaTuneError: if the plan is not of a flow model, or has learned coefficients and its levels would move.

    Warns:
        PlanMismatch: always; it names what was kept and says to check the result again.
    """
    positive(shift=shift)
    path = None if plan.path is None else noise.from_spec(plan.path)
    if not isinstance(path, Flow):
        raise SigmaTuneError("a shift belongs to a flow model's plan, with its whole noise path.")
    if keep not in ("levels", "positions"):
        raise SigmaTuneError(f"keep is 'levels' or 'positions', not {keep!r}.")
    new = Flow(float(shift), path.levels)
    note = {"converted": {"from_shift": path.shift_by, "to_shift": float(shift), "kept": keep}}
    tuned_for = {**(plan.tuned_for or {}), **note}
    if keep == "levels":
        new.check(plan.coefficients.q.numpy())
        converted = plan.with_notes(path=new.spec(), tuned_for=tuned_for, evidence=None)
    elif plan.solver == "custom":
        raise SigmaTuneError("the plan's coefficients were learned for its own levels; keep the levels, or tune again.")
    else:
        levels = new.at_position(path.position(plan.schedule.sigmas[..., :-1]))
        schedule = plan.schedule.moved(levels, "shifted", from_shift=path.shift_by, to_shift=float(shift))
        converted = compile_plan(schedule, plan.solver, **plan.solver_options).with_noise(plan.noise)
        converted = converted.with_notes(
            path=new.spec(), fingerprint=plan.fingerprint, tuned_for=tuned_for, micro_batch=plan.micro_batch
        )
    kept = (
        "noise levels were kept"
        if keep == "levels"
        else "positions before the shift were kept, so its noise levels moved"
    )
    warnings.warn(
        f"the plan's {kept}; it was tuned at a shift of {path.shift_by:.4g} and has to be checked again at {shift:.4g}.",
        PlanMismatch,
        stacklevel=2,
    )
    return converted


def sd3_reference(path: NoisePath, steps: int) -> Schedule:
    r"""The levels of SD3's reference implementation, whose last one is shifted twice ("sd3-ref").

    Its grid runs evenly from the time of the largest to the time of the smallest level; these times are already
    shifted, and the shift is applied to the whole grid again: invisible at the noisy end, where it changes nothing, and
    the reason why the smallest level lies m times higher than the model's own. A named variant, not a correction of it.

    Source: https://github.com/Stability-AI/sd3-ref (Stability AI, 2024)

    Args:
        path: A flow model's whole path.
        steps: N, at least 1.

    Raises:
        SigmaTuneError: for another kind of path.
    """
    if process_of(path)["kind"] != "flow" or not isinstance(path, Flow):
        raise SigmaTuneError("sd3-ref is a grid of a flow model's whole path.")
    once = float(path.time(path.sigma_min))  # the shifted time, used as a time before the shift
    return Schedule(np.append(path.at_position(np.linspace(path.levels, once, whole(steps, "steps"))), 0.0), "sd3-ref")
