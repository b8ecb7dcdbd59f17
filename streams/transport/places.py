"""Places: a position in a partition, and how to recognise the log there. Pure.

An offset alone does not say which records were read. A topic may be deleted and made again, a broker may lose
its last records, an operator may move a group. A ``Place`` also has a fingerprint of the last record read, so
that the next start can compare it with the log::

    offset of the log    0 ... 998  999 | 1000        next = 1000, at = 999, timestamp and crc of record 999
    effective offset   base + offset                  only grows, whatever happened to the log

Whoever keeps offsets (in rows, as numbers of derived records) keeps *effective* ones: offset + ``base``. When
the offsets of a log start lower than before, ``base`` becomes larger. Places are kept in two places: with the
committed offset (as its metadata), and by agents with state in their own changelog.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

_PACKED = struct.Struct("<qqqqIi16s")
_PREFIX = "at1:"

#: Partition -> the place up to which an agent's state has everything; None when it does not say.
Known: TypeAlias = "Callable[[int], Place | None]"


class Source(NamedTuple):
    """What is known of the log that records came from.

    Attributes
    ----------
    base
        Effective offset minus offset.
    epoch
        Leader epoch in which the records were written, -1 unknown.
    topic_id
        Id of the topic, 16 bytes, b"" unknown. A topic that is made again gets another one.
    """

    base: int = 0
    epoch: int = -1
    topic_id: bytes = b""


class Place(NamedTuple):
    """A position, and the last record before it.

    Attributes
    ----------
    next
        The next offset to be read.
    base
        Effective offset minus offset.
    at, timestamp, crc
        Offset, timestamp (ms), crc32 of key and value of the last record before ``next``; -1, 0, 0 unknown.
    epoch, topic_id
        As in ``Source``.
    """

    next: int
    base: int = 0
    at: int = -1
    timestamp: int = 0
    crc: int = 0
    epoch: int = -1
    topic_id: bytes = b""

    @property
    def seen(self) -> int:
        """Effective offset after everything that was read."""
        return self.next + self.base

    def encode(self) -> bytes:
        """Return the place as 56 bytes. The first 8 are ``seen``, little-endian: they order places."""
        return _PACKED.pack(self.seen, *self[1:])

    @classmethod
    def decode(cls, packed: bytes) -> Place | None:
        """Return the place that ``encode`` packed, None when the bytes are something else."""
        if len(packed) != _PACKED.size:
            return None
        place = cls._make(_PACKED.unpack(packed))
        known = b"" if place.topic_id == bytes(16) else place.topic_id
        return place._replace(next=place.next - place.base, topic_id=known)

    def text(self) -> str:
        """Return the place as the metadata of a committed offset."""
        return _PREFIX + base64.b64encode(self.encode()).decode()

    @classmethod
    def of_text(cls, text: str | None) -> Place | None:
        """Return the place in the metadata of a committed offset, None when there is none."""
        if not text or not text.startswith(_PREFIX):
            return None
        try:
            return cls.decode(base64.b64decode(text[len(_PREFIX) :], validate=True))
        except (binascii.Error, ValueError):
            return None


#: The place of a state that has nothing yet.
NOTHING = Place(0)


def place_after(record: Any, source: Source) -> Place:
    """Return the place after a record that was read."""
    crc = record_crc(record.key, record.value)
    return Place(
        record.offset + 1, source.base, record.offset, record.timestamp, crc, source.epoch, source.topic_id
    )


def record_crc(key: bytes | None, value: bytes | None) -> int:
    """Return the crc32 of the key and the value of a record."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


def known_places(app: Any) -> dict[str, Known]:
    """Return, by topic, the function that returns the place of a state; changes to the dict count."""
    places: dict[str, Known] = app.__dict__.setdefault("known_places", {})
    return places
