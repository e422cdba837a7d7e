r"""Soundness: before any work, three calls check that a network is a function of each row.

Every promise, such as paired errors, images by (seed, i) and runs that resume where they were, holds only for a
function: the same input gives the same output, and a row's output does not depend on the rows beside it. Dropout
violates the first, batch norm in training mode the second. So one row a is evaluated three times, at a level in the
middle of the range,

.. math:: D([a, b]), \quad D([c, a]), \quad D([a])

The first two use the same kernels, so they are almost equal: they differ by more than :data:`SAME` only if the network
draws, couples, or treats places differently. In half precision the second is D([a, c]), because the last bits of a row can
depend on its place, and a deep network makes a few percent of them. So it does in a batch of another size, where other
kernels round differently; more than :data:`ALONE` means that the size itself enters. Only where the outputs differ, further
calls distinguish a network that draws random numbers from one that couples rows.

A network that draws rarely, such as one that leaves out whole rows, channels or layers, may give three equal answers.
Networks do so in training mode, so if a module is in training mode the first call is repeated :data:`MANY` times.

A model is checked once, and again after one of its modules changes its mode.

Sampling promises that the network receives the plan's levels and nothing else, so :func:`sigmatune.plan.sample` checks
only if a module that draws or couples is in training mode (:func:`suspicious`). It compares the rows of zeros that pad
a batch, too, which costs no call (:func:`check_padding`).
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.digests import PROBE
from sigmatune.core.identity import HIGHEST
from sigmatune.core.rng import START, noise
from sigmatune.core.wrappers import Wrapper
from sigmatune.support.errors import SigmaTuneError

SAME = 1e-3
"""Largest difference of the first two outputs, relative to their root mean square; atomic additions stay below it."""

ROWS = 5
"""Rows of the three calls."""

REPEATS = 3
"""How often to repeat the first call, to distinguish a network that draws from one that couples rows."""

MANY = 16
"""How often to repeat it if a module is in training mode; a network that leaves out one row in ten is missed once in 30."""

SINGLE = 1e-6
"""The rounding of single precision, and of better ones, is below it."""

ALONE = 0.05
"""Largest difference of the outputs in batches of two sizes; half precision stays below it."""

_asked: WeakKeyDictionary[Any, object] = WeakKeyDictionary()


def check(model: Denoiser, index: int = 0) -> int:
    """Refuses a model whose outputs are not a function of each row.

    Args:
        model: The denoiser; its wrappers see the calls, too.
        index: The row of the noise, for models with a condition for each row.

    Returns:
        The number of network evaluations of single rows. The count is the same even if this process checked the model
        before, so a result's cost does not depend on other work.

    Raises:
        SigmaTuneError: naming what to do; also for NaN or infinity.
    """
    parts = {id(part.subject()): part for part in model.parts()}
    for part in parts.values():
        subject, mode = part.subject(), [module.training for held in part.modules() for module in held.modules()]
        if _known(subject) != mode:
            _check(part, index)
            _remember(subject, mode)
    return sum((ROWS + 2 * _repeats(part)) * part.calls_at(_level(part)) for part in parts.values())


def suspicious(model: Denoiser) -> bool:
    """Whether a module of the model is dropout or batch norm in training mode; makes no network call."""
    kinds = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._BatchNorm)
    held = (module for part in model.parts() for one in part.modules() for module in one.modules())
    return any(module.training and isinstance(module, kinds) for module in held)


def check_padding(answers: torch.Tensor, eps: float) -> None:
    """Refuses a network with different outputs for two equal rows of one batch.

    Args:
        answers: The outputs of equal inputs, (rows, *shape).
        eps: The rounding of the network's arithmetic.

    Raises:
        SigmaTuneError: naming what to do.
    """
    if len(answers) > 1:
        one, other = answers[:2].double().nan_to_num().cpu()  # zeros may be no input of the network; the images are
        if (away := _apart(one, other)) > max(SAME, 2 * eps):
            raise SigmaTuneError(_draws(away))


def bare(model: Denoiser) -> Denoiser:
    """The model without its observers."""
    while isinstance(model, Wrapper):
        model = model.inner
    return model


def _check(model: Denoiser, index: int) -> None:
    level = _level(model)
    shape = (model.ports * model.shape[0], *model.shape[1:])
    a, b, c = noise(0, range(3), START, shape, channel=PROBE).to(model.device, model.dtype)

    def answers(*rows: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            answer = model.rows([index] * len(rows))(torch.stack(rows), level).double().cpu()
        if not answer.isfinite().all():  # NaN that comes and goes is no drawn number
            raise model.unsound(f"at sigma = {level:.4g}")
        return answer

    both = answers(a, b)
    eps = torch.finfo(model.network_dtype or model.dtype).eps
    limit, (others, place) = max(SAME, 2 * eps), ((c, a), 1) if eps < SINGLE else ((a, c), 0)

    def repeated(times: int) -> float:
        return max((_apart(both, answers(a, b)) for _ in range(times)), default=0.0)

    if (drawn := repeated(_repeats(model))) > limit:
        raise SigmaTuneError(_draws(drawn))
    for row, most in ((answers(*others)[place], limit), (answers(a)[0], max(ALONE, limit))):
        if (away := _apart(both[0], row)) > most:
            drawn = repeated(REPEATS)
            raise SigmaTuneError(_draws(drawn) if drawn > limit else _couples(away))


def _repeats(model: Denoiser) -> int:
    """How often the first call is repeated before anything else."""
    return MANY if any(module.training for held in model.modules() for module in held.modules()) else 0


def _draws(away: float) -> str:
    return (
        f"the network returns different outputs for the same input, by {away:.2g} of the output, so no measurement "
        "would hold; put it in eval mode, network.eval(), and turn off dropout and anything else that draws or counts."
    )


def _couples(away: float) -> str:
    return (
        "the network's output for a row depends on the rows beside it, or on its place among them, by "
        f"{away:.2g} of the output, so image i would depend on its batch; put it in eval mode, network.eval(), or make it "
        "treat each row independently."
    )


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """RMS of the difference relative to the RMS of the output, or to half the state's if the output is almost zero."""
    size = max(float(one.square().mean().sqrt()), float(other.square().mean().sqrt()), 0.5)
    return float((one - other).square().mean().sqrt()) / size


def _level(model: Denoiser) -> float:
    """A level in the middle of the range of log sigma, where both the state and the network count."""
    low, high = model.path.sigma_min, min(model.path.sigma_max, HIGHEST)
    level = np.array([np.clip(1.0, low, high)])
    return float(model.whole_time(level)[0] if model.integer_time else level[0])


def _known(subject: Any) -> object:
    try:
        return _asked.get(subject)
    except TypeError:  # neither hashable nor weakly referable: checked each time
        return None


def _remember(subject: Any, mode: object) -> None:
    try:
        _asked[subject] = mode
    except TypeError:
        return
