from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings.pieces import PIECE, Assembly, Whole, cut, head_of, place_of
from headrace.streams.errors import ArtefactError

Record = tuple[bytes, bytes]


def body_of(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def records_of(body: bytes, slot: int = 0) -> list[Record]:
    pieces, head = cut(body, slot, 1_700_000_000_000, {0: 7, 3: 9}, {"clicks": 5.0})
    return [*pieces, head]


def read(assembly: Assembly, records: list[Record]) -> list[Whole]:
    return [whole for key, value in records if (whole := assembly.take(key, value)) is not None]


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5])
def test_what_was_cut_is_put_together(size: int) -> None:
    body = body_of(size)
    records = records_of(body)
    assert all(len(value) <= 512_000 for _, value in records)
    (whole,) = read(Assembly(), records)
    assert whole.body() == body
    assert whole.head.read == {0: 7, 3: 9}
    assert whole.head.metrics == {"clicks": 5.0}
    assert records[-1][0] == b"towers", "the head is the last"


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_piece_is_noticed(gone: int) -> None:
    records = records_of(body_of(2 * PIECE + 1))
    del records[gone]
    with pytest.raises(ArtefactError, match="1 of 3 pieces are missing"):
        read(Assembly(), records)


def test_pieces_of_two_versions_are_not_mixed() -> None:
    old, new = (records_of(body_of(2 * PIECE, seed)) for seed in (1, 2))
    with pytest.raises(ArtefactError, match="missing"):
        read(Assembly(), [old[0], new[1], new[2]])
    (whole,) = read(Assembly(), [*old[:2], *new])
    assert whole.body() == body_of(2 * PIECE, 2)


def test_pieces_in_another_order_are_put_in_theirs_or_refused() -> None:
    first, second, head = records_of(body_of(2 * PIECE))
    (whole,) = read(Assembly(), [second, first, head])
    assert whole.body() == body_of(2 * PIECE)
    with pytest.raises(ArtefactError, match="2 of 2"):
        read(Assembly(), [(first[0], second[1]), (second[0], first[1]), head])


def test_a_damaged_piece_is_noticed() -> None:
    first, second, head = records_of(body_of(2 * PIECE))
    damaged = first[1][:1000] + bytes([first[1][1000] ^ 1]) + first[1][1001:]
    (whole,) = read(Assembly(), [(first[0], damaged), second, head])
    with pytest.raises(ArtefactError, match="do not match the checksum"):
        whole.body()


def test_a_version_whose_writer_was_killed_leaves_the_one_before_also_after_compaction() -> None:
    old, new = records_of(body_of(2 * PIECE, 1), slot=0), records_of(body_of(3 * PIECE, 2), slot=1)
    begun = [*old, *new[:-2]]
    compacted = list({key: (key, value) for key, value in begun}.values())
    for records in (begun, compacted):
        (whole,) = read(Assembly(), records)
        assert whole.body() == body_of(2 * PIECE, 1)


def test_a_later_version_follows_in_the_same_process() -> None:
    assembly = Assembly()
    for seed in range(5):
        (whole,) = read(assembly, records_of(body_of(2 * PIECE + 9, seed), slot=seed % 2))
        assert whole.body() == body_of(2 * PIECE + 9, seed)


def test_a_head_alone_after_its_pieces_were_used_is_refused() -> None:
    assembly, records = Assembly(), records_of(body_of(10))
    read(assembly, records)
    with pytest.raises(ArtefactError, match="missing"):
        read(assembly, records[-1:])


@pytest.mark.parametrize(
    "change",
    [
        {"slot": 2},
        {"slot": -1},
        {"pieces": 2},
        {"pieces": 10**9, "bytes": 10**9 * PIECE},
        {"bytes": 0},
        {"bytes": 1e300},
        {"version": "x"},
        {"sha256": "0" * 64},
        {"read": {"a": 1}},
    ],
)
def test_a_wrong_head_is_refused(change: dict[str, object]) -> None:
    *pieces, (key, value) = records_of(body_of(10))
    head = json.dumps(json.loads(value) | change).encode()
    with pytest.raises(ArtefactError):
        read(Assembly(), [*pieces, (key, head)])


@given(st.binary(max_size=80), st.none() | st.binary(max_size=80))
def test_any_other_record_is_left_alone(key: bytes, value: bytes | None) -> None:
    assembly = Assembly()
    for name in (key, None, b"ranker", b"towers/" + key):
        assert assembly.take(name, value) is None
    assert read(assembly, records_of(b"abc"))[0].body() == b"abc"


@given(st.binary(max_size=80))
def test_a_head_of_any_bytes_is_refused(value: bytes) -> None:
    with pytest.raises(ArtefactError):
        head_of(value)


def test_keys_of_pieces() -> None:
    assert place_of(b"towers/1/12") == (1, 12)
    for key in (b"towers", b"towers/1", b"towers/2/0", b"towers/0/-1", b"towers/0/9999999", b"towers/a/b"):
        assert place_of(key) is None
