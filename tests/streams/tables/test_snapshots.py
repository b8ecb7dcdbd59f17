"""Snapshots: read back whole or not at all, also when rows changed while they were written."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from state_rows import ROW, Record, contents, keys, put

from headrace.streams.tables import snapshots
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable
from headrace.streams.tables.snapshots import HEADER_BYTES, read_snapshot, snapshot_path, write_snapshot

TOPIC = "t-user-state"


def partition(number: int = 0) -> StatePartition:
    return StatePartition(number, RowTable(ROW))


async def kept(promise: tuple[int, int]) -> bool:
    return True


def filled(count: int = 100) -> StatePartition:
    part = partition()
    rows = part.rows.take(np.arange(1, count + 1, dtype=np.uint64))
    part.rows.data["offset"][rows] = np.arange(count)
    part.rows.data["count"][rows] = 7
    part.position, part.last_crc = count + 5, 1234
    part.meta = {b"m:\x00": b"\xff" * 8}
    return part


async def test_round_trip(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 7 * ROW.itemsize)
    part = filled()
    part.rows.drop([3, 50])
    part.rows.data["updated"][part.rows.find(keys(10, 11))] = -5
    assert sorted(part.evict(before_ms=0).tolist()) == [10, 11]
    assert await write_snapshot(part, tmp_path, TOPIC, kept)
    assert [p.name for p in tmp_path.iterdir()] == [f"{TOPIC}-0.snapshot"]
    back = partition()
    assert read_snapshot(back, tmp_path, TOPIC, 0, 105)
    assert len(part.rows) == 96
    assert len(back.rows) == 98, "evicted rows are in the file too"
    part.restore(keys(10, 11))
    assert contents(back) == contents(part)
    assert (back.position, back.last_crc, back.meta) == (105, 1234, part.meta)
    assert not back.dirty


async def test_an_empty_partition(tmp_path: Path):
    part = partition()
    assert await write_snapshot(part, tmp_path, TOPIC, kept)
    back = partition()
    assert read_snapshot(back, tmp_path, TOPIC, 0, 0)
    assert not len(back.rows)


async def test_what_is_not_durable_gets_no_name(tmp_path: Path):
    async def never(promise: tuple[int, int]) -> bool:
        return False

    assert await write_snapshot(filled(), tmp_path, TOPIC, kept)
    before = snapshot_path(tmp_path, TOPIC, 0).read_bytes()
    assert not await write_snapshot(filled(50), tmp_path, TOPIC, never)
    assert snapshot_path(tmp_path, TOPIC, 0).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def spoil(path: Path, name: str, value: object) -> None:
    content = path.read_bytes()
    header = json.loads(content[:HEADER_BYTES])
    header[name] = value
    path.write_bytes(json.dumps(header).encode().ljust(HEADER_BYTES) + content[HEADER_BYTES:])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("version", 99, "version"),
        ("topic", "another", "topic"),
        ("partition", 1, "partition"),
        ("partitions", 4, "its partitions is 4, not 0"),
        ("layout", 1, "layout"),
        ("row_bytes", 8, "row_bytes"),
        ("position", 106, "goes from 0 to 105"),
        ("position", -1, "goes from 0 to 105"),
        ("rows", 99, "bytes"),
        ("rows", "many", "header"),
        ("rows", -1, "bytes"),
        ("written_s", 1_600_000_000, "hours old"),
        ("written_s", 4_000_000_000, "hours old"),
        ("crc", 5, "checksum"),
        ("position", 104, "checksum"),
        ("last_crc", 4, "checksum"),
    ],
)
async def test_a_snapshot_that_does_not_fit_is_refused(tmp_path: Path, caplog, name, value, said):
    await write_snapshot(filled(), tmp_path, TOPIC, kept)
    spoil(snapshot_path(tmp_path, TOPIC, 0), name, value)
    back = partition()
    assert not read_snapshot(back, tmp_path, TOPIC, 0, 105)
    assert "is not used" in caplog.text
    assert said in caplog.text
    assert not len(back.rows)
    assert (back.position, back.last_crc) == (0, -1)


async def test_one_of_other_rows_is_refused_as_the_partitions_were_made_more(tmp_path: Path, caplog):
    await write_snapshot(filled(), tmp_path, TOPIC, kept, 4)
    assert read_snapshot(partition(), tmp_path, TOPIC, 0, 105, partitions=4)
    assert not read_snapshot(partition(), tmp_path, TOPIC, 0, 105, partitions=8)
    assert "its partitions is 4, not 8" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "rubbish"])
async def test_a_damaged_file_is_refused(tmp_path: Path, caplog, damage):
    path = snapshot_path(tmp_path, TOPIC, 0)
    await write_snapshot(filled(), tmp_path, TOPIC, kept)
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + 200] ^= 1
    path.write_bytes({"cut": content[:-1], "flip": content, "empty": b"", "rubbish": b"x" * 5000}[damage])
    back = partition()
    assert not read_snapshot(back, tmp_path, TOPIC, 0, 105)
    assert "is not used" in caplog.text
    assert not len(back.rows)


def test_no_snapshot_is_nothing_to_talk_about(tmp_path: Path, caplog):
    assert not read_snapshot(partition(), tmp_path, TOPIC, 0, 105)
    assert not caplog.text


async def test_the_log_started_past_it(tmp_path: Path):
    await write_snapshot(filled(), tmp_path, TOPIC, kept)
    assert not read_snapshot(partition(), tmp_path, TOPIC, 106, 200)


@pytest.mark.parametrize("seed", range(6))
async def test_rows_that_change_while_it_is_written(tmp_path: Path, monkeypatch, seed):
    """A stage changes, deletes, evicts, restores, writes rows meanwhile; snapshot + later records = state."""
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 5 * ROW.itemsize)
    rng = random.Random(seed)
    part, changelog, over = partition(), [], asyncio.Event()

    def write() -> None:
        changes = part.take()
        for key, value, _, _ in changes.records():
            changelog.append(Record(len(changelog), key, value))
        part.position = len(changelog)
        part.written(changes)

    def step(offset: int) -> None:
        key = rng.randrange(1, 120)
        if len(part.evicted(keys(key))):
            assert not len(part.restore(keys(key)))
        what = rng.random()
        if what < 0.08:
            part.delete([key])
        elif what < 0.16:
            part.evict(before_ms=offset - rng.randrange(20, 300))
        else:
            put(part, key, offset, rng.randrange(100), updated=offset)
            part.set_meta(b"mark", offset.to_bytes(8, "little"))
        if rng.random() < 0.1:
            write()

    for offset in range(400):
        step(offset)
    write()

    async def stage() -> None:
        offset = 400
        while not over.is_set():
            for _ in range(rng.randrange(1, 8)):
                step(offset)
                offset += 1
            await asyncio.sleep(0)

    async def durable(promise: tuple[int, int]) -> bool:
        while (answer := part.kept(promise)) is False:
            await asyncio.sleep(0)
        return bool(answer)

    running = asyncio.create_task(stage())
    position = part.position
    assert await write_snapshot(part, tmp_path, TOPIC, durable)
    # As if it crashed now: what is not written is lost, what is in the snapshot is in the changelog.
    crashed = list(changelog)
    over.set()
    await running
    whole = partition()
    whole.apply(crashed, len(crashed))
    back = partition()
    assert read_snapshot(back, tmp_path, TOPIC, 0, len(crashed))
    assert back.position == position
    back.apply([r for r in crashed if r.offset >= position], len(crashed))
    assert not back.evicted_count, "nothing is needed of the changelog before the snapshot's offset"
    assert contents(back) == contents(whole)
    assert back.meta == whole.meta
    assert not back.dirty
    back.own()
    assert not back.dirty, "nothing seems to be of a late writer"


async def test_a_row_evicted_and_restored_into_a_copied_place_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = partition()
    for key in range(1, 21):
        put(part, key, offset=key, count=1, updated={20: 0, 1: 1}.get(key, 100))
    part.written(part.take())
    part.position = 20
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 5 * ROW.itemsize)
    append, copied = snapshots._File.append, []

    def and_move(file: snapshots._File, data: object) -> None:
        append(file, data)
        copied.append(data)
        if len(copied) == 1:  # places 0 to 4
            part.evict(before_ms=1)  # key 20, in place 19: not copied yet
            part.evict(before_ms=2)  # key 1: place 0 is free
            assert not len(part.restore(keys(20)))
            assert part.rows.find(keys(20)).tolist() == [0]

    monkeypatch.setattr(snapshots._File, "append", and_move)
    assert await write_snapshot(part, tmp_path, TOPIC, kept)
    back = StatePartition(0, RowTable(ROW))
    assert read_snapshot(back, tmp_path, TOPIC, 0, 20)
    assert set(back.rows.keys().tolist()) == set(range(1, 21))


async def test_rows_beyond_the_limit_are_evicted_when_it_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 7 * ROW.itemsize)
    monkeypatch.setattr(snapshots, "CHUNK_ROWS", 9)
    part = filled()
    part.rows.data["updated"][part.rows.find(np.arange(1, 61, dtype=np.uint64))] = -5
    part.evict(before_ms=0)
    assert (len(part.rows), part.evicted_count) == (40, 60)
    assert await write_snapshot(part, tmp_path, TOPIC, kept)
    for most in (10, 40, 55, 1000):
        back = partition()
        assert read_snapshot(back, tmp_path, TOPIC, 0, 105, max_rows=most)
        assert len(back.rows) <= most
        assert len(back.rows) + back.evicted_count == 100
        assert not len(back.restore(back.evicted()))
        assert contents(back) == {key: (key - 1, 7) for key in range(1, 101)}
        assert not back.dirty


async def test_an_evicted_row_that_cannot_be_read_makes_no_snapshot(tmp_path: Path) -> None:
    part = filled()
    part.evict(max_rows=10)
    os.pwrite(part.away._spill._fd, b"rubbish", 50)
    with pytest.raises(OSError, match="cannot be read from the disk"):
        await write_snapshot(part, tmp_path, TOPIC, kept)
    assert not list(tmp_path.iterdir())
