from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import window_rows
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, dense_times, offsets_ms, pieces, spans_ms

from headrace.models.state import items as item_state
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS
from headrace.streams.windows import AHEAD_MS, TIERS, WINDOW_NAMES, Tier, Windows

METRICS = ("a", "b", "c")
#: Counts of 16 bits; of 24 bits, days of 32.
NARROW = Windows(METRICS)
WIDE = Windows(METRICS, high={"5m": "u1", "1h": "u1", "24h": "u1", "7d": "u2"})
BOTH = pytest.mark.parametrize("windows", [NARROW, WIDE], ids=["narrow", "wide"])
#: Which buckets each window adds up.
BUCKETS = {"5m": (MINUTE_MS, 5), "30m": (5 * MINUTE_MS, 6), "1h": (5 * MINUTE_MS, 12)} | {
    "24h": (HOUR_MS, 24),
    "7d": (DAY_MS, 7),
}
ROWS = 4

Fact = tuple[int, int, int, int]  # row, ts, metric, amount


def blank(windows: Windows = NARROW, n: int = ROWS) -> np.ndarray[Any, Any]:
    return np.zeros(n, np.dtype([("key", "<u8"), *window_rows.fields(windows)]))


def arrays(facts: list[Fact]) -> list[np.ndarray[Any, Any]]:
    return [np.array([f[i] for f in facts], np.int64) for i in range(4)]


def add(data: np.ndarray[Any, Any], facts: list[Fact], windows: Windows = NARROW) -> None:
    window_rows.add(windows, data, *arrays(facts))


def oracle(facts: list[Fact], now: int, windows: Windows) -> np.ndarray[Any, Any]:
    """Add up the buckets ``(bucket(now) - n, bucket(now)]``; a bucket stops at its largest value."""
    out = np.zeros((ROWS, len(WINDOW_NAMES), len(windows.metrics)))
    for i, (name, (bucket_ms, n)) in enumerate(BUCKETS.items()):
        most = 2**16 - 1 if not windows._high else 2**32 - 1 if name == "7d" else 2**24 - 1
        buckets: dict[tuple[int, int, int], int] = {}
        for row, ts, metric, amount in facts:
            age = now // bucket_ms - ts // bucket_ms
            if 0 <= age < n:
                cell = row, metric, age
                buckets[cell] = min(most, buckets.get(cell, 0) + amount)
        for (row, metric, _), total in buckets.items():
            out[row, i, metric] += total
    return out.astype(np.float32)


def dense(seed: int, n: int, span: int) -> list[Fact]:
    rng = np.random.default_rng(seed)
    columns = (rng.integers(0, 2, n).tolist(), dense_times(rng, n, span), rng.integers(0, 3, n).tolist())
    return list(zip(*columns, rng.integers(0, 50, n).tolist(), strict=True))


#: Amounts: small ones, and ones around what 16, 24 and 32 bits hold.
amounts = st.integers(0, 50) | st.builds(
    lambda bits, d: 2**bits + d, st.sampled_from([15, 16, 24, 32, 62]), st.integers(-2, 2)
)
sparse = spans_ms.flatmap(
    lambda span: st.lists(
        st.tuples(
            st.integers(0, ROWS - 1),
            (st.integers(0, span) | offsets_ms).map(lambda o: T0 + o % span),
            st.integers(0, len(METRICS) - 1),
            amounts,
        ),
        max_size=60,
    )
)
facts_strategy = sparse | st.builds(dense, st.integers(0, 2**32), st.integers(20, 120), spans_ms)


