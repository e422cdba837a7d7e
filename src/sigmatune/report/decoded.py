"""Samples that are latents, as images: a report shows what the model's autoencoder decodes of those that it draws.

An autoencoder can take longer than a network call, so only the shown end points are decoded, one by one, and few of them.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.report.facts import Group, Pair, Point
from sigmatune.report.inline_images import LARGEST, drawable
from sigmatune.support.errors import SigmaTuneError

logger = logging.getLogger(__name__)

SIDE = 2 * LARGEST
"""Pixels of a side of the images that are kept for the page, which shows them still smaller."""

LATENTS = 4
"""How many noises are shown of a model whose samples are decoded."""


def shrunk(images: torch.Tensor) -> torch.Tensor:
    """Images for the page: a copy, because a slice would keep all end points in memory; large ones are shrunk."""
    share = SIDE / max(images.shape[2:], default=1)
    if not drawable(tuple(images.shape[1:])) or share >= 1:
        return images.clone()
    size = [max(round(side * share), 1) for side in images.shape[2:]]
    return torch.cat([torch.nn.functional.interpolate(one[None].float(), size, mode="area") for one in images])


def with_images(model: Denoiser, group: Group) -> Group:
    """The group with decoded end points where it shows them; unchanged if they are images already.

    Latents that decode to no images are not shown: those of one or three channels would pass for images.
    """
    if not are_latents(model):
        return group
    try:
        if drawable(tuple(_decoded(model, group.reference[:1]).shape[1:])):
            pairs = {n: _pair(model, pair) for n, pair in group.pairs.items()}
            return replace(group, pairs=pairs, reference=_decoded(model, group.reference))
    except SigmaTuneError as error:
        logger.warning("the report shows no images: %s", error)
    return replace(group, reference=group.reference.flatten(1))


def are_latents(model: Denoiser) -> bool:
    """Whether samples become images, if at all, only by decoding them."""
    return bool(model.decoder()) or not drawable(tuple(model.shape))


def _pair(model: Denoiser, pair: Pair) -> Pair:
    def point(one: Point) -> Point:
        return replace(one, images=_decoded(model, one.images))

    return replace(pair, default=point(pair.default), plan=None if pair.plan is None else point(pair.plan))


def _decoded(model: Denoiser, latents: torch.Tensor) -> torch.Tensor:
    """The first latents as images, (at most LATENTS, C, H, W)."""
    return torch.cat([shrunk(model.decode(one[None].to(model.device)).cpu()) for one in latents[:LATENTS]])
