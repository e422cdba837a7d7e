"""GITS tables from the user's own file: parsed, never run."""

from __future__ import annotations

import numpy as np
import pytest

from sigmatune.interop import gits
from sigmatune.support.errors import SigmaTuneError

TEXT = (
    "import absent\nNOISE_LEVELS = {0.8: [[9.0, 3.0, 0.1], [9.0, 4.0, 1.0, 0.1]], "
    "1.2: [[8.0, 2.0, 0.2]]}\nraise SystemExit\n"
)


def test_the_last_level_becomes_the_final_zero():
    made = gits.load(TEXT, 0.8, 3)
    assert made.sigmas.tolist() == [9.0, 4.0, 1.0, 0.0]
    assert made.family == "gits"
    assert made.options["coefficient"] == 0.8
    assert gits.load(TEXT, 1.2, 2).sigmas.tolist() == [8.0, 2.0, 0.0]


def test_more_steps_are_read_from_the_longest_list():
    made = gits.load(TEXT, 0.8, 6)
    np.testing.assert_allclose(made.sigmas, [9, 6, 4, 2, 1, np.sqrt(0.1), 0], rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "coefficient", "steps", "says"),
    [
        (TEXT, 1.0, 3, "no table of the coefficient 1; it has 0.8, 1.2"),
        (TEXT, 0.8, 1, "no list of 1 steps; the shortest has 2"),
        ("x = 1", 0.8, 3, "holds no dictionary NOISE_LEVELS"),
        ("not python", 0.8, 3, "holds no dictionary NOISE_LEVELS"),
        ("NOISE_LEVELS = open('x')", 0.8, 3, "holds no dictionary NOISE_LEVELS"),
        ("NOISE_LEVELS = {1: [[1, -1]]}", 1.0, 3, "positive levels"),
    ],
)
def test_other_files_are_refused(text, coefficient, steps, says):
    with pytest.raises(SigmaTuneError, match=says):
        gits.load(text, coefficient, steps)
