"""What changed since a snapshot, and ids with one hash, on the way into the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mapped_catalogs import opened, write_snapshot
from worlds import item

from headrace.models.embeddings.many import ContentVectors
from headrace.serving.snapshot import changed as module
from headrace.serving.snapshot.arrivals import Arrivals
from headrace.serving.snapshot.changed import Changed
from headrace.serving.snapshot.folder import SnapshotFolder
from headrace.serving.snapshot.writer import Writer
from headrace.streams.messages.ids import hash64, hash_many


def ids_in(path: Path) -> list[str]:
    snapshot = opened(path)
    found = sorted(snapshot.id_of(row) for row in range(len(snapshot)))
    snapshot.close()
    return found


@pytest.fixture
def one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let i9 have the hash of i1."""

    def clashing(texts: Any) -> Any:
        return hash_many(["i1" if text == "i9" else text for text in texts])

    monkeypatch.setattr(module, "hash_many", clashing)


@pytest.mark.usefixtures("one_hash")
def test_of_two_items_with_one_hash_the_first_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_snapshot(tmp_path, [item(1), item(2), item(9), "i9"], {})
    assert ids_in(tmp_path) == ["i1", "i2"]
    assert [r.action for r in caplog.records] == ["id_collision"] * 2  # type: ignore[attr-defined]
    old = opened(tmp_path)
    write_snapshot(tmp_path, [item(9), "i9", item(3)], {}, old=old)
    assert ids_in(tmp_path) == ["i1", "i2", "i3"]
    old = opened(tmp_path)
    write_snapshot(tmp_path, ["i1", item(9)], {}, old=old)
    assert ids_in(tmp_path) == ["i2", "i3", "i9"]


@pytest.mark.usefixtures("one_hash")
def test_two_ids_with_one_hash_in_one_batch(tmp_path: Path) -> None:
    with SnapshotFolder(tmp_path).writing() as folder, Writer(folder) as writer:
        changed = Changed(writer, None, ContentVectors())
        changed.apply(["i5"], [item(1), item(9), item(2)])
        writer.finish(changed.names, {}, "v", 1)
    assert ids_in(tmp_path) == ["i1", "i2"]


def test_texts_of_everything_are_in_the_next_snapshot(tmp_path: Path) -> None:
    write_snapshot(tmp_path, [item(1, category="news", flags=["nsfw"])], {})
    write_snapshot(tmp_path, [item(2, category="film", creator_id="ana")], {}, old=opened(tmp_path))
    last = opened(tmp_path)
    assert {last.name_of(hash64(name)) for name in ("news", "film", "ana", "c1")} == {
        "news",
        "film",
        "ana",
        "c1",
    }
    row = int(last.find(hash_many(["i1"]))[0])
    assert last.flags_of(row) == [hash64("nsfw")]


def test_arrivals_against_a_dict() -> None:
    rng = np.random.default_rng(1)
    arrivals, last, count = Arrivals(), dict[int, int](), 0
    for _ in range(60):
        keys = rng.integers(1, 3000, int(rng.integers(0, 200)), np.uint64)
        if rng.random() < 0.3:
            arrivals.withdraw(keys)
            last.update(dict.fromkeys(keys.tolist(), -1))
        else:
            arrivals.add(keys, keys + np.uint64(7))
            last.update(zip(keys.tolist(), range(count, count + len(keys)), strict=True))
            count += len(keys)
    every = np.arange(1, 3100, dtype=np.uint64)
    assert arrivals.known(every).tolist() == [key in last for key in every.tolist()]
    assert arrivals.counting().tolist() == sorted(n for n in last.values() if n >= 0)
    clash = arrivals.clash(every, every + np.uint64(8))
    assert clash.tolist() == [last.get(key, -1) >= 0 for key in every.tolist()]
    assert not arrivals.clash(every, every + np.uint64(7)).any()
