"""What a command checks before it loads a model or measures anything: all that is wrong whatever the model is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sigmatune.support.errors import SigmaTuneError

FEWEST = 4
"""Fewest images of a figure with an interval."""


def check_places(device: str, engine: str, seed: int) -> None:
    """Refuses a device that is not here, an engine that is none, and a seed that no noise has.

    Args:
        device: Its name; "" for one that is not used.
        engine, seed: The options.

    Raises:
        SigmaTuneError: naming the first; nothing is started.
    """
    from sigmatune.core import rng
    from sigmatune.models.network import pick_device
    from sigmatune.support.engine import check

    rng.check("seed", seed)
    check(engine)
    if device:
        pick_device(device)


def check_images(n: int) -> None:
    """Refuses a number of images whose figures have no interval.

    Raises:
        SigmaTuneError: if it is below :data:`FEWEST`.
    """
    from sigmatune.core.schedule import whole

    if whole(n, "n") < FEWEST:
        raise SigmaTuneError(f"a figure with an interval needs at least {FEWEST} images, not {n}.")


def check_calls(solver: str, calls: Iterable[int]) -> None:
    """Refuses an unknown solver, and numbers of calls that do not pay for one of its steps.

    Raises:
        SigmaTuneError: for the first.
    """
    from sigmatune import solvers

    for number in calls:
        solvers.solver(solver).steps_for(number)


def check_families(texts: Iterable[str]) -> None:
    """Refuses schedules such as karras:rho=7 with an unknown family or option.

    Raises:
        SigmaTuneError: for the first.
    """
    from sigmatune import schedules

    for text in texts:
        schedules.check(*schedules.named(text))


def check_rival(text: str, metrics: Sequence[str]) -> None:
    """Refuses what a plan cannot be compared with: neither a plan file nor a schedule, or by no distance.

    Args:
        text: The option; "" for no comparison.
        metrics: Names of metrics; none for the default ones, and ``paired`` alone compares nothing.

    Raises:
        SigmaTuneError: saying which file cannot be read, which name is unknown, or which metrics compare.
    """
    from sigmatune.evaluation.metrics import METRICS
    from sigmatune.rules.rule_file import load_any

    if Path(text).is_file() or Path(text).suffix == ".json":
        load_any(text)
    elif text:
        check_families([text])
    distances = {METRICS.aliases.get(name, name) for name in metrics if name != "paired"}
    if text and distances and not distances & {"fd", "kid"}:
        raise SigmaTuneError("--against compares distances to data; ask for fd or kid.")


def check_spectrum(source: str, data: str, values: str) -> None:
    """Refuses a spectrum that is not known or cannot be read, without measuring one.

    Args:
        source: What the model is going to be loaded from.
        data: Images, or a file of spectra; "" for the spectrum beside the model.
        values: The range of black and white in the images.

    Raises:
        SigmaTuneError: saying what is missing, empty or of an unknown type.
    """
    from sigmatune.spectra.sources import open_images
    from sigmatune.spectra.values import checked
    from sigmatune.tuning.own_spectrum import own_modes

    limits = checked(values)
    if data and not data.endswith(".json"):
        open_images(data, values=limits)
    else:
        own_modes(source, data)
