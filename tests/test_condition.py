"""A condition gives every row its value: shared, repeating, apart for tuning, or row by row."""

from __future__ import annotations

import pytest
import torch

from sigmatune.core.condition import Condition, shares
from sigmatune.support.errors import SigmaTuneError

PARTS = {"tuning": range(10), "validation": range(10, 20), "held_out": range(20, 40)}


def test_one_value_is_shared_without_a_copy_for_each_row():
    value = torch.arange(6.0).view(1, 6)
    rows = Condition(value).rows(None, 5)
    assert rows.shape == (5, 6)
    assert rows.data_ptr() == value.data_ptr()
    assert Condition((None,)).rows(None, 3) == (None,) * 3


def test_values_repeat_and_padding_takes_the_first_rows():
    assert Condition((7, 8, 9)).rows([4, 2, 3], 5) == (8, 9, 7, 8, 8)
    values = torch.tensor([7.0, 8.0, 9.0])
    assert Condition(values).rows([4, 2, 3], 5).tolist() == [8, 9, 7, 8, 8]


def test_rows_with_conditions_of_their_own():
    condition = Condition((5,), places={12: 0})
    assert not condition.shared
    assert condition.rows([12], 2) == (5, 5)
    with pytest.raises(SigmaTuneError, match="no condition for row 3"):
        condition.rows([3], 1)
    with pytest.raises(SigmaTuneError, match=r"select rows with rows\(\)"):
        condition.rows(None, 2)
    with pytest.raises(SigmaTuneError, match=r"select rows with rows\(\)"):
        Condition((1, 2)).rows([0, 1, 2], 2)


def test_parts_draw_from_disjoint_values_in_proportion_to_their_rows():
    condition, counts = Condition(tuple(range(8))).split(PARTS)
    assert counts == {"conditions": {"tuning": 2, "validation": 2, "held_out": 4}}
    drawn = {name: set(condition.rows(part, len(part))) for name, part in PARTS.items()}
    assert {name: len(values) for name, values in drawn.items()} == counts["conditions"]
    assert set.union(*drawn.values()) == set(range(8))
    assert condition.rows([40], 1) == (0,)  # outside all parts
    with pytest.raises(SigmaTuneError, match=r"held-out must use different prompts, so give at least 3 .*more, not 2"):
        Condition(("a", "b")).split(PARTS, "prompts", "more")


def test_shares_sum_to_the_total_and_are_never_empty():
    assert shares(4, [1, 1, 1000]) == [1, 1, 2]
    assert shares(100, [1, 1, 2]) == [25, 25, 50]


def test_a_parts_first_row_takes_its_first_value_wherever_the_part_begins():
    """Three values for a part that begins at row 10: counted from the part's first row, not from row 0."""
    condition = Condition(("a", "b", "c", "d"), parts=((range(10), range(1)), (range(10, 20), range(1, 4))))
    assert condition.rows([10, 11, 12, 13], 4) == ("b", "c", "d", "b")
