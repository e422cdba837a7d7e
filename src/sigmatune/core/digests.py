"""Digests of weights: bit by bit, or of numbers that processors compute differently, as numbers to compare."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sigmatune.core.saved_weights import saved

PROBE = 0x9207BE
"""Noise channel of the probe's states; the next channels hold the noises for projections."""

PROJECTIONS = 3
"""Projections that represent a list of numbers, besides its root mean square."""

BLOCK = 1 << 24
BIG = 1 << 28
"""Bytes of weights above which blocks are summed before they are digested: 17 times as fast where a processor has no
instruction for SHA-256."""

Tensors = Mapping[str, torch.Tensor]


def touched(tensors: Sequence[torch.Tensor]) -> object:
    """Changes when a tensor is replaced, changed in place, or changed through ``.data``, which has no version."""
    places = [(t.data_ptr(), -1 if t.is_inference() else t._version, t.device) for t in tensors]
    groups: dict[object, list[torch.Tensor]] = {}
    for tensor in tensors:
        plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if plain and tensor.numel() and tensor.device.type != "meta":
            groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    with torch.no_grad():
        firsts = [torch.stack([t.as_strided((), (), t.storage_offset()) for t in part]) for part in groups.values()]
    return places, [values.cpu().view(torch.uint8).numpy().tobytes() for values in firsts]


def module_of(network: Any) -> torch.nn.Module | None:
    """The module of a network, without the wrappers of :func:`torch.compile` or data parallelism."""
    while isinstance(network, torch.nn.Module):
        inner = getattr(network, "_orig_mod", None)
        if inner is None and isinstance(network, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            inner = network.module
        if inner is None:
            return network
        network = inner
    return None


def tensors_of(modules: Iterable[torch.nn.Module]) -> list[torch.Tensor]:
    """All parameters and buffers of some modules, each once: a quarter of the time of ``parameters()`` and ``buffers()``."""
    tensors: dict[int, torch.Tensor] = {}
    left, seen = list(modules), set[int]()
    while left:
        module = left.pop()
        if id(module) not in seen:
            seen.add(id(module))
            left += [inner for inner in module._modules.values() if inner is not None]
            held = (*module._parameters.values(), *module._buffers.values())
            tensors |= {id(tensor): tensor for tensor in held if tensor is not None}
    return list(tensors.values())


def add_weights(digest: Any, weights: torch.nn.Module | Tensors, *, whole: bool = False) -> None:
    """Feeds a module's parameters and buffers, or some tensors, to a hash object: names, dtypes, shapes, bits.

    Args:
        digest: The hash object.
        weights: The module or the tensors. Buffers that are not saved with a module are not among them.
        whole: Feed all bits, even for weights so large that sums of blocks are the default.
    """
    module = module_of(weights)
    named: Tensors = weights if module is None else module.state_dict()  # type: ignore[assignment]
    summed = not whole and big(value for value in named.values() if isinstance(value, torch.Tensor))
    for name, value in saved(module, named):
        if isinstance(value, str):
            digest.update(f"{name} {value}".encode())
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        for block in _blocks(value):
            digest.update(_sum(block) if summed else block)


def big(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether weights are so many that sums of blocks are digested."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) > BIG


def _blocks(tensor: torch.Tensor) -> Iterator[Any]:
    """The bytes of a tensor, a block at a time, so that no second copy of all weights is in memory."""
    flat = tensor.detach().contiguous().reshape(-1)
    step = BLOCK // max(flat.element_size(), 1)
    for first in range(0, max(flat.numel(), 1), step):
        yield flat[first : first + step].cpu().view(torch.uint8).numpy().data


@functools.lru_cache(maxsize=1)
def _multipliers() -> Any:
    """Fixed odd 64-bit numbers, one for each word of a block."""
    return np.random.Philox(key=PROBE).random_raw(BLOCK // 8).view(np.int64) | 1


def _sum(block: Any) -> bytes:
    """The sum of a block's words times fixed odd numbers, modulo 2^64: exact, in any order of summation."""
    full = np.frombuffer(block, dtype=np.uint8)
    words = np.pad(full, (0, -len(full) % 8)).view(np.int64)
    return int(words @ _multipliers()[: len(words)]).to_bytes(8, "little", signed=True)


def unsaved(module: torch.nn.Module) -> str:
    """The part of a fingerprint for buffers that are not saved with a module, such as tables of sines; empty without any.

    They are computed when the module is built, so they are numbers of that machine, and are compared like outputs.
    """
    saved = set(module.state_dict(keep_vars=True))
    tables = {
        name: b for name, b in module.named_buffers() if name not in saved and b.is_floating_point() and b.numel()
    }
    return f"|buffers float32 {numbers_of([tables[name] for name in sorted(tables)])}" if tables else ""


def numbers_of(tensors: Iterable[torch.Tensor]) -> str:
    """The root mean square of all numbers of some tensors, and three projections of them, on cosines."""
    count, sums = 0, np.zeros(1 + PROJECTIONS)
    for tensor in tensors:
        for part in torch.split(tensor.detach().reshape(-1), 1 << 20):
            values, place = part.double().cpu().numpy(), np.arange(count, count + len(part))
            sums += [values @ values, *(values @ np.cos((1 + j) * place) for j in range(PROJECTIONS))]
            count += len(part)
    root = float(np.sqrt(max(count, 1)))
    return listed([float(np.sqrt(sums[0])) / root, *(float(s) / root for s in sums[1:])])


def weights_part(modules: Sequence[torch.nn.Module]) -> str:
    """The part of a fingerprint for the modules that a function uses; empty without any."""
    if not modules:
        return ""
    digest = hashlib.sha256()
    for module in modules:
        add_weights(digest, module)
    return f"|weights {digest.hexdigest()}" + "".join(unsaved(module) for module in modules)


def listed(numbers: Iterable[float]) -> str:
    """Numbers as the text that fingerprints hold."""
    return ",".join(f"{number:.7g}" for number in numbers)
