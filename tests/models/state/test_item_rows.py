"""Copies of item rows, those of idle items among them: the bytes of plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.state.idle_items import IDLE
from headrace.models.state.item_rows import ItemRows
from headrace.models.state.items import BLANK, METRICS, ROW

CLICK = METRICS.index("click")
ROWS = ItemRows(BLANK, IDLE, CLICK)


def drawn(rng: np.random.Generator, n: int, dtype: np.dtype[np.void]) -> np.ndarray:
    """Return ``n`` rows of random bytes."""
    return rng.integers(0, 256, (n, dtype.itemsize), np.uint8).view(dtype)[:, 0]


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(0, 12), st.integers(0, 30), st.booleans())
def test_rows_are_those_of_numpy(seed: int, whole: int, idle: int, n: int, none: bool) -> None:
    rng = np.random.default_rng(seed)
    data, few = drawn(rng, whole, ROW), drawn(rng, idle, IDLE)
    few["clicks"] &= np.uint64(2**40 - 1)
    rows, at = rng.integers(-1, whole, n), rng.integers(-1, idle, n)
    expected = np.full(n, BLANK, ROW)
    for i in range(n):
        if rows[i] >= 0:
            expected[i] = data[rows[i]]
        elif at[i] >= 0 and not none:
            one = few[at[i]]
            expected["key"][i] = expected["item"][i] = one["key"]
            for name in ("offset", "first_ts", "last_click"):
                expected[name][i] = one[name]
            expected["totals"][i, CLICK] = int(one["clicks"]) & 0xFFFFFFFF
            expected["totals_x"][i, CLICK] = int(one["clicks"]) >> 32
    found = ROWS.copied(data, rows, few, None if none else at)
    assert found.dtype == ROW
    assert found.tobytes() == expected.tobytes()


def test_other_rows_are_refused() -> None:
    rng = np.random.default_rng(1)
    data, few = drawn(rng, 2, ROW), drawn(rng, 3, IDLE)
    for row in (-2, 2):
        with pytest.raises(IndexError, match=f"row {row} of 2"):
            ROWS.copied(data, np.array([0, row]), few, None)
    for row in (-2, 3):
        with pytest.raises(IndexError, match=f"row {row} of 3 idle items"):
            ROWS.copied(data, np.array([0]), few, np.array([row]))
    with pytest.raises(ValueError, match="1 rows, 2 of idle items"):
        ROWS.copied(data, np.array([0]), few, np.array([0, 0]))
    with pytest.raises(ValueError, match="rows of 40 and 40 bytes"):
        ROWS.copied(few, np.array([0]), few, None)
    with pytest.raises(ValueError, match="metric 5 of 5"):
        ItemRows(BLANK, IDLE, 5)
    with pytest.raises(ValueError, match="another layout"):
        ItemRows(BLANK, ROW, CLICK)
