"""Records of `events` as ours: the records of others with the key and the value that ours would have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from headrace.streams.errors import RejectedError
from headrace.streams.transport.record_fields import KEY_SIZE, VALUE, VALUE_SIZE
from headrace.streams.transport.record_list import RecordList


class IgnoredError(Exception):
    """An event is not one of ours, and is not meant to be."""


#: The value of a record that cannot be translated: no reader takes it.
NOTHING = b""


#: What a record of theirs says as ours, and its user; None where it is refused. The key of theirs counts only
#: when it is that of the user.
Told: TypeAlias = tuple[bytes, bytes | None]


@dataclass(slots=True)
class Translated:
    """Records of a batch, translated.

    Attributes
    ----------
    records
        All but those that are ignored, in their order.
    theirs
        Records of theirs as they came.
    refused
        Why records cannot be translated, by offset.
    ignored
        How many records are not meant to be events of ours. They are as if they were not there.
    """

    records: Sequence[Any]
    theirs: Sequence[Any] = ()
    refused: dict[int, RejectedError] = field(default_factory=dict)
    ignored: int = 0

    def letters(self, rejects: Sequence[tuple[Any, RejectedError]]) -> list[tuple[Any, RejectedError]]:
        """Return rejects as they came, and with the reason why they were not translated."""
        if not rejects or not len(self.theirs):
            return list(rejects)
        theirs = self.theirs
        if isinstance(theirs, RecordList):  # no object of those that nothing is wrong with
            theirs = theirs.where(np.isin(theirs.offsets, [r.offset for r, _ in rejects]))
        sources = _by_offset(theirs)
        return [(sources.get(r.offset, r), self.refused.get(r.offset, why)) for r, why in rejects]

    @property
    def sources(self) -> dict[int, Any]:
        """Records of theirs as they came, by offset."""
        return _by_offset(self.theirs)


def _by_offset(records: Sequence[Any]) -> dict[int, Any]:
    return {r.offset: r for r in records}


@dataclass(frozen=True, slots=True)
class Record:
    """A record with another key and value."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int
    timestamp_type: int
    headers: Sequence[tuple[str, bytes | None]]


def with_told(
    records: Sequence[Any], told: dict[int, bytes], keyless: set[int], left_out: set[int]
) -> Sequence[Any]:
    """Return records with other values, some without a key, and some left out; all by their places."""
    if isinstance(records, RecordList):
        return _list_with(records, told, keyless, left_out)
    out = []
    for place, record in enumerate(records):
        if place in left_out:
            continue
        if place in told:
            kind = getattr(record, "timestamp_type", 0)
            key = None if place in keyless else record.key
            record = Record(key, told[place], record.offset, record.timestamp, kind, record.headers)
        out.append(record)
    return out


def _list_with(
    records: RecordList, told: dict[int, bytes], keyless: set[int], left_out: set[int]
) -> RecordList:
    """Put the new values behind the payload: nothing else of it moves."""
    fields, payload = records.fields.copy(), records.payload
    if told:
        places = np.fromiter(told, np.int64, len(told))
        sizes = np.fromiter(map(len, told.values()), np.int64, len(told))
        fields[VALUE, places] = len(payload) + np.cumsum(sizes) - sizes
        fields[VALUE_SIZE, places] = sizes
        fields[KEY_SIZE, list(keyless)] = -1
        payload = b"".join((payload, *told.values()))
    if left_out:
        stays = np.ones(fields.shape[1], np.bool_)
        stays[list(left_out)] = False
        fields = fields[:, stays]
    return RecordList(payload, fields)
