"""The towers on `models`: an artefact cut into pieces, and a head that says which belong together.

The pieces of a version are written first, the head last: what has no head is not used. Versions take turns
with two sets of keys (slots), ``towers/0/...`` and ``towers/1/...``: while one is being written, the pieces
of the one before are still there, also after compaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from headrace.models.learning.artefact import MAX_BODY
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.codec import UNDECODABLE

NAME = "towers"
#: Bytes of the artefact in one piece: a record with it stays below 512 kB.
PIECE = 480_000
SLOTS = 2
_KIND = "two-tower"
_MAGIC = b"headrace piece\n"
_VERSION = 12
_HEADER = len(_MAGIC) + _VERSION + 4


class Head(msgspec.Struct):
    """The record ``towers``.

    Attributes
    ----------
    version
        Start of the SHA-256 of the artefact.
    slot, pieces, bytes
        The keys of the pieces are ``towers/<slot>/<number>``; how many there are, and the bytes of all.
    sha256
        Of the artefact.
    created_ts
        When it was published, ms.
    read
        By partition of `events`, the offset after the last click that was learnt.
    metrics
        Counts of clicks, and the loss.
    """

    version: str
    slot: int
    pieces: int
    bytes: int
    sha256: str
    created_ts: int
    read: dict[int, int] = {}
    metrics: dict[str, float] = {}
    name: str = NAME
    kind: str = _KIND


def cut(
    body: bytes, slot: int, created_ts: int, read: Mapping[int, int], metrics: Mapping[str, float]
) -> tuple[list[tuple[bytes, bytes]], tuple[bytes, bytes]]:
    """Return the records of an artefact, (key, value): the pieces, and the head, to be written last."""
    checksum = hashlib.sha256(body).hexdigest()
    version = checksum[:_VERSION]
    records = []
    for number, start in enumerate(range(0, len(body), PIECE)):
        header = _MAGIC + version.encode() + number.to_bytes(4, "little")
        records.append((f"{NAME}/{slot}/{number}".encode(), header + body[start : start + PIECE]))
    head = Head(version, slot, len(records), len(body), checksum, created_ts, dict(read), dict(metrics))
    return records, (NAME.encode(), msgspec.json.encode(head))


@dataclass(frozen=True, slots=True)
class Whole:
    """A head with all its pieces, which were not compared with the checksum yet."""

    head: Head
    pieces: list[bytes]

    def body(self) -> bytes:
        """Return the artefact; takes a few ms for each MB, in any thread.

        Raises
        ------
        ArtefactError
            It is not the one that the head names.
        """
        body = b"".join(memoryview(piece)[_HEADER:] for piece in self.pieces)
        if len(body) != self.head.bytes or hashlib.sha256(body).hexdigest() != self.head.sha256:
            raise ArtefactError(f"towers {self.head.version}: the pieces do not match the checksum")
        return body


class Assembly:
    """Puts the records of `models` together, in the order of the topic. It keeps at most two versions."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, int], bytes] = {}

    def take(self, key: bytes | None, value: bytes | None) -> Whole | None:
        """Take a record of `models`; return the towers when it is a head with all its pieces.

        Raises
        ------
        ArtefactError
            The head cannot be read, or not all of its pieces are there.
        """
        if key == NAME.encode():
            return None if value is None else self._whole(head_of(value))
        place = place_of(key)
        if place is not None:
            self._pieces.pop(place, None)
            if value is not None and value.startswith(_MAGIC) and len(value) <= _HEADER + PIECE:
                self._pieces[place] = value
        return None

    def _whole(self, head: Head) -> Whole:
        begin = _MAGIC + head.version.encode()
        found = [self._pieces.pop((head.slot, number), b"") for number in range(head.pieces)]
        there = [
            piece.startswith(begin) and piece[_HEADER - 4 : _HEADER] == number.to_bytes(4, "little")
            for number, piece in enumerate(found)
        ]
        for left in [place for place in self._pieces if place[0] == head.slot]:
            del self._pieces[left]
        if not all(there):
            raise ArtefactError(
                f"towers {head.version}: {there.count(False)} of {head.pieces} pieces are missing"
            )
        return Whole(head, found)


def head_of(value: bytes) -> Head:
    """Return a head, or raise ``ArtefactError``."""
    try:
        head = msgspec.json.decode(value, type=Head)
    except UNDECODABLE as exc:
        raise ArtefactError(f"not a head of the towers: {exc}") from exc
    right = 0 <= head.slot < SLOTS and 0 < head.bytes <= MAX_BODY and head.pieces == -(-head.bytes // PIECE)
    if not right or len(head.version) != _VERSION or not head.sha256.startswith(head.version):
        raise ArtefactError(f"not a head of the towers: {head}")
    return head


def place_of(key: bytes | None) -> tuple[int, int] | None:
    """Return slot and number of the piece with this key, None for another key."""
    name, *numbers = (key or b"").split(b"/")
    if name != NAME.encode() or len(numbers) != 2 or not all(n.isdigit() and len(n) < 7 for n in numbers):
        return None
    slot, number = int(numbers[0]), int(numbers[1])
    return (slot, number) if slot < SLOTS and number <= MAX_BODY // PIECE else None
