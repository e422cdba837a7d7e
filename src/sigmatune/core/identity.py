r"""Fingerprints: a text that identifies a model by its weights, or by its outputs if its code is unreadable.

Everything stored per model (stores, run folders, references, tables, plans) names it by this text, its *fingerprint*.

- **Weights** are digested bit by bit: parameters and buffers of every module in use, the same on every machine.
- **Outputs** represent the unreadable part, the code of a function D(x, sigma): a fixed probe of bit-exact noise goes
  through it at a few levels, and the fingerprint records the root mean square of each output y and its projections on
  fixed noises,

  .. math:: \sqrt{\overline{y^2}}, \quad \langle y, n_j \rangle / \sqrt{\dim y}, \qquad j = 1, 2, 3

  Kernels of another processor change them slightly, so they are stored as numbers and compared with a tolerance
  (:func:`same`), relative to the root mean square of the level.
- **Settings** of layers, such as a dilation, and the code of hooks count only in stores (:mod:`sigmatune.core.wiring`).

A digest is computed once, and again after a weight changed: every request checks the address, the version and the first
number of every tensor (1.5 ms for 184 tensors). A function is asked again after a float that it holds changed, too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigmatune.core.digests import (
    PROBE,
    PROJECTIONS,
    add_weights,
    listed,
    module_of,
    tensors_of,
    touched,
    unsaved,
    weights_part,
)
from sigmatune.core.held_modules import floats_held, modules_held
from sigmatune.core.rng import START, noise
from sigmatune.core.wiring import settings
from sigmatune.support.errors import SigmaTuneError, of_memory
from sigmatune.support.files import write_text

TOLERANCE = 2e-3
"""Answers of one model on two machines differ by less, relative to their root mean square, also with TF32 convolutions; what
differs by less has the same best plan for all that plans' errors, of some percent, can show."""

STRICT = 1e-4
"""The same for stores, which serve one machine or similar ones: a miss costs time, a false hit gives wrong results."""

SPREAD = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The levels of the probe, as shares of the range of log sigma."""

ROWS = 2
HIGHEST = 1e3
"""Largest level of a probe on a path that starts at sigma = inf."""

_NOTED = re.compile(r"\|(weights|buffers|answers) ([^|]*)")


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
    """The name of a model, its layers' settings and its rows' conditions, for results stored by all three."""
    layers = settings([module_of(module) or module for part in model.parts() for module in part.modules()])
    return "|".join(text for text in (model.fingerprint(), layers and f"layers {layers}", model.conditions()) if text)


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
            except Exception as error:
                if of_memory(error):  # with more memory it would have another name
                    raise
                return ""
            root = float(np.sqrt(y.numel()))
            numbers += [float(y.norm()) / root, *(float((y * n).sum()) / root for n in onto)]
    dtype = str(model.network_dtype or model.dtype).removeprefix("torch.")
    return f"|answers {dtype} {listed(numbers)}"


def probe_levels(model: Any) -> list[float]:
    """The levels at which a model is probed, rising; a whole-timestep network gets its nearest ones."""
    low, high = model.path.sigma_min, min(model.path.sigma_max, HIGHEST)
    levels = low * (high / low) ** np.array(SPREAD)
    return [float(level) for level in (model.whole_time(levels) if model.integer_time else levels)]


def evaluations(model: Any) -> int:
    """The cost of :func:`answers`, in network evaluations of single rows."""
    return ROWS * sum(int(model.calls_at(level)) for level in probe_levels(model))


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

    def text(self, make: Callable[[], str], *, probed: bool = False) -> str:
        """The result of ``make`` for the current weights; where it holds outputs, for the current settings and numbers, too."""
        wired = (settings(self.modules), floats_held(self._thing)) if probed else None
        stamp = touched(tensors_of(self.modules)), wired
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
