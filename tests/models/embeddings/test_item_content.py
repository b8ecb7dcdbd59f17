from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings.content import category_key, content_features, creator_key, own_vector
from headrace.models.embeddings.features import Users
from headrace.models.embeddings.item_content import ItemContent
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item

texts = st.sampled_from(["", "a", "b", "sport", "news"])


@st.composite
def items(draw: st.DrawFn) -> Item:
    return Item(
        item_id=draw(st.sampled_from("ijkl")),
        published_ts=10**12,
        category=draw(texts),
        creator_id=draw(texts),
        tags=draw(st.lists(texts, max_size=4)),
        title=draw(st.sampled_from(["", "one two three", "three four"])),
        duration_ms=draw(st.sampled_from([None, 0, 1000, 90_000])),
        vector=draw(st.sampled_from([[], [1.0, 2.0], [0.0, 0.0], [3.0]])),
    )


@given(st.lists(st.one_of(items(), st.sampled_from("ijkl")), max_size=30))
def test_it_has_the_features_of_the_newest_state_of_every_item(changes: list[Item | str]) -> None:
    content, plain = ItemContent(), dict[str, Item]()
    for change in changes:
        if isinstance(change, Item):
            assert content.put(change) == hash64(change.item_id)
            plain[change.item_id] = change
        else:
            content.drop([hash64(change)])
            plain.pop(change, None)
    assert len(content) == len(plain)
    check(content, plain)
    content._compact()
    check(content, plain)


def check(content: ItemContent, plain: dict[str, Item]) -> None:
    asked = list("zijklz")
    found = content.features_of(hash_many(asked))
    own = dict(zip(found.own_at.tolist(), found.own, strict=True))
    for n, item_id in enumerate(asked):
        inside = slice(found.bounds[n], found.bounds[n + 1])
        item = plain.get(item_id)
        keys, kinds = content_features(item) if item else (np.zeros(0), np.zeros(0))
        np.testing.assert_array_equal(found.keys[inside], keys)
        np.testing.assert_array_equal(found.kinds[inside], kinds)
        expected = own_vector(item) if item else None
        assert (n in own) == (expected is not None)
        if expected is not None:
            np.testing.assert_array_equal(own[n], expected)


def test_the_room_of_replaced_items_is_used_again() -> None:
    content = ItemContent()
    for n in range(3000):
        content.put(Item(item_id=f"i{n % 10}", published_ts=10**12, tags=[f"t{n}", "a", "b", "c", "d"]))
    assert len(content._heap) + len(content._old or []) < 10_000
    assert (
        content.features_of(hash_many(["i3"])).keys.tolist()
        == hash_many(["tag:a", "tag:b", "tag:c", "tag:d", "tag:t2993"]).tolist()
    )


def test_a_heap_is_copied_without_its_waste_a_little_with_every_call() -> None:
    content, plain, names = ItemContent(), dict[str, Item](), [f"i{n}" for n in range(2000)]

    def put(name: str, n: int) -> None:
        plain[name] = Item(item_id=name, published_ts=10**12, tags=[f"t{n}", "a", *"bc"[: n % 3]])
        content.put(plain[name])

    def check_all() -> None:
        found = content.features_of(hash_many(names))
        for n, name in enumerate(names):
            there = content_features(plain[name])[0] if name in plain else np.zeros(0)
            np.testing.assert_array_equal(found.keys[found.bounds[n] : found.bounds[n + 1]], there)

    for n, name in enumerate(names):
        put(name, n)
    n = 0
    while content._old is None:
        put(names[n * 7 % 2000], n)
        n += 1
        assert n < 4000, "another heap never begins"
    calls = 0
    while content._old is not None:
        if calls % 2:
            content.drop([hash64(names[calls])])
            plain.pop(names[calls], None)
        else:
            put(f"new{calls}", calls)
        names.append(f"new{calls}")
        if calls % 8 == 0:
            check_all()
        calls += 1
    assert calls > 10, "each call moves a few"
    check_all()
    assert content._heap.waste < 2000


def test_categories_and_creators_are_found_by_the_hash_of_their_names() -> None:
    content = ItemContent()
    content.put(Item(item_id="i", published_ts=10**12, category="sport", creator_id="ann"))
    asked = hash_many(["sport", "ann", ""]).reshape(1, 3)
    assert content.categories(asked).tolist() == [[category_key("sport"), 0, 0]]
    assert content.creators(asked).tolist() == [[0, creator_key("ann"), 0]]


def test_users_are_put_one_after_the_other() -> None:
    def users(n: int, places: int, first: int) -> Users:
        column = np.arange(first, first + n, dtype=np.uint64)
        lists = np.repeat(column[:, None], places, axis=1)
        return Users(lists, lists, lists, column, column)

    both = users(2, 1, 1).and_then(users(1, 3, 9))
    assert both.recent.tolist() == [[1, 0, 0], [2, 0, 0], [9, 9, 9]]
    assert both.country.tolist() == [1, 2, 9]
    assert both.part(1, 3).recent.tolist() == [[2, 0, 0], [9, 9, 9]]
    assert len(both) == 3
