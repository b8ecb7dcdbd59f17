from __future__ import annotations

import numpy as np
import pytest

from headrace.streams.tables.placed_rows import GivenRows, blank_rows


def test_places_outside_a_row_are_refused() -> None:
    row = np.zeros(1, np.dtype([("key", "<u8")]))
    zero = np.zeros(1, np.int64)
    for key_at, layout_at in ((1, -1), (-1, -1), (0, 5)):
        with pytest.raises(ValueError, match="inside a row"):
            GivenRows([], 8, key_at, layout_at, 0)
    with pytest.raises(ValueError, match="one blank row"):
        blank_rows(row, row, zero, 1, np.zeros(1, np.uint64))
    with pytest.raises(IndexError):
        blank_rows(row, row, zero + 1, 0, np.zeros(1, np.uint64))
    packed = GivenRows([b"12345678"], 8, 0, -1, 0)
    with pytest.raises(IndexError):
        packed.put(row, zero + 1, zero, zero[:0])
    with pytest.raises(ValueError, match="not the rows"):
        packed.put(row, zero[:0], zero, zero[:0])