#: When to ask, from the newest event on.
later_ms = st.sampled_from(
    [*range(-AHEAD_MS, MINUTE_MS, MINUTE_MS // 2), 5 * MINUTE_MS, HOUR_MS, DAY_MS]
) | st.integers(-AHEAD_MS, 8 * DAY_MS)


@BOTH
@given(facts=facts_strategy, later=later_ms, data=st.data())
def test_equals_a_brute_force_sum_whatever_the_order_and_the_batches(
    windows: Windows, facts: list[Fact], later: int, data: st.DataObject
) -> None:
    now = max((f[1] for f in facts), default=T0) + later
    shuffled = data.draw(st.permutations(facts))
    state = blank(windows)
    for part in pieces(len(shuffled), data.draw(st.lists(st.integers(0, 60), max_size=5))):
        add(state, shuffled[part], windows)
    got = windows.read(state, now)
    assert windows.names == WINDOW_NAMES
    np.testing.assert_array_equal(got, oracle(facts, now, windows))
    some = np.array([3, -1, 1, 1])
    expected = np.where((some >= 0)[:, None, None], got[some], 0)
    np.testing.assert_array_equal(windows.read(state, now, some), expected)
    for i, name in enumerate(WINDOW_NAMES):
        for j, metric in enumerate(METRICS):
            np.testing.assert_array_equal(windows.read_one(state, now, name, metric), got[:, i, j])
            one = windows.read_one(state, now, name, metric, rows=some)
            np.testing.assert_array_equal(one, expected[:, i, j])


@BOTH
@given(facts=facts_strategy, data=st.data())
def test_state_is_the_same_for_one_batch_and_for_single_events(
    windows: Windows, facts: list[Fact], data: st.DataObject
) -> None:
    one, many = blank(windows), blank(windows)
    add(one, facts, windows)
    for part in pieces(len(facts), range(len(facts))):
        add(many, facts[part], windows)
    assert one.tobytes() == many.tobytes()


@given(facts_strategy, st.lists(st.integers(0, 59), max_size=20))
def test_a_duplicated_event_counts_twice(facts: list[Fact], again: list[int]) -> None:
    # Retries are recognised elsewhere: here every event counts.
    facts = facts + [facts[i % len(facts)] for i in again if facts]
    state = blank()
    add(state, facts)
    now = max((f[1] for f in facts), default=T0)
    np.testing.assert_array_equal(NARROW.read(state, now), oracle(facts, now, NARROW))


@given(facts_strategy, st.integers(0, 2 * DAY_MS))
def test_reading_changes_nothing(facts: list[Fact], later: int) -> None:
    state = blank()
    add(state, facts)
    before = state.tobytes()
    NARROW.read(state, T0 + later)
    NARROW.read_one(state, T0 + later, "1h", "b")
    assert state.tobytes() == before


@given(facts_strategy)
def test_adding_does_not_touch_its_inputs(facts: list[Fact]) -> None:
    given_, copies = arrays(facts), arrays(facts)
    for array in given_:
        array.flags.writeable = False
    window_rows.add(NARROW, blank(), *given_)
    for a, b in zip(given_, copies, strict=True):
        np.testing.assert_array_equal(a, b)


@BOTH
@given(facts=facts_strategy)
def test_fields_around_the_windows_stay_as_they_are(windows: Windows, facts: list[Fact]) -> None:
    fields = [("before", "<u8"), *window_rows.fields(windows), ("after", "<u2")]
    state = np.full(ROWS * 600, 0, np.dtype(fields))
    state["before"], state["after"] = 2**64 - 1, 2**16 - 1
    other = blank(windows)
    add(state, facts, windows)
    add(other, facts, windows)
    assert (state["before"] == 2**64 - 1).all()
    assert (state["after"] == 2**16 - 1).all()
    for name, *_ in windows.fields():
        np.testing.assert_array_equal(state[name][:ROWS], other[name])
        assert not state[name][ROWS:].any()


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ((ROWS, T0, 0, 1), IndexError),
        ((-1, T0, 0, 1), IndexError),
        ((0, T0, 3, 1), IndexError),
        ((0, T0, -1, 5), IndexError),
        ((-7, -1, -1, -1), IndexError),
        ((0, T0, 0, -1), ValueError),
        ((0, -1, 0, 1), ValueError),
        ((0, 2**47, 0, 1), ValueError),
    ],
)
def test_what_cannot_be_added_changes_nothing(bad: Fact, error: type[Exception]) -> None:
    state = blank()
    with pytest.raises(error):
        add(state, [(0, T0, 0, 1), bad])
    assert state.tobytes() == blank().tobytes()


