r"""Checkpoints: one safetensors file, replaced atomically, from which a run resumes exactly.

Because no random generator has a state (:mod:`sigmatune.training.draws`), a checkpoint holds only the weights, the
optimiser's moments, the averages and the step; of a partly trained network, only the trained part. A reader sees the
old file or the new one, and a write that fails leaves the old one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sigmatune.core.digests import add_weights
from sigmatune.support import json_file, reading
from sigmatune.support.errors import SigmaTuneError, of_memory, reason
from sigmatune.support.files import write_bytes
from sigmatune.support.json_file import Strict
from sigmatune.training.averages import Average, trained

FORMAT, VERSION = "sigmatune/checkpoint", 1
FILE = "checkpoint.safetensors"

COPIES, BESIDES = 3, 2**22
"""Copies of its tensors that writing a checkpoint holds, and bytes besides."""


@dataclass(frozen=True)
class State:
    """The state of a run besides tensors.

    Attributes:
        step: Steps done.
        seconds: Time spent on them.
        identity: Of recipe and data; a run with another identity is refused.
        scaler: State of the loss scaling of fp16, if any.
    """

    step: int
    seconds: float
    identity: str
    scaler: dict[str, Any] | None = None


class StateFields(Strict):
    """The fields of a :class:`State` in a checkpoint."""

    step: int = Field(ge=0)
    seconds: float = Field(ge=0)
    identity: str
    scaler: dict[str, Any] | None = None


def identity(given: str, network: torch.nn.Module) -> str:
    """The identity of a training: its inputs, and the frozen weights, which no checkpoint holds."""
    frozen = _frozen(network)
    if not frozen:
        return given
    digest = hashlib.sha256(given.encode())
    add_weights(digest, {name: value for name, value in network.state_dict().items() if name in frozen}, whole=True)
    return digest.hexdigest()


def store(
    folder: Path, state: State, network: torch.nn.Module, optimizer: torch.optim.Optimizer, averages: Sequence[Average]
) -> None:
    """Replaces the checkpoint of a run folder.

    Raises:
        SigmaTuneError: if it cannot be written; the old one is still there.
    """
    frozen = _frozen(network)
    tensors = {f"network.{name}": value for name, value in network.state_dict().items() if name not in frozen}
    for name, value in trained(network):
        for kind, moment in optimizer.state.get(value, {}).items():
            tensors[f"optimizer.{kind}.{name}"] = moment
    for i, average in enumerate(averages):
        tensors |= {f"average.{i}.{name}": value for name, value in average.values.items()}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    _has_room(sum(value.nbytes for value in plain.values()))
    stated = {"format": FORMAT, "version": VERSION, **vars(state)}
    write_bytes(folder / FILE, save(plain, metadata={"state": json.dumps(stated)}))


def _has_room(count: int) -> None:
    """Asks for what safetensors takes for so many bytes, and returns it: where safetensors gets none, it aborts the process.

    Raises:
        SigmaTuneError: if there is less.
    """
    try:
        np.empty(COPIES * count + BESIDES, dtype=np.uint8)
    except MemoryError:
        raise SigmaTuneError(
            f"there is not enough memory for a checkpoint of {reading.size(count)}; free some, or raise the limit (ulimit -v)."
        ) from None


def peek(folder: Path) -> State | None:
    """The state in the checkpoint of a run folder; None if there is no checkpoint.

    Raises:
        SigmaTuneError: if it cannot be read.
    """
    if not os.path.lexists(folder / FILE):
        return None
    with _opened(folder / FILE) as file:
        return _state(file, folder / FILE)


@torch.no_grad()
def restore(
    folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, averages: Sequence[Average]
) -> State:
    """Restores the tensors of a checkpoint.

    Raises:
        SigmaTuneError: if it cannot be read, or belongs to another network.
    """
    path = folder / FILE
    with _opened(path) as file:
        state = _state(file, path)
        try:
            left_out = {f"network.{name}" for name in _frozen(network)} - set(file.keys())
            network.load_state_dict(
                {
                    name: value if f"network.{name}" in left_out else file.get_tensor(f"network.{name}")
                    for name, value in network.state_dict().items()
                }
            )
            for name, value in trained(network):
                moments = {kind: f"optimizer.{kind}.{name}" for kind in ("step", "exp_avg", "exp_avg_sq")}
                if moments["step"] in file.keys():  # noqa: SIM118 - the file is not a mapping
                    restored = {kind: file.get_tensor(key).to(value.device) for kind, key in moments.items()}
                    if [restored[kind].numel() for kind in moments] != [1, value.numel(), value.numel()]:
                        raise RuntimeError(f"the optimiser's moments of {name} are of another shape")
                    # In the parameter's memory format, which the fused optimiser assumes.
                    for kind in ("exp_avg", "exp_avg_sq"):
                        restored[kind] = torch.empty_like(value).copy_(restored[kind])
                    optimizer.state[value] = restored
            for i, average in enumerate(averages):
                for name, kept in average.values.items():
                    kept.copy_(file.get_tensor(f"average.{i}.{name}"))
        except (SafetensorError, RuntimeError) as error:
            if of_memory(error):
                raise
            raise SigmaTuneError(
                f"{path} does not fit this network ({reason(error)}); choose another run folder."
            ) from None
    return state


def _frozen(network: torch.nn.Module) -> set[str]:
    return {name for name, value in network.named_parameters() if not value.requires_grad}


def _opened(path: Path) -> Any:
    try:
        return safe_open(reading.regular(path), framework="pt")
    except (SafetensorError, OSError) as error:
        if of_memory(error):
            raise
        raise SigmaTuneError(f"{path} cannot be read ({reason(error)}); delete it to start again.") from None


def _state(file: Any, path: Path) -> State:
    try:
        raw = reading.parsed((file.metadata() or {})["state"])
        if (raw.pop("format"), raw.pop("version")) != (FORMAT, VERSION):
            raise ValueError
        stated = json_file.validated(raw, StateFields, f"{path} is damaged")
        return State(**stated.model_dump())
    except SigmaTuneError as error:
        problem = str(error).rstrip(".").removeprefix(f"{path} is damaged: ")
        raise SigmaTuneError(f"{path} is damaged ({problem}); delete it to start again.") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SigmaTuneError(f"{path} is not a checkpoint of this version; choose another run folder.") from None
