"""Recipes: all settings of a training in one YAML file, checked before any work.

An unknown key, a value of the wrong kind or out of range is refused with its place in the file. Noise laws, loss
weights and averages have their own ``options``, which are checked when they are built, also before training starts.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from sigmatune.spectra.values import Values
from sigmatune.support import json_file, reading
from sigmatune.support.errors import REASON, SigmaTuneError, reason, shortened, shown, visible
from sigmatune.support.json_file import Strict
from sigmatune.support.moved import forward_names


class Section(Strict):
    """A part of a recipe; its numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class DataSection(Section):
    """Where images come from."""

    source: str = Field(default="", description="folder, .npz, .npy or a data set of the hub")
    key: str | None = Field(default=None, description="array of an .npz")
    labels: str | None = Field(default=None, description="file of class labels, one per image")
    size: int | None = Field(default=None, ge=1, description="crop and resize to this many pixels")
    low: int | None = Field(default=None, ge=1, description="cascade: learn the residual over images of this size")
    bits: Literal[8, 32] = Field(default=8, description="8 for images, 32 for floating point")
    values: Values = Field(default="auto", description="range of the stored numbers, black to white")
    flip: bool = Field(default=False, description="mirror images at random")
    most: int | None = Field(
        default=None, ge=1, description="number of images to draw, by training.seed, each class its share"
    )


class ProcessSection(Section):
    """The noise path and what the network predicts."""

    kind: Literal["edm", "vp", "flow", "psld"] = "edm"
    sigma_min: float = Field(default=0.002, gt=0, description="edm only")
    sigma_max: float = Field(default=80.0, gt=0, description="edm only")
    sigma_data: float | None = Field(default=None, gt=0, description="edm only; the data's own by default")
    prediction: Literal["v_prediction", "epsilon", "sample"] = Field(default="v_prediction", description="vp only")
    table: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = Field(default="linear", description="vp only")
    shift: float = Field(default=1.0, gt=0, description="flow only")
    gamma: float = Field(default=0.01, ge=0, description="psld only: friction and noise of the position")
    nu: float = Field(default=4.01, ge=0, description="psld only: friction and noise of the momentum")
    kappa: float = Field(default=0.04, gt=0, description="psld only: variance of the initial momentum, in units of M")
    beta_start: float = Field(default=8.0, gt=0, description="psld only: beta at t = 0")
    beta_end: float = Field(default=8.0, gt=0, description="psld only: beta at t = T")
    T: float = Field(default=1.0, gt=0, description="psld only: the last time")
    eps: float = Field(default=1e-3, gt=0, description="psld only: the first time that is trained on")
    matching: Literal["hsm", "dsm"] = Field(
        default="hsm", description="psld only: marginalise the initial momentum, or draw it"
    )
    root: Literal["lower", "upper"] = Field(default="lower", description="psld only: triangular root of the covariance")


OF_PHASE_SPACE = {"gamma", "nu", "kappa", "beta_start", "beta_end", "T", "eps", "matching", "root"}
"""The fields of :class:`ProcessSection` that count for psld alone."""


class NoiseSection(Section):
    """The noise law; a phase-space network has none, its time is uniform."""

    law: str = "spectral-normal"
    options: dict[str, Any] = Field(default_factory=dict)


class LossSection(Section):
    """The loss weight; a phase-space network has none, its loss is that of eps."""

    weight: str = "edm"
    options: dict[str, Any] = Field(default_factory=dict)
    density: bool = Field(
        default=False, description="multiply by -dlambda/du, so that the law sets only how often a level is drawn"
    )


class Network(Section):
    """The network."""

    kind: Literal["unet", "transformer"] = "unet"
    channels: list[int] = Field(default=[32, 64, 128], min_length=1, description="unet: width of each resolution")
    attention: list[bool] | None = Field(default=None, description="unet: where; the coarsest resolution by default")
    layers: int = Field(default=2, ge=1, description="residual blocks per resolution, or transformer blocks")
    heads: int = Field(default=4, ge=1, description="transformer: attention heads")
    head: int = Field(default=32, ge=1, description="channels of an attention head")
    patch: int = Field(default=2, ge=1, description="transformer: pixels of a patch's side")
    groups: int = Field(default=8, ge=1, description="unet: groups of the normalisation")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="unet")
    classes: bool = Field(default=False, description="condition the network on the class")
    drop: float = Field(default=0.1, ge=0, lt=1, description="share of images whose class is left out")
    ends: bool = Field(default=False, description="condition the network on the ends of the schedule")


class Training(Section):
    """How it is trained."""

    images: int = Field(default=1_000_000, ge=1, description="images seen in all")
    batch: int = Field(default=128, ge=1, description="images per step, over all processes")
    accumulation: int = Field(default=1, ge=1, description="parts into which a process splits its share of a batch")
    rate: float = Field(default=1e-3, gt=0, description="learning rate")
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: int = Field(default=100, ge=0, description="steps over which the rate rises")
    clip: float | None = Field(default=1.0, gt=0, description="largest norm of the gradient")
    weight_decay: float = Field(default=1e-3, ge=0)
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.99, ge=0, lt=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    channels_last: bool = True
    seed: int = Field(default=0, ge=0)


