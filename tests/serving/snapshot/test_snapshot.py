from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small_catalogs import DE, FR, NAMES, US, items

from headrace.serving.index import lists
from headrace.serving.snapshot.base import Base
from headrace.serving.snapshot.files import MANIFEST, SnapshotError
from headrace.serving.snapshot.folder import SnapshotFolder
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.snapshot.writer import Writer
from headrace.streams.messages.ids import hash64, hash_many, use_key
from headrace.streams.transport.places import Place

BLOCKS = (0, 700, 701, 1500)
WRITTEN = 1_700_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> SnapshotFolder:
    return SnapshotFolder(tmp_path / "catalogue")


def write(
    folder: SnapshotFolder, blocks: tuple[int, ...] = BLOCKS, offsets: dict[int, int] | None = None
) -> None:
    with folder.writing() as path, Writer(path) as writer:
        for first, end in pairwise(blocks):
            writer.add(items(first, end - first, seed=first))
        places = {number: Place(offset) for number, offset in (offsets or {0: 5, 1: 7}).items()}
        writer.finish(NAMES, places, "64-x", WRITTEN)


def opened(folder: SnapshotFolder) -> CatalogSnapshot:
    snapshot = folder.open(thorough=True)
    assert snapshot is not None
    return snapshot


def test_every_item_comes_back_as_it_was_given(folder: SnapshotFolder) -> None:
    write(folder)
    snapshot, n = opened(folder), BLOCKS[-1]
    assert len(snapshot) == n
    assert {number: place.next for number, place in snapshot.places.items()} == {0: 5, 1: 7}
    assert (snapshot.version, snapshot.written_ms) == ("64-x", WRITTEN)
    rows = snapshot.find(hash_many([f"item-{i}" for i in range(n)]))
    assert sorted(rows.tolist()) == list(range(n))
    for i in (0, 1, 2, 699, 700, 1499):
        assert snapshot.id_of(int(rows[i])) == f"item-{i}"
        assert snapshot.title_of(int(rows[i])) == (f"Überschrift {i}" if i % 2 else "")
        assert snapshot.flags_of(int(rows[i])) == ([hash64("breaking")] if i % 3 == 0 else [])
    for first, end in pairwise(BLOCKS):
        given, here = items(first, end - first, seed=first), rows[first:end]
        for name in ("key", "published", "min_age", "boost", "duration"):
            np.testing.assert_array_equal(snapshot.column[name][here], getattr(given, name))
        for name in ("category", "creator", "language"):
            np.testing.assert_array_equal(snapshot.hashes(name, here), getattr(given, name))
        np.testing.assert_allclose(snapshot.vectors.vectors(here), given.vectors, atol=2e-5)
        np.testing.assert_array_equal(snapshot.column["alike"][here], given.alike)
        for name in ("bounds", "keys", "kinds", "own_at", "own"):
            got = getattr(snapshot.items(here).content, name)
            np.testing.assert_array_equal(got, getattr(given.content, name))
    assert [snapshot.name_of(key) for key in NAMES] == list(NAMES.values())
    assert {snapshot.name_of(key) for key in (0, 1, hash64("unheard of"), 2**64 - 1)} == {""}


def test_durations_and_ages_have_room_in_the_file(folder: SnapshotFolder) -> None:
    given = items(0, 3)
    given.duration[:] = [0, 50 * 24 * 3_600_000, 2**31]
    given.min_age[:] = [0, 18, 150]
    with folder.writing() as path, Writer(path) as writer:
        writer.add(given)
        writer.finish(NAMES, {0: Place(5)}, "64-x", WRITTEN)
    base = Base(opened(folder))
    rows = base.find(given.key)
    assert base.column("duration", rows).tolist() == [0, 2**32 - 1, 2**31], "49 days are the longest"
    assert base.column("min_age", rows).tolist() == [0, 18, 150]
    assert (base.column("duration", rows).dtype, base.column("min_age", rows).dtype) == (
        np.int64,
        np.int16,
    )


def test_unknown_keys_are_not_found(folder: SnapshotFolder) -> None:
    write(folder)
    strangers = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    assert opened(folder).find(strangers).tolist() == [-1] * 4


def test_country_rules(folder: SnapshotFolder) -> None:
    write(folder)
    snapshot = opened(folder)
    free, both, closed = snapshot.find(hash_many(["item-0", "item-1", "item-2"])).tolist()
    rows = np.array([free, both, closed])
    for country, expected in ((0, [1, 0, 0]), (DE, [1, 1, 1]), (FR, [1, 0, 0]), (US, [1, 0, 1])):
        assert snapshot.allowed_in(rows, country).tolist() == expected
        assert snapshot.allowed_in(rows, country).tolist() == expected  # the second time from the cache


