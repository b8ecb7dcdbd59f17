from __future__ import annotations

import struct

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.serving.rounded import rounded

near_halves = st.builds(
    lambda k, digits, off: (k + 0.5 + off) / 10.0**digits,
    st.integers(-(10**9), 10**9),
    st.sampled_from([6, 9]),
    st.sampled_from([0.0, 1e-12, -1e-12, 1e-7, 1e-4, -1e-4, 0.01]),
)


@given(st.lists(st.floats(allow_nan=False) | st.floats(-1, 1) | near_halves), st.sampled_from([6, 9]))
@example([0.0000005, 1.0000005, 2.5e-6, -0.0, -1e-9, float("inf"), 1e300, 123456.7890125], 6)
def test_the_same_bits_as_round(values: list[float], digits: int) -> None:
    found = rounded(np.array(values, np.float64), digits)
    assert [struct.pack("d", each) for each in found] == [struct.pack("d", round(v, digits)) for v in values]


def test_columns_of_an_array() -> None:
    columns = np.array([[0.1234567, 1 / 3], [2.0, 0.5]])
    assert [rounded(column, 6) for column in columns.T] == [[0.123457, 2.0], [0.333333, 0.5]]
    assert rounded(np.zeros(0), 6) == []
