r"""The scheduler that runs a plan inside a diffusers pipeline.

A pipeline owns the loop. It gets a list of t from ``set_timesteps``, sends each t and the latents to the network,
applies guidance, and hands the network's output to ``step``, which returns the next latents.
:class:`SigmaTuneScheduler` puts a plan into these calls: one t per network call, also for solvers of several calls per
step (``order`` is 1), in floating point, and between two calls the state machine of :mod:`sigmatune.core.loop`, in the
model's own scaling (:mod:`sigmatune.interop.native`).

The plan fixes the number of steps (``num_inference_steps`` has to be the number of its calls). Lists of sigmas or
timesteps are refused, and so is a list that the pipeline truncated by ``strength``; to start from an image, use
:func:`partial` at strength 1.

Its configuration also holds the fields of the scheduler that it replaces (:mod:`~sigmatune.interop.carried_config`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from diffusers.utils.torch_utils import randn_tensor

from sigmatune import noise
from sigmatune.core.brownian import Noise, unseeded
from sigmatune.interop.carried_config import PlanFields
from sigmatune.interop.image_start import mixing_weights
from sigmatune.interop.native import native
from sigmatune.interop.pipeline_checks import check_shift, is_default_list
from sigmatune.interop.pipeline_machine import PipelineMachine
from sigmatune.interop.replaced_scheduler import ReplacedScheduler
from sigmatune.models.network import process_of
from sigmatune.models.prediction_fields import prediction_of
from sigmatune.plan import Plan
from sigmatune.plan import file as plan_file
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.pixels import first_unsound

Tensor = torch.Tensor


@dataclass
class Output(SchedulerOutput):  # type: ignore[misc]
    """What a step returns: ``prev_sample``, the next latents, and ``pred_original_sample``, the estimate of the data."""

    pred_original_sample: Tensor | None = None


class SigmaTuneScheduler(ReplacedScheduler, SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Runs a plan in a diffusers pipeline; built by :func:`scheduler`.

    Every argument becomes part of the configuration, so ``save_pretrained`` and ``from_pretrained`` keep the plan bit
    for bit.

    Args:
        plan: The content of a plan file with its noise path, as a dictionary.
        prediction_type: The network's prediction type: a name of :data:`~sigmatune.models.predictions.predictions`.
        sigma_data: EDM models only: standard deviation of the data.
        edm_sign: EDM models only: sign of c_out.
        seed: Seed of the noise that a stochastic plan adds, which then depends on (seed, row, call) alone; by default it
            comes from the pipeline's generator.
        first_index: Index of the pipeline's first row in that noise.
        num_train_timesteps: Levels of the noise path; pipelines read it.
        use_flow_sigmas: Makes Flux-type pipelines pass no sigmas of their own; always that of the plan's noise path.
        replaces: Class of the scheduler whose fields the configuration holds, too.

    Attributes:
        lost_by: The pipeline class that would replace this scheduler by its own when it is loaded; then it cannot be saved.

    Raises:
        SigmaTuneError: if the plan is invalid or cannot run in a pipeline.
    """

    order = 1

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(  # noqa: PLR0913 - each is a field of the saved configuration
        self,
        plan: dict[str, Any],
        prediction_type: str,
        sigma_data: float | None = None,
        edm_sign: int = 1,
        seed: int | None = None,
        first_index: int = 0,
        num_train_timesteps: int = 1000,
        use_flow_sigmas: bool = False,
        replaces: str = "",
    ) -> None:
        self._plan = plan_file.loads(json.dumps(plan))
        if self._plan.path is None:
            raise SigmaTuneError(
                "the plan names no noise path; make the scheduler with sigmatune.interop.diffusers.scheduler."
            )
        self._path = noise.paired(noise.from_spec(self._plan.path), self._plan.pairs)
        self._prediction = prediction_of(prediction_type, sigma_data, edm_sign)
        self._native = native(self._plan.coefficients, self._path, self._prediction)
        self._times = self._native.times.float().tolist()
        self._machine = PipelineMachine(self._native, self._plan.tuned_for)
        flow = process_of(self._path)["kind"] == "flow"
        name = "flow_prediction" if prediction_type == "flow" else prediction_type
        self.register_to_config(plan=PlanFields(plan), prediction_type=name, use_flow_sigmas=flow)
        self.set_timesteps(self._plan.calls)

    @property
    def plan(self) -> Plan:
        """The plan that runs."""
        return self._plan

    @property
    def sigmas(self) -> Tensor:
        """The level of each call and a final 0, (K + 1,), float32; of the flow's own kind, tau, for a flow model."""
        q = self._native.table.q
        levels = self._path.s(self._native.times.numpy()) if self.config.use_flow_sigmas else q.numpy()
        return torch.from_numpy(np.append(levels, 0.0)).float()

    @property
    def init_noise_sigma(self) -> float:
        """The factor of start noise of unit variance."""
        return self._native.start

    @property
    def step_index(self) -> int:
        """Index of the next network call."""
        return self._call

    @property
    def begin_index(self) -> int:
        """Index of the first network call, always 0."""
        return 0

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
        timesteps: Sequence[float] | None = None,
        original_inference_steps: int | None = None,
    ) -> None:
        """Starts a run.

        Args:
            num_inference_steps: The number of network calls of the plan, or twice that: then the list begins with as many
                entries that ``strength=0.5`` cuts off, for pipelines that start from an image below strength 1 only.
            device: The device of the list of t.
            sigmas: None, or a list that flow pipelines pass by default; the plan's levels are used.
            mu: The shift that a flow pipeline computes from its resolution; it has to be that of the plan.
            timesteps: None, or 1000 times such a list.
            original_inference_steps: Of how many steps LCM's own levels are a part; the plan has its own.

        Raises:
            SigmaTuneError: for another number of calls or other lists.
        """
        calls = self._plan.calls
        lists = [sigmas, None if timesteps is None else [float(t) / 1000 for t in timesteps]]
        if not all(is_default_list(one) for one in lists if one is not None):
            raise SigmaTuneError("the plan has its own levels; pass neither timesteps= nor sigmas= to the pipeline.")
        given = next((len(one) for one in lists if one is not None), None)
        asked = given if num_inference_steps is None else num_inference_steps
        if asked not in (calls, 2 * calls, None):
            raise self._machine.wrong_steps(asked)
        if mu is not None:
            check_shift(self._path, mu)
        lead = calls if asked == 2 * calls else 0
        times = torch.cat([self._native.times[:1].expand(lead), self._native.times])
        self.timesteps = times.to(torch.float32).to(device or "cpu")
        self.num_inference_steps = asked or calls
        self._lead, self._call = lead, -lead
        self._machine.reset()

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Accepts the start of the plan and nothing else.

        Raises:
            SigmaTuneError: if the pipeline truncated the list elsewhere.
        """
        if begin_index != self._lead:
            raise SigmaTuneError(
                f"the pipeline cut the plan's list of timesteps at {begin_index}, as a strength does; start from a "
                "noise level instead: make the scheduler of partial(plan, sigma) and pass strength=1."
            )
        self._call = 0

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """The network's input: the latents themselves, except for EDM models, which scale them."""
        if self._prediction.input_scale is None:
            return sample
        return sample * float(self._native.input_scale[max(self._call, 0)])

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mixes clean data and noise at the levels of some t, one for all rows or one per row, in the model's scaling.

        Raises:
            SigmaTuneError: if a t is outside the model's range, or the plan cannot start from an image.
        """
        x0, eps = original_samples, noise
        weights = np.array(
            [
                mixing_weights(self._native, self._path, float(t))
                for t in torch.as_tensor(timesteps).reshape(-1).tolist()
            ]
        )
        kept, added = torch.from_numpy(weights).to(x0.device, x0.dtype).T.reshape(2, -1, *[1] * (x0.ndim - 1))
        mixed: Tensor = kept * x0 + added * eps
        return mixed

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor | None = None) -> Tensor:
        """The flow pipelines' name of :meth:`add_noise`."""
        if noise is None:
            raise SigmaTuneError("scale_noise needs the noise that is mixed in.")
        return self.add_noise(sample, noise, torch.as_tensor(timestep))

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
    ) -> Output | tuple[Tensor, Tensor | None]:
        """Advances the latents after a network call.

        Args:
            model_output: The network's output with guidance, (B, C, ...); channels beyond those of the latents, a
                predicted variance, are not used.
            timestep: The t of this call.
            sample: The latents that the network received, (B, C, ...).
            eta: Must be 0, because the plan defines the added noise.
            use_clipped_model_output: Must not be set.
            generator: Draws the noise of a stochastic plan that has no seed.
            return_dict: Return an object, else the tuple (next latents, estimate of the data).

        Raises:
            SigmaTuneError: for a t that is not the next of the plan, an option that only other schedulers have, or,
                after the last call, NaN or infinity.
        """
        if eta or use_clipped_model_output:
            raise SigmaTuneError(
                "eta and use_clipped_model_output belong to another sampler; leave them out, the plan has its own noise."
            )
        k = self._call
        self._check_time(k, timestep)
        following = self._machine.advance(
            k, model_output, sample, lambda call, m, dtype: self._noise(call, m, sample, generator, dtype)
        )
        self._call = k + 1
        if self._call < self._plan.calls:
            return Output(prev_sample=following) if return_dict else (following, None)
        self._machine.reset()
        # Once per run, because on an accelerator a check waits for all work before it.
        if (bad := first_unsound(following)) is not None:
            raise SigmaTuneError(
                f"the pipeline's network returned NaN or infinity for image {bad}; load it in float32 or bfloat16, or "
                "check its weights."
            )
        # A pipeline that makes a single step may take the estimate of the data as its result (PixArt does).
        return Output(prev_sample=following, pred_original_sample=following) if return_dict else (following, following)

    def __len__(self) -> int:
        return int(self.config.num_train_timesteps)

    def _check_time(self, k: int, timestep: Tensor | float) -> None:
        if k < 0:  # no pipeline cut off the first half of twice as many entries
            raise self._machine.wrong_steps(self.num_inference_steps)
        if isinstance(timestep, Tensor) and timestep.device.type != "cpu" and k > 0:
            timestep = self._times[min(k, len(self._times) - 1)]  # reading it would make the accelerator wait
        if k >= self._plan.calls or abs(float(timestep) - self._times[k]) > 1e-3:
            raise SigmaTuneError(
                f"t = {float(timestep):g} is not the time of call {max(k, 0)} of {self._plan.calls} of this plan; let "
                "the pipeline iterate once over scheduler.timesteps after set_timesteps."
            )

    def _noise(self, k: int, channel: int, like: Tensor, generator: Any, dtype: torch.dtype) -> Tensor:
        if unseeded(self._plan.coefficients, self.config.seed):
            drawn: Tensor = randn_tensor(like.shape, generator=generator, device=like.device, dtype=dtype)
            return drawn
        first = self.config.first_index
        rows = range(first, first + len(like))
        return Noise(self._plan.coefficients, self.config.seed, rows, like.shape[1:])(k, channel, dtype).to(like.device)
