"""Which keys are among a few: the compiled answer is numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.state.key_sets import among, any_twice, numbered, sums_among

KEYS = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1)), max_size=60)


@given(KEYS, KEYS)
def test_among_is_isin(keys: list[int], few: list[int]) -> None:
    a, b = np.array(keys, np.uint64), np.array(few, np.uint64)
    assert among(a, b).tolist() == np.isin(a, b).tolist()


@given(KEYS)
def test_a_key_that_is_there_twice(keys: list[int]) -> None:
    known = [key for key in keys if key]
    assert any_twice(np.array(keys, np.uint64)) is (len(set(known)) < len(known))


def test_columns_of_rows_are_read_where_they_are() -> None:
    rows = np.zeros(5, [("other", "<u4"), ("key", "<u8")])
    rows["key"] = [3, 0, 2**63, 7, 3]
    assert among(rows["key"], np.array([3, 2**63], np.uint64)).tolist() == [True, False, True, False, True]
    assert not among(rows["key"], rows["key"][:0]).any()


@given(KEYS)
def test_keys_are_numbered_as_they_come(keys: list[int]) -> None:
    numbers = list(dict.fromkeys(keys))
    assert numbered(np.array(keys, np.uint64)).tolist() == [numbers.index(key) for key in keys]


@given(KEYS, KEYS)
def test_amounts_of_a_key_add_up(keys: list[int], few: list[int]) -> None:
    amounts = np.arange(2 * len(few), dtype=np.float32).reshape(2, -1)
    found = sums_among(np.array(keys, np.uint64), np.array(few, np.uint64), amounts)
    same = np.array([[bool(key) and key == other for other in few] for key in keys], bool)
    assert found.dtype == np.float32
    assert found.tolist() == (amounts @ same.reshape(len(keys), len(few)).T).tolist()


def test_every_key_needs_amounts() -> None:
    with pytest.raises(ValueError, match="2 keys, 1 amounts"):
        sums_among(np.ones(1, np.uint64), np.ones(2, np.uint64), np.ones((3, 1), np.float32))
