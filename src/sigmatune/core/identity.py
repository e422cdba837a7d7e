r"""Fingerprints: a text that identifies a model by its weights, or by its outputs if its code is unreadable.

Everything stored per model (stores, run folders, references, tables, plans) names it by this text, its *fingerprint*.

- **Weights** are digested bit by bit: parameters and buffers of every module in use, the same on every machine.
- **Outputs** represent the unreadable part, the code of a function D(x, sigma): a fixed probe of bit-exact noise goes
  through it at a few levels, and the fingerprint records the root mean square of each output y and its projections on
  fixed noises,

.. math:: \sqrt{\overline{y^2}}, \quad \langle y, n_j \rangle / \sqrt{\dim y}, \qquad j = 1, 2, 3

  Kernels of another processor change them slightly, so they are stored as numbers and compared with a tolerance
  (:func:`same`), relative to the root mean square of the level.

A digest is computed once, and again after a weight changed: every request checks the address, the version and the first
number of every tensor (1.5 ms for 184 tensors).
"""

from __future__ import annotations

import functools
import hashlib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune.core.rng import START, noise
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import write_text

TOLERANCE = 2e-3
"""Answers of one model on two machines differ by less, relative to their root mean square, also with TF32 convolutions; what
differs by less has the same best plan for all that plans' errors, of some percent, can show."""

STRICT = 1e-4
"""The same for stores, which serve one machine or similar ones: a miss costs time, a false hit gives wrong results."""

SPREAD = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The levels of the probe, as shares of the range of log sigma."""

PROBE = 0x9207BE
"""Noise channel of the probe's states; the next channels hold the noises for projections."""

ROWS, PROJECTIONS = 2, 3
HIGHEST = 1e3
"""Largest level of a probe on a path that starts at sigma = inf."""

BLOCK = 1 << 24
BIG = 1 << 28
"""Bytes of weights above which blocks are summed before they are digested: 17 times as fast where a processor has no
instruction for SHA-256."""

_NOTED = re.compile(r"\|(weights|buffers|answers) ([^|]*)")

Tensors = Mapping[str, torch.Tensor]


# ------------------------------------------------------------------------------------------------------------ comparing


def same(one: str, other: str, tolerance: float = TOLERANCE) -> bool:
    """Whether two fingerprints are of one model.

    Args:
        one, other: The fingerprints. A fingerprint without weights and outputs, from a file of an earlier version, is
            compared by the rest.
        tolerance: Largest difference of two outputs, relative to the root mean square of their level; half precision
            has more.
    """
    if one == other:
        return True
    noted = [_NOTED.findall(text) for text in (one, other)]
    if _NOTED.sub("", one) != _NOTED.sub("", other) or not all(noted):
        return _NOTED.sub("", one) == _NOTED.sub("", other)
    if [kind for kind, _ in noted[0]] != [kind for kind, _ in noted[1]]:
        return False
    pairs = zip(noted[0], noted[1], strict=True)
    return all(a == b if kind == "weights" else _near(a, b, tolerance) for (kind, a), (_, b) in pairs)


def _near(one: str, other: str, tolerance: float) -> bool:
    """Whether two lists of outputs, each a dtype and its numbers, are those of one function."""
    (dtype, first), (other_dtype, second) = (text.partition(" ")[::2] for text in (one, other))
    try:  # a file may hold anything
        a, b = (np.array(text.split(","), dtype=np.float64).reshape(-1, 1 + PROJECTIONS) for text in (first, second))
        eps = torch.finfo(getattr(torch, dtype)).eps
    except (ValueError, TypeError, AttributeError):
        return False
    if dtype != other_dtype or a.shape != b.shape:
        return False
    scale, slack = np.maximum(np.maximum(a[:, :1], b[:, :1]), 1e-30), max(tolerance, 4 * eps)
    with np.errstate(invalid="ignore"):
        return bool(((np.abs(a - b) <= slack * scale) | (np.isnan(a) & np.isnan(b)) | (a == b)).all())


def name(model: Any) -> str:
    """The name of a model and its rows' conditions, for results stored by both."""
    return "|".join(text for text in (model.fingerprint(), model.conditions()) if text)


def name_in(folder: Path | None, text: str) -> str:
    """The name of a model in a folder: that of the same model, perhaps written by another machine, or its own.

    Args:
        folder: Created if missing. A name with outputs is written there.
        text: The model's name.

    Raises:
        SigmaTuneError: if the folder cannot be written to.
    """
    if folder is None or not _NOTED.search(text):
        return text
    for file in sorted(folder.glob("model-*.txt")):
        known = file.read_text(encoding="utf-8").strip()
        if same(known, text, STRICT):
            return known
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SigmaTuneError(f"cannot make the folder {folder}: {error.strerror or error}.") from None
    write_text(folder / f"model-{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt", text + "\n")
    return text


# -------------------------------------------------------------------------------------------------------------- answers


def answers(ask: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], model: Any) -> str:
    """The outputs of a function on the probe, as a part of a fingerprint; 5 calls of 2 rows.

    Args:
        ask: (z, sigma) -> y.
        model: The denoiser, for shape, ports, range and dtype.
    """
    shape = (model.ports * model.shape[0], *model.shape[1:])
    z, *onto = (noise(0, range(ROWS), START, shape, channel=PROBE + j) for j in range(1 + PROJECTIONS))
    numbers = []
    with torch.no_grad():
        for level in probe_levels(model):
            try:
                y = ask(z.to(model.device, model.dtype), torch.full((ROWS,), level, dtype=torch.float64)).double().cpu()
            except SigmaTuneError:  # an output of a wrong kind
                raise
            except Exception:  # noqa: BLE001 - running it will show the error; it needs a name all the same
                return ""
            root = float(np.sqrt(y.numel()))
            numbers += [float(y.norm()) / root, *(float((y * n).sum()) / root for n in onto)]
    dtype = str(model.network_dtype or model.dtype).removeprefix("torch.")
    return f"|answers {dtype} {_listed(numbers)}"


