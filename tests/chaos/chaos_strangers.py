"""Producers that choose partitions otherwise than Kafka's own client does, or send no key. Pure.

Which producer sends a record follows from the record alone, so what is sent again comes from the same one.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable

from aiokafka.partitioner import murmur2
from chaos_load import AGAIN, GOOD, MARK

from headrace.streams.topics.sender import OutRecord

#: Share of all records, and of each record in partitions, that such producers send.
SHARE = 0.05
#: Clients by what they do: crc32 of the key, FNV-1a of the key, the next partition, no key at all.
CLIENTS = ("librdkafka", "sarama", "kafka-go", "keyless")


def expected_partition(key: bytes, partitions: int) -> int:
    """Return the partition of a key by Kafka's default partitioner."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def librdkafka_partition(key: bytes, partitions: int) -> int:
    """Return the partition of a key by ``consistent_random``, the default of librdkafka."""
    return zlib.crc32(key) % partitions


def sarama_partition(key: bytes, partitions: int) -> int:
    """Return the partition of a key by the hash partitioner of sarama: FNV-1a as a signed number."""
    found = 0x811C9DC5
    for byte in key:
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    signed = found - (1 << 32) if found >= 1 << 31 else found
    return abs(signed) % partitions


class Strangers:
    """Splits records between Kafka's own client and the others; ``sent`` counts those of each other client.

    Parameters
    ----------
    share
        Share of the records that other clients send.
    """

    def __init__(self, share: float) -> None:
        self.sent: Counter[str] = Counter()
        self._below = int(share * (1 << 32))
        self._turn = 0

    def split(
        self, records: Iterable[OutRecord], partitions: int, *, keyless: bool = True
    ) -> tuple[list[OutRecord], dict[int, list[OutRecord]]]:
        """Return the records of Kafka's own client, and by partition those of the others.

        ``keyless`` says whether the topic takes records without a key; a compacted one does not.
        """
        ours: list[OutRecord] = []
        theirs: dict[int, list[OutRecord]] = {}
        for record in records:
            key, value = record[:2]
            dice = zlib.crc32(value or b"", zlib.crc32(key or b""))
            if key is None or dice >= self._below:
                ours.append(record)
                continue
            client = CLIENTS[dice % len(CLIENTS)]
            if client == "keyless" and not (keyless and _names_its_owner(record)):
                client = "kafka-go"
            self.sent[client] += 1
            partition = self._partition(client, key, partitions)
            theirs.setdefault(partition, []).append((None, *record[1:]) if client == "keyless" else record)
        return ours, theirs

    def _partition(self, client: str, key: bytes, partitions: int) -> int:
        if client == "librdkafka":
            return librdkafka_partition(key, partitions)
        if client == "sarama":
            return sarama_partition(key, partitions)
        self._turn = (self._turn + 1) % partitions
        return self._turn


def _names_its_owner(record: OutRecord) -> bool:
    """Return whether the record stays as good, or as bad, as it is when it has no key."""
    return record[1] is not None and dict(record[3]).get(MARK) in (GOOD, AGAIN)
