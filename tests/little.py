"""Little work for what tunes, reports or judges where that is not what is tested: every stage runs, few trials each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from unittest import mock

from sigmatune.evaluation import stochastic_guard as guard_of_pictures
from sigmatune.tuning import TuningSettings, guard, stages
from sigmatune.tuning import gaussian_optimum as spectral
from sigmatune.tuning import spectral_search as by_spectrum
from sigmatune.workflows import finetune_round, judge

PICTURES = 16


def defaults(**changed: int) -> tuple[object, ...]:
    """The defaults of the tuner's settings, some of them changed."""
    return tuple(changed.get(field.name, field.default) for field in fields(TuningSettings))


@contextmanager
def little_work(*, pictures: bool = False) -> Iterator[None]:
    """Cuts trials, iterations and reference steps; with pictures also the fewest that the judge accepts, and its bootstrap."""
    with (
        mock.patch.object(TuningSettings.__init__, "__defaults__", defaults(reference_steps=8)),
        mock.patch.object(guard, "MOST_REFERENCE_STEPS", 128),
        mock.patch.object(stages, "TRIALS", 2),
        mock.patch.object(stages, "TRAJECTORY_GRID", 12),
        mock.patch.dict(stages.ITERATIONS, dict.fromkeys(stages.ITERATIONS, 2)),
        mock.patch.dict(spectral.STOP, maxiter=20),
        mock.patch.object(by_spectrum, "MOST", 30),
    ):
        if not pictures:
            yield
            return
        with (
            mock.patch.object(judge, "LEAST", PICTURES),
            mock.patch.object(guard_of_pictures, "RESAMPLES", 60),
            mock.patch.multiple(finetune_round, TABLE_IMAGES=16, TABLE_LEVELS=6),
        ):
            yield