def test_a_small_catalogue_is_compared_exactly(folder: SnapshotFolder) -> None:
    write(folder)
    snapshot = opened(folder)
    vectors = snapshot.vectors.vectors(np.arange(len(snapshot)))
    query = items(9000, 1, seed=3).vectors[0] + vectors[5]
    rows, products = snapshot.index.search(query, 50)
    exact = vectors @ query
    np.testing.assert_array_equal(rows, np.argsort(-exact)[:50])
    np.testing.assert_allclose(products, exact[rows], rtol=1e-5)


def test_many_lists(folder: SnapshotFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FEW", 100)
    write(folder)
    snapshot = opened(folder)
    assert len(snapshot.column["list_centroids"]) > 1
    assert snapshot.find(hash_many([f"item-{i}" for i in range(1500)])).min() == 0
    row = int(snapshot.find(hash_many(["item-77"]))[0])
    assert snapshot.index.search(snapshot.vectors.vectors(np.array([row]))[0], 1)[0].tolist() == [row]


def test_an_empty_catalogue(folder: SnapshotFolder) -> None:
    write(folder, (0, 0))
    snapshot = opened(folder)
    assert len(snapshot) == 0
    assert snapshot.find(np.array([1], np.uint64)).tolist() == [-1]
    assert len(snapshot.index.search(np.ones(64, np.float32), 5)[0]) == 0


def test_of_two_items_with_one_key_the_last_one_counts(folder: SnapshotFolder) -> None:
    with folder.writing() as path, Writer(path) as writer:
        writer.add(items(0, 50))
        writer.add(replace(items(2, 2), min_age=np.array([7, 8], np.int16)))
        writer.withdraw(hash_many(["item-4", "item-77", "item-60"]))
        writer.add(items(60, 1))
        writer.withdraw(hash_many(["item-3"]))
        writer.finish(NAMES, {}, "64-x", WRITTEN)
    snapshot = opened(folder)
    rows = snapshot.find(hash_many([f"item-{i}" for i in range(62)]))
    assert [i for i in range(62) if rows[i] < 0] == [3, 4, *range(50, 60), 61]
    assert len(snapshot) == 49
    assert snapshot.column["min_age"][rows[2]] == 7
    assert snapshot.id_of(int(rows[60])) == "item-60"
    assert len(snapshot.column["newest"]) == 49


def test_the_rest_of_a_snapshot_goes_into_the_next(folder: SnapshotFolder) -> None:
    write(folder)
    first = opened(folder)
    every = np.arange(len(first))
    with folder.writing() as path, Writer(path) as writer:
        for rows in np.split(every, [400, 401, 900]):
            writer.add(first.items(rows))
        writer.finish(first.names(), first.places, first.version, WRITTEN + 1)
    second = opened(folder)
    assert second.names() == NAMES
    same = second.find(first.column["key"])
    assert sorted(same.tolist()) == every.tolist()
    for name in ("published", "min_age", "boost", "scale", "high", "low"):
        np.testing.assert_array_equal(second.column[name][same], first.column[name])
    for name in ("category", "creator", "language"):
        np.testing.assert_array_equal(second.hashes(name, same), first.hashes(name, every))
    for country in (0, DE, FR, US):
        np.testing.assert_array_equal(second.allowed_in(same, country), first.allowed_in(every, country))
    np.testing.assert_array_equal(second.column["alike"][same], first.column["alike"])
    for name in ("bounds", "keys", "kinds", "own_at", "own"):
        got, wanted = (getattr(some.content, name) for some in (second.items(same), first.items(every)))
        np.testing.assert_array_equal(got, wanted)
    for row in range(0, 1500, 97):
        assert second.id_of(int(same[row])) == first.id_of(row)
        assert second.title_of(int(same[row])) == first.title_of(row)
        assert second.flags_of(int(same[row])) == first.flags_of(row)


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with Writer(tmp_path) as writer, pytest.raises(ValueError, match="4 values of boost for 5 items"):
        writer.add(replace(items(0, 5), boost=np.ones(4, np.float32)))


def test_a_new_one_takes_the_place_and_what_nobody_has_open_is_removed(folder: SnapshotFolder) -> None:
    assert folder.open() is None
    write(folder, offsets={0: 1})
    first = opened(folder)
    write(folder, (0, 30), offsets={0: 2})
    second = opened(folder)
    assert (len(first), len(second)) == (1500, 30)
    assert first.folder.exists()
    assert first.id_of(int(first.find(hash_many(["item-3"]))[0])) == "item-3"
    first.close()
    write(folder, (0, 40))
    assert not first.folder.exists()
    assert second.folder.exists()
    write(folder, (0, 50))
    assert second.folder.exists(), "a process has it open"
    second.close()
    write(folder, (0, 60))
    assert not second.folder.exists()
    assert len(first.find(hash_many(["item-3"]))) == 1  # the memory is still mapped
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "CURRENT", "LOCK", "catalog-00000004", "catalog-00000005",
    ]  # fmt: skip


