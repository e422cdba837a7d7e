"""Little work for what tunes, reports or judges where that is not what is tested: every stage runs, few trials each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import pytest

from sigmatune.evaluation import stochastic_guard as guard_of_pictures
from sigmatune.tuning import TuningSettings, guard, stages
from sigmatune.tuning import gaussian_optimum as spectral
from sigmatune.tuning import spectral_search as by_spectrum
from sigmatune.workflows import finetune_round, judge

PICTURES = 16


def defaults(**changed: int) -> tuple[object, ...]:
    """The defaults of the tuner's settings, some of them changed."""
    return tuple(changed.get(field.name, field.default) for field in fields(TuningSettings))


def lessen(patch: pytest.MonkeyPatch, *, pictures: bool = False) -> None:
    """Cuts trials, iterations and reference steps; with pictures also the fewest that the judge accepts, and its bootstrap."""
    patch.setattr(TuningSettings.__init__, "__defaults__", defaults(reference_steps=8))
    patch.setattr(guard, "MOST_REFERENCE_STEPS", 128)
    patch.setattr(stages, "TRIALS", 2)
    patch.setattr(stages, "TRAJECTORY_GRID", 12)
    for stage in stages.ITERATIONS:
        patch.setitem(stages.ITERATIONS, stage, 2)
    patch.setitem(spectral.STOP, "maxiter", 20)
    patch.setattr(by_spectrum, "MOST", 30)
    if pictures:
        patch.setattr(judge, "LEAST", PICTURES)
        patch.setattr(guard_of_pictures, "RESAMPLES", 60)
        patch.setattr(finetune_round, "TABLE_IMAGES", 16)
        patch.setattr(finetune_round, "TABLE_LEVELS", 6)


@contextmanager
def little_work(*, pictures: bool = False) -> Iterator[None]:
    """Little work for a block. A test takes the fixture instead, which undoes its patches in order with the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        lessen(patch, pictures=pictures)
        yield
