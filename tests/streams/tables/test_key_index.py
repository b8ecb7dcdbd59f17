from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.tables.key_index import KeyIndex

#: Multiples of 2**57 share few home slots: runs get long and wrap around the end of the index.
crowded = st.integers(0, 127).map(lambda k: k << 57)
some_keys = st.lists(crowded | st.integers(0, 40), max_size=40)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(["take", "drop", "find"]), some_keys), max_size=25),
    st.sampled_from([0, 1 << 17]),
)
def test_the_index_behaves_like_a_dictionary(steps: list[tuple[str, list[int]]], at_once: int) -> None:
    index, model, free = KeyIndex(0, at_once), dict[int, int](), set[int]()
    for what, keys in steps:
        array = np.array(keys, np.uint64)
        if what == "take":
            rows, new = index.take(array)
            made = [i for i, key in enumerate(keys) if key not in model and key not in keys[:i]]
            assert new.tolist() == made
            for i in made:
                row = int(rows[i])
                assert row not in model.values()
                assert row in free or not free, "a row that was given up is used before a new one"
                free.discard(row)
                model[keys[i]] = row
            assert rows.tolist() == [model[key] for key in keys]
        elif what == "drop":
            gone = [model.pop(key) for key in dict.fromkeys(keys) if key in model]
            assert index.drop(array).tolist() == gone
            free.update(gone)
        else:
            assert index.find(array).tolist() == [model.get(key, -1) for key in keys]
        assert len(index) == len(model)
        keys_, rows_ = index.items()
        assert dict(zip(keys_.tolist(), rows_.tolist(), strict=True)) == model
        assert rows_.tolist() == sorted(rows_.tolist())
        assert index.used == len(model) + len(free)
        for key in (0, 1, 1 << 63):
            assert index.get(key) == model.get(key, -1)


@pytest.mark.parametrize("step", [1, 1 << 20, 1 << 44, 0x9E3779B97F4A7C15, 2**64 - 1])
def test_keys_of_any_pattern(step: int) -> None:
    keys = np.array([i * step % 2**64 for i in range(20_000)], np.uint64)
    index = KeyIndex()
    rows, new = index.take(keys)
    assert len(set(keys.tolist())) == len(index) == len(new)
    np.testing.assert_array_equal(index.find(keys), rows)
    gone, left = keys[::2].copy(), keys[1::2].copy()
    assert index.drop(gone).tolist() == rows[::2].tolist()
    assert (index.find(gone) == -1).all()
    np.testing.assert_array_equal(index.find(left), rows[1::2])
    again, new = index.take(gone)
    assert len(new) == len(gone)
    assert sorted(again.tolist()) == sorted(rows[::2].tolist())


def test_an_index_can_be_made_large_at_once() -> None:
    index = KeyIndex(10_000)
    before = index.nbytes
    index.take(np.arange(10_000, dtype=np.uint64))
    assert index.nbytes == before


def test_a_full_index_is_moved_a_little_with_every_call() -> None:
    rng = np.random.default_rng(3)
    keys = np.unique(rng.integers(0, 2**63, 60_000).astype(np.uint64) * np.uint64(2))
    rng.shuffle(keys)
    index, full = KeyIndex(0, 0), 3 * 2**14  # three quarters of 2**16 slots
    rows = index.take(keys[:full])[0]
    small = index.nbytes
    rows = np.append(rows, index.take(keys[full : full + 1])[0])
    assert index.nbytes == 3 * small, "the table that was full is still there, beside one of twice its size"
    gone = keys[:full:5].copy()
    np.testing.assert_array_equal(index.drop(gone), rows[:full:5])
    spare = index.nbytes - 3 * small  # what is kept of the rows that are used again
    assert 0 < spare < small
    assert not set(index.take(keys[full + 1 : full + 9])[0].tolist()) - set(rows[:full:5].tolist())
    left = np.setdiff1d(keys[:full], gone)
    expected = dict(zip(keys[: full + 1].tolist(), rows.tolist(), strict=True))
    assert index.find(left).tolist() == [expected[key] for key in left.tolist()]
    assert (index.find(gone) == -1).all()
    assert (index.find(left + np.uint64(1)) == -1).all()
    assert dict(zip(*(each.tolist() for each in index.items()), strict=True)).keys() == {
        *left.tolist(), *keys[full : full + 9].tolist()
    }  # fmt: skip
    calls = 0
    while index.nbytes > 2 * small + spare:
        index.take(keys[full : full + 1])
        calls += 1
    assert 2**16 / 40 < calls < 2**16 / 4, "each of the calls moved a few"
    assert index.find(left).tolist() == [expected[key] for key in left.tolist()]
    assert (index.find(gone) == -1).all()


def test_a_small_index_that_is_full_is_moved_at_once() -> None:
    index = KeyIndex()
    index.take(np.arange(3 * 2**14, dtype=np.uint64))
    small = index.nbytes
    index.take(np.array([2**40], np.uint64))
    assert index.nbytes == 2 * small
