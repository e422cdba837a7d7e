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
from sigmatune.core import rng
from sigmatune.core.brownian import Noise
from sigmatune.core.loop import Machine
from sigmatune.interop.native import dtype_of, first_state, input_first
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


def sigmas_of(plan: Plan) -> torch.Tensor:
    """The levels of a plan's steps with the final 0, float32, (N + 1,).

    Raises:
        SigmaTuneError: for a plan with one schedule per row, or one that starts from an infinite sigma.
    """
    if plan.schedule.rows is not None:
        raise SigmaTuneError("this program takes one list of levels, and the plan has one per row.")
    levels = shown(plan.schedule.sigmas, kind_of(plan))
    if not np.isfinite(levels).all():
        raise SigmaTuneError(
            "this program takes finite levels, and the plan starts from sigma = inf; build it with sigma_max=."
        )
    return torch.from_numpy(levels.copy()).float()


def sampler(plan: Plan) -> Callable[..., torch.Tensor]:
    """Makes the sampler of a plan.

    Returns:
        ``sample(model, x, sigmas, extra_args=None, callback=None, disable=None)``, x at the plan's first level and sigmas
        those of the plan, as a check. The noise of a stochastic plan follows ``extra_args["seed"]``, 0 by default.

    Raises:
        SigmaTuneError: if the plan cannot run so.
    """
    levels, kind = sigmas_of(plan), kind_of(plan)
    q = plan.coefficients.q.numpy()
    scale = np.hypot(1.0, q) if kind == "ve" else noise.Flow().state_scale(q)
    table = input_first(plan.coefficients, torch.from_numpy(np.asarray(scale)))
    asked = shown(q, kind).tolist()

    def sample(
        model: Model,
        x: torch.Tensor,
        sigmas: torch.Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,  # noqa: ARG001, FBT001 - the programs' own signature
    ) -> torch.Tensor:
        if sigmas.shape != levels.shape or not torch.allclose(sigmas.cpu().float(), levels, rtol=1e-4, atol=1e-6):
            raise SigmaTuneError(
                "the SIGMAS of this sampler are not those of its plan; connect the plan's own, complete."
            )
        extra = dict(extra_args or {})
        seed, rows = int(extra.get("seed") or 0), range(len(x))
        with torch.no_grad():
            machine = Machine(table, dtype_of(table, x), x.device, x.ndim - 1)
            machine.owned = False

            noise = Noise(table, seed, rows, x.shape[1:])

            def start(channel: int) -> torch.Tensor:
                return rng.noise(seed, rows, rng.START, x.shape[1:], channel=channel, dtype=machine.dtype).to(x.device)

            def eps(channel: int, call: int) -> torch.Tensor:
                return noise(call, channel, machine.dtype).to(x.device)

            machine.S = first_state(table, x.to(machine.dtype), start)
            for k, level in enumerate(asked):
                state = machine.S[0].to(x.dtype)
                denoised = model(state, state.new_full((len(x),), level), **extra)
                if callback is not None:
                    callback({"x": state, "i": k, "sigma": level, "sigma_hat": level, "denoised": denoised})
                machine.advance(k, denoised.to(machine.dtype, copy=True), partial(eps, call=k))
            return machine.S[0].to(x.dtype)

    return sample
