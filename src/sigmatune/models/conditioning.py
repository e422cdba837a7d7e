r"""Conditions of a network besides its state and its level: a class, and the ends of the sample's own noise schedule.

.. math:: e = W_2 \, \mathrm{silu}(W_1 [\, c_y; \; \gamma(\lambda(0)); \; \gamma(\lambda(1)) \,] + b_1) + b_2

c is a table of vectors, one per class and one more for no class (for classifier-free guidance), :math:`\gamma` the
sines and cosines of the logSNR at octaves of frequency. The vector e is a diffusers network's input beside its time
embedding: ``class_labels`` of a UNet2DModel of ``class_embed_type`` "identity", ``pooled_projections`` of an
SD3Transformer2DModel. With ``resnet_time_scale_shift`` "scale_shift" a UNet turns it into a scale and a shift of every
normalised feature map (FiLM); the transformer does the same in its adaptive layer norms (AdaLN). The network's time is
the logSNR :math:`\lambda(u)` of the state itself.

A pipeline folder holds it as ``conditioning/config.json`` and ``conditioning/diffusion_pytorch_model.safetensors``
beside the network, which stays an ordinary network that diffusers opens alone.

References:
    | FiLM: Visual Reasoning with a General Conditioning Layer (Perez et al., 2018), https://arxiv.org/abs/1709.07871
    | Scalable Diffusion Models with Transformers (Peebles & Xie, 2023), https://arxiv.org/abs/2212.09748
    | Spectrally-Guided Diffusion Noise Schedules (Esteves & Makadia, 2026), https://arxiv.org/abs/2603.19222, for the ends
    | Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import load_file, save_file

from sigmatune.models.source import WEIGHTS, read_json
from sigmatune.support.errors import SigmaTuneError, unloadable
from sigmatune.support.files import make_folder, write_text
from sigmatune.support.json_file import Strict

FREQUENCIES = 8
"""Octaves of the logSNR's embedding: periods of 2 pi / 2^j, j = -5..2, from 200 down to 1.6 in logSNR."""


class ConditioningConfig(Strict):
    """The fields of ``conditioning/config.json``."""

    kind: Literal["SigmaTuneConditioning"] = Field(alias="_class_name")
    width: int = Field(ge=1, description="length of the vector that the network takes")
    classes: list[str] = Field(default_factory=list, description="names of the classes, in the order of their vectors")
    ends: bool = Field(default=False, description="the network takes the logSNR at both ends of the sample's schedule")
    images: int = Field(default=0, ge=0, description="channels of an image that is concatenated to the state")
    default_ends: tuple[float, float] | None = Field(
        default=None, strict=False, description="sigma_min and sigma_max by default"
    )
    curve: dict[str, Any] | None = Field(
        default=None, description="the spectral curve of training: family, kappa_min, kappa_max"
    )


