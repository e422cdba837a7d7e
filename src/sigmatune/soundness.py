r"""Can anything be measured on a network? Before any work, three calls say so.

Whatever is promised here, paired errors, images by (seed, i), runs that go on where they were, holds for a function only: the
same input gives the same answer, and a row's answer does not depend on the rows beside it. Dropout breaks the first, batch norm
in training mode the second. So one row a is asked for three times, at a level in the middle of the range,

.. math:: D([a, b]), \quad D([a, c]), \quad D([a])

The first two go through the same kernels, so that they differ by next to nothing also in half precision: by more than
:data:`SAME` only if the network draws or couples. In a batch of another size other kernels round differently, which a deep
network in half precision shows by some percent; more than :data:`ALONE` means that the size itself enters. Only where the
answers differ, further calls tell a network that draws from one that couples.

A network that draws seldom, leaving out whole rows or channels or layers now and then, may answer three calls alike. Networks
do so in training mode, so where a module stands in it the first call is repeated :data:`MANY` times.

A model is asked once, and again when a module of it has been put into another mode.

Sampling promises that the network receives the plan's levels and nothing else, so :func:`sigmatune.plan.sample` asks only
where a module stands in training mode that draws or couples there (:func:`suspicious`). It compares the rows of zeros that pad
a batch, too, which costs no call (:func:`check_padding`).
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sigmatune.denoiser import Denoiser, Wrapper
from sigmatune.errors import SigmaTuneError
from sigmatune.identity import HIGHEST, PROBE
from sigmatune.rng import START, noise

SAME = 1e-3
"""Largest difference of the first two answers, of their root mean square: atomic additions on accelerators stay below it."""

ROWS = 5
"""Rows of the three calls."""

REPEATS = 3
"""How often the first call is repeated to tell a network that draws from one that couples."""

MANY = 16
"""How often it is where a module stands in training mode: what leaves out one row of ten is missed once in thirty times."""

ALONE = 0.05
"""Largest difference of the answers in batches of two sizes: half precision stays below it."""

_asked: WeakKeyDictionary[Any, object] = WeakKeyDictionary()


def check(model: Denoiser, index: int = 0) -> int:
    """Refuses a model whose answers are not those of a function of each row.

    Args:
        model: The denoiser; what wraps it sees the calls, too.
        index: The row in the noise that is asked for, for models that are told something about each row.

    Returns:
        The network evaluations of single rows that this takes, also where this process has asked the model before: what a
        result says it cost does not depend on what else ran.

    Raises:
        SigmaTuneError: naming what to do.
    """
    parts = {id(part.subject()): part for part in model.parts()}
    for part in parts.values():
        subject, mode = part.subject(), [module.training for held in part.modules() for module in held.modules()]
        if _known(subject) != mode:
            _check(part, index)
            _remember(subject, mode)
    return sum((ROWS + 2 * _repeats(part)) * part.calls_at(_level(part)) for part in parts.values())


def suspicious(model: Denoiser) -> bool:
    """Whether a module of the model is dropout or batch norm in training mode; asks the network nothing."""
    kinds = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._BatchNorm)
    held = (module for part in model.parts() for one in part.modules() for module in one.modules())
    return any(module.training and isinstance(module, kinds) for module in held)


def check_padding(answers: torch.Tensor, eps: float) -> None:
    """Refuses a network that answered two equal rows of one batch differently.

    Args:
        answers: The outputs of equal inputs, (rows, *shape).
        eps: The rounding of the network's arithmetic.

    Raises:
        SigmaTuneError: naming what to do.
    """
    if len(answers) > 1:
        one, other = answers[:2].double().cpu()
        if (away := _apart(one, other)) > max(SAME, 2 * eps):
            raise SigmaTuneError(_draws(away))


def bare(model: Denoiser) -> Denoiser:
    """The model without what watches it."""
    while isinstance(model, Wrapper):
        model = model.inner
    return model


def _check(model: Denoiser, index: int) -> None:
    level = _level(model)
    shape = (model.ports * model.shape[0], *model.shape[1:])
    a, b, c = noise(0, range(3), START, shape, channel=PROBE).to(model.device, model.dtype)

    def answers(*rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model.rows([index] * len(rows))(torch.stack(rows), level).double().cpu()

    both = answers(a, b)
    limit = max(SAME, 2 * torch.finfo(model.network_dtype or model.dtype).eps)

    def repeated(times: int) -> float:
        return max((_apart(both, answers(a, b)) for _ in range(times)), default=0.0)

    if (drawn := repeated(_repeats(model))) > limit:
        raise SigmaTuneError(_draws(drawn))
    for rest, most in ((answers(a, c), limit), (answers(a), max(ALONE, limit))):
        if (away := _apart(both[0], rest[0])) > most:
            drawn = repeated(REPEATS)
            raise SigmaTuneError(_draws(drawn) if drawn > limit else _couples(away))


def _repeats(model: Denoiser) -> int:
    """How often the first call is repeated before anything else."""
    return MANY if any(module.training for held in model.modules() for module in held.modules()) else 0


def _draws(away: float) -> str:
    return (
        f"the network answers the same input differently, by {away:.2g} of the answer, so nothing measured on it would hold; "
        "put it in eval mode, network.eval(), and turn off dropout and whatever else draws or counts."
    )


def _couples(away: float) -> str:
    return (
        f"the network's answer for a row depends on the rows beside it, by {away:.2g} of the answer, so image i would depend "
        "on its batch; put it in eval mode, network.eval(), or let it treat each row by itself."
    )


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Root mean square of the difference, of that of the answer; of half the state's where the answer is next to nothing."""
    size = max(float(one.square().mean().sqrt()), float(other.square().mean().sqrt()), 0.5)
    return float((torch.nan_to_num(one) - torch.nan_to_num(other)).square().mean().sqrt()) / size


def _level(model: Denoiser) -> float:
    """A level in the middle of the range of log sigma, where both the state and the network count."""
    low, high = model.path.sigma_min, min(model.path.sigma_max, HIGHEST)
    level = np.array([np.clip(1.0, low, high)])
    return float(model.whole_time(level)[0] if model.integer_time else level[0])


def _known(subject: Any) -> object:
    try:
        return _asked.get(subject)
    except TypeError:  # neither hashable nor weakly referable: asked each time
        return None


def _remember(subject: Any, mode: object) -> None:
    try:
        _asked[subject] = mode
    except TypeError:
        return
