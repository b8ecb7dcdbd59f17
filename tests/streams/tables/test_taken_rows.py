"""Copies of rows: what numpy takes, and zeros for rows that are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.tables.rows import RowTable
from headrace.streams.tables.taken_rows import bytes_of_rows

ROW = np.dtype([("key", "<u8"), ("small", "<i2"), ("vector", "<f4", (40,))])


def table(n: int) -> RowTable:
    """Return rows of random bytes but for their keys."""
    out = RowTable(ROW)
    rows = out.take(np.arange(1, n + 1, dtype=np.uint64))
    rng = np.random.default_rng(3)
    out.data["small"][rows], out.data["vector"][rows] = rng.integers(-9, 9, n), rng.random((n, 40))
    return out


@given(st.lists(st.integers(-1, 29), max_size=70))
def test_fields_and_rows_are_those_numpy_takes(places: list[int]) -> None:
    kept, rows = table(30), np.array(places, np.int64)
    for name in ROW.names or ():
        expected = kept.data[name][rows]
        expected[rows < 0] = 0
        found = kept.column(name, rows)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    whole = kept.data[rows]
    whole[rows < 0] = np.zeros((), ROW)
    assert kept.copied(rows).tobytes() == whole.tobytes()


def test_no_byte_outside_of_the_rows_is_read() -> None:
    data = table(3).data[:3]
    for row in (-2, 3):
        with pytest.raises(IndexError, match=f"row {row} of 3"):
            bytes_of_rows(data, np.array([0, row]), 0, 8)
    for at, size in ((-1, 8), (0, -1), (ROW.itemsize - 7, 8)):
        with pytest.raises(ValueError, match=f"of rows of {ROW.itemsize}"):
            bytes_of_rows(data, np.array([0]), at, size)
