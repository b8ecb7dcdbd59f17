"""Where clients put a key: the partitioners that are their defaults. Pure.

Kafka's own default is murmur2 (Java, aiokafka, kafka-python, franz-go, kafkajs since 2.0), and all state is
kept by its partitions. Others put a key elsewhere. A client can be told from where its records are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from aiokafka.partitioner import murmur2

#: Fewest different keys in wrong partitions that name a client: fewer may agree by chance.
ENOUGH_KEYS = 20
#: Share of the wrong keys that must be where a client puts them.
AGREEMENT = 0.99


def right_partition(key: bytes, partitions: int) -> int:
    """Return the partition of a key: murmur2."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def crc32_partition(key: bytes, partitions: int) -> int:
    """Return where librdkafka's default, ``consistent_random``, puts a key that is not empty."""
    return zlib.crc32(key) % partitions


def _fnv1a(key: bytes) -> int:
    """Return the FNV-1a hash, as a signed number of 32 bits."""
    value = 0x811C9DC5
    for byte in key:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return _int32(value)


def fnv1a_partition(key: bytes, partitions: int) -> int:
    """Return where sarama's default puts a key: the remainder of a signed hash, without its sign."""
    return abs(_fnv1a(key)) % partitions


def fnv1a_reference_partition(key: bytes, partitions: int) -> int:
    """Return where sarama's ``NewReferenceHashPartitioner`` puts a key."""
    return (_fnv1a(key) & 0x7FFFFFFF) % partitions


def _int32(value: float) -> int:
    """Return what JavaScript makes of a number before an operation on its bits."""
    return ((int(value) + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def _shifted(value: float, bits: int) -> int:
    """Return ``value ^ (value >>> bits)`` of JavaScript."""
    return _int32(_int32(value) ^ ((int(value) & 0xFFFFFFFF) >> bits))


def kafkajs_legacy_partition(key: bytes, partitions: int) -> int:
    """Return where kafkajs before 2.0 (``LegacyPartitioner``) puts a key.

    It is murmur2 with two faults: products are floating-point numbers, which lose their last bits, and the
    last bytes of a key whose length is no multiple of 4 are used twice.
    """
    mix = float(0x5BD1E995)
    state = float(_int32(0x9747B28C ^ len(key)))
    for at in range(0, len(key), 4):
        word = float(_int32(int.from_bytes(key[at : at + 4], "little")))
        word = _shifted(word * mix, 24) * mix
        state = float(_int32(state * mix) ^ _int32(word))
    if rest := len(key) % 4:
        state = float(_int32(state) ^ int.from_bytes(key[-rest:], "little")) * mix
    state = _shifted(state, 13) * mix
    return (_shifted(state, 15) & 0x7FFFFFFF) % partitions


#: What may have written keys to wrong partitions -> where it puts a key.
CLIENTS: Mapping[str, Callable[[bytes, int], int]] = {
    "librdkafka (confluent-kafka, kcat, node-rdkafka), ruby-kafka": crc32_partition,
    "sarama, or kafka-go with Hash": fnv1a_partition,
    "sarama with NewReferenceHashPartitioner": fnv1a_reference_partition,
    "kafkajs before 2.0, or LegacyPartitioner": kafkajs_legacy_partition,
}
#: Named when keys are in several partitions each.
NO_PARTITIONER = "a client that ignores the key (kafka-go by default)"


@dataclass(frozen=True, slots=True)
class Guess:
    """Which client probably wrote keys to wrong partitions.

    Attributes
    ----------
    client
        Its name; empty when it cannot be told.
    agreement
        Client -> share of the wrong keys that are where it puts them, 0..1.
    """

    client: str
    agreement: Mapping[str, float]


def guess_client(wrong: Iterable[tuple[bytes, int]], partitions: int) -> Guess:
    """Guess the client of keys that are in wrong partitions.

    A client is named when ``AGREEMENT`` of at least ``ENOUGH_KEYS`` different keys are where it puts them.
    Two clients are named when the keys are where one of them puts them. Nobody is named when records were
    sent to chosen partitions, or by more than two kinds of clients.

    Parameters
    ----------
    wrong
        Key and partition of records; repeated pairs count once.
    partitions
        Number of partitions of the topic.
    """
    places = sorted(set(wrong))
    if not places:
        return Guess("", {})
    hits = {
        client: {n for n, (key, there) in enumerate(places) if put(key, partitions) == there}
        for client, put in CLIENTS.items()
    }
    agreement = {client: len(found) / len(places) for client, found in hits.items()}
    keys = len({key for key, _ in places})
    return Guess(_named(hits, len(places), keys) if keys >= ENOUGH_KEYS else "", agreement)


def _named(hits: Mapping[str, set[int]], places: int, keys: int) -> str:
    """Return the name of the client, ``hits`` being the places that each client explains."""
    enough = AGREEMENT * places
    # Two partitioners may be the same for some numbers of partitions: sarama's two, with 2 partitions.
    if alone := [client for client, found in hits.items() if len(found) >= enough]:
        return ", or ".join(alone)
    pairs = [(a, b) for a, b in combinations(hits, 2) if len(hits[a] | hits[b]) >= enough]
    if len(pairs) == 1:
        return " and ".join(pairs[0])
    return NO_PARTITIONER if not pairs and places >= 1.5 * keys else ""
