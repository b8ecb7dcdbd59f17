from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from strategies import unit_vectors

from headrace.serving.index.hot import HotIndex
from headrace.serving.index.hot_file import HotFileError, Saved, load, save

HOUR = 3_600_000
NOW = 1_700_000_000_000


def filled(n: int) -> tuple[HotIndex, np.ndarray]:  # type: ignore[type-arg]
    index, vectors = HotIndex(48 * HOUR), unit_vectors(n)
    for i, v in enumerate(vectors):
        index.put(i + 1, v, NOW - i * 1000, NOW)
    return index, vectors


def saved(index: HotIndex, offsets: dict[int, int] | None = None) -> Saved:
    return Saved.of(index.contents(), index.ages(), offsets or {})


def reopened(path: Path, now: int) -> HotIndex:
    got = load(path, "e1")
    return HotIndex.of(got.items, got.published, 48 * HOUR, now)


def test_the_same_items_are_found_after_a_restart(tmp_path: Path) -> None:
    index, vectors = filled(300)
    index._begin_merge()
    index.settle()
    index.put(301, vectors[0], NOW, NOW)
    for key in (5, 301, 302):
        index.drop(key)
    index.put(303, vectors[1], NOW, NOW)
    index.put(9, vectors[8], NOW - 40 * HOUR, NOW)  # only its date is another one
    save(tmp_path / "hot", saved(index, {0: 7, 3: 9}), "e1")
    again = reopened(tmp_path / "hot", NOW)
    assert load(tmp_path / "hot", "e1").offsets == {0: 7, 3: 9}
    assert len(again) == len(index) == 300
    for query in vectors[:20]:
        for here, there in zip(index.search(query, 30), again.search(query, 30), strict=True):
            np.testing.assert_array_equal(here, there)
    assert again.expire(NOW + 9 * HOUR) == 1
    assert 9 not in again.search(vectors[8], 10)[0].tolist()
    again.drop(7)
    again.put(5, vectors[4], NOW, NOW)
    assert again.search(vectors[4], 1)[0].tolist() == [5]
    assert 7 not in again.search(vectors[6], 10)[0].tolist()


def test_what_has_become_too_old_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    save(tmp_path / "hot", saved(filled(100)[0]), "e1")
    later = NOW + 48 * HOUR - 49_500
    again = reopened(tmp_path / "hot", later)
    assert len(again) == 50
    assert again.expire(later + 1000) == 1
    assert sorted(again.search(unit_vectors(1)[0], 100)[0].tolist()) == list(range(1, 50))


def test_an_empty_index(tmp_path: Path) -> None:
    save(tmp_path / "hot", saved(HotIndex(HOUR)), "e1")
    assert len(reopened(tmp_path / "hot", NOW)) == 0


def test_another_embedding_is_refused_and_both_are_named(tmp_path: Path) -> None:
    save(tmp_path / "hot", saved(filled(3)[0]), "e1")
    with pytest.raises(HotFileError, match="embedding e1; this program reads format 1, embedding e2"):
        load(tmp_path / "hot", "e2")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hot"
    with pytest.raises(FileNotFoundError):
        load(path, "e1")
    save(path, saved(filled(30)[0]), "e1")
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[:100], whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(HotFileError, match="cannot be read"):
            load(path, "e1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hot"]
