from __future__ import annotations

import numpy as np

from headrace.models.embeddings.directions import DIM, KIND, START, UNSEEN, directions, keys_of
from headrace.models.embeddings.table import EmbeddingTable

TAG, ITEM = KIND["tag"], KIND["item"]


def u64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def kinds(n: int, kind: int = TAG) -> np.ndarray:
    return np.full(n, kind, np.uint8)


def test_keys_of_different_kinds_differ_and_nothing_stays_nothing() -> None:
    ids = u64(0, 1, 2, 2**64 - 1)
    items, countries = keys_of("item", ids), keys_of("country", ids)
    assert items[0] == countries[0] == 0
    assert len({*items[1:].tolist(), *countries[1:].tolist()}) == 6


def test_without_a_row_a_feature_has_its_direction() -> None:
    table, keys = EmbeddingTable(), u64(5, 6)
    np.testing.assert_array_equal(table.vectors(keys, kinds(2)), directions(keys) * UNSEEN[TAG])
    assert not table.vectors(keys, kinds(2, ITEM)).any()
    assert not table.vectors(u64(0), kinds(1)).any()


def test_a_row_starts_from_the_direction_and_learns() -> None:
    table, keys = EmbeddingTable(), u64(5, 6)
    table.add(keys, kinds(2), 1)
    start = table.vectors(keys, kinds(2))
    np.testing.assert_array_equal(start, directions(keys) * START[TAG])
    grads = np.zeros((1, DIM), np.float32)
    grads[0, 0] = 3
    table.descend(table.rows.find(keys[:1]), grads, 0.1)
    moved = start - table.vectors(keys, kinds(2))
    assert not moved[1].any()
    np.testing.assert_allclose(moved[0, 0], 0.1 * 3 / np.sqrt(9 / DIM), rtol=1e-5)
    table.descend(table.rows.find(keys[:1]), grads, 0.1)
    again = start - table.vectors(keys, kinds(2)) - moved
    np.testing.assert_allclose(again[0, 0], moved[0, 0] / np.sqrt(2), rtol=1e-5)


def test_rows_that_were_not_seen_expire() -> None:
    table = EmbeddingTable()
    table.add(u64(1, 2), kinds(2), 1000)
    table.touch(table.rows.find(u64(2)), 3000)
    table.touch(table.rows.find(u64(2)), 500)  # a late click does not make it older
    assert table.expire(3000) == 1
    assert table.rows.keys().tolist() == [2]
    np.testing.assert_array_equal(table.vectors(u64(1), kinds(1)), directions(u64(1)) * UNSEEN[TAG])


def test_a_full_table_drops_what_was_not_seen_for_longest() -> None:
    table = EmbeddingTable(max_rows=20)
    for now in range(1, 21):
        table.add(u64(now), kinds(1), now)
    table.touch(table.rows.find(u64(1)), 50)
    table.add(u64(21, 22), kinds(2), 60)
    assert len(table) == 18
    assert sorted(table.rows.keys().tolist()) == [1, *range(6, 23)]


def test_a_row_that_is_used_again_starts_anew() -> None:
    table = EmbeddingTable()
    table.add(u64(1), kinds(1), 1)
    table.descend(table.rows.find(u64(1)), np.ones((1, DIM), np.float32), 0.1)
    table.expire(2)
    table.add(u64(1), kinds(1), 5)
    np.testing.assert_array_equal(table.vectors(u64(1), kinds(1)), directions(u64(1)) * START[TAG])
    assert table.rows.data["squares"][table.rows.row(1)] == 0
