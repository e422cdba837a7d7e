"""What a backward pass through a plan keeps of the network: the activations of all calls, or those of one at a time.

Keeping them costs memory for K calls and one forward pass; discarding them (checkpointing) costs memory for one call and a
second forward pass.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.wrappers import Wrapper
from sigmatune.support.errors import SigmaTuneError

KEPT = 2**29
"""Bytes of activations that may be kept."""

PRICE_KEPT, PRICE = 3, 4
"""Network evaluations that a gradient is counted as, per call of its plan: forward and twice as much back; forward twice."""


class Differentiable(Wrapper):
    """A denoiser through which a plan is differentiated.

    Args:
        inner: The denoiser.
        kept: Keep a call's activations for the backward pass; otherwise they are discarded and computed again.
    """

    def __init__(self, inner: Denoiser, *, kept: bool = False) -> None:
        super().__init__(inner)
        self.kept = kept

    @property
    def price(self) -> int:
        """Network evaluations that a gradient is counted as, per call and row."""
        return PRICE_KEPT if self.kept else PRICE

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        x0: torch.Tensor = self.inner(z, sigma) if self.kept else checkpoint(self.inner, z, sigma, use_reentrant=False)
        if bool(z.isfinite().all()) and not bool(x0.isfinite().all()):  # the search would continue with NaN
            raise SigmaTuneError("the model returned NaN or infinity; it cannot be tuned.")
        return x0


def activation_bytes(model: Denoiser, index: int, level: float) -> int:
    """The bytes that autograd keeps of one call for one row, without the weights; costs a network evaluation of one image.

    Args:
        model: The denoiser.
        index: Which row is asked, for its condition.
        level: The level of the call.
    """
    weights = {p.untyped_storage().data_ptr() for module in model.modules() for p in module.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor  # the graph holds it, so no address is counted for two tensors

    z = torch.zeros(1, *model.shape, dtype=model.dtype, device=model.device, requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.rows([index])(z, level)
    del output  # until here it held the graph
    return sum(sizes.values())
