from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import pieces

from headrace.streams.dedup import NO_TIME, DedupWindow, stream_times

WINDOW = 1000
T = 1_700_000_000_000

Record = tuple[int, int]  # id (0: not valid), record timestamp


def u64(*ids: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array(ids, np.uint64)


def at(*times: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(times, np.int64) + T


def oracle(records: list[Record], window: int = WINDOW) -> list[bool]:
    """Look back from every valid record for the last record with the same id."""
    times = [max(ts for _, ts in records[: i + 1]) for i in range(len(records))]
    out = []
    for i, (key, _) in enumerate(records):
        before = [times[k] for k in range(i) if records[k][0] == key]
        if key:
            out.append(not (before and before[-1] >= times[i] - window))
    return out


def run(seen: DedupWindow, records: list[Record], newest: int) -> tuple[list[bool], int]:
    """Feed one batch as the agent does; return which valid records are fresh, and the stream time."""
    times = stream_times(np.array([ts for _, ts in records], np.int64), newest)
    ids = np.array([key for key, _ in records], np.uint64)
    fresh = seen.fresh(ids[ids != 0], times[ids != 0])
    return fresh.tolist(), int(times[-1]) if len(times) else newest


#: Records: ids out of few, timestamps that jump forth and back, by about a window.
stories = st.lists(
    st.tuples(
        st.integers(0, 6), st.integers(-2 * WINDOW, WINDOW) | st.sampled_from([0, 1, WINDOW, WINDOW + 1])
    ),
    max_size=80,
).map(
    lambda steps: [
        (key, T + int(t)) for (key, _), t in zip(steps, np.cumsum([s for _, s in steps]), strict=True)
    ]
)


@given(stories, st.lists(st.integers(0, 80), max_size=8))
def test_equals_a_look_back_whatever_the_batches(records: list[Record], cuts: list[int]) -> None:
    seen, newest, got = DedupWindow(WINDOW), NO_TIME, list[bool]()
    for part in pieces(len(records), cuts):
        fresh, newest = run(seen, records[part], newest)
        got += fresh
    assert got == oracle(records)


@given(stories, st.integers(0, 80), st.lists(st.integers(0, 80), max_size=4))
def test_a_restart_that_reads_the_window_again_changes_nothing(
    records: list[Record], stop: int, cuts: list[int]
) -> None:
    stop %= len(records) + 1
    done = records[:stop]
    newest = max((ts for _, ts in done), default=NO_TIME)
    # From the first record on whose timestamp is not before the committed stream time less the window.
    first = next((i for i, (_, ts) in enumerate(done) if ts >= newest - WINDOW), stop)
    seen = DedupWindow(WINDOW)
    _, again = run(seen, done[first:], NO_TIME)
    assert again == newest
    got = []
    for part in pieces(len(records) - stop, cuts):
        fresh, newest = run(seen, records[stop:][part], newest)
        got += fresh
    valid_before = sum(1 for key, _ in done if key)
    assert got == oracle(records)[valid_before:]


@given(st.integers(0, 2**32), st.sampled_from([1, 100, 5000]))
def test_many_ids_through_many_rebuilds(seed: int, window: int) -> None:
    rng = np.random.default_rng(seed)
    n = 3000
    ids = rng.integers(1, 2000, n).astype(np.uint64)
    times = np.cumsum(rng.integers(0, 3, n)) + T
    met: dict[int, int] = {}
    expected = []
    for key, t in zip(ids.tolist(), times.tolist(), strict=True):
        expected.append(not (key in met and met[key] >= t - window))
        met[key] = t
    seen = DedupWindow(window)
    got = np.concatenate(
        [seen.fresh(a, b) for a, b in zip(*(np.array_split(x, 7) for x in (ids, times)), strict=True)]
    )
    assert got.tolist() == expected


def test_a_retry_within_a_batch_and_across_batches() -> None:
    seen = DedupWindow(WINDOW)
    assert seen.fresh(u64(1, 2, 1), at(0, 0, 0)).tolist() == [True, True, False]
    assert seen.fresh(u64(2, 3), at(1, 1)).tolist() == [False, True]


def test_the_window_is_closed_at_its_far_end() -> None:
    assert DedupWindow(WINDOW).fresh(u64(1, 1), at(0, WINDOW)).tolist() == [True, False]
    assert DedupWindow(WINDOW).fresh(u64(1, 1), at(0, WINDOW + 1)).tolist() == [True, True]


def test_a_duplicate_is_remembered_too() -> None:
    """
    stream time  0 ........ 800 ........ 1600 ......... 2700     window 1000
    id 1         x          x?           x?             x
    """
    seen = DedupWindow(WINDOW)
    assert seen.fresh(u64(1, 1, 1, 1), at(0, 800, 1600, 2700)).tolist() == [True, False, False, True]


def test_memory_is_bounded_by_the_window() -> None:
    seen = DedupWindow(WINDOW)
    for i in range(300):
        seen.fresh(np.arange(50, dtype=np.uint64) + np.uint64(i * 50), np.full(50, T + i * 100))
    assert len(seen) <= 4 * 11 * 50
    assert seen.nbytes <= 11 * 50 * 16 * 4


@pytest.mark.parametrize("later", [WINDOW - 1, WINDOW, WINDOW + 1])
def test_the_edge_of_the_window_survives_a_rebuild(later: int) -> None:
    seen = DedupWindow(WINDOW)
    seen.fresh(np.arange(40, dtype=np.uint64), np.full(40, T))
    seen.fresh(np.arange(100, 5000, dtype=np.uint64), np.full(4900, T + later))  # rebuilt on the way
    assert seen.fresh(np.arange(40, dtype=np.uint64), np.full(40, T + later)).all() == (later > WINDOW)


def test_memory_comes_back_after_a_rush() -> None:
    seen = DedupWindow(WINDOW)
    seen.fresh(np.arange(100_000, dtype=np.uint64), np.full(100_000, T))
    most = seen.nbytes
    seen.fresh(np.arange(100_000, dtype=np.uint64), np.full(100_000, T))
    assert seen.nbytes == most, "ids known already took room"
    for i in range(200):
        seen.fresh(
            np.arange(1000, dtype=np.uint64) + np.uint64(200_000 + i * 1000), np.full(1000, T + 10_000 * i)
        )
    assert seen.nbytes < most / 10


def test_any_64_bits_are_an_id() -> None:
    seen = DedupWindow(WINDOW)
    ids = u64(0, 1, 2**63, 2**64 - 1)
    assert seen.fresh(ids, at(0, 0, 0, 0)).all()
    assert not seen.fresh(ids, at(1, 1, 1, 1)).any()


def test_the_first_moment_of_time() -> None:
    assert DedupWindow(WINDOW).fresh(u64(5, 5), np.array([0, 0])).tolist() == [True, False]
    with pytest.raises(ValueError, match="negative"):
        DedupWindow(WINDOW).fresh(u64(5), np.array([-1]))


def test_a_window_of_nothing_lets_everything_pass() -> None:
    seen = DedupWindow(0)
    assert seen.fresh(u64(1, 1), at(0, 0)).all()
    assert seen.fresh(u64(1), at(0)).all()
    assert len(seen) == 0


def test_an_empty_batch() -> None:
    assert DedupWindow(WINDOW).fresh(u64(), at()).shape == (0,)
    assert stream_times(at(), T).shape == (0,)


def test_stream_time_never_falls() -> None:
    assert (stream_times(at(5, 3, 9, 1), T + 4) - T).tolist() == [5, 5, 9, 9]
    assert (stream_times(at(5, 3), T + 7) - T).tolist() == [7, 7]
