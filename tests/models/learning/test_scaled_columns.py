"""Scaled inputs: the compiled ones are the same bytes as numpy's, wherever the rows lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.learning.scaled_columns import scaled


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 3), st.sampled_from("CF"))
def test_scaled_columns_are_those_of_numpy(seed: int, n: int, first: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([-np.inf, -1e30, -3, -0.0, 0, 0.1, 9, np.nan], (2 * n, 9)).astype(np.float32)
    mean, scale = rng.random(5, np.float32), rng.random(5, np.float32) + np.float32(1e-3)
    for rows in (np.array(x, order=order), np.array(x, order=order)[::2]):  # type: ignore[call-overload]
        columns = rows[:, first : first + 5]
        expected = np.clip((columns - mean) / scale, -8, 8)
        found = scaled(rows, first, mean, scale, 8)
        assert found.dtype == np.float32
        assert found.flags.f_contiguous
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("columns", "first", "scales"), [(5, 1, 5), (9, -1, 5), (9, 0, 4)])
def test_columns_that_are_not_there_are_refused(columns: int, first: int, scales: int) -> None:
    x = np.zeros((2, columns), np.float32)
    with pytest.raises(ValueError, match="columns from"):
        scaled(x, first, np.zeros(5, np.float32), np.ones(scales, np.float32), 8)