def test_arguments_that_do_not_fit_are_refused() -> None:
    state, (rows, ts, metric, amount) = blank(), arrays([(0, T0, 0, 1)] * 2)
    with pytest.raises(ValueError, match="belong together"):
        window_rows.add(NARROW, state, rows, ts[:1], metric, amount)
    with pytest.raises(TypeError, match="whole numbers"):
        window_rows.add(NARROW, state, rows, ts, metric, amount.astype(np.float32))
    with pytest.raises(KeyError):
        NARROW.read(np.zeros(2, np.dtype([("key", "<u8")])), T0)
    with pytest.raises(TypeError, match="no fields"):
        NARROW.read(np.zeros(2), T0)
    for rows in (np.array([-2]), np.array([ROWS])):
        with pytest.raises(IndexError):
            NARROW.read(state, T0, rows)
        with pytest.raises(IndexError):
            NARROW.read_one(state, T0, "1h", "a", rows=rows)
    with pytest.raises(ValueError, match="high parts"):
        Windows(METRICS, high={"5m": "f4"})
    with pytest.raises(ValueError, match="high parts"):
        Windows(METRICS, high={"5s": "u1"})


def test_columns_of_other_arrays_and_of_other_integers_do() -> None:
    facts = np.zeros(3, np.dtype([("ts", "<i8"), ("kind", "u1"), ("n", "<u4")]))
    facts["ts"], facts["n"] = T0, [1, 2, 3]
    state = blank()
    window_rows.add(NARROW, state, np.arange(3), facts["ts"], facts["kind"], facts["n"])
    assert NARROW.read_one(state, T0, "5m", "a").tolist() == [1, 2, 3, 0]


def test_rows_are_read_wherever_they_lie() -> None:
    state = blank()
    add(state, [(0, T0, 0, 1), (1, T0, 1, 2), (3, T0, 2, 4)])
    expected = NARROW.read(state, T0)
    blob = b"x" + state.tobytes()
    odd = np.frombuffer(blob, state.dtype, offset=1)
    for data in (odd, np.array(state), state[:]):
        np.testing.assert_array_equal(NARROW.read(data, T0), expected)
    np.testing.assert_array_equal(NARROW.read(state[::2], T0), expected[::2])
    np.testing.assert_array_equal(NARROW.read(state[::-1], T0), expected[::-1])
    assert NARROW.read(state[:0], T0).shape == (0, 5, 3)
    with pytest.raises(ValueError, match="read-only"):
        add(odd, [(0, T0, 0, 1)])


def test_the_fields_need_no_padding() -> None:
    for windows in (NARROW, WIDE):
        dtype = np.dtype([("key", "<u8"), *windows.fields()])
        for name in dtype.names or ():
            field, at = dtype.fields[name][:2]  # type: ignore[index]
            assert at % field.base.itemsize == 0


def test_a_subset_of_tiers_answers_a_subset_of_windows() -> None:
    assert Windows(("n",), tiers=TIERS[1:2]).names == ("30m", "1h")
    assert Windows(("n",), tiers=(Tier("2s", 1000, 2), TIERS[0])).names == ("5m", "2s")
    with pytest.raises(KeyError):
        Windows(("n",), tiers=TIERS[:1]).read_one(blank(), T0, "30m", "n")


