"""Vectors of many items at once are those of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from learnt_towers import learnt_body
from worlds import item

from headrace.models.embeddings import DIM, item_vector
from headrace.models.embeddings.artefact import towers_of
from headrace.models.embeddings.content import content_features, own_vector
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.many import ContentVectors, TowerVectors, content_of
from headrace.streams.messages.ids import hash_many, use_key
from headrace.streams.messages.schemas import Item


def test_many_are_the_same_as_each() -> None:
    items = [
        *(
            item(n, title=f"Ein Titel, Nummer {n % 7}: zwei zwei", tags=["b", "a", "", "b"])
            for n in range(50)
        ),
        item(60, title="", category="", creator_id="", tags=[]),
        item(61, duration_ms=90_000, title=""),
        item(62, vector=[1.0, -2.0, 3.0]),
        item(63, vector=[0.0, 0.0]),
        item(64, title="", category="", creator_id="", tags=[], vector=[1.0] * 10, duration_ms=5000),
    ]
    content = content_of(items)
    for at, one in enumerate(items):
        keys, kinds = content_features(one)
        mine = slice(*content.bounds[at : at + 2])
        np.testing.assert_array_equal(content.keys[mine], keys)
        np.testing.assert_array_equal(content.kinds[mine], kinds)
        own = content.own[content.own_at == at]
        assert (own_vector(one) is None) == (len(own) == 0)
        if len(own):
            np.testing.assert_array_equal(own[0], own_vector(one))
    vectors = vectors_of(items)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(items), DIM))
    for got, one in zip(vectors, items, strict=True):
        np.testing.assert_allclose(got, item_vector(one), atol=1e-6)
    assert not vectors[50].any()
    np.testing.assert_allclose(vectors_of(items[3:4])[0], vectors[3], atol=1e-6)


def vectors_of(items: Sequence[Item]) -> npt.NDArray[np.float32]:
    return ContentVectors().item_vectors(hash_many([one.item_id for one in items]), content_of(items))


def test_none() -> None:
    assert vectors_of([]).shape == (0, DIM)


def test_learnt_towers_give_the_vectors_that_serving_computes() -> None:
    items, memory = [item(n, duration_ms=1000 * n, vector=[1.0, n]) for n in range(30)], ItemContent()
    for one in items:
        memory.put(one)
    towers = towers_of(learnt_body(memory, [one.item_id for one in items], 1))
    keys = hash_many([one.item_id for one in items])
    made = TowerVectors(towers)
    np.testing.assert_array_equal(
        made.item_vectors(keys, content_of(items)), towers.item_vectors(keys, memory)
    )
    assert made.version == f"{ContentVectors().version}-{towers.version}"
    assert made.content == ContentVectors().version


def test_another_key_of_ids_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ContentVectors().version
    use_key("another secret")
    try:
        assert ContentVectors().version != before
    finally:
        use_key("")
    assert ContentVectors().version == before
