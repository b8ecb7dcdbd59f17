"""Packed rows, records framed in bulk, Redis commands: compiled loops, compared with other libraries."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.state.item_events import split_item_events
from headrace.serving.store.resp import set_rows
from headrace.streams.messages.columns import ITEM_EVENT
from headrace.streams.tables.packed_rows import pack_rows, unpack_rows
from headrace.streams.tables.rows import PackedRows, RowTable, unpack
from headrace.streams.topics.framing import frame_records
from headrace.streams.topics.record_batch import HEADER_BYTES, FramedBatch, record_batch

#: Bytes of a row, mostly zero; of sizes that are no multiple of a word, too.
bodies = st.integers(1, 150).flatmap(
    lambda size: st.lists(
        st.lists(st.one_of(st.just(0), st.just(0), st.integers(0, 255)), min_size=size, max_size=size)
        | st.just([0] * size)
        | st.just([255] * size),
        max_size=5,
    )
)


def array(rows: list[list[int]]) -> np.ndarray:
    size = len(rows[0]) if rows else 8
    return np.frombuffer(b"".join(map(bytes, rows)), f"V{size}")


def cut(blob: bytes, bounds: np.ndarray) -> list[bytes]:
    return [blob[a:b] for a, b in pairwise(bounds.tolist())]


@given(bodies)
def test_packed_rows_are_what_they_were(rows: list[list[int]]) -> None:
    data = array(rows)
    packed = cut(*pack_rows(data, np.arange(len(data))))
    assert all(len(p) <= data.itemsize for p in packed)
    back = np.frombuffer(b"\xff" * data.nbytes, data.dtype).copy()
    assert unpack_rows(packed, back).all()
    assert back.tobytes() == data.tobytes()


def test_many_rows_are_packed_piece_by_piece() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (1000, 2020)).astype(np.uint8)
    rows[::3] = 255  # not worth packing
    data = rows.view("V2020")[:, 0]
    back = np.zeros_like(data)
    assert unpack_rows(cut(*pack_rows(data, np.arange(1000))), back).all()
    assert back.tobytes() == data.tobytes()


def test_a_row_with_little_in_it_is_small() -> None:
    data = np.zeros(1, "V2016")
    assert len(pack_rows(data, np.zeros(1, np.int64))[0]) == 32


@given(bodies, st.binary(max_size=200), st.integers(0, 200), st.integers(0, 200))
def test_rubbish_is_refused_or_is_a_row(rows: list[list[int]], noise: bytes, at: int, drop: int) -> None:
    """Whatever lies in a changelog: nothing is read or written outside, and what is refused is left alone."""
    data = array(rows)
    packed = cut(*pack_rows(data, np.arange(len(data))))
    broken = [p[:at] + noise + p[at + drop :] for p in packed] + [noise]
    room = np.zeros(len(broken) + 2, data.dtype)
    room[0] = room[-1] = np.void(b"\xaa" * data.itemsize)
    sound = unpack_rows(broken, room[1:-1])
    assert room[0].tobytes() == room[-1].tobytes() == b"\xaa" * data.itemsize
    again = cut(*pack_rows(room, np.arange(1, len(room) - 1)))
    for given_, ok, canonical, row in zip(broken, sound, again, room[1:-1], strict=True):
        if ok:
            assert len(given_) <= data.itemsize
            assert len(canonical) <= len(given_)
        else:
            assert not any(row.tobytes())


def test_what_is_no_row_is_told() -> None:
    dtype = np.dtype([("key", "<u8"), ("layout", "<u4"), ("n", "<u4")])
    other = np.dtype([("key", "<u8"), ("layout", "<u4"), ("m", "<u4")])
    mine, theirs = RowTable(dtype), RowTable(other)
    ours = list(mine.pack(mine.take([5])))
    rows, sound = unpack([*ours, *theirs.pack(theirs.take([5])), None, b"", ours[0] + b"x"], dtype)
    assert sound.tolist() == [True, False, False, False, False]
    assert rows["key"].tolist() == [5, 0, 0, 0, 0]


def test_packed_rows_are_a_sequence() -> None:
    rows = PackedRows(np.array([4, 5, 6], np.uint64), b"abbccc", np.array([0, 1, 3, 6]))
    assert list(rows) == [b"a", b"bb", b"ccc"]
    assert rows[-1] == b"ccc"
    assert list(rows[1:]) == [b"bb", b"ccc"]
    assert rows[1:2].keys.tolist() == [5]
    assert list(rows[5:]) == []
    with pytest.raises(IndexError):
        rows[3]
    with pytest.raises(ValueError, match="one piece"):
        rows[::2]


values = st.lists(st.binary(max_size=300), max_size=40)


def blob_of(parts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)])


@given(
    values, st.booleans(), st.integers(1, 3000), st.sampled_from(["none", "zstd", "lz4", "gzip", "snappy"])
)
def test_aiokafka_reads_the_records_framed(
    parts: list[bytes], keyed: bool, max_bytes: int, compression: str
) -> None:
    keys = np.arange(7, 7 + len(parts), dtype=np.uint64) << np.uint64(40) if keyed else None
    frames = frame_records(keys, *blob_of(parts), max_bytes)
    seen = []
    for payload, count in frames:
        raw = record_batch(payload, count, 1_700_000_000_123, compression, (9, 3, 77))
        assert len(raw) <= max_bytes or count == 1, "with the header of the batch"
        batch = DefaultRecordBatch(raw)
        assert batch.validate_crc()
        assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (9, 3, 77)
        assert batch.next_offset == count
        records = list(batch)
        assert [r.offset for r in records] == list(range(count))
        assert {r.timestamp for r in records} == {1_700_000_000_123}
        assert all(list(r.headers) == [] for r in records)
        seen += [(r.key, r.value) for r in records]
    names = [None] * len(parts) if keys is None else [int(k).to_bytes(8, "little") for k in keys]
    assert seen == list(zip(names, parts, strict=True))


@pytest.mark.parametrize("keyed", [True, False])
def test_a_framed_batch_fits_with_its_header(keyed: bool) -> None:
    keys = np.arange(30, dtype=np.uint64) if keyed else None
    for max_bytes in range(130, 1000):
        frames = frame_records(keys, *blob_of([b"x" * 40] * 30), max_bytes)
        sizes = [len(record_batch(payload, count, 1)) for payload, count in frames]
        assert max(sizes) <= max_bytes
        record = sizes[0] - HEADER_BYTES if frames[0][1] == 1 else (sizes[0] - HEADER_BYTES) // frames[0][1]
        assert len(frames) == 1 or sizes[0] + record + 1 > max_bytes, "as full as can be"


def test_a_record_larger_than_a_batch_is_one_of_its_own() -> None:
    parts = [b"a", b"x" * 100_000, b"b"]
    assert [count for _, count in frame_records(None, *blob_of(parts), 1000)] == [1, 1, 1]


def test_a_framed_batch_is_built_once() -> None:
    ((payload, count),) = frame_records(None, *blob_of([b"one", b"two"]), 1000)
    batch = FramedBatch(payload, count, 5, "none")
    assert batch.closed()
    assert batch.append(key=b"", value=b"", timestamp=1) is None
    assert batch.record_count() == 2
    before = batch.size()
    batch._set_producer_state(1, 2, 3)
    built = batch._build()
    assert batch._build() is built
    assert batch.size() == len(built) == before


def test_bounds_outside_are_refused() -> None:
    blob, keys = np.zeros(4, np.uint8), np.zeros(1, np.uint64)
    for bounds in ([0, 5], [-1, 2], [3, 1]):
        with pytest.raises(ValueError, match="bounds"):
            frame_records(None, blob, np.array(bounds), 100)
        with pytest.raises(ValueError, match="bounds"):
            set_rows(b"u:", 1, PackedRows(keys, blob.tobytes(), np.array(bounds)))
    with pytest.raises(ValueError, match="keys"):
        frame_records(keys, blob, np.array([0, 1, 2]), 100)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=40)), max_size=10))
def test_redis_commands(pairs: list[tuple[int, bytes]]) -> None:
    keys, rows = [k for k, _ in pairs], [v for _, v in pairs]
    expected = b"".join(
        b"*5\r\n$3\r\nSET\r\n$20\r\nu:x:%016x\r\n$%d\r\n%b\r\n$2\r\nEX\r\n$2\r\n77\r\n" % (k, len(v), v)
        for k, v in pairs
    )
    packed = PackedRows.of(keys, rows)
    assert bytes(set_rows(b"u:x:", 77, packed)) == expected
    if len(pairs) > 1:
        assert bytes(set_rows(b"u:x:", 77, packed[1:])) in expected
        assert bytes(set_rows(b"u:x:", 77, PackedRows.joined([packed[:1], packed[1:]]))) == expected


@given(st.lists(st.binary(max_size=40)), st.integers(1, 100), st.integers(1, 10))
def test_chunks(rows: list[bytes], most_bytes: int, most_rows: int) -> None:
    packed = PackedRows.of(range(len(rows)), rows)[1:]  # their buffer begins before them
    chunks = list(packed.chunks(most_bytes, most_rows))
    assert [row for chunk in chunks for row in chunk] == rows[1:]
    assert [key for chunk in chunks for key in chunk.keys.tolist()] == list(range(1, len(rows)))
    assert all(len(chunk) == 1 or sum(map(len, chunk)) <= most_bytes for chunk in chunks)
    assert all(1 <= len(chunk) <= most_rows for chunk in chunks)


def test_as_many_rows_as_keys() -> None:
    with pytest.raises(ValueError, match="2 keys, 1 rows"):
        PackedRows.of([1, 2], [b"a"])


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=20), max_size=4), st.integers(1, 9))
def test_item_events_go_to_the_partitions_of_their_items(items: list[list[int]], count: int) -> None:
    arrays = []
    for number, column in enumerate(items):
        events = np.zeros(len(column), ITEM_EVENT)
        events["item"], events["source_seq"] = column, np.arange(len(column)) + 100 * number
        arrays.append(events)
    out, sizes = split_item_events(arrays, count)
    whole = np.concatenate(arrays) if arrays else np.zeros(0, ITEM_EVENT)
    target = whole["item"] % np.uint64(count)
    assert sizes.tolist() == np.bincount(target.astype(np.int64), minlength=count).tolist()
    assert out.tobytes() == whole[np.argsort(target, kind="stable")].tobytes()
    with pytest.raises(ValueError, match="partitions"):
        split_item_events(arrays, 0)
