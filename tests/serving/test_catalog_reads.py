"""All fields of items, in memory and in a snapshot, read at once: what plain numpy reads of each column."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings import DIM
from headrace.serving.catalog_reads import MappedItems, columns_in, items_of, keys_here, number_of, vectors_of
from headrace.serving.catalog_row import BLANK, ROW
from headrace.serving.index.key_slots import KeySlots
from headrace.serving.index.key_table import KeyTable
from headrace.serving.index.newest_rows import first_rows
from headrace.serving.index.quantised import Quantised, of_coarse

I64 = npt.NDArray[np.int64]
_OWN = np.dtype([("key", "<u8"), ("vector", "<f4", (DIM,))])
_CLOSE = np.dtype([("key", "<u8"), ("vector", "i1", (DIM,))])


def columns(rng: np.random.Generator, n: int) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.bool_]]:
    """Return the columns of a snapshot of ``n`` items, and which sets are shut."""
    names, sets = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    numbers = ("category", "creator", "language")
    column: dict[str, npt.NDArray[Any]] = {
        "key": rng.integers(1, 2**64, n, np.uint64),
        "name_key": np.append(np.uint64(0), rng.integers(1, 2**64, names - 1, np.uint64)),
        "published": rng.integers(-(2**40), 2**40, n),
        "duration": rng.integers(0, 2**32, n, np.uint32),
        "boost": rng.random(n, np.float32),
        "title": rng.integers(0, 2**32, n, np.uint32),
        "min_age": rng.integers(0, 256, n, np.uint8),
        **{name: rng.integers(0, names, n).astype(np.uint32) for name in numbers},
        **{name: rng.integers(0, sets, n).astype(np.uint32) for name in ("flags", "allowed", "blocked")},
        **{name: rng.integers(-128, 128, (n, DIM)).astype(np.int8) for name in ("high", "low", "alike")},
        "scale": (rng.random(n) * (rng.random(n) < 0.9)).astype(np.float32),
    }
    return column, rng.random(sets) < 0.5


def in_memory(rng: np.random.Generator, n: int) -> npt.NDArray[np.void]:
    """Return ``n`` rows of a catalogue."""
    own = np.zeros(n, ROW)
    for name in ROW.names or ():
        own[name] = rng.integers(0, 2 if ROW[name].kind == "b" else 1000, n)
    return own


def rows_of(rng: np.random.Generator, mapped: int, own: int) -> I64:
    return rng.integers(-1, mapped + own, int(rng.integers(0, 40)))


SIZES = st.tuples(st.integers(0, 2**32), st.integers(0, 20), st.integers(0, 10))


@given(SIZES, st.booleans())
def test_items_are_those_of_the_columns(sizes: tuple[int, int, int], alone: bool) -> None:
    seed, n, m = sizes
    rng = np.random.default_rng(seed)
    column, shut = columns(rng, n)
    own = in_memory(rng, m)
    first = 0 if alone else n
    rows = rows_of(rng, first, m)
    expected = np.zeros(len(rows), ROW)
    for i, row in enumerate(rows.tolist()):
        if row < 0:
            expected[i] = BLANK
        elif row >= first:
            expected[i] = own[row - first]
        else:
            for name in ("key", "published", "duration", "boost", "title", "min_age"):
                expected[name][i] = column[name][row]
            for name in ("category", "creator", "language"):
                expected[name][i] = column["name_key"][column[name][row]]
            expected["blocked"][i] = shut[column["flags"][row]]
            expected["rules"][i] = column["allowed"][row] != 0 or column["blocked"][row] != 0
    found = items_of(rows, own, None if alone else MappedItems(column, shut))
    assert found.dtype == ROW
    for name in ROW.names or ():
        np.testing.assert_array_equal(found[name], expected[name])


@given(st.integers(0, 2**32), st.integers(0, 12))
def test_columns_of_items(seed: int, n: int) -> None:
    items = in_memory(np.random.default_rng(seed), n)
    for given_items in (items, items[::2]):
        found = columns_in(given_items)
        names = ("category", "creator", "language", "published", "duration")
        for name, column in zip(names, found, strict=True):
            assert column.dtype == ROW[name]
            assert column.tolist() == given_items[name].tolist()
    with pytest.raises(ValueError, match="rows of 8 bytes"):
        columns_in(np.zeros(1, [("key", "<u8")]))


@given(SIZES, st.booleans())
def test_keys_are_those_of_the_items_in_memory(sizes: tuple[int, int, int], alone: bool) -> None:
    seed, n, m = sizes
    rng = np.random.default_rng(seed)
    mapped, own, first = MappedItems(*columns(rng, n)), in_memory(rng, m), 0 if alone else n
    rows = rows_of(rng, first, m)
    expected = [int(own["key"][row - first]) if row >= first else 0 for row in rows.tolist()]
    assert keys_here(rows, own, None if alone else mapped).tolist() == expected
    with pytest.raises(IndexError, match=f"row {first + m}"):
        keys_here(np.array([first + m]), own, None if alone else mapped)


@given(SIZES, st.booleans(), st.booleans(), st.booleans())
def test_vectors_are_those_of_numpy(
    sizes: tuple[int, int, int], alone: bool, known: bool, close: bool
) -> None:
    seed, n, m = sizes
    rng = np.random.default_rng(seed)
    column, shut = columns(rng, n)
    own = np.zeros(m, _CLOSE if close else _OWN)
    own["vector"] = rng.integers(-128, 128, (m, DIM)) if close else rng.standard_normal((m, DIM))
    first = 0 if alone else n
    rows = rows_of(rng, first, m)
    places = np.where(rows >= first, rows - first, -1)
    places[rng.random(len(places)) < 0.1] = -1  # an item without a vector
    told = np.where((rows < first) & (m > 0), 0, places)  # of items that are not in memory, it does not count
    quantised = Quantised(column["high"], column["low"], column["scale"])
    expected = np.zeros((len(rows), DIM), np.float32)
    here, there = places >= 0, (rows >= 0) & (rows < first)
    expected[here] = of_coarse(own["vector"][places[here]]) if close else own["vector"][places[here]]
    if known:
        mapped = of_coarse(column["alike"][rows[there]]) if close else quantised.vectors(rows[there])
        expected[there] = mapped
    found = vectors_of(rows, None if alone else MappedItems(column, shut), known, told, own, "vector")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_rows_and_names_that_are_not_there_are_refused() -> None:
    rng = np.random.default_rng(1)
    column, shut = columns(rng, 3)
    mapped, own = MappedItems(column, shut), in_memory(rng, 2)
    for row in (-2, 5):
        with pytest.raises(IndexError, match=f"row {row}"):
            items_of(np.array([row]), own, mapped)
    for name in ("category", "creator", "language", "flags"):
        wrong = {**column, name: np.array([0, 99, 0], np.uint32)}
        with pytest.raises(IndexError, match="row 1"):
            items_of(np.array([0, 1]), own, MappedItems(wrong, shut))
    with pytest.raises(ValueError, match="2 of title"):
        MappedItems({**column, "title": column["title"][:2]}, shut)
    with pytest.raises(ValueError, match="rows of 8 bytes"):
        items_of(np.array([0]), np.zeros(1, [("key", "<u8")]), mapped)
    vectors = np.zeros(1, _OWN)
    with pytest.raises(IndexError, match="row 1"):
        vectors_of(np.array([3]), mapped, True, np.array([1]), vectors, "vector")
    with pytest.raises(ValueError, match="1 rows, 2 in memory"):
        vectors_of(np.array([3]), mapped, True, np.array([0, 0]), vectors, "vector")


@given(st.lists(st.integers(0, 50), max_size=20, unique=True), st.integers(0, 50))
def test_the_number_of_a_name(hashes: list[int], key: int) -> None:
    given_hashes = np.array(hashes, np.uint64)
    expected = hashes.index(key) if key in hashes else -1
    assert number_of(given_hashes, np.argsort(given_hashes), key) == expected


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 5))
def test_rows_that_are_not_in_memory_are_looked_for(seed: int, n: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.permutation(np.arange(1, 200, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))[:n]
    hidden = np.zeros(n // 8 + 1, np.uint8)
    gone = np.flatnonzero(rng.random(n) < 0.3)
    np.bitwise_or.at(hidden, gone >> 3, (1 << (gone & 7)).astype(np.uint8))
    asked = np.append(rng.choice(keys, 30) if n else keys, rng.integers(0, 2**64, 10, np.uint64))
    rows = np.where(rng.random(len(asked)) < 0.2, rng.integers(0, 9, len(asked)), -1)
    row_of = {key: row for row, key in enumerate(keys.tolist()) if row not in set(gone.tolist())}
    expected = [
        row + shift if row >= 0 else row_of.get(key, -1)
        for key, row in zip(asked.tolist(), rows.tolist(), strict=True)
    ]
    KeyTable(*KeySlots.of(keys)).find_others(asked, rows, shift, hidden)
    assert rows.tolist() == expected


@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 12), st.booleans())
def test_the_first_rows_that_count(seed: int, n: int, k: int, cut: bool) -> None:
    rng = np.random.default_rng(seed)
    published, shown = rng.integers(0, 20, n), rng.random(n) < 0.6
    rows = np.argsort(-published, kind="stable")[: n - n // 4].astype(np.int32)
    now, after = int(rng.integers(-1, 22)), int(rng.integers(-1, 22)) if cut else None
    hidden = np.packbits(np.append(~shown, np.zeros(8, np.bool_)), bitorder="little")
    young = [r for r in rows.tolist() if published[r] <= now and (after is None or published[r] > after)]
    found = first_rows(rows, published, hidden, now, k, after)
    assert found.dtype == np.int32
    assert found.tolist() == [r for r in young if shown[r]][:k]


def test_a_row_without_a_time_is_refused() -> None:
    with pytest.raises(IndexError, match="row 3 of 2"):
        first_rows(np.array([3], np.int32), np.zeros(2, np.int64), np.zeros(1, np.uint8), 1, 5)
