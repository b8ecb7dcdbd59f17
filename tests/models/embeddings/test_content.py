from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings import DIM, category_vector, item_vector, unit
from headrace.models.embeddings.content import OWN_WEIGHT, content_features, own_vector
from headrace.models.embeddings.directions import KIND
from headrace.streams.messages.ids import hash64
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


def plain_vector(given: Item) -> np.ndarray:
    """Return what item vectors were before anything could be learnt, computed one feature at a time."""
    words = set(re.findall(r"\w{3,}", given.title.lower()))
    features = [(1.0, f"category:{given.category}")] if given.category else []
    features += [(0.7, f"creator:{given.creator_id}")] if given.creator_id else []
    features += [(0.6, f"tag:{tag}") for tag in sorted(set(given.tags)) if tag]
    features += [(0.3, f"word:{word}") for word in sorted(words)]
    out = np.zeros(DIM, np.float32)
    for weight, text in features:
        rng = np.random.Generator(np.random.Philox(key=hash64(text)))
        out += weight * (rng.standard_normal(DIM, dtype=np.float32) / np.float32(np.sqrt(DIM)))
    return unit(out)


@given(words, st.lists(words, max_size=5), words, words)
def test_content_alone_gives_the_hashed_vectors_bit_for_bit(
    category: str, tags: list[str], creator: str, title: str
) -> None:
    one = item(category=category, tags=tags, creator_id=creator, title=title, duration_ms=5000)
    np.testing.assert_array_equal(item_vector(one), plain_vector(one))


def test_durations_are_in_buckets() -> None:
    def bucket(duration_ms: int | None) -> list[int]:
        keys, kinds = content_features(item(duration_ms=duration_ms))
        assert set(kinds.tolist()) <= {KIND["duration"]}
        return keys.tolist()

    assert bucket(None) == bucket(0) == []
    assert bucket(60_000) == bucket(62_000) != bucket(90_000)


def test_a_publishers_vector_is_projected_and_keeps_likeness() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=300)
    near, far = base + 0.3 * rng.normal(size=300), rng.normal(size=300)
    a, b, c = (item_vector(item(vector=v.tolist())) for v in (base, near, far))
    assert float(a @ b) > 0.85
    assert abs(float(a @ c)) < 0.4
    np.testing.assert_allclose(item_vector(item(vector=(1000 * base).tolist())), a, rtol=1e-4, atol=1e-6)


def test_a_publishers_vector_and_content_are_added() -> None:
    with_own = item(category="sport", vector=[1.0, -2.0, 0.5])
    own = own_vector(with_own)
    assert own is not None
    keys_alone = item_vector(item(category="sport"))
    plain = item_vector(item(vector=[1.0, -2.0, 0.5]))
    np.testing.assert_allclose(plain, unit(OWN_WEIGHT * own), rtol=1e-6)
    both = item_vector(with_own)
    assert float(both @ keys_alone) > 0.4
    assert float(both @ plain) > 0.4


@pytest.mark.parametrize("length", [1, 7, 64, 4096])
def test_any_length_up_to_the_largest_has_a_vector(length: int) -> None:
    vector = item_vector(item(vector=[0.5] * length))
    assert abs(float(vector @ vector) - 1) < 1e-5


def test_a_publishers_vector_of_zeros_is_none() -> None:
    assert own_vector(item(vector=[0.0, 0.0])) is None
    assert not item_vector(item(vector=[0.0])).any()


@pytest.mark.parametrize(
    "text", ["[1e31]", "[-1e400]", "[NaN]", "[Infinity]", '["1"]', "[null]", "3", "[[1]]"]
)
def test_vectors_that_are_not_finite_numbers_are_refused(text: str) -> None:
    body = f'{{"item_id":"i","published_ts":1700000000000,"vector":{text}}}'
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(body, type=Item)


def test_the_largest_numbers_give_a_finite_vector() -> None:
    body = '{"item_id":"i","published_ts":1700000000000,"vector":[1e30,-1e30,3]}'
    vector = item_vector(msgspec.json.decode(body, type=Item))
    assert np.isfinite(vector).all()
    assert vector.any()
