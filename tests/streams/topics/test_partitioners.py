"""Where clients put a key, and which client a set of wrong partitions points to."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.topics import partitioners
from headrace.streams.topics.partitioners import (
    CLIENTS,
    ENOUGH_KEYS,
    NO_PARTITIONER,
    crc32_partition,
    fnv1a_partition,
    fnv1a_reference_partition,
    guess_client,
    kafkajs_legacy_partition,
    right_partition,
)

COUNTS = (2, 4, 7, 12)
LIBRDKAFKA, SARAMA, SARAMA_REFERENCE, KAFKAJS = CLIENTS
#: Key -> its partition among 2, 4, 7 and 12: Java and kafkajs 2.2 (default), kafkajs 2.2 (LegacyPartitioner),
#: confluent-kafka 2 (default), and confluent-kafka with ``fnv1a_random``, which is sarama's. Noted from these
#: clients.
NOTED = {
    b"user-0": ([1, 3, 5, 7], [0, 2, 6, 10], [0, 2, 5, 2], [1, 1, 3, 1]),
    b"user-42": ([0, 0, 1, 4], [0, 0, 3, 8], [1, 3, 1, 7], [1, 3, 6, 3]),
    b"user-399": ([1, 3, 1, 11], [1, 3, 1, 7], [1, 1, 6, 1], [0, 0, 6, 0]),
    "Zürich-京".encode(): ([1, 1, 2, 5], [1, 3, 4, 11], [0, 2, 0, 10], [1, 3, 1, 3]),
    bytes.fromhex("28380898e8f8"): ([0, 0, 6, 0], [0, 2, 2, 2], [0, 2, 1, 6], [1, 1, 1, 9]),
    bytes.fromhex("f3a74b1f63573bea"): ([1, 3, 5, 3], [0, 0, 1, 0], [0, 2, 6, 6], [0, 2, 0, 6]),
}


@pytest.mark.parametrize("key", NOTED)
def test_partitions_are_those_of_the_clients(key: bytes) -> None:
    puts = (right_partition, kafkajs_legacy_partition, crc32_partition, fnv1a_partition)
    for put, noted in zip(puts, NOTED[key], strict=True):
        assert [put(key, n) for n in COUNTS] == noted, put.__name__


@pytest.mark.parametrize(
    ("key", "magnitude"),
    [(b"kafka", 0xD33C4E1), (b"giberish123456789", 0x77A58295), (b"1234", 0x23BDD03), (b"", 0x7EE3623B)],
)
def test_fnv1a_as_librdkafka_tests_it_against_go(key: bytes, magnitude: int) -> None:
    assert abs(partitioners._fnv1a(key)) == magnitude
    assert [fnv1a_partition(key, n) for n in COUNTS] == [magnitude % n for n in COUNTS]


@given(st.binary(max_size=40), st.integers(1, 1000))
def test_every_key_has_a_partition(key: bytes, partitions: int) -> None:
    for put in (right_partition, *CLIENTS.values()):
        assert 0 <= put(key, partitions) < partitions
    numbers = list(range(partitions))
    assert right_partition(key, partitions) == DefaultPartitioner()(key, numbers, numbers)


def wrong_by(put: Callable[[bytes, int], int], partitions: int, keys: int = 400) -> list[tuple[bytes, int]]:
    """Return where a client puts keys, without those that are right by chance."""
    placed = [(key, put(key, partitions)) for key in (b"user-%d" % n for n in range(keys))]
    return [(key, there) for key, there in placed if there != right_partition(key, partitions)]


@pytest.mark.parametrize("partitions", [3, 4, 7, 12, 96])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_is_named(client: str, partitions: int) -> None:
    wrong = wrong_by(CLIENTS[client], partitions)
    guess = guess_client([*wrong, *wrong[:7]], partitions)
    assert guess.client == client
    assert guess.agreement[client] == 1.0


def test_with_two_partitions_both_kinds_of_sarama_are_the_same() -> None:
    assert guess_client(wrong_by(fnv1a_partition, 2), 2).client == f"{SARAMA}, or {SARAMA_REFERENCE}"
    assert fnv1a_reference_partition(b"user-42", 2) == fnv1a_partition(b"user-42", 2)
    assert guess_client(wrong_by(crc32_partition, 2), 2).client == LIBRDKAFKA


def test_few_keys_name_nobody() -> None:
    wrong = wrong_by(crc32_partition, 4)
    assert guess_client(wrong[: ENOUGH_KEYS - 1], 4).client == ""
    assert guess_client(wrong[: ENOUGH_KEYS - 1] * 50, 4).client == "", "the same keys again"
    assert guess_client(wrong[:ENOUGH_KEYS], 4).client == LIBRDKAFKA
    assert guess_client([], 4).client == ""


@pytest.mark.parametrize("partitions", [3, 4, 12])
def test_a_client_that_ignores_the_key(partitions: int) -> None:
    draw = random.Random(5)
    keys = [b"user-%d" % n for n in range(60)] * 10
    wrong = [
        (key, p) for key in keys if (p := draw.randrange(partitions)) != right_partition(key, partitions)
    ]
    assert guess_client(wrong, partitions).client == NO_PARTITIONER


def test_keys_seen_once_each_in_any_partition_name_nobody() -> None:
    draw = random.Random(6)
    wrong = [(b"user-%d" % n, draw.randrange(12)) for n in range(500)]
    assert guess_client(wrong, 12).client == ""


def test_a_few_strangers_do_not_hide_a_client_and_two_clients_are_both_named() -> None:
    wrong = wrong_by(crc32_partition, 4)
    assert guess_client([*wrong, (b"stranger", 1), (b"other", 2)], 4).client == LIBRDKAFKA
    both = [*wrong_by(crc32_partition, 4), *wrong_by(kafkajs_legacy_partition, 4)]
    assert guess_client(both, 4).client == f"{LIBRDKAFKA} and {KAFKAJS}"
