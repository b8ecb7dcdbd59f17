"""Reading the published towers from records of `models`: complete, right checksum, finite numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

_HEAD: Final = b"towers"
_PIECE: Final = b"headrace piece\n"
_BODY: Final = b"headrace towers\n"
_HEADER: Final = len(_PIECE) + 12 + 4


@dataclass(frozen=True, slots=True)
class PublishedTowers:
    """The newest towers.

    Attributes
    ----------
    version, offset
        What the head says, and its offset.
    missing
        Number of pieces that are not there; -1: the head cannot be read.
    right
        Whether all bytes are those of the checksum.
    finite
        Whether all numbers are finite.
    """

    version: str
    offset: int
    missing: int = 0
    right: bool = True
    finite: bool = True


def newest_towers(records: Iterable[Any]) -> PublishedTowers | None:
    """Return the newest towers in the records of the topic, in their order; None without any."""
    pieces: dict[bytes, bytes] = {}
    head: tuple[Any, dict[bytes, bytes]] | None = None
    for record in records:
        key = record.key or b""
        if key == _HEAD and record.value is not None:
            head = record, dict(pieces)
        elif key.startswith(_HEAD + b"/"):
            pieces.pop(key, None)
            if record.value is not None:
                pieces[key] = record.value
    return None if head is None else _judge(*head)


def _judge(head: Any, pieces: dict[bytes, bytes]) -> PublishedTowers:
    try:
        told = json.loads(head.value)
        version, slot, count, checksum = (told[name] for name in ("version", "slot", "pieces", "sha256"))
        wanted = [b"%s/%d/%d" % (_HEAD, slot, number) for number in range(count)]
    except (ValueError, KeyError, TypeError):
        return PublishedTowers("", head.offset, -1, right=False, finite=False)
    found = []
    for number, key in enumerate(wanted):
        value = pieces.get(key, b"")
        if value.startswith(_PIECE + str(version).encode() + number.to_bytes(4, "little")):
            found.append(value[_HEADER:])
    if len(found) < count:
        return PublishedTowers(version, head.offset, count - len(found), right=False, finite=False)
    body = b"".join(found)
    right = hashlib.sha256(body).hexdigest() == checksum and checksum.startswith(version)
    return PublishedTowers(version, head.offset, right=right, finite=_finite(body))


def _finite(body: bytes) -> bool:
    """Return whether an artefact can be read, and all its floats are finite."""
    at = len(_BODY) + 4
    size = int.from_bytes(body[at - 4 : at], "little")
    if not body.startswith(_BODY):
        return False
    try:
        arrays = json.loads(body[at : at + size])["arrays"]
        at += size
        for kind, shape in arrays.values():
            array = np.frombuffer(body, kind, math.prod(shape), at)
            at += -(-array.nbytes // 8) * 8
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return False
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return at == len(body)
