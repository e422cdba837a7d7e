"""A plan as ComfyUI's KSAMPLER: it checks the model, sends exactly the plan's timesteps and starts from exactly its noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from sigmatune.interop.k_diffusion import sampler
from sigmatune.interop.model_sampling import check_model, exact_timesteps
from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError


class PlainKSampler:
    """What SamplerCustom needs of a SAMPLER, for loops outside ComfyUI; the methods of ComfyUI's KSAMPLER.

    Args:
        sampler_function: ``sample(model, x, sigmas, extra_args, callback, disable)``.
    """

    def __init__(self, sampler_function: Callable[..., torch.Tensor]) -> None:
        self.sampler_function = sampler_function
        self.extra_options: Mapping[str, Any] = {}
        self.inpaint_options: Mapping[str, Any] = {}

    def max_denoise(self, model_wrap: Any, sigmas: torch.Tensor) -> bool:
        """Whether ComfyUI starts from sqrt(1 + sigma^2) eps: at the model's largest sigma."""
        return float(sigmas[0]) >= float(model_wrap.inner_model.model_sampling.sigma_max) * (1 - 1e-5)

    def sample(
        self,
        model_wrap: Any,
        sigmas: torch.Tensor,
        extra_args: dict[str, Any],
        callback: Callable[..., None] | None,
        noise: torch.Tensor,
        latent_image: torch.Tensor | None = None,
        denoise_mask: torch.Tensor | None = None,
        disable_pbar: bool = False,  # noqa: FBT001, FBT002
    ) -> torch.Tensor:
        """Samples from start noise and an image, both (B, *shape).

        Raises:
            SigmaTuneError: for a mask, which only ComfyUI itself applies.
        """
        if denoise_mask is not None:
            raise SigmaTuneError("masks need ComfyUI itself.")
        sampling = model_wrap.inner_model.model_sampling
        image = torch.zeros_like(noise) if latent_image is None else latent_image
        x = sampling.noise_scaling(sigmas[0], noise, image, self.max_denoise(model_wrap, sigmas))
        total = len(sigmas) - 1

        def report(state: Mapping[str, Any]) -> None:
            if callback is not None:
                callback(state["i"], state["denoised"], state["x"], total)

        samples = self.sampler_function(
            model_wrap, x, sigmas, extra_args=extra_args, callback=report if callback else None, disable=disable_pbar
        )
        end: torch.Tensor = sampling.inverse_noise_scaling(sigmas[-1], samples)
        return end


def plan_ksampler(plan: Plan, base: type[Any] = PlainKSampler, *, other_shift: bool = False) -> Any:
    """Makes the SAMPLER of a plan.

    Args:
        plan: The plan.
        base: ComfyUI's KSAMPLER, or a class of the same methods.
        other_shift: Accept a flow model with another shift than the plan's.

    Raises:
        SigmaTuneError: if no other loop can run the plan; in use, if the model is not of the plan's process.
    """

    class PlanKSampler(base):  # type: ignore[misc]
        def max_denoise(self, model_wrap: Any, sigmas: torch.Tensor) -> bool:
            return False  # a plan's first state is sigma eps

        def sample(self, model_wrap: Any, *args: Any, **kwargs: Any) -> Any:
            sampling = model_wrap.inner_model.model_sampling
            check_model(plan, sampling, other_shift=other_shift)
            with exact_timesteps(sampling):
                return super().sample(model_wrap, *args, **kwargs)

    return PlanKSampler(sampler(plan))