def test_a_failed_write_leaves_the_old_one(folder: SnapshotFolder) -> None:
    write(folder)

    def crash() -> None:
        with folder.writing() as path, Writer(path) as writer:
            writer.add(items(0, 3))
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        crash()
    assert len(opened(folder)) == 1500
    write(folder, (0, 5))
    assert len(opened(folder)) == 5


def test_one_process_writes_at_a_time(folder: SnapshotFolder) -> None:
    with folder.writing() as path, pytest.raises(BlockingIOError):  # noqa: SIM117
        with folder.writing():
            pass
    assert not path.exists()


def killed_while_writing(path: Path) -> None:
    """Write half a snapshot and die."""
    program = (
        "import os, sys; from pathlib import Path; from small_catalogs import items\n"
        "from headrace.serving.snapshot.folder import SnapshotFolder\n"
        "from headrace.serving.snapshot.writer import Writer\n"
        "with SnapshotFolder(Path(sys.argv[1])).writing() as path, Writer(path) as writer:\n"
        "    writer.add(items(0, 100)); os.kill(os.getpid(), 9)\n"
    )
    support = Path(__file__).parents[2] / "support"
    where = {"PYTHONPATH": f"{support}:{':'.join(sys.path)}"}
    assert subprocess.run([sys.executable, "-c", program, str(path)], env=where, check=False).returncode == -9


def test_a_writer_that_was_killed_blocks_nobody(folder: SnapshotFolder) -> None:
    write(folder)
    killed_while_writing(folder.path)
    assert len(opened(folder)) == 1500
    write(folder, (0, 5))
    assert len(opened(folder)) == 5


def manifest_with(folder: SnapshotFolder, **changes: object) -> Path:
    path = folder.current()
    assert path is not None
    manifest = json.loads((path / MANIFEST).read_bytes()) | changes
    (path / MANIFEST).write_text(json.dumps(manifest))
    return path


def test_another_format_is_refused_by_name(folder: SnapshotFolder) -> None:
    write(folder)
    manifest_with(folder, format=99, something="new")
    with pytest.raises(SnapshotError, match="format 99; this program reads format 7"):
        folder.open()


def test_ids_under_another_key_are_refused(folder: SnapshotFolder) -> None:
    write(folder)
    use_key("another secret")
    try:
        with pytest.raises(SnapshotError, match="its ids are hashed under another HEADRACE_ID_KEY"):
            folder.open()
    finally:
        use_key("")
    assert folder.open() is not None


def test_places_that_cannot_be_read_are_refused(folder: SnapshotFolder) -> None:
    write(folder)
    manifest_with(folder, places={"0": "at1:xx"})
    with pytest.raises(SnapshotError, match="places in the manifest cannot be read"):
        folder.open()


@pytest.mark.parametrize("name", ["key", "high", "text", "slots", "list_starts"])
def test_a_short_or_missing_file_is_refused(folder: SnapshotFolder, name: str) -> None:
    write(folder)
    path = folder.current()
    assert path is not None
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[:-1])
    with pytest.raises(
        SnapshotError, match=f"{name} has {len(whole) - 1} bytes; the manifest says {len(whole)}"
    ):
        folder.open()
    (path / name).unlink()
    with pytest.raises(SnapshotError, match=f"{name} is missing"):
        folder.open()


def test_a_flipped_bit_is_found_when_all_is_read(folder: SnapshotFolder) -> None:
    write(folder)
    path = folder.current()
    assert path is not None
    raw = bytearray((path / "boost").read_bytes())
    raw[100] ^= 4
    (path / "boost").write_bytes(raw)
    assert folder.open() is not None
    with pytest.raises(SnapshotError, match="boost has the checksum"):
        folder.open(thorough=True)


def test_wrong_tables_never_lead_out_of_the_files(folder: SnapshotFolder) -> None:
    write(folder)
    path = folder.current()
    assert path is not None
    keys = hash_many([f"item-{i}" for i in range(1500)])
    for name in ("key_table", "slots"):
        size, whole = (path / name).stat().st_size, (path / name).read_bytes()
        (path / name).write_bytes(np.random.default_rng(1).bytes(size))
        found = folder.open()
        assert found is not None
        rows = found.find(keys)
        assert ((rows >= -1) & (rows < 1500)).all()
        (path / name).write_bytes(whole)
    (path / "list_starts").write_bytes(np.array([5, 1500], np.int64).tobytes())
    with pytest.raises(SnapshotError, match="list_starts does not go from 0 to 1500"):
        folder.open()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 7}'])
def test_a_broken_manifest_is_refused(folder: SnapshotFolder, text: str) -> None:
    write(folder)
    path = folder.current()
    assert path is not None
    (path / MANIFEST).write_text(text)
    with pytest.raises(SnapshotError, match="manifest cannot be read"):
        folder.open()


def test_a_manifest_that_contradicts_itself_is_refused(folder: SnapshotFolder) -> None:
    write(folder)
    manifest_with(folder, rows=1499)
    with pytest.raises(SnapshotError, match="has 1500 values; 1499 belong"):
        folder.open()
