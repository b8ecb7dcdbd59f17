from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings.directions import DIM, directions
from headrace.models.embeddings.gaussian import gaussian_rows


def plain(key: int, numbers: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(numbers, dtype=np.float32)


@given(st.integers(0, 2**64 - 1), st.integers(1, 300))
def test_the_numbers_are_those_of_numpy(key: int, numbers: int) -> None:
    out = np.empty((1, numbers), np.float32)
    gaussian_rows(np.array([key], np.uint64), out, 8.0)
    np.testing.assert_array_equal(out[0], plain(key, numbers) / np.float32(8))


def test_long_rows_reach_every_strip_and_the_tail() -> None:
    out = np.empty((2, 400_000), np.float32)
    gaussian_rows(np.array([1, 2**63], np.uint64), out, 1.0)
    for row, key in zip(out, (1, 2**63), strict=True):
        np.testing.assert_array_equal(row, plain(key, len(row)))
    assert np.abs(out).max() > 3.6541528853610088  # beyond the strips


def test_a_direction_is_about_as_long_as_1() -> None:
    lengths = np.linalg.norm(directions(np.arange(1, 2000, dtype=np.uint64)), axis=1)
    assert abs(float(lengths.mean()) - 1) < 0.01
    assert directions(np.zeros(0, np.uint64)).shape == (0, DIM)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="row for each key"):
        gaussian_rows(np.array([1], np.uint64), np.empty((2, 3), np.float32), 1.0)
