from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.index.leaders import Leaders, top

U64 = np.ndarray


class Values:
    """Values of many keys, and leaders that were told every change."""

    def __init__(self, size: int, room: int) -> None:
        self.size = size
        self.leaders = Leaders(size, room)
        self.value: dict[int, float] = {}

    def put(self, values: dict[int, float]) -> None:
        self.value |= values
        keys, value = np.array(list(values), np.uint64), np.array(list(values.values()), np.float32)
        self.leaders.put(keys, value, value)

    def drop(self, keys: list[int]) -> None:
        for key in keys:
            self.value.pop(key, None)
        self.leaders.drop(np.array(keys, np.uint64))

    def scan(self, step: int = 7) -> None:
        keys = list(self.value)
        for at in range(0, len(keys), step):
            self.put({key: self.value[key] for key in keys[at : at + step]})
        self.leaders.end_scan()

    def check(self) -> None:
        expected = top(
            np.array(list(self.value), np.uint64),
            np.array(list(self.value.values()), np.float32),
            self.size,
        )
        got = self.leaders.top()
        assert got[0].tolist() == expected[0].tolist()
        assert got[1].tolist() == expected[1].tolist()


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 12), st.sampled_from([2, 5, 1000]))
def test_against_all_values(seed: int, size: int, room: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    values = Values(size, room)
    for _ in range(30):
        keys = rng.choice(60, int(rng.integers(1, 20)), replace=False) + 1
        if rng.random() < 0.2:
            values.drop(keys.tolist())
        else:
            fresh = rng.integers(0, largest, len(keys)).astype(float)
            values.put(dict(zip(keys.tolist(), fresh.tolist(), strict=True)))
        if values.leaders.low:
            values.leaders.begin_scan()
            if rng.random() < 0.5:  # a change between two steps
                values.put({int(keys[0]): float(rng.integers(0, largest))})
            values.scan()
        assert values.leaders.exact
        assert len(values.leaders) <= 2 * max(room, 2 * size)
        values.check()


def test_a_list_stays_exact_while_a_scan_is_under_way() -> None:
    values = Values(5, 100)
    values.put({key: float(key) for key in range(1, 1001)})
    values.put(dict.fromkeys(range(920, 1001), 0.5))
    assert values.leaders.low
    values.check()
    values.leaders.begin_scan()
    values.put({key: float(key) for key in range(500, 600)})
    assert values.leaders.exact
    values.check()
    values.scan()
    assert not values.leaders.low
    values.check()


def test_a_value_that_may_rise_by_itself_is_held() -> None:
    leaders = Leaders(1, 2)
    keys = np.arange(1, 7, dtype=np.uint64)
    later = np.array([1, 1, 1, 1, 1, 9], np.float32)
    now = np.array([1, 1, 1, 1, 1, 0], np.float32)
    leaders.put(keys, later, now)
    assert leaders.top()[0].tolist() == [1]
    assert 6 in leaders.keys().tolist()


@pytest.mark.parametrize("exact", [True, False])
def test_after_a_restart_nothing_is_certain_until_the_scan_ends(exact: bool) -> None:
    values = Values(3, 6)
    values.put(dict.fromkeys(range(1, 50), 1.0))
    values.leaders.restart()
    values.value[40] = 7.0  # nobody told
    if exact:
        values.scan()
        values.check()
    assert values.leaders.exact == exact
    assert values.leaders.scanning != exact
