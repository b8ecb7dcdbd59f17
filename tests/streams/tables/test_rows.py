from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import pieces

from headrace.streams.tables.layouts import fingerprint
from headrace.streams.tables.rows import RowTable, unpack

DTYPE = np.dtype([("key", "<u8"), ("n", "<i8"), ("w", "<f4", (3,))])
BLANK = np.zeros((), DTYPE)
BLANK["n"] = -1

keys = st.integers(1, 2**64 - 1)
few_keys = st.integers(1, 12)


def table() -> RowTable:
    return RowTable(DTYPE, BLANK)


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
    for key in range(1, 5_000):
        t.take([key])
        t.drop([key])
    assert len(t.data) == len(table().data)


@given(st.lists(st.tuples(keys, st.integers(-(2**63), 2**63 - 1)), max_size=40))
def test_rows_survive_packing(pairs: list[tuple[int, int]]) -> None:
    t = table()
    for key, n in pairs:
        t.data["n"][t.take([key])] = n
    blobs = t.pack(t.rows())
    assert all(len(b) <= DTYPE.itemsize for b in blobs)
    copy = table()
    assert copy.load(blobs) == len(blobs) == len(t)
    assert list(copy.pack(copy.find(t.keys()))) == list(blobs)
    rows, sound = unpack(blobs, DTYPE)
    assert sound.all()
    assert rows.tobytes() == t.data[t.rows()].tobytes()


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
    assert list(table().pack(np.zeros(0, np.int64))) == []


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
    t: Any = RowTable(DTYPE)
    assert t.data["n"][t.take([3])].tolist() == [0]


# States of a row: the newer one stays.
STATE = np.dtype(
    [("key", "<u8"), ("offset", "<i8"), ("shown", "<i8"), ("updated", "<i8"), ("layout", "<u4"), ("n", "<i4")]
)
STATE_BLANK = np.zeros((), STATE)
STATE_BLANK["offset"] = STATE_BLANK["shown"] = -1


def states() -> RowTable:
    return RowTable(STATE, STATE_BLANK, order=("offset", "shown"))


def state(key: int, offset: int, shown: int = 0, n: int = 0) -> bytes:
    row = np.zeros((), STATE)
    row["key"], row["offset"], row["shown"], row["n"], row["layout"] = (
        key,
        offset,
        shown,
        n,
        fingerprint(STATE),
    )
    return row.tobytes()


few = st.integers(-1, 3)