class AverageOf(Section):
    """An average of the weights."""

    kind: str = "power"
    options: dict[str, Any] = Field(default_factory=dict)


class Previews(Section):
    """Images made while training, always from the same noises."""

    every: int = Field(default=100_000, ge=0, description="images seen between two grids; 0 for none")
    n: int = Field(default=16, ge=1)
    calls: int = Field(default=16, ge=1)


class Saving(Section):
    """The outputs, and when they are written."""

    every: int = Field(default=500, ge=1, description="steps between checkpoints")
    log: int = Field(default=50, ge=1, description="steps between lines of the log, besides early ones")
    trackers: list[str] = Field(
        default=["tensorboard"], description="tensorboard, trackio, wandb and others of accelerate"
    )
    half: bool = Field(default=False, description="write the model's weights in float16")
    spectra: bool = Field(default=True, description="fit the mixture of spectra that schedules are drawn from")


class Recipe(Section):
    """All settings of a training."""

    name: str = "model"
    about: str = Field(default="", description="purpose and cost, for people")
    data: DataSection = Field(default_factory=DataSection)
    process: ProcessSection = Field(default_factory=ProcessSection)
    noise: NoiseSection = Field(default_factory=NoiseSection)
    loss: LossSection = Field(default_factory=LossSection)
    model: Network = Field(default_factory=Network)
    training: Training = Field(default_factory=Training)
    averages: list[AverageOf] = Field(default=[AverageOf()], min_length=1, description="the first is sampled and saved")
    previews: Previews = Field(default_factory=Previews)
    saving: Saving = Field(default_factory=Saving)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return max(self.training.images // self.training.batch, 1)

    def identity(self) -> str:
        """A digest of everything that the weights depend on, but for the data's bits."""
        unused = set() if self.process.kind == "psld" else OF_PHASE_SPACE
        without: dict[str, Any] = {
            "name": True,
            "about": True,
            "previews": True,
            "saving": True,
            "data": {"source", "values"},  # the bits of the images are in the digest beside this one
            "process": unused,
        }
        fields = self.model_dump(mode="json", exclude=without)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def read(path: str | Path) -> Recipe:
    """Reads a recipe.

    Raises:
        SigmaTuneError: in one sentence with the first problem and its place in the file.
    """
    text = reading.text_of(path, kind="recipe", most=reading.RECIPE)
    return loads(text, str(path))


def loads(text: str, name: str = "the recipe") -> Recipe:
    """Reads the text of a recipe; see :func:`read`."""
    raw = yaml_of(text, name)
    if not isinstance(raw, dict):
        raise SigmaTuneError(f"{name} is not a recipe: it must have sections such as data, noise and training.")
    return checked(raw, name)


def checked(raw: dict[str, Any], name: str = "the recipe") -> Recipe:
    """Builds a recipe from plain values.

    Raises:
        SigmaTuneError: in one sentence with the first problem and its place.
    """
    return json_file.validated(raw, Recipe, name)


def yaml_of(text: str, name: str) -> Any:
    """Parses a YAML text into plain values.

    Raises:
        SigmaTuneError: for what is not YAML, a duplicate key, or values that are nested too deeply or refer to one
            another in a cycle.
    """
    import yaml

    try:
        reading.shallow(text)
        loader = _loader(yaml)(text)  # a safe loader, which builds plain values only
        try:
            raw = loader.get_single_data()
        finally:
            loader.dispose()
        reading.weighed(raw, most=reading.MOST_VALUES)
    except SigmaTuneError as error:
        raise SigmaTuneError(f"{name}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        what = shortened(visible(error.problem or "it cannot be read"), REASON)
        raise SigmaTuneError(f"{name} is not YAML ({what}{at}); fix it there.") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        # An invalid date is a ValueError, a list as a key a TypeError.
        raise SigmaTuneError(f"{name} is not YAML ({reason(error)}); put texts into quotes.") from None
    return raw


def _loader(yaml: Any) -> Any:
    class Distinct(yaml.SafeLoader):  # type: ignore[misc]
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            if self.depth > reading.DEEPEST + 2:  # a value may be one deeper than the list around it
                reading.too_deep()
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - yaml's signature
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
            if twice is not None:
                raise SigmaTuneError(f"the key {shown(twice)} stands twice in one section; keep one of them.")
            return super().construct_mapping(node, deep=deep)

    return Distinct


def write(recipe: Recipe) -> str:
    """The text of a recipe, complete."""
    import yaml

    return str(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))


__getattr__ = forward_names(__name__, {"Process": "ProcessSection"})
