from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings import DIM, category_vector, item_vector, unit
from headrace.streams.messages.schemas import Item

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def item(**fields: object) -> Item:
    return Item(**{"item_id": "i", "published_ts": 1, **fields})  # type: ignore[arg-type]


@given(words, st.lists(words, max_size=5), words, words)
def test_a_vector_is_a_unit_vector_or_nothing(
    category: str, tags: list[str], creator: str, title: str
) -> None:
    vector = item_vector(item(category=category, tags=tags, creator_id=creator, title=title))
    assert vector.shape == (DIM,)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    assert not vector.any() or abs(float(vector @ vector) - 1) < 1e-5


@given(st.lists(words, max_size=6), st.randoms(use_true_random=False))
def test_neither_the_order_of_tags_nor_repeating_them_matters(tags: list[str], random: object) -> None:
    shuffled = tags + tags[:2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(item_vector(item(tags=tags)), item_vector(item(tags=shuffled)))


def test_no_content_no_vector() -> None:
    assert not item_vector(item()).any()
    assert not item_vector(item(title="a of to")).any()
    assert not category_vector([]).any()


def test_what_items_share_brings_them_together() -> None:
    a = item_vector(item(category="sport", creator_id="c1", tags=["goal"]))
    b = item_vector(item(category="sport", creator_id="c1", tags=["match"]))
    c = item_vector(item(category="politics", creator_id="c2", tags=["vote"]))
    assert float(a @ b) > 0.5
    assert abs(float(a @ c)) < 0.4
    assert float(a @ category_vector(["sport"])) > 0.3


def test_the_same_word_in_another_place_is_another_feature() -> None:
    a, b = item_vector(item(category="music")), item_vector(item(tags=["music"]))
    assert abs(float(a @ b)) < 0.5


def test_vectors_are_those_of_every_other_process() -> None:
    vector = item_vector(item(category="sport"))
    np.testing.assert_allclose(vector, item_vector(item(category="sport")))
    np.testing.assert_allclose(vector, category_vector(["sport"]), rtol=1e-6)


def test_unit_leaves_its_input_alone() -> None:
    zero, three = np.zeros(DIM, np.float32), np.full(DIM, 3, np.float32)
    assert not unit(zero).any()
    assert float(np.linalg.norm(unit(three))) == np.float32(1)
    assert (three == 3).all()
