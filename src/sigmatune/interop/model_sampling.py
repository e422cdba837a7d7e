r"""ComfyUI's and Forge's ``model_sampling``: which noise path it is, whether a plan fits it, and its exact timesteps.

The object maps sigma to the network's t (``timestep``) and back (``sigma``). The path is read from these two maps and never
from the name of a class, because node packs replace the object by their own:

* every sigma at most 1 and t proportional to it: a flow. The shift m is read at half time, where :math:`\tau = m / (1 + m)`;
* a table whose t are its own positions: VP. The programs round t to the nearest entry; :func:`exact_timesteps` interpolates
  log sigma instead, as the tuner does;
* :math:`t = \tfrac14 \log \sigma`: EDM.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from sigmatune.models.network import process_of
from sigmatune.noise import VE, VP, Flow, NoisePath, close
from sigmatune.plan import Plan
from sigmatune.support.errors import SigmaTuneError

MOST_SHIFT = 1e-3
"""How far, relatively, two shifts may lie apart: programs keep them as float32 and as logarithms."""

PURE_NOISE = 1e3
"""From this sigma on an image is below the rounding of float32 noise, so that a level replaces sigma = inf."""


def path_of(sampling: Any) -> NoisePath:
    """The noise path of a program's ``model_sampling``.

    Raises:
        SigmaTuneError: if its timesteps are of no process that plans know.
    """
    table = torch.as_tensor(sampling.sigmas).detach().cpu().double()
    probes = table[:: max(1, len(table) // 7)].float()
    t = torch.as_tensor(sampling.timestep(probes.to(sampling.sigmas.device))).double().cpu()
    if float(table[-1]) <= 1.0 + 1e-6:
        per_tau = t / probes.double()
        if torch.allclose(per_tau, per_tau[-1:], rtol=1e-4):
            half = float(sampling.sigma(torch.tensor(0.5 * float(per_tau[-1]))))
            return Flow(half / (1 - half))
    elif torch.equal(t, torch.arange(len(table), dtype=torch.float64)[:: max(1, len(table) // 7)]):
        if bool((table[1:] <= table[:-1]).any()):
            raise SigmaTuneError(
                "this model's table of levels falls at its end (zero terminal SNR), so its t are ambiguous."
            )
        return VP((1 / (1 + table**2)).numpy())
    elif torch.allclose(t, probes.double().log() / 4, atol=1e-5):
        return VE(float(sampling.sigma_min), float(sampling.sigma_max), clock="quarter_log")
    raise SigmaTuneError(
        f"{type(sampling).__name__} counts time in none of the ways that plans know (a table of steps, a flow, EDM), "
        "so SigmaTune cannot tell what this network receives."
    )


def check_model(plan: Plan, sampling: Any, *, other_shift: bool = False) -> None:
    """Refuses a plan that was made for another process than that of the program's model.

    Args:
        plan: The plan; one without a noise path is only checked for its range.
        sampling: The program's ``model_sampling``.
        other_shift: Accept a flow model with another shift: the network receives the same levels with the same t.

    Raises:
        SigmaTuneError: with what differs.
    """
    path, expected = path_of(sampling), plan.noise_path()
    q = plan.coefficients.q.numpy()
    if expected is None:
        path.check(_finite(q, path))
        return
    kind, wanted = _kind(path), _kind(expected)
    if kind != wanted:
        raise SigmaTuneError(f"this plan is for a model of {wanted}, and the connected one is of {kind}.")
    if isinstance(path, Flow):
        shift = float(process_of(expected)["shift"])
        if not other_shift and abs(path.shift_by / shift - 1) > MOST_SHIFT:
            raise SigmaTuneError(
                f"this plan was made at a shift of {shift:.4g}, and the connected model has {path.shift_by:.4g}; set the "
                "model's shift, convert the plan, or allow another shift."
            )
        return
    levels = _finite(q, path)
    path.check(levels)
    t, t_0 = path.time(levels), expected.time(q)
    same = path.agrees(levels, t_0) | np.isinf(q)
    if not same.all():
        k = int(np.argmax(np.abs(t - t_0)))
        raise SigmaTuneError(
            f"this plan is for another table of noise levels: at sigma {levels[k]:.4g} it asks for t = {t_0[k]:.5g}, and "
            f"the connected model has {t[k]:.5g} there."
        )


def _finite(q: np.ndarray[Any, Any], path: NoisePath) -> np.ndarray[Any, Any]:
    """The levels, sigma = inf replaced by the largest of a table of zero terminal SNR."""
    if np.isfinite(q).all() or np.isinf(path.sigma_max):
        return q
    if path.sigma_max < PURE_NOISE:
        raise SigmaTuneError(
            f"this plan starts from pure noise (zero terminal SNR), and the connected model at sigma {path.sigma_max:.4g}; "
            "in ComfyUI put ModelSamplingDiscrete with zsnr in between."
        )
    return np.where(np.isinf(q), path.sigma_max, q)


def _kind(path: NoisePath) -> str:
    process = process_of(path)
    names = {"vp": "a table of steps (as SD 1.5, SDXL)", "flow": "a flow (as SD3, Flux)", "ve": "EDM"}
    return names.get(str(process.get("kind")), "another process")


@contextmanager
def exact_timesteps(sampling: Any) -> Iterator[None]:
    """Inside, the program sends the t between two entries of its table; other processes are exact as they are.

    The object's own method comes back, whatever happens inside.
    """
    path = path_of(sampling)
    if not isinstance(path, VP):
        yield
        return
    before = sampling.__dict__.get("timestep")
    object.__setattr__(sampling, "timestep", interpolated(path))
    try:
        yield
    finally:
        object.__delattr__(sampling, "timestep")
        if before is not None:
            object.__setattr__(sampling, "timestep", before)


class interpolated:
    """The method ``timestep`` of a table that does not round."""

    def __init__(self, path: VP) -> None:
        self.path = path

    def __call__(self, sigma: torch.Tensor) -> torch.Tensor:
        levels = sigma.detach().double().cpu().numpy()
        t = self.path.time(np.clip(levels, self.path.sigma_min, self.path.sigma_max))
        return torch.from_numpy(np.asarray(t)).to(sigma.device, torch.float32)


def start_level(plan: Plan, sampling: Any) -> float | None:
    """The level that replaces sigma = inf on a model of zero terminal SNR; None where nothing is replaced.

    Raises:
        SigmaTuneError: if the model does not start from pure noise.
    """
    q = plan.coefficients.q.numpy()
    levels = _finite(q, path_of(sampling))
    return None if close(levels[0], q[0]) or np.isinf(levels[0]) else float(levels[0])
