"""Records of `events` as ours: the records of others with the key and the value that ours would have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.streams.errors import RejectedError
from headrace.streams.transport.record_fields import KEY_SIZE, VALUE, VALUE_SIZE
from headrace.streams.transport.record_list import RecordList


class IgnoredError(Exception):
    """An event is not one of ours, and is not meant to be."""


#: The value of a record that cannot be translated: no reader takes it.
NOTHING = b""


@dataclass(frozen=True, slots=True)
class Told:
    """What a record of theirs says, as ours.

    ``user_id`` is None where it is refused. The key of theirs counts only when it is that of the user.
    """

    value: bytes
    user_id: bytes | None


@dataclass(slots=True)
class Translated:
    """Records of a batch, translated.

    Attributes
    ----------
    records
        All but those that are ignored, in their order.
    sources
        Records of theirs as they came, by offset.
    refused
        Why records cannot be translated, by offset.
    ignored
        How many records are not meant to be events of ours. They are as if they were not there.
    """

    records: Sequence[Any]
    sources: dict[int, Any] = field(default_factory=dict)
    refused: dict[int, RejectedError] = field(default_factory=dict)
    ignored: int = 0

    def letters(self, rejects: Sequence[tuple[Any, RejectedError]]) -> list[tuple[Any, RejectedError]]:
        """Return rejects as they came, and with the reason why they were not translated."""
        if not self.sources:
            return list(rejects)
        return [(self.sources.get(r.offset, r), self.refused.get(r.offset, why)) for r, why in rejects]


@dataclass(frozen=True, slots=True)
class Record:
    """A record with another key and value."""

    key: bytes | None
    value: bytes | None
    offset: int
    timestamp: int
    timestamp_type: int
    headers: Sequence[tuple[str, bytes | None]]


def key_of(record: Any, told: Told) -> bytes | None:
    """Return the key that a translated record counts with: none, unless it is that of the user."""
    key: bytes | None = record.key
    return key if told.user_id is None or key == told.user_id else None


def with_told(records: Sequence[Any], told: dict[int, Told], left_out: set[int]) -> Sequence[Any]:
    """Return records with what ``told`` says of those at some places, without those at ``left_out``."""
    if isinstance(records, RecordList):
        return _list_with(records, told, left_out)
    out = []
    for place, record in enumerate(records):
        if place in left_out:
            continue
        said = told.get(place)
        out.append(record if said is None else _record(record, said))
    return out


def _record(record: Any, said: Told) -> Record:
    kind = getattr(record, "timestamp_type", 0)
    return Record(key_of(record, said), said.value, record.offset, record.timestamp, kind, record.headers)


def _list_with(records: RecordList, told: dict[int, Told], left_out: set[int]) -> RecordList:
    """Put the new values behind the payload: nothing else of it moves."""
    fields = records.fields.copy()
    at, payload = len(records.payload), records.payload
    if told:
        values = [said.value for said in told.values()]
        places = np.fromiter(told, np.int64, len(told))
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        fields[VALUE, places] = at + np.cumsum(sizes) - sizes
        fields[VALUE_SIZE, places] = sizes
        payload = b"".join((records.payload, *values))
        for place, said in told.items():
            if said.user_id is not None:
                start, size = int(fields[KEY_SIZE - 1, place]), int(fields[KEY_SIZE, place])
                if size >= 0 and records.payload[start : start + size] != said.user_id:
                    fields[KEY_SIZE, place] = -1
    if left_out:
        stays = np.ones(fields.shape[1], np.bool_)
        stays[list(left_out)] = False
        fields = fields[:, stays]
    return RecordList(payload, fields)
