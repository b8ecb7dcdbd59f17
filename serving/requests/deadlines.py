"""Deadlines of requests that wait, before they are read. Pure.

A list may only take what those behind it can wait, so their deadlines must be known. To decode all of them
would cost as much as to read them; here only one field is taken.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from headrace.serving.requests.address import unwrap
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.messages.schemas import RecRequest


class _Asked(msgspec.Struct):
    deadline_ms: float | None = None


_asked = msgspec.json.Decoder(_Asked)
_DEFAULT_MS: float = RecRequest("", "", "home").deadline_ms


def deadline_s(record: Any, max_bytes: int) -> float:
    """Return the deadline of a request, s after it was sent; infinity for one that will be refused."""
    body = unwrap(record.value, max_bytes)
    if body is None or len(body) > max_bytes:
        return math.inf
    try:
        asked = _asked.decode(body).deadline_ms
    except UNDECODABLE:
        return math.inf
    return (_DEFAULT_MS if asked is None else asked) / 1000


class Deadlines:
    """Deadlines of requests that wait; the record of each is looked at once while it waits.

    Parameters
    ----------
    max_bytes
        Larger requests will be refused.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._before: dict[int, tuple[Any, float]] = {}
        self._known: dict[int, tuple[Any, float]] = {}

    def begin(self) -> None:
        """Begin to look at all that wait now; what is not asked for until the next time is forgotten."""
        self._before, self._known = self._known, {}

    def of(self, record: Any) -> float:
        """Return the deadline of a request, s after it was sent; infinity for one that will be refused."""
        known = self._before.get(id(record))
        if known is None or known[0] is not record:
            known = record, deadline_s(record, self._max_bytes)
        self._known[id(record)] = known
        return known[1]
