"""Events of ours that were written in Avro: all of a batch at once, from bytes to bytes, without objects.

What comes out is what ``Translator`` makes of each of them alone. Whatever is unusual is left to it: texts
with escapes, bytes that the schema does not fit, CloudEvents, schemas of others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.formats.wire import HEAD, MAGIC
from headrace.streams.transport.record_fields import KEY_SIZE, VALUE, VALUE_SIZE
from headrace.streams.transport.record_list import RecordList

if TYPE_CHECKING:
    from headrace.streams.messages.formats.avro_plan import Plan

Bool: TypeAlias = npt.NDArray[np.bool_]
I64: TypeAlias = npt.NDArray[np.int64]


def schema_ids(records: RecordList, most_bytes: int) -> tuple[I64, I64]:
    """Return the places of records that begin with the magic byte and an id, and these ids.

    Parameters
    ----------
    most_bytes
        Larger values are left out.
    """
    at, sizes = records.fields[VALUE], records.fields[VALUE_SIZE]
    places = np.flatnonzero((sizes >= HEAD) & (sizes <= most_bytes))
    payload = np.frombuffer(records.payload, np.uint8)
    places = places[payload[at[places]] == MAGIC[0]]
    four = payload[at[places][:, None] + np.arange(1, HEAD)].astype(np.int64)
    return places, four @ (256 ** np.arange(3, -1, -1))


def told_at_once(
    records: RecordList, plan_of: Callable[[int], Plan | None], most_bytes: int
) -> tuple[RecordList, Bool]:
    """Return the records, those of ours in Avro as JSON, and which ones these are, bool ``(n,)``.

    A key that is not that of the user is left out.

    Parameters
    ----------
    plan_of
        Returns how messages with the schema of an id are read; None: they are no events of ours, or it is not
        known.
    most_bytes
        Larger values are left as they are.
    """
    done = np.zeros(len(records), np.bool_)
    places, numbers = schema_ids(records, most_bytes)
    fields, texts, size = records.fields, [records.payload], len(records.payload)
    for number in np.unique(numbers).tolist():
        plan = plan_of(number)
        if plan is None:
            continue
        some = places[numbers == number]
        text, sizes, other_keys = plan.tell(records.payload, records.fields, some, HEAD, "user_id")
        told = sizes >= 0
        if not told.any():
            continue
        if fields is records.fields:
            fields = fields.copy()
        done[some[told]] = True
        fields[VALUE, some[told]] = size + np.cumsum(sizes[told]) - sizes[told]
        fields[VALUE_SIZE, some[told]] = sizes[told]
        fields[KEY_SIZE, some[other_keys]] = -1
        texts.append(text)
        size += len(text)
    if fields is records.fields:
        return records, done
    return RecordList(b"".join(texts), fields), done