class Conditioning(torch.nn.Module):
    """Computes the vector that the network takes beside its time embedding.

    Args:
        width: Its length.
        classes: Names of the classes; none for a model without classes.
        ends: Whether the network is conditioned on the ends of the schedule.
        images: Channels of an image that the network sees beside the state; 0 for none.
        default_ends: Default sigma_min and sigma_max.
        curve: The spectral curve of training, if any: its family, kappa_min and kappa_max.
    """

    def __init__(
        self,
        width: int,
        *,
        classes: tuple[str, ...] = (),
        ends: bool = False,
        images: int = 0,
        default_ends: tuple[float, float] | None = None,
        curve: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.width, self.classes, self.ends, self.images = width, tuple(classes), ends, images
        self.default_ends, self.curve = default_ends, None if curve is None else dict(curve)
        self.table = torch.nn.Embedding(len(self.classes) + 1, width)
        self.first = torch.nn.Linear(width + (4 * FREQUENCIES if ends else 0), width)
        self.second = torch.nn.Linear(width, width)

    @property
    def no_class(self) -> int:
        """The index for no class."""
        return len(self.classes)

    def forward(self, labels: torch.Tensor, ends: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the vectors, (B, width).

        Args:
            labels: Index of the class of each row, or :attr:`no_class`, (B,).
            ends: sigma_min and sigma_max of each row, (B, 2), float32, for a network conditioned on them.
        """
        parts = [self.table(labels)]
        if self.ends:
            assert ends is not None
            octaves = 2.0 ** torch.arange(-5, FREQUENCIES - 5, device=ends.device)
            angle = (-2 * ends.float().log()).clamp(-40, 40)[..., None] * octaves  # sigma_max may be infinite
            parts.append(torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(1).to(parts[0]))
        inner = torch.nn.functional.silu(self.first(torch.cat(parts, dim=1)))
        vectors: torch.Tensor = self.second(inner)
        return vectors

    def config(self) -> dict[str, Any]:
        """The fields of the configuration file."""
        fields = ConditioningConfig(
            _class_name="SigmaTuneConditioning", width=self.width, classes=list(self.classes), ends=self.ends,
            images=self.images, default_ends=self.default_ends, curve=self.curve,
        )  # fmt: skip
        return fields.model_dump(mode="json", by_alias=True)

    def save(self, folder: Path) -> None:
        """Writes configuration and weights into a folder, which is created."""
        make_folder(folder)
        write_text(folder / "config.json", json.dumps(self.config(), indent=2) + "\n")
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()},
            folder / f"{WEIGHTS}.safetensors",
        )

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype) -> Conditioning:
        """Reads what :meth:`save` wrote, in eval mode and without gradients.

        Raises:
            SigmaTuneError: if the files are missing, broken, or do not fit together.
        """
        raw = read_json(folder / "config.json", finite=False)  # the ends of a flow model are infinite
        try:
            fields = ConditioningConfig.model_validate(raw)
            conditioning = cls(
                fields.width, classes=tuple(fields.classes), ends=fields.ends, images=fields.images,
                default_ends=fields.default_ends, curve=fields.curve,
            )  # fmt: skip
            conditioning.load_state_dict(load_file(folder / f"{WEIGHTS}.safetensors"))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise SigmaTuneError(
                f"{folder / 'config.json'}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}."
            ) from None
        except Exception as error:  # noqa: BLE001 - safetensors and torch each raise their own kinds
            raise unloadable(f"the conditioning in {folder}", error) from None
        return conditioning.to(dtype).eval().requires_grad_(False)


class Conditioned(torch.nn.Module):
    """A diffusers network and its conditioning, as one module: (x_t, t, labels, ends, image) -> output.

    Args:
        backbone: A UNet2DModel or an SD3Transformer2DModel.
        conditioning: Embeds its conditions; None for a network without conditions, or with class indices alone.
    """

    def __init__(self, backbone: torch.nn.Module, conditioning: Conditioning | None) -> None:
        super().__init__()
        self.backbone, self.conditioning = backbone, conditioning
        self.transformer = type(backbone).__name__ == "SD3Transformer2DModel"
        config: Any = backbone.config
        self.indices = conditioning is None and getattr(config, "num_class_embeds", None) is not None

    def forward(
        self,
        x_t: torch.Tensor,
        t: torch.Tensor,
        labels: torch.Tensor | None = None,
        ends: torch.Tensor | None = None,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Returns the network's output, (B, C, H, W), or with more channels where it predicts more."""
        if image is not None:
            x_t = torch.cat([x_t, image.to(x_t)], dim=1)
        vector = None
        if self.conditioning is not None:
            if labels is None:
                labels = torch.full((len(x_t),), self.conditioning.no_class, device=x_t.device)
            vector = self.conditioning(labels, ends).to(x_t.dtype)
        network: Any = self.backbone
        if self.transformer:
            assert vector is not None
            output: torch.Tensor = network(
                x_t, encoder_hidden_states=vector[:, None], pooled_projections=vector, timestep=t, return_dict=False
            )[0]
            return output
        condition = labels if self.indices else vector
        output = (
            network(x_t, t, return_dict=False) if condition is None else network(x_t, t, condition, return_dict=False)
        )
        first: torch.Tensor = output[0]
        return first