@given(st.lists(st.tuples(few_keys, few, few), max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_a_row_never_goes_back(story: list[tuple[int, int, int]], cuts: list[int]) -> None:
    t, model, put = states(), dict[int, tuple[int, int, int]](), 0
    packed_rows = [state(key, offset, shown, n) for n, (key, offset, shown) in enumerate(story)]
    for part in pieces(len(story), cuts):
        put += t.load(packed_rows[part])
    for n, (key, offset, shown) in enumerate(story):
        if key not in model or (offset, shown) >= model[key][:2]:
            model[key] = offset, shown, n
            put -= 1
    assert put == 0
    rows = t.find(list(model))
    got = [tuple(row) for row in t.data[["offset", "shown", "n"]][rows].tolist()]
    assert got == list(model.values())


def test_a_row_made_here_is_older_than_any_loaded() -> None:
    t = states()
    t.take([1])
    assert t.load([state(1, -1, 7)]) == 1
    assert t.data["shown"][t.row(1)] == 7


def test_a_dropped_key_may_come_back_older() -> None:
    t = states()
    t.load([state(1, 9)])
    t.drop([1])
    assert t.load([state(1, 3)]) == 1


def test_rows_of_another_layout_are_refused_and_counted() -> None:
    t = states()
    other = bytearray(state(1, 5))
    other[32] ^= 1
    assert t.load([bytes(other), state(0, 5), state(2, 5), b"short"]) == 1
    assert (t.refused, t.keys().tolist()) == (3, [2])
    assert t.data["layout"][t.take([3])].tolist() == [t.layout] == [fingerprint(STATE)]


def test_the_fingerprint_tells_names_types_shapes_and_places() -> None:
    one = [("key", "<u8"), ("n", "<u2", (3, 2))]
    others: list[list[Any]] = [
        [("key", "<u8"), ("m", "<u2", (3, 2))],
        [("key", "<u8"), ("n", "<i2", (3, 2))],
        [("key", "<u8"), ("n", "<u2", (2, 3))],
        [("n", "<u2", (3, 2)), ("key", "<u8")],
        [("key", "<u8"), ("n", "<u2", (3, 2)), ("pad", "u1")],
    ]
    prints = {fingerprint(np.dtype(fields)) for fields in (one, *others)}
    assert len(prints) == len(others) + 1
    assert fingerprint(np.dtype(one)) == fingerprint(np.dtype(list(one)))


def test_an_array_of_rows_can_be_loaded() -> None:
    """As a snapshot is: the rows of a file, without a copy of each."""
    t = states()
    t.load([state(k, k) for k in range(1, 500)])
    rows = t.data[t.rows()]
    for given_ in (rows, rows[::-1], rows[::3], np.frombuffer(b"." + rows.tobytes(), STATE, offset=1)):
        copy = states()
        assert copy.load(given_) == len(given_)
        assert copy.data[copy.find(given_["key"])].tobytes() == given_.tobytes()
    with pytest.raises(ValueError, match="bytes are wanted"):
        states().load(np.zeros(3, DTYPE))


def test_only_bytes_are_rows() -> None:
    with pytest.raises(TypeError):
        table().load(["x" * DTYPE.itemsize])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        table().load([None])  # type: ignore[list-item]


def test_rows_that_are_idle() -> None:
    t = states()
    t.data["updated"][t.take([5, 6, 7, 8])] = [10, 20, 30, 5]
    t.drop([8])
    assert t.idle(20).tolist() == [5]
    assert t.idle(21).tolist() == [5, 6]


def test_dtypes_that_cannot_be_rows_are_refused() -> None:
    for fields in ([("n", "<i8")], [("key", "<i8")], [("key", "<u8"), ("layout", "<u8")]):
        with pytest.raises(TypeError):
            RowTable(np.dtype(fields))
    with pytest.raises(TypeError):
        RowTable(np.dtype("<u8"))
    with pytest.raises(TypeError, match="offset"):
        RowTable(np.dtype([("key", "<u8"), ("offset", "<i4")]))
    with pytest.raises(KeyError):
        RowTable(np.dtype([("key", "<u8")]), order=("offset",))


def test_rows_that_are_not_there_cannot_be_packed() -> None:
    t = table()
    for row in (-1, len(t.data)):
        with pytest.raises(IndexError):
            t.pack(np.array([row]))


def test_growing_moves_no_array_that_somebody_holds() -> None:
    t = table()
    t.take([1])
    held = t.data
    t.take(np.arange(2, 5000, dtype=np.uint64))
    assert held["key"][0] == 1
    assert not np.shares_memory(held, t.data)
    before = t.data.nbytes
    assert t.nbytes > before
    assert t.row_bytes == DTYPE.itemsize
    assert t.data.nbytes <= 1.5 * len(t) * t.row_bytes + 64 * t.row_bytes


def test_a_table_that_grows_alone_has_few_spare_rows() -> None:
    t = RowTable(np.dtype([("key", "<u8"), ("n", "u1", (2040,))]))
    for start in range(1, 30_000, 500):
        t.take(np.arange(start, start + 500, dtype=np.uint64))
    assert t.nbytes < 1.3 * len(t) * t.row_bytes
    assert (t.data["key"][t.rows()] == t.keys()).all()
    assert not t.data["n"].any()


def test_bounded_memory_when_keys_come_and_go() -> None:
    t = table()
    for start in range(1, 100_000, 1000):
        t.take(np.arange(start, start + 1000, dtype=np.uint64))
        t.drop(np.arange(start, start + 1000, dtype=np.uint64))
    assert len(t) == 0
    assert t.nbytes < 4 * 1000 * t.row_bytes
