from __future__ import annotations

import numpy as np
import pytest

from headrace.streams.window_sums import WindowSums


@pytest.mark.parametrize(
    "tier",
    [
        (90, 0, 0, 1000, 0, 10),  # low parts end outside
        (0, 90, 0, 1000, 2, 10),
        (0, 0, 98, 1000, 0, 10),
        (1, 0, 0, 1000, 0, 10),  # odd
        (0, 0, 0, 0, 0, 10),
        (0, 0, 0, 1000, 3, 10),
        (0, 0, 0, 1000, 0, 0),
    ],
)
def test_windows_outside_a_row_are_refused(tier: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="inside a row"):
        WindowSums(np.array([tier], np.int64), 1, 100)


def test_sums_are_of_rows_of_one_size() -> None:
    sums = WindowSums(np.array([(4, 0, 0, 1000, 0, 10)], np.int64), 1, 24)
    with pytest.raises(ValueError, match="bytes are wanted"):
        sums.read_one(np.zeros(3, np.uint64), 0, 0, 1, 0)
    good = np.zeros(3, np.dtype([("head", "<i4"), ("low", "<u2", (10,))]))
    assert sums.read_one(good, 0, 0, 1, 0).tolist() == [0, 0, 0]
    with pytest.raises(IndexError):
        sums.read_one(good, 1, 0, 1, 0)
    with pytest.raises(IndexError):
        sums.read(good, np.array([[1, 1]]), 0)
    with pytest.raises(ValueError, match="one-dimensional"):
        sums.read_one(good.reshape(1, 3), 0, 0, 1, 0)
