from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.errors import ConfigError
from headrace.streams.series import MOST, TIERS, Series, write

HOUR = 3600
#: A time at which a bucket of every tier begins.
T0 = 480_000 * HOUR


def newest(series: Series, name: str, tier: int = 0, n: int = 5) -> list[float | None]:
    row = series.history(tier, n).values.get(name)
    return [] if row is None else [None if math.isnan(v) else float(v) for v in row]


def test_seconds_become_minutes_and_hours() -> None:
    """A bucket has the largest value of its points, or their mean when the name says so."""
    series = Series(("mean:",))
    for second in range(0, 2 * HOUR, 2):
        series.add(T0 + second, {"lag": second % 60, "mean:x": second % 60})
    assert newest(series, "lag") == [50, 52, 54, 56, 58]
    assert newest(series, "lag", 1, 2) == [58, 58]
    assert newest(series, "mean:x", 1, 2) == pytest.approx([29, 29], rel=1e-5)
    assert newest(series, "mean:x", 2, 2) == pytest.approx([29, 29], rel=1e-4)
    assert [series.history(tier).step for tier in range(3)] == [step for step, _ in TIERS]
    assert series.history(1).end == T0 + 2 * HOUR - 60


def test_what_was_not_seen_is_not_known() -> None:
    series = Series()
    series.add(T0, {"a": 1, "b": 0})
    series.add(T0 + 6, {"a": 2, "b": math.nan})
    assert newest(series, "a") == [None, 1, None, None, 2]
    assert newest(series, "b") == [None, 0, None, None, None]
    assert "b" not in series.history(0, 2).values


def test_a_ring_forgets_what_is_older_than_its_span() -> None:
    series = Series()
    step, size = TIERS[0]
    series.add(T0, {"a": 1})
    series.add(T0 + step * (size - 1), {"a": 2})
    assert newest(series, "a", 0, size)[0] == 1
    series.add(T0 + step * size, {"a": 3})
    assert newest(series, "a", 0, size)[0] is None
    series.add(T0 + 40 * 24 * HOUR, {"a": 4})
    for tier, (_, long) in enumerate(TIERS):
        assert newest(series, "a", tier, long) == [None] * (long - 1) + [4]


def test_a_clock_that_goes_back_forgets_what_follows() -> None:
    """A clock that was a year ahead for a moment does not stop the series for a year."""
    series = Series()
    series.add(T0, {"a": 1})
    series.add(T0 + 365 * 24 * HOUR, {"a": 9})
    series.add(T0 + 2, {"a": 2})
    assert newest(series, "a", 0, 2)[-1] == 2
    assert 9 not in newest(series, "a", 0, TIERS[0][1])
    series.add(T0 + 4, {"a": 3})
    assert newest(series, "a", 0, 2) == [2, 3]


def test_series_are_bounded_and_the_one_without_points_for_longest_goes() -> None:
    series = Series(most=3)
    for second, name in enumerate("abcad"):
        series.add(T0 + 2 * second, {name: second})
    assert set(series.history(0).values) == {"a", "c", "d"}
    assert len(series) == 3
    assert newest(series, "d") == [None, None, None, None, 4]


def test_the_file_is_bounded() -> None:
    series = Series()
    for i in range(MOST + 50):
        series.add(T0, {f"s{i}": i})
    assert len(series.encode()) < 6_000_000


@given(
    st.lists(
        st.tuples(st.integers(0, 300_000), st.sampled_from("abcd"), st.floats(0, 1e6, width=32)), max_size=60
    )
)
def test_a_file_has_everything(points: list[tuple[int, str, float]]) -> None:
    """What was read from a file goes on as if there had been no end."""
    whole, before = Series(("a",), 3), Series(("a",), 3)
    for n, (second, name, value) in enumerate(points):
        if n == len(points) // 2:
            read = Series(("a",), 3)
            read.decode(before.encode())
            before = read
        for one in (whole, before):
            one.add(T0 + second, {name: value})
    for tier in range(3):
        one, other = whole.history(tier), before.history(tier)
        assert one.end == other.end
        assert one.values.keys() == other.values.keys()
        assert all(np.array_equal(one.values[k], other.values[k], equal_nan=True) for k in one.values)


def test_a_bad_file_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "points"
    series = Series()
    series.load(path)  # there is none
    series.add(T0, {"a": 1})
    data = series.encode()
    write(path, data)
    assert [p.name for p in path.parent.iterdir()] == ["points"]
    for bad in (
        b"",
        b"hello",
        data[:-4],
        data.replace(b'"tiers": [[2', b'"tiers": [[3'),
        data.replace(b"series-1", b"series-2"),
    ):
        path.write_bytes(bad)
        with pytest.raises(ConfigError, match="not a file of points"):
            series.load(path)
    assert newest(series, "a", 0, 1) == [1]
