"""Features of the Inception network behind published FID figures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sigmatune.evaluation.extractors.base import Extractor, FeatureSpace
from sigmatune.support.errors import SigmaTuneError, of_memory

FILE = "inception-2015-12-05.pt"
URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE}"
VARIABLE = "SIGMATUNE_INCEPTION"


class Inception(Extractor):
    """The pooled features (2048) and the logits (1008) of the TensorFlow Inception of 2015, in TorchScript.

    The script resizes to 299 x 299 by itself, as the original graph does. The search tries the file that the
    environment variable ``SIGMATUNE_INCEPTION`` names, then torch's hub folder, and downloads the script there if a
    network is available.

    References:
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
        | https://arxiv.org/abs/1706.08500

    Args:
        file: The TorchScript file.
        device: Where it runs.

    Raises:
        SigmaTuneError: if there is no such file and it cannot be downloaded, or it is not TorchScript.
    """

    name = "inception"
    version = "1"
    resize = "299 x 299, bilinear, as the TensorFlow graph of 2015 does it"
    normalisation = "(x - 128) / 128"
    spaces: Mapping[str, FeatureSpace] = {
        "pool": FeatureSpace(2048, "semantic"),
        "logits": FeatureSpace(1008, "logits"),
    }
    default = ("pool", "pool-pca64")

    def __init__(self, file: str | Path | None = None, device: torch.device | str = "cpu") -> None:
        path = Path(file or os.environ.get(VARIABLE) or _downloaded())
        try:
            self._weights = hashlib.sha256(path.read_bytes()).hexdigest()
            self.network = torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError, ValueError) as error:
            if of_memory(error):
                raise
            raise SigmaTuneError(f"{path} is not Inception as TorchScript ({str(error).splitlines()[0]}).") from None
        self.device = device

    def features(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        x = pictures.to(self.device)
        x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
        pool = self.network(x, return_features=True)
        # Probabilities without the bias of the last layer, by the original's convention; their logarithms are the logits.
        return {"pool": pool, "logits": self.network(x, no_output_bias=True).clamp(min=1e-30).log()}

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"weights": f"sha256:{self._weights}"}


def _downloaded() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), progress=False)
        except OSError as error:
            raise SigmaTuneError(
                f"Inception's weights are missing and {URL} cannot be reached ({error}); download the file yourself "
                f"and set {VARIABLE} to its path, or take --extractor efficientnet-lite0."
            ) from None
    return path
