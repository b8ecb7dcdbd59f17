"""The keys of many items at once are those of each alone, in any script."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings.content import category_key, content_features, creator_key
from headrace.models.embeddings.item_keys import keys_of_items
from headrace.streams.messages.ids import hash_many, words
from headrace.streams.messages.schemas import Item

#: Cased letters that change their length in lower case, digits of other scripts, letters of 1 to 4 bytes.
LETTERS = st.text("abAB_ -.19ßİÅéЖ中文٣²ǅ𐐀😀\u0301\n", max_size=30)
texts = LETTERS | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
items = st.builds(
    Item,
    item_id=st.just("i"),
    published_ts=st.just(10**12),
    title=texts | st.lists(texts, max_size=8).map(" ".join),
    category=texts,
    creator_id=texts,
    tags=st.lists(texts, max_size=5),
    duration_ms=st.none() | st.integers(0, 2**53),
)


@given(st.lists(items, max_size=6))
def test_keys_are_those_of_each_item(some: list[Item]) -> None:
    keys, kinds, bounds, categories, creators = keys_of_items(some, *words())
    assert bounds.tolist()[0] == 0
    assert len(keys) == len(kinds) == bounds[-1]
    assert categories.tolist() == [category_key(item.category) for item in some]
    assert creators.tolist() == [creator_key(item.creator_id) for item in some]
    for n, item in enumerate(some):
        expected, of_kind = content_features(item)
        np.testing.assert_array_equal(keys[bounds[n] : bounds[n + 1]], expected)
        np.testing.assert_array_equal(kinds[bounds[n] : bounds[n + 1]], of_kind)


def test_long_texts_and_many_words() -> None:
    item = Item("i", 1, " ".join(f"Wort{n % 90:03d}é" for n in range(400)), "c" * 5000, ["t" * 2000, "t"])
    keys, _, bounds, _, _ = keys_of_items([item, item], *words())
    expected = content_features(item)[0].tolist()
    assert keys.tolist() == [*expected, *expected]
    assert bounds.tolist() == [0, len(expected), 2 * len(expected)]
    assert len(expected) == 1 + 2 + 90
    assert hash_many(["word:wort000é"])[0] in keys
