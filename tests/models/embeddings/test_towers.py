from __future__ import annotations

import numpy as np
from clicking_world import nobody
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.embeddings import DIM, category_vector, item_vector, unit
from headrace.models.embeddings.directions import KIND, directions, keys_of
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.towers import PLACES, Towers, first_weights, recent_vectors
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def item(item_id: str, **fields: object) -> Item:
    return Item(**{"item_id": item_id, "published_ts": 10**12, **fields})  # type: ignore[arg-type]


@settings(max_examples=30)
@given(st.lists(st.tuples(texts, texts, st.lists(texts, max_size=4), texts, st.booleans()), max_size=8))
def test_version_0_is_the_hashed_vectors_to_rounding(
    given_: list[tuple[str, str, list[str], str, bool]],
) -> None:
    content, items = ItemContent(), []
    for n, (category, creator, tags, title, own) in enumerate(given_):
        vector = [1.0, n, 2.0] if own else []
        items.append(
            item(f"i{n}", category=category, creator_id=creator, tags=tags, title=title, vector=vector)
        )
        content.put(items[-1])
    found = Towers().item_vectors(hash_many([i.item_id for i in items]), content)
    expected = np.array([item_vector(i) for i in items], np.float32).reshape(-1, DIM)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_new_item_has_a_vector_and_an_unknown_one_has_none() -> None:
    content = ItemContent()
    content.put(item("i", tags=["a"]))
    vectors = Towers().item_vectors(hash_many(["i", "never put", "i"]), content)
    assert abs(float(vectors[0] @ vectors[0]) - 1) < 1e-6
    assert not vectors[1].any()
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_a_learnt_id_moves_only_its_item() -> None:
    content, towers = ItemContent(), Towers()
    for name in ("i", "j"):
        content.put(item(name, tags=["a"]))
    keys = hash_many(["i", "j"])
    before = towers.item_vectors(keys, content)
    towers.table.add(keys_of("item", keys[:1]), np.array([KIND["item"]], np.uint8), 1)
    after = towers.item_vectors(keys, content)
    np.testing.assert_array_equal(before[1], after[1])
    expected = before[0] * np.linalg.norm(0.6 * directions(hash_many(["tag:a"]))) + 0.3 * directions(
        keys_of("item", keys[:1])
    )
    np.testing.assert_allclose(after[0], expected[0] / np.linalg.norm(expected), rtol=1e-4, atol=1e-6)


def test_how_items_are_batched_does_not_matter() -> None:
    content, names = ItemContent(), [f"i{n}" for n in range(40)]
    for n, name in enumerate(names):
        content.put(item(name, tags=[f"t{n % 5}", f"s{n}"], category="c", vector=[1.0, n] if n % 3 else []))
    towers, keys = Towers(), hash_many(names)
    whole = towers.item_vectors(keys, content)
    parts = np.concatenate([towers.item_vectors(keys[n : n + 7], content) for n in range(0, 40, 7)])
    np.testing.assert_allclose(whole, parts, rtol=1e-6, atol=1e-7)
    assert towers.item_vectors(keys[:0], content).shape == (0, DIM)


def test_a_new_user_has_the_vector_of_the_preferred_categories() -> None:
    content, users = ItemContent(), nobody(3)
    for name in ("sport", "art"):
        content.put(item(name, category=name, creator_id=f"by {name}"))
    users.preferred = np.zeros((3, 8), np.uint64)
    users.preferred[0, :2] = hash_many(["sport", "art"])
    users.preferred[1, :2] = hash_many(["unknown", "sport"])
    recent = np.zeros((3, PLACES, DIM), np.float32)
    vectors = Towers().user_vectors(users, recent, content)
    np.testing.assert_allclose(vectors[0], category_vector(["sport", "art"]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(vectors[1], category_vector(["sport"]), rtol=1e-5, atol=1e-6)
    assert not vectors[2].any()
    users.followed = np.zeros((3, 4), np.uint64)
    users.followed[2, 0] = hash64("by art")
    vectors = Towers().user_vectors(users, recent, content)
    assert float(vectors[2] @ Towers().item_vectors(hash_many(["art"]), content)[0]) > 0.3


def test_newer_clicks_count_more() -> None:
    content, users, towers = ItemContent(), nobody(1), Towers()
    for name in ("a", "b", "c"):
        content.put(item(name, tags=[name]))
    keys = hash_many(["a", "b", "c"])
    users.recent[0, :3] = keys
    recent = recent_vectors(users, towers, content)
    assert not recent[0, 3:].any()
    vectors = towers.item_vectors(keys, content)
    expected = unit(first_weights()[:3] @ vectors)
    np.testing.assert_allclose(towers.user_vectors(users, recent, content)[0], expected, rtol=1e-5)
    longer = np.concatenate([recent, np.ones((1, 5, DIM), np.float32)], axis=1)  # places that are not read
    np.testing.assert_allclose(towers.user_vectors(users, longer, content)[0], expected, rtol=1e-5)


def test_country_and_device_count_once_they_were_learnt() -> None:
    content, users, towers = ItemContent(), nobody(2), Towers()
    users.country[:] = hash_many(["BR", ""])
    recent = np.zeros((2, PLACES, DIM), np.float32)
    assert not towers.user_vectors(users, recent, content).any()
    unknown = keys_of("country", np.array([1], np.uint64))  # an unknown country is a country like any other
    towers.table.add(unknown, np.array([KIND["country"]], np.uint8), 1)
    vectors = towers.user_vectors(users, recent, content)
    assert not vectors[0].any()
    np.testing.assert_allclose(vectors[1], unit(directions(unknown)[0]), rtol=1e-5)
