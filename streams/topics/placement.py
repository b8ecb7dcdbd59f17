"""In which partition a record belongs: that of its key by Kafka's default partitioner (murmur2).

Java's client, librdkafka with ``partitioner=murmur2_random``, aiokafka and kafka-python put it there. Other
clients by default do not (librdkafka uses crc32, sarama FNV-1a, kafka-go ignores the key). State is kept by
partition, so a record in another partition is *sent on* to the right one, with a header that says where it
came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.names import CLEARS, FORWARDED
from headrace.streams.topics.sent_on import read_origins
from headrace.streams.transport.record_list import RecordList

__all__ = ["CLEARS", "FORWARDED", "Origin", "misplaced", "only_clears", "origin_of", "origins_of"]


#: Most digits of a number in the header: it fits into 64 bits.
DIGITS = 18


class Origin(NamedTuple):
    """Where a record that was sent on came from."""

    topic: str
    partition: int
    offset: int

    def header(self) -> tuple[str, bytes]:
        """Return the header that says so."""
        return FORWARDED, f"{self.topic}/{self.partition}/{self.offset}".encode()


def misplaced(records: Sequence[Any], partition: int, partitions: int) -> npt.NDArray[np.bool_]:
    """Return which records are in the wrong partition or have no key, bool ``(n,)``."""
    wrong: npt.NDArray[np.bool_] = partitions_of_keys([r.key for r in records], partitions) != partition
    return wrong


def only_clears(record: Any) -> bool:
    """Return whether a record in the wrong partition is there only to hide an older one of its key.

    The right partition has a null of its own: sent on, this one would hide what came after that.
    """
    return record.value is None and any(name == CLEARS for name, _ in record.headers)


def origin_of(record: Any) -> Origin | None:
    """Return where a record was sent on from, None when it was not sent on or its header is not ours."""
    for name, value in record.headers:
        if name == FORWARDED:
            topic, *place = bytes(value or b"").rsplit(b"/", 2)
            if topic and len(place) == 2 and all(n.isdigit() and len(n) <= DIGITS for n in place):
                return Origin(topic.decode("utf-8", "replace"), int(place[0]), int(place[1]))
    return None


def origins_of(records: Sequence[Any], topic: str) -> npt.NDArray[np.int64]:
    """Return the partition and the offset in ``topic`` that records were sent on from, int64 ``(2, n)``.

    They are -1 where ``origin_of`` is None or names another topic.
    """
    if isinstance(records, RecordList):
        return read_origins(records.payload, records.fields, topic)
    origins = [origin_of(record) for record in records]
    places = [(-1, -1) if o is None or o.topic != topic else (o.partition, o.offset) for o in origins]
    return np.array(places, np.int64).reshape(-1, 2).T
