r"""A plan as a k-diffusion sampler: a function of (model, x, sigmas), which k-diffusion, ComfyUI and Forge call.

There ``model(x, sigma)`` returns the estimate of the data, on :math:`x = x_0 + \sigma \epsilon` for models of noise and
velocity, and on :math:`x = (1 - \tau) x_0 + \tau \epsilon` with :math:`\tau` in sigma's place for flow models. Any plan runs
so, learned coefficients and several calls per step included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from sigmatune import noise
from sigmatune.core.brownian import Noise
from sigmatune.core.loop import Machine
from sigmatune.core.table import Coefficients
from sigmatune.interop.model_sampling import PURE_NOISE
from sigmatune.interop.native import dtype_of, first_state, input_first
from sigmatune.interop.parts import part_of, place_of
from sigmatune.models.network import process_of
from sigmatune.noise import Array
from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError

Kind = Literal["ve", "flow"]
Model = Callable[..., torch.Tensor]


def kind_of(plan: Plan) -> Kind:
    """Whether a plan's levels are shown as sigma ("ve") or as tau ("flow")."""
    return "flow" if plan.path is not None and process_of(noise.from_spec(plan.path))["kind"] == "flow" else "ve"


def shown(sigmas: Array, kind: Kind) -> Array:
    """Levels as these programs count them."""
    with np.errstate(divide="ignore"):
        return np.asarray(sigmas if kind == "ve" else 1 / (1 + 1 / sigmas))


def sigmas_of(plan: Plan, top: float | None = None) -> torch.Tensor:
    """The levels of a plan's steps with the final 0, float32, (N + 1,).

    Args:
        plan: The plan.
        top: The model's largest level, in place of sigma = inf (zero terminal SNR).

    Raises:
        SigmaTuneError: for a plan with one schedule per row, or one that starts from an infinite sigma and no ``top``.
    """
    return torch.from_numpy(_levels(plan, plan.schedule.sigmas, top)).float()


def _levels(plan: Plan, sigmas: Array, top: float | None) -> Array:
    """Levels as the programs count them, (N + 1,) or (K,)."""
    if plan.schedule.rows is not None:
        raise SigmaTuneError("this program takes one list of levels, and the plan has one per row.")
    levels = shown(sigmas, kind_of(plan)).copy()
    if top is not None and np.isinf(levels[0]):
        levels[0] = top
    if not np.isfinite(levels).all():
        raise SigmaTuneError(
            "this program takes finite levels, and the plan starts from sigma = inf; connect the model in ComfyUI, or "
            "build the plan with sigma_max=."
        )
    return levels


def table_of(plan: Plan, first: int, last: int, top: float | None = None) -> tuple[Coefficients, Array]:
    """The table that runs a part of a plan on x, and the level of each of its calls as the programs count it, (K,).

    Args:
        plan: The plan.
        first, last: The points between which it runs; see :func:`sigmatune.interop.parts.part_of`.
        top: See :func:`sigmas_of`.

    Raises:
        SigmaTuneError: if no other loop can run the plan.
    """
    part, kind = part_of(plan, first, last), kind_of(plan)
    q, asked = part.q.numpy(), _levels(plan, part.q.numpy(), top)
    scale, end = _scale(q if kind == "flow" else asked, kind), plan.schedule.sigmas[last : last + 1]
    return input_first(part, torch.from_numpy(scale), 1.0 if end == 0 else float(_scale(end, kind)[0])), asked


def _scale(levels: Array, kind: Kind) -> Array:
    """The factor from the unit state to x, at positive levels."""
    return np.asarray(np.hypot(1.0, levels) if kind == "ve" else noise.Flow().state_scale(levels))


def sampler(plan: Plan) -> Callable[..., torch.Tensor]:
    """Makes the sampler of a plan.

    Returns:
        ``sample(model, x, sigmas, extra_args=None, callback=None, disable=None)``, x at the first of sigmas, and sigmas those
        of the plan, as a check: all of them, or several in a row where a program cuts the list. A plan that starts from
        sigma = inf accepts any first level of at least 1000 there. The noise of a stochastic plan follows
        ``extra_args["seed"]``, 0 by default.

    Raises:
        SigmaTuneError: if the plan cannot run so.
    """
    top = PURE_NOISE if kind_of(plan) == "ve" and np.isinf(plan.schedule.sigmas[0]) else None
    table_of(plan, 0, plan.steps, top)  # refuses a plan that no other loop can run, before a model is loaded

    def sample(
        model: Model,
        x: torch.Tensor,
        sigmas: torch.Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,  # noqa: ARG001, FBT001 - the programs' own signature
    ) -> torch.Tensor:
        given = sigmas.detach().double().cpu().numpy()
        high = None if top is None or len(given) == 0 or given[0] < top else float(given[0])
        first = place_of(_levels(plan, plan.schedule.sigmas, high or top), given)
        if first is None:
            raise SigmaTuneError(
                "the SIGMAS of this sampler are not those of its plan; connect the plan's own, complete or cut between "
                "two of its levels."
            )
        table, asked = table_of(plan, first, first + len(given) - 1, high)
        before = part_of(plan, 0, first).calls if first else 0  # the calls of the other part have drawn their noise
        extra = dict(extra_args or {})
        seed, rows = int(extra.get("seed") or 0), range(len(x))
        with torch.no_grad():
            machine = Machine(table, dtype_of(table, x), x.device, x.ndim - 1)
            machine.owned = False

            drawn = Noise(table, seed, rows, x.shape[1:])

            def eps(channel: int, call: int = -1) -> torch.Tensor:
                # By call, noise is numbered from the beginning of the whole plan; by level, from that of this part.
                place = call if drawn.paths or call < 0 else before + call
                return drawn(place, channel, machine.dtype).to(x.device)

            machine.S = first_state(table, x.to(machine.dtype), eps)
            for k, level in enumerate(asked.tolist()):
                state = machine.S[0].to(x.dtype)
                denoised = model(state, state.new_full((len(x),), level), **extra)
                if callback is not None:
                    callback({"x": state, "i": k, "sigma": level, "sigma_hat": level, "denoised": denoised})
                machine.advance(k, denoised.to(machine.dtype, copy=True), partial(eps, call=k))
            return machine.S[0].to(x.dtype)

    return sample
