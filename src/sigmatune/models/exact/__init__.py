"""Exact denoisers of real data by name, ``exact:cifar10-mixture-16``: models whose converged samples are data.

A ``mixture`` has one Gaussian for each class (:mod:`~sigmatune.models.exact.class_mixture`), an ``empirical`` is the data set
itself (:mod:`~sigmatune.models.exact.empirical`). They are built from fetched data by one command, kept in a cache
folder, and run on DDPM's linear betas, so that they have timesteps like most networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sigmatune.models.exact_names import EXACT, PREFIX, Exact, exact_folder, is_exact
from sigmatune.support.errors import SigmaTuneError

if TYPE_CHECKING:
    import torch

    from sigmatune.core.denoiser import Denoiser


def load_exact(
    source: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    label: str | None = None,
    labels: Sequence[str | int] | None = None,
    guidance: float | None = None,
    interval: tuple[float, float] = (0.0, float("inf")),
) -> Denoiser:
    """Loads an exact denoiser that has been built.

    Args:
        source: Its name, ``exact:cifar10-mixture-16``.
        device: Where to run: None for the CPU, "auto" for a CUDA device if there is one.
        dtype: Dtype of products and states, float32 by default.
        label: The class of all rows; without one the data are all classes.
        labels: Classes by name or number; row i takes entry i, and the list repeats.
        guidance: Scale of classifier-free guidance; none by default.
        interval: (a, b], the noise levels at which guidance is on.

    Raises:
        SigmaTuneError: for an unknown name or class, a device without float64, or one that is not built or damaged; one
            sentence says what to do.
    """
    import torch

    from sigmatune.models.conditional import conditional
    from sigmatune.models.exact.builds import read
    from sigmatune.models.network import pick_device

    where = pick_device(device)
    if where.type == "mps":
        if device != "auto":
            raise SigmaTuneError("exact denoisers need float64, which mps does not have; pass the device cpu.")
        where = torch.device("cpu")
    options: dict[str, Any] = {"device": where, "dtype": dtype or torch.float32}
    model = read(EXACT[source.removeprefix(PREFIX)], **options)
    return conditional(model, label=label, labels=labels, guidance=guidance, interval=interval)


__all__ = ["EXACT", "PREFIX", "Exact", "exact_folder", "is_exact", "load_exact"]
