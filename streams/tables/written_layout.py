"""Which layout the rows of a changelog have: said before the first is written, checked before one is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.streams.errors import LayoutError
from headrace.streams.tables.changes import record_crc
from headrace.streams.tables.layouts import LAYOUT_KEY
from headrace.streams.tables.partition import StatePartition

if TYPE_CHECKING:
    from headrace.streams.topics.sender import BatchSender


def _number(part: StatePartition) -> int:
    """Return the number of the layout of the rows in memory, 0 when it has none."""
    return 0 if part.rows.layouts is None else part.rows.layouts.number


async def say_layout(part: StatePartition, sender: BatchSender, changelog: str) -> None:
    """Say in the changelog which layout its rows have from now on.

    A worker of an older version then stops, instead of going on without the rows that it cannot read.

    Raises
    ------
    KafkaError
        When the broker refuses the write or cannot be reached.
    """
    number = _number(part)
    if part.written_layout >= number:
        return
    value = number.to_bytes(8, "little")
    written = await sender.send_many(changelog, [(LAYOUT_KEY, value, None, ())], partition=part.number)
    part.written_layout = number
    if written.first == part.position:  # else the next write finds the gap
        part.position, part.last_crc = written.end, record_crc(LAYOUT_KEY, value)


def check_layouts(part: StatePartition, changelog: str) -> None:
    """Raise ``LayoutError`` when a changelog has rows that this version cannot read."""
    where, number = f"{changelog}-{part.number}", _number(part)
    if part.written_layout > number:
        raise LayoutError(
            f"{where} has rows of layout {part.written_layout}, this version knows up to {number}: "
            f"a newer version of Headrace has written them, start that one"
        )
    if part.rows.unreadable:
        raise LayoutError(
            f"{where} has rows of version 0.1.0, whose ids were hashed in another way: "
            f"stop all workers and run `headrace upgrade` once"
        )
