from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.messages.ids import NONE, KnownIds, hash64, hash_many

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def test_the_empty_string_is_nothing() -> None:
    assert hash64("") == NONE == 0
    assert hash_many(["", "a", ""]).tolist() == [0, hash64("a"), 0]


def test_ids_are_those_of_every_other_installation() -> None:
    # xxh3_64: a change would orphan every stored row.
    assert hash64("item-1") == 12172481486005482930
    assert hash64("a") == 0xE6C632B61E964E1F


@given(st.lists(texts, max_size=30))
def test_many_at_once_are_the_same(items: list[str]) -> None:
    got = hash_many(items)
    assert got.dtype == np.uint64
    assert got.shape == (len(items),)
    assert got.tolist() == [hash64(t) for t in items]


@given(st.lists(st.lists(texts, max_size=12), max_size=5), st.integers(1, 6))
def test_remembered_ids_are_the_same_and_few(batches: list[list[str]], limit: int) -> None:
    known = KnownIds(limit)
    for items in batches:
        got = known.many(items)
        assert got.dtype == np.uint64
        assert got.tolist() == [hash64(t) for t in items]
        assert len(known) <= limit


@given(texts)
def test_only_nothing_is_zero(text: str) -> None:
    assert (hash64(text) == NONE) == (text == "")
    assert 0 <= hash64(text) < 1 << 64


def test_a_hundred_thousand_ids_do_not_collide() -> None:
    assert len(np.unique(hash_many([f"item-{i}" for i in range(100_000)]))) == 100_000
