"""Confluent's wire format: a zero byte, the id of the schema (4 bytes, big endian), and what was written.

For Protobuf, between the two: where the message is in its file, as indices in variable-length numbers.
"""

from __future__ import annotations

from typing import Final

from headrace.streams.errors import RejectedError

#: The first byte; JSON never begins with it.
MAGIC: Final = b"\0"
#: Bytes before the message, or before its indices.
HEAD: Final = 5
#: Most indices: messages that are declared inside of one another so deep.
_DEEPEST: Final = 32
_LARGEST: Final = 1 << 31
#: Largest id of a schema: registries count in 32 bits with a sign.
LARGEST_ID: Final = (1 << 31) - 1


def schema_id(body: bytes) -> int:
    """Return the id of the schema that ``body`` was written with.

    Raises
    ------
    RejectedError
        It is too short.
    """
    if len(body) < HEAD or body[0] != 0:
        raise RejectedError(
            "undecodable", "", "a zero byte and 4 bytes with the id of the schema are expected"
        )
    return int.from_bytes(body[1:HEAD], "big")


def message_place(body: bytes) -> tuple[tuple[int, ...], int]:
    """Return the indices of a Protobuf message, outermost first, and where the message begins.

    Raises
    ------
    RejectedError
        They are not there.
    """
    count, at = _number(body, HEAD)
    if count == 0:
        return (0,), at  # the first message of the file, as nearly always
    if count > _DEEPEST:
        raise RejectedError("undecodable", "", f"{count} indices of a message")
    indices = []
    for _ in range(count):
        index, at = _number(body, at)
        indices.append(index)
    return tuple(indices), at


def _number(body: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length in zigzag form, and the place behind it."""
    value = shift = 0
    while True:
        if at >= len(body) or shift > 28:
            raise RejectedError("undecodable", "", "the indices of the message end too early, or never")
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    value = value >> 1 if not value & 1 else -1
    if not 0 <= value < _LARGEST:
        raise RejectedError("undecodable", "", "an index of the message is negative")
    return value, at
