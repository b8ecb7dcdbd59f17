"""Other producers' partitioners, and records that name their owner only in the body."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from chaos_load import BAD, GOOD, MARK
from chaos_strangers import (
    CLIENTS,
    Strangers,
    expected_partition,
    librdkafka_partition,
    sarama_partition,
)

from headrace.streams.topics.sender import OutRecord, partition_of


def records(count: int, mark: bytes = GOOD) -> list[OutRecord]:
    return [
        (f"user-{i}".encode(), msgspec.json.encode({"user_id": f"user-{i}"}), None, [(MARK, mark)])
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("key", "crc32", "fnv1a"), [(b"123456789", 0xCBF43926, 0xBB86B11C), (b"a", 0xE8B7BE43, 0xE40C292C)]
)
def test_hashes_are_those_of_their_definitions(key: bytes, crc32: int, fnv1a: int) -> None:
    assert librdkafka_partition(key, 97) == crc32 % 97
    assert sarama_partition(key, 97) == abs(fnv1a - (1 << 32)) % 97


def test_the_expected_partition_is_that_of_our_own_producer() -> None:
    assert all(expected_partition(b"u%d" % i, 7) == partition_of(b"u%d" % i, 7) for i in range(200))


def test_a_share_of_the_records_comes_from_other_clients_of_every_kind() -> None:
    strangers = Strangers(0.05)
    ours, theirs = strangers.split(records(4000), 4)
    assert len(ours) + sum(map(len, theirs.values())) == 4000
    assert set(strangers.sent) == set(CLIENTS)
    assert 100 < strangers.sent.total() < 300
    flat = [record for part in theirs.values() for record in part]
    assert sum(record[0] is None for record in flat) == strangers.sent["keyless"]
    wrong = Counter(
        record[0] is None or expected_partition(record[0], 4) != partition
        for partition, part in theirs.items()
        for record in part
    )
    assert wrong[True] > 2 * wrong[False] > 0


def test_what_is_sent_again_comes_from_the_same_client() -> None:
    first, second = Strangers(0.05), Strangers(0.05)
    first.split(records(1000), 4)
    second.split(list(reversed(records(1000))), 4)
    assert first.sent == second.sent


def test_a_bad_record_or_a_tombstone_keeps_its_key() -> None:
    strangers = Strangers(1.0)
    gone: list[OutRecord] = [(key, None, None, [(MARK, GOOD)]) for key, *_ in records(100)]
    _, theirs = strangers.split(records(100, BAD) + gone, 4)
    assert all(record[0] is not None for part in theirs.values() for record in part)
    assert strangers.sent["keyless"] == 0


def test_a_compacted_topic_gets_no_record_without_a_key() -> None:
    strangers = Strangers(1.0)
    _, theirs = strangers.split(records(100), 4, keyless=False)
    assert all(record[0] is not None for part in theirs.values() for record in part)


def test_without_a_share_every_record_is_ours() -> None:
    assert Strangers(0.0).split(records(100), 4) == (records(100), {})
