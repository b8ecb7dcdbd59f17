"""Fields of many items in one compiled pass: what reading each item says."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.item_columns import columns_of
from headrace.serving.titles import SHORTEST, comparable, numbers_of
from headrace.streams.messages.ids import hash_many, use_key, words
from headrace.streams.messages.schemas import MAX_TS, MIN_TS, Item

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LABELS = st.lists(TEXTS, max_size=2)
ITEMS = st.builds(
    Item,
    item_id=TEXTS,
    published_ts=st.integers(MIN_TS, MAX_TS),
    title=TEXTS,
    category=TEXTS,
    creator_id=TEXTS,
    language=TEXTS,
    duration_ms=st.none() | st.integers(0, 2**40),
    countries=LABELS,
    blocked_countries=LABELS,
    min_age=st.integers(0, 150),
    flags=LABELS,
    boost=st.floats(0, 100, width=32),
)
#: Also texts that are compared as others are: letters in both cases, and all that counts as a gap.
TITLES = TEXTS | st.text(
    st.sampled_from("aAzZ09é\u212a\u0130 \t\n\x0b\x0c\r\x1c\x1f\x85\xa0\u2003_-"), max_size=30
)


@given(st.lists(ITEMS, max_size=6))
def test_columns_are_the_fields_of_the_items(items: list[Item]) -> None:
    found = columns_of(items, *words())
    for column, name in (
        (found.category, "category"),
        (found.creator, "creator_id"),
        (found.language, "language"),
    ):
        assert column.tolist() == hash_many([getattr(item, name) for item in items]).tolist()
    assert found.published.tolist() == [item.published_ts for item in items]
    assert found.min_age.tolist() == [item.min_age for item in items]
    assert found.boost.tolist() == [item.boost for item in items]
    assert found.duration.tolist() == [item.duration_ms or 0 for item in items]
    ruled = [bool(item.countries or item.blocked_countries) for item in items]
    assert found.ruled.tolist() == np.flatnonzero(ruled).tolist()
    assert found.flagged.tolist() == np.flatnonzero([bool(item.flags) for item in items]).tolist()


def test_they_are_hashed_under_the_key_in_use() -> None:
    items = [Item("i", 0, category="news", title="One title or another")]
    before = columns_of(items, *words()).category[0], numbers_of([items[0].title])[0]
    try:
        use_key("another key")
        after = columns_of(items, *words()).category[0], numbers_of([items[0].title])[0]
        assert after[0] == hash_many(["news"])[0]
    finally:
        use_key("")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_whole_number_as_a_boost() -> None:
    item = msgspec.json.decode(b'{"item_id": "i", "published_ts": %d, "boost": 2}' % MIN_TS, type=Item)
    assert columns_of([item, Item("j", 0, boost=3)], *words()).boost.tolist() == [2, 3]


@given(st.lists(TITLES, max_size=6))
def test_numbers_of_titles_are_hashes_of_what_is_compared(titles: list[str]) -> None:
    plain = hash_many([comparable(title) for title in titles]).astype(np.uint32)
    assert numbers_of(titles).tolist() == plain.tolist()


def test_a_title_counts_from_a_length_on() -> None:
    short, long = "  A" + "b" * (SHORTEST - 2) + "\t ", "A" + "b" * (SHORTEST - 1)
    assert numbers_of([short])[0] == 0
    assert (
        numbers_of([long, f" {long.upper()}\n"]).tolist()
        == hash_many([long.lower()] * 2).astype(np.uint32).tolist()
    )
