from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.table import Table

DTYPE = np.dtype([("key", "<u8"), ("n", "<i8"), ("w", "<f4", (3,))])
BLANK = np.zeros((), DTYPE)
BLANK["n"] = -1

keys = st.integers(1, 2**64 - 1)
few_keys = st.integers(1, 12)


def table() -> Table:
    return Table(DTYPE, BLANK)


def packed(key: int, n: int) -> bytes:
    row = BLANK.copy()
    row["key"], row["n"] = key, n
    return row.tobytes()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), few_keys, st.integers(0, 99)),
            st.tuples(st.just("drop"), few_keys, st.just(0)),
            st.tuples(st.just("load"), few_keys, st.integers(0, 99)),
        ),
        max_size=60,
    )
)
def test_behaves_like_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    t, model = table(), dict[int, int]()
    for what, key, n in steps:
        if what == "set":
            t.data["n"][t.take([key])] = n
            model[key] = n
        elif what == "load":
            assert t.load([packed(key, n)]) == 1
            model[key] = n
        else:
            assert t.drop([key]) == (key in model)
            model.pop(key, None)
    assert len(t) == len(model)
    assert set(t.keys().tolist()) == set(model)
    rows = t.rows()
    assert len(set(rows.tolist())) == len(rows), "two keys share a row"
    assert dict(zip(t.data["key"][rows].tolist(), t.data["n"][rows].tolist(), strict=True)) == model
    for key in range(1, 13):
        assert (key in t) == (key in model)
        assert (t.row(key) >= 0) == (key in model)
    np.testing.assert_array_equal(t.find(t.keys()), rows)


@given(st.lists(keys, max_size=30))
def test_taking_twice_gives_the_same_rows(wanted: list[int]) -> None:
    t = table()
    first = t.take(wanted)
    assert first.dtype == np.int64
    np.testing.assert_array_equal(t.take(np.array(wanted, np.uint64)), first)
    np.testing.assert_array_equal(t.find(wanted), first)
    assert len(t) == len(set(wanted))


@given(st.lists(keys, max_size=30))
def test_finding_never_grows(wanted: list[int]) -> None:
    t = table()
    assert (t.find(wanted) == -1).all()
    assert len(t) == 0
    assert t.find([]).shape == (0,)


def test_growing_keeps_every_row() -> None:
    t = table()
    wanted = np.arange(1, 5001, dtype=np.uint64)
    for part in np.array_split(wanted, 7):
        rows = t.take(part)  # may replace ``data``
        t.data["n"][rows] = part
    rows = t.find(wanted)
    np.testing.assert_array_equal(t.data["n"][rows], wanted)
    np.testing.assert_array_equal(t.data["key"][rows], wanted)
    assert (t.data["w"] == 0).all()


def test_a_row_used_again_is_blank() -> None:
    t = table()
    row = t.take([7])
    t.data["n"][row], t.data["w"][row] = 5, 9
    t.drop([7])
    again = t.take([8])
    assert again.tolist() == row.tolist()
    assert t.data[again].tobytes() == packed(8, -1)


def test_dropping_and_taking_does_not_leak() -> None:
    t = table()
    for key in range(1, 50_000):
        t.take([key])
        t.drop([key])
    assert len(t.data) == len(table().data)


@given(st.lists(st.tuples(keys, st.integers(-(2**63), 2**63 - 1)), max_size=40))
def test_rows_survive_packing(pairs: list[tuple[int, int]]) -> None:
    t = table()
    for key, n in pairs:
        t.data["n"][t.take([key])] = n
    blobs = t.pack(t.rows())
    assert all(len(b) == DTYPE.itemsize for b in blobs)
    copy = table()
    assert copy.load(blobs) == len(blobs) == len(t)
    assert copy.pack(copy.find(t.keys())) == blobs


@given(st.lists(st.tuples(few_keys, st.integers(0, 99)), min_size=1, max_size=60))
def test_the_last_row_of_a_key_wins(pairs: list[tuple[int, int]]) -> None:
    t = table()
    t.load([packed(k, n) for k, n in pairs])
    for key, n in dict(pairs).items():
        assert int(t.data["n"][t.row(key)]) == n


def test_rows_of_another_size_are_passed_over() -> None:
    t = table()
    good = packed(1, 11)
    assert t.load([b"", good[:-1], good, good + b"\0", b"x" * 3]) == 1
    assert t.keys().tolist() == [1]
    assert t.load([]) == 0


def test_loading_past_the_capacity() -> None:
    t = table()
    t.load([packed(k, k) for k in range(1, 3001)])
    np.testing.assert_array_equal(t.data["n"][t.find(range(1, 3001))], np.arange(1, 3001))


def test_numpy_integers_find_what_integers_put() -> None:
    t = table()
    row = t.take([5])
    assert t.find(np.array([5], np.uint64)).tolist() == row.tolist()
    assert np.uint64(5) in t


def test_packing_nothing() -> None:
    assert table().pack(np.zeros(0, np.int64)) == []


def test_the_view_shows_all_rows_and_tells_the_dropped_ones() -> None:
    t = table()
    assert len(t.view()) == 0
    t.take([5, 6, 7])
    t.drop([6])
    assert t.view()["key"].tolist() == [5, 0, 7]
    t.take([8])
    assert t.view()["key"].tolist() == [5, 8, 7]
    assert np.shares_memory(t.view(), t.data)


def test_blank_may_be_left_out() -> None:
    t: Any = Table(DTYPE)
    assert t.data["n"][t.take([3])].tolist() == [0]
