"""Which records are behind a reply, and whether they are those that its request demands. Pure."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from headrace.serving.store.applied import Applied, Known
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import ModelInfo, RecRequest
from headrace.streams.messages.state import Mark, Source, marks_of, token_of

#: The user's row, ``models.state.users.ROW`` ``(1,)``, None when unknown.
UserRow = npt.NDArray[Any] | None

#: The field of the row with the offset of the last record of a topic.
_FIELDS: dict[Source, str] = {"events": "offset", "users": "profile_offset"}


def _in_row(row: UserRow, source: Source) -> int:
    """Return the effective offset of the last record of a topic in a row, -1 without any."""
    return -1 if row is None or source not in _FIELDS else int(row[_FIELDS[source]][0])


def lacks_state(
    request: RecRequest, row: UserRow, own: int, known: Known, beat: Applied | None = None
) -> bool:
    """Return whether an answer made with this row lacks a record that the request demands.

    ``own`` is the partition of the user, ``beat`` its beat if it was read after the row.
    """
    if not request.at_least:
        return False
    marks = marks_of(request.at_least)
    return not all(known.has(mark, own, _in_row(row, mark.source), beat) for mark in marks)


def state_behind(row: UserRow, own: int, known: Known, model: ModelInfo | None, index: str) -> str:
    """Return the token of what is behind a reply.

    It names the last records of the user, unless the base of their offsets is not known; and a fingerprint of
    the versions of the models and of the index.
    """
    there = known.users.get(own)
    marks = []
    if row is not None and there is not None:
        marks = [Mark(source, own, _in_row(row, source) - there.of(source).base) for source in _FIELDS]
    return token_of(marks, f"{hash64(f'{model} {index}'):016x}"[:8])
