"""Records that do not count where they are: in the wrong partition, sent on before, dated in the future.

A record belongs to the partition that Kafka's default partitioner gives its key (murmur2). A record
elsewhere, or without a key, is sent on: the copy has the header ``FORWARDED`` and counts once. Of each source
partition the copies count in the order of their origins: one whose origin is not above all before it was sent
twice. A null with the header ``CLEARS`` only hides an older record where it is: nobody sends it on.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl
from aiokafka.partitioner import murmur2

from headrace.oracle.records.documents import RefusedError, read_document, string, struct
from headrace.oracle.records.frames import CLEARED

#: In the wrong partition or without a key: it is sent on, or with ``refuse`` refused.
MOVED: Final = "moved"
REFUSED: Final = "wrong_partition"
#: A copy whose original counted before.
AGAIN: Final = "forwarded_again"
#: The record's own timestamp was too far ahead of the clock of the worker that read it.
FUTURE: Final = "from_the_future"

_ORIGIN = re.compile(r"(.+)/(\d{1,9})/(\d{1,18})")

#: Topic, partition and offset of a record.
At = tuple[str, int, int]


class _Homes(dict[bytes, int]):
    """Hash of a key, remembered."""

    def __missing__(self, key: bytes) -> int:
        hashed: int = murmur2(key)
        self[key] = out = hashed & 0x7FFFFFFF
        return out


@dataclass
class Places:
    """Fills the column ``place`` of raw records. Give it the records of a partition in their order.

    Attributes
    ----------
    partitions
        Number of partitions of the topics whose records are sent on. Others stay where they are.
    names
        Field of the body that names the key, by topic: a record without a key is sent on by it.
    max_bytes
        The body of a record without a key is not read when it is larger.
    refuse
        Whether records in the wrong partition are refused instead of being sent on.
    future
        Records that were refused because of their own timestamp.
    copied
        Origins of the copies that count.
    earlier
        By topic, for each time that the partitions were made more: how many there were before, and for each
        of them the offset up to which its records were read by that number. The oldest comes first.
    """

    partitions: Mapping[str, int]
    names: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = 2**20
    refuse: bool = False
    future: Container[At] = ()
    copied: set[At] = field(default_factory=set)
    earlier: Mapping[str, Sequence[tuple[int, Sequence[int]]]] = field(default_factory=dict)
    _homes: _Homes = field(default_factory=_Homes)
    _marks: dict[tuple[str, int, str, int], int] = field(default_factory=dict)

    def judge(self, raw: pl.DataFrame) -> pl.DataFrame:
        """Return ``raw`` with its column ``place``."""
        columns = raw.select("topic", "partition", "offset", "key", "value", "origin", "place").iter_rows()
        return raw.with_columns(place=pl.Series([self._place(*row) for row in columns], dtype=pl.String))

    def _place(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        body: bytes | None,
        origin: str | None,
        told: str,
    ) -> str:
        if self.future and (topic, partition, offset) in self.future:
            return FUTURE
        of = self.partitions.get(topic)
        if of is None:
            return ""
        if not key:
            return self._elsewhere if self._names_somebody(topic, body) else ""
        if self._homes[key] % self._count(topic, partition, offset, of) != partition:
            return CLEARED if told == CLEARED and body is None else self._elsewhere
        return "" if origin is None else self._copy(topic, partition, origin)

    def _count(self, topic: str, partition: int, offset: int, now: int) -> int:
        """Return how many partitions there were when a record was read."""
        for old, cuts in self.earlier.get(topic, ()):
            if partition < old and offset < cuts[partition]:
                return old
        return now

    @property
    def _elsewhere(self) -> str:
        return REFUSED if self.refuse else MOVED

    def _names_somebody(self, topic: str, body: bytes | None) -> bool:
        try:
            read_document(body, self.max_bytes, struct({self.names[topic]: string(1, 64)}, {}))
        except (RefusedError, KeyError):
            return False
        return True

    def _copy(self, topic: str, partition: int, origin: str) -> str:
        told = _ORIGIN.fullmatch(origin)
        if told is None:
            return ""
        at = told[1], int(told[2]), int(told[3])
        source = topic, partition, *at[:2]
        if at[2] <= self._marks.get(source, -1):
            return AGAIN
        self._marks[source] = at[2]
        self.copied.add(at)
        return ""