def probe_levels(model: Any) -> list[float]:
    """The levels at which a model is probed, rising; a whole-timestep network gets its nearest ones."""
    low, high = model.path.sigma_min, min(model.path.sigma_max, HIGHEST)
    levels = low * (high / low) ** np.array(SPREAD)
    return [float(level) for level in (model.whole_time(levels) if model.integer_time else levels)]


def evaluations(model: Any) -> int:
    """The cost of :func:`answers`, in network evaluations of single rows."""
    return ROWS * sum(int(model.calls_at(level)) for level in probe_levels(model))


def _listed(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:.7g}" for number in numbers)


# -------------------------------------------------------------------------------------------------------------- weights


class Identity:
    """The identity of a network or function, cached until a weight changes; copies of a denoiser share it.

    Args:
        thing: The module or function.
        besides: Further modules in use.
    """

    def __init__(self, thing: Any, besides: Sequence[torch.nn.Module] = ()) -> None:
        self._thing, self._besides = thing, list(besides)
        self._held: list[torch.nn.Module] | None = None
        self._stamp: object = None
        self._text: str | None = None

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The modules whose weights count: the network, or those that a function uses."""
        if self._held is None:
            known = isinstance(self._thing, torch.nn.Module)
            self._held = [self._thing] if known else modules_held(self._thing)
        return [*self._held, *self._besides]

    def text(self, make: Callable[[], str]) -> str:
        """The result of ``make`` for the current weights."""
        stamp = touched(tensors_of(self.modules))
        if self._text is None or stamp != self._stamp:
            self._text, self._stamp = make(), stamp
        return self._text

    def renew(self, model: Any) -> int:
        """Probes a function again, whose code may depend on something that changed; returns the network evaluations."""
        if isinstance(self._thing, torch.nn.Module):
            return 0
        self._held = self._text = None
        return evaluations(model)

    def digest(self, said: str, model: Any, *, whole: bool = False) -> str:
        """The fingerprint of a network with some facts: its path, its prediction type.

        Args:
            said: The facts.
            model: Its denoiser, which is probed if the network is a function.
            whole: As for :func:`add_weights`.
        """
        digest, module = hashlib.sha256(said.encode()), module_of(self._thing)
        if module is None:
            return f"sha256:{digest.hexdigest()}{self.noted(model)}"
        add_weights(digest, module, whole=whole)
        return f"sha256:{digest.hexdigest()}{unsaved(module)}"

    def noted(self, model: Any) -> str:
        """The parts of a function's fingerprint: the digest of its modules, and its outputs."""
        return weights_part(self.modules) + answers(model, model)


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
    """All parameters and buffers of some modules."""
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def add_weights(digest: Any, weights: torch.nn.Module | Tensors, *, whole: bool = False) -> None:
    """Feeds a module's parameters and buffers, or some tensors, to a hash object: names, dtypes, shapes, bits.

    Args:
        digest: The hash object.
        weights: The module or the tensors. Buffers that are not saved with a module are not among them.
        whole: Feed all bits, even for weights so large that sums of blocks are the default.
    """
    module = module_of(weights)
    named: Tensors = weights if module is None else module.state_dict()  # type: ignore[assignment]
    summed = not whole and big(named.values())
    for name, tensor in sorted(named.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        for block in _blocks(tensor):
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
    return _listed([float(np.sqrt(sums[0])) / root, *(float(s) / root for s in sums[1:])])


def weights_part(modules: Sequence[torch.nn.Module]) -> str:
    """The part of a fingerprint for the modules that a function uses; empty without any."""
    if not modules:
        return ""
    digest = hashlib.sha256()
    for module in modules:
        add_weights(digest, module)
    return f"|weights {digest.hexdigest()}" + "".join(unsaved(module) for module in modules)


# ---------------------------------------------------------------------------------------------- what a function holds

DEEPEST, MOST = 4, 1000
"""Depth of the search for modules, and most entries of a list that it visits."""


def modules_held(function: Any) -> list[torch.nn.Module]:
    """The modules that a function or object uses, in a fixed order: bound, closed over, or named globally."""
    modules: dict[int, torch.nn.Module] = {}
    seen: set[int] = set()

    def look(thing: Any, depth: int) -> None:
        module = module_of(thing)
        if module is not None:
            modules.setdefault(id(module), module)
        elif depth <= DEEPEST and id(thing) not in seen:
            seen.add(id(thing))
            for part in _parts(thing):
                look(part, depth + 1)

    look(function, 0)
    inner = {id(part) for module in modules.values() for part in list(module.modules())[1:]}
    return [module for key, module in modules.items() if key not in inner]


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, types.MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, types.FunctionType):
        yield from (thing.__wrapped__,) if hasattr(thing, "__wrapped__") else ()
        yield from _cells(thing)
        yield from thing.__defaults__ or ()
        yield from (thing.__kwdefaults__ or {}).values()
        yield from (thing.__globals__[name] for name in _names(thing.__code__) if name in thing.__globals__)
    elif isinstance(thing, list | tuple | set | frozenset | dict):
        yield from islice(thing.values() if isinstance(thing, dict) else thing, MOST)
    elif not isinstance(thing, types.ModuleType | type | torch.Tensor | np.ndarray) and hasattr(thing, "__dict__"):
        yield from vars(thing).values()
        call = vars(type(thing)).get("__call__")
        yield from (call,) if isinstance(call, types.FunctionType) else ()


def _cells(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable without a value
            continue


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names in a function's code and in those of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
