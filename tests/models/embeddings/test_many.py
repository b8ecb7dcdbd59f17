"""Vectors of many items at once are those of each."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import item

from headrace.models.embeddings import DIM, item_vector
from headrace.models.embeddings.many import ContentVectors, item_vectors
from headrace.streams.messages.ids import use_key
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
    vectors = item_vectors(items)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(items), DIM))
    for got, one in zip(vectors, items, strict=True):
        np.testing.assert_array_equal(got, item_vector(one))
    assert not vectors[50].any()
    np.testing.assert_array_equal(item_vectors(items[3:4])[0], vectors[3])


def test_none() -> None:
    empty: list[Item] = []
    assert item_vectors(empty).shape == (0, DIM)


def test_another_key_of_ids_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ContentVectors().version
    use_key("another secret")
    try:
        assert ContentVectors().version != before
    finally:
        use_key("")
    assert ContentVectors().version == before
