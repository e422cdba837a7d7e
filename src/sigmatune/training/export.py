r"""A trained model as an ordinary diffusers pipeline folder.

======================= ===============================================================================================
``unet/``               (or ``transformer/``) the averaged network, an ordinary diffusers network
``scheduler/``          the process that it was trained on
``model_index.json``    makes the folder a pipeline
``conditioning/``       embeds the network's other inputs: classes, ends of the schedule
``spectra.json``        the mixture of spectra, per class, that schedules are drawn from
``recipe.yaml``         the training's recipe
``training.json``       the training's cost
======================= ===============================================================================================

``st.load`` opens all of it. Plain diffusers opens network and scheduler always, and samples from the pipeline if the
network is unconditional and its sampling loop supports the process (``vp``). Of a phase-space model it opens only the
network.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sigmatune.models.conditional import ConditionalDenoiser
from sigmatune.models.conditioning import Conditioned
from sigmatune.models.diffusers_denoiser import DiffusersDenoiser
from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.support.files import write_text
from sigmatune.support.folders import unfinished, whole_folder
from sigmatune.training.averages import Average
from sigmatune.training.lora import adapted, merged
from sigmatune.training.networks import process_of
from sigmatune.training.recipe import Recipe
from sigmatune.training.recipe import write as recipe_text

if TYPE_CHECKING:
    from sigmatune.spectra.mixture import Mixture


def averaged(network: Conditioned, average: Average) -> Conditioned:
    """A copy of the network with averaged weights, in eval mode, without gradients, on the CPU."""
    copied = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    with torch.no_grad():
        for name, value in copied.named_parameters():
            if name in average.values:  # untrained weights have no average
                value.copy_(average.values[name].to(value))
    return copied


def denoiser_of(network: Conditioned, scheduler: Any) -> DiffusersDenoiser:
    """The network as the denoiser that opening its saved folder returns."""
    process = process_of(scheduler)
    backbone: Any = network.backbone
    if network.conditioning is None:
        model = DiffusersDenoiser(backbone, process.path, process.prediction)
    else:
        model = ConditionalDenoiser(backbone, process.path, process.prediction, network.conditioning)
    model.default_schedule, model.value_range = process.schedule, process.value_range
    return model


def save_model(
    folder: Path,
    network: Conditioned,
    scheduler: Any,
    recipe: Recipe,
    *,
    spectra: Mixture | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Writes a pipeline folder; it replaces an older folder as a whole, once the new one is complete.

    Adapters (:mod:`sigmatune.training.lora`) are merged into the weights.

    Raises:
        SigmaTuneError: if it cannot be written; the older one is still there.
    """
    with whole_folder(folder) as new:
        _write(new, network, scheduler, recipe, spectra, facts or {})


def rehearse(folder: Path, network: Conditioned, scheduler: Any, recipe: Recipe) -> None:
    """Writes the folder of a network that is not trained yet and deletes it, so that write errors appear before training.

    Raises:
        SigmaTuneError: as :func:`save_model` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with rehearsed(folder) as place:
        _write(place, network, scheduler, recipe, None, {})


@contextmanager
def rehearsed(folder: Path) -> Iterator[Path]:
    """Yields a folder inside another one that is deleted at the end.

    Raises:
        SigmaTuneError: if it cannot be written.
    """
    try:
        with unfinished(folder) as place:
            yield place
    except SigmaTuneError:
        raise
    except Exception as error:  # noqa: BLE001 - diffusers and safetensors raise their own kinds for a full disk
        raise SigmaTuneError(f"the model could not be written to {folder}: {reason(error)}.") from None


def fitting(network: torch.nn.Module, dtype: torch.dtype, cure: str) -> None:
    """Refuses weights that become infinite in a narrower dtype.

    Raises:
        SigmaTuneError: naming the first weight, and the cure.
    """
    top = torch.finfo(dtype).max
    for name, value in network.named_parameters():
        most = float(value.detach().abs().max()) if value.numel() else 0.0
        if not most <= top:
            kind = str(dtype).removeprefix("torch.")
            raise SigmaTuneError(f"the weight {name} reaches {most:.3g}, more than {kind} holds; {cure}.")


def _write(
    folder: Path,
    network: Conditioned,
    scheduler: Any,
    recipe: Recipe,
    spectra: Mixture | None,
    facts: Mapping[str, Any],
) -> None:
    import diffusers

    kept = merged(network) if adapted(network) else network
    if recipe.saving.half:
        fitting(kept, torch.float16, "continue with --set saving.half=false, the checkpoint is kept")
        kept = copy.deepcopy(kept).half()
    backbone: Any = kept.backbone
    place = "transformer" if network.transformer else "unet"
    backbone.save_pretrained(str(folder / place), safe_serialization=True)
    scheduler.save_pretrained(str(folder / "scheduler"))
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": diffusers.__version__,
        place: ["diffusers", type(backbone).__name__],
        "scheduler": [type(scheduler).__module__.partition(".")[0], type(scheduler).__name__],
    }
    write_text(folder / "model_index.json", json.dumps(index, indent=2) + "\n")
    if kept.conditioning is not None:
        kept.conditioning.save(folder / "conditioning")
    if spectra is not None:
        spectra.save(folder / "spectra.json")
    write_text(folder / "recipe.yaml", recipe_text(recipe))
    write_text(folder / "training.json", json.dumps(dict(facts), indent=2) + "\n")