@pytest.mark.parametrize("metrics", [METRICS, ("a", "b", "c", "d", "e")], ids=["three", "five"])
@pytest.mark.parametrize(
    "high", [{}, {"5m": "u1", "1h": "u1", "24h": "u1", "7d": "u2"}], ids=["narrow", "wide"]
)
def test_some_windows_are_those_of_all(metrics: tuple[str, ...], high: dict[str, str]) -> None:
    windows, rng = Windows(metrics, high=high), np.random.default_rng(4)
    data = blank(windows)
    facts = [
        (
            int(rng.integers(ROWS)),
            T0 + int(rng.integers(3 * HOUR_MS)),
            int(rng.integers(len(metrics))),
            90_000,
        )
        for _ in range(300)
    ]
    add(data, facts, windows)
    now = T0 + 3 * HOUR_MS
    every = windows.read(data, now)
    some = windows.read(data, now, names=("24h", "5m"))
    np.testing.assert_array_equal(some, every[:, [windows.names.index("24h"), windows.names.index("5m")]])
    np.testing.assert_array_equal(every, oracle(facts, now, windows))
    for j, metric in enumerate(metrics):
        np.testing.assert_array_equal(windows.read_one(data, now, "24h", metric), some[:, 0, j])
    assert every.any()


def test_half_an_hour_is_the_newest_half_of_an_hour() -> None:
    state = blank()
    add(state, [(0, T0 - k * 5 * MINUTE_MS, 0, 1 << k) for k in range(12)])
    assert NARROW.read_one(state, T0, "30m", "a")[0] == 0b111111
    assert NARROW.read_one(state, T0, "1h", "a")[0] == 0b111111111111


def test_counts_stop_at_the_largest() -> None:
    for windows, most in ((NARROW, [2**16 - 1] * 5), (WIDE, [2**24 - 1] * 4 + [2**32 - 1])):
        state = blank(windows)
        add(state, [(0, T0, 0, 2**63 - 1), (0, T0, 0, 2**63 - 1), (0, T0, 1, 1)], windows)
        read = windows.read(state, T0)
        assert read[0, :, 0].tolist() == np.float32(most).tolist()
        assert read[0, :, 1].tolist() == [1] * 5, "one count ran over into another"
    for bits, windows, names in (
        (16, NARROW, WINDOW_NAMES),
        (24, WIDE, WINDOW_NAMES[:4]),
        (32, WIDE, ("7d",)),
    ):
        for first, then in ((2**bits, 0), (2**bits - 2, 1), (2**bits - 1, 1)):
            state = blank(windows)
            add(state, [(0, T0, 0, first), (0, T0, 0, then)], windows)
            for name in names:
                expected = np.float32(min(first + then, 2**bits - 1))
                assert windows.read_one(state, T0, name, "a")[0] == expected


@pytest.mark.parametrize("tier", TIERS, ids=lambda t: t.name)
def test_a_ring_has_room_for_the_window_and_for_what_may_be_ahead(tier: Tier) -> None:
    assert tier.ring * tier.bucket_ms >= tier.buckets * tier.bucket_ms + AHEAD_MS


def test_times_up_to_the_year_2100_fit() -> None:
    state = blank(n=1)
    last = 4_102_444_800_000
    add(state, [(0, last, 0, 3)])
    assert NARROW.read(state, last)[0, :, 0].tolist() == [3] * 5


def test_the_first_moment_of_time_fits() -> None:
    state = blank(n=1)
    add(state, [(0, 0, 0, 3)])
    assert NARROW.read(state, 0)[0, :, 0].tolist() == [3] * 5
    assert NARROW.read(state, -1)[0, :, 0].tolist() == [0] * 5


@given(facts_strategy)
def test_the_pass_that_counts_everything_keeps_the_same_windows(facts: list[Fact]) -> None:
    """The compiled writer updates other counts in the same pass: the windows are those of a plain writer."""
    one, other = np.zeros(ROWS, item_state.ROW), np.zeros(ROWS, item_state.ROW)
    window_rows.add_plainly(item_state.WINDOWS, one, *arrays(facts))
    item_state.COUNTS.counter(item_state.ROW).add(other, *arrays(facts))
    for name, *_ in item_state.WINDOWS.fields():
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
