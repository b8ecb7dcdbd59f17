"""Records that are to be written, and JSON that is completed for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from headrace.streams.messages.codec import UNDECODABLE, rejection


@dataclass(slots=True)
class Fresh:
    """A record that is to be written; the attributes are those of a Kafka record, so the same code checks it.

    ``timestamp`` is in ms. ``value`` None is a tombstone.
    """

    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    offset: int = -1
    headers: Sequence[tuple[str, bytes]] = ()


def with_field(body: bytes, name: str, value: str) -> bytes:
    """Return a JSON object with a text field: as it is when it has the field, else with this value.

    Null is as if there were none.

    Raises
    ------
    RejectedError
        When it is no JSON object.
    """
    try:
        found = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except UNDECODABLE as exc:
        raise rejection(exc) from exc
    if name in found and bytes(found[name]) != b"null":
        return body
    found[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.json.encode(found)
