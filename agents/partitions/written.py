"""Which examples of a partition are in the topic `examples`: the last records there say it. Pure.

Every example carries a *mark* in its header: the slot it is of, and what is complete besides. Examples are
written in order, and a write that fails leaves a prefix. So whoever takes over the partition reads the marks
at the end of the topic, and writes what is missing and nothing else::

    impressions   100   101   102   103   104
    examples      ***   ***   *
                              mark of the last one: offset 102, position 0, done 100..102

``done`` is a list of ranges, because an operator may move the consumer group: forward, and some impressions
are never read; back, and some are read again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

log = logging.getLogger(__name__)

#: Header of an example: its mark, as JSON.
HEADER = "headrace-slot"
#: Most ranges in a mark. Beyond, the lowest are dropped.
MAX_RANGES = 100

Range = tuple[int, int]  # first offset, and the offset after the last


class Mark(msgspec.Struct, omit_defaults=True):
    """What the header of an example says.

    Attributes
    ----------
    offset, position
        Offset of the impression, in `impressions` with the same partition number, and position of the slot.
    done
        Ranges of offsets of `impressions` whose examples are all written: ``(first, after the last)``.
    log
        Number of the topic `impressions`: one more when it was deleted and made again.
    """

    offset: int
    position: int
    done: list[Range]
    log: int = 0


_decoder = msgspec.json.Decoder(Mark)
_encoder = msgspec.json.Encoder()


def read_mark(headers: Iterable[tuple[str, bytes]]) -> Mark | None:
    """Return the mark in the headers of an example, None when there is none."""
    for name, value in headers:
        if name == HEADER:
            try:
                return _decoder.decode(value)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return None
    return None


def marks_of(offset: int, positions: Iterable[int], done: list[Range], log: int) -> list[Sequence[Any]]:
    """Return the headers of the examples of one impression, one for each position."""
    return [[(HEADER, _encoder.encode(Mark(offset, p, done, log)))] for p in positions]


class Written:
    """The impressions of a partition whose examples are written.

    Parameters
    ----------
    marks
        Marks at the end of the partition of `examples`. All of them are true, whoever wrote them.
    """

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        marks = list(marks)
        self.log = max((mark.log for mark in marks), default=0)
        self.done: list[Range] = []
        self._begun: dict[int, int] = {}  # offset -> slots written, of impressions that may lack some
        for mark in marks:
            if mark.log == self.log:
                for first, end in mark.done:
                    self.done = joined(self.done, first, end)
                self._begun[mark.offset] = max(self._begun.get(mark.offset, 0), mark.position + 1)

    def slots(self, offset: int, n: int) -> int:
        """Return how many of the ``n`` slots of the impression at ``offset`` are written: the first ones."""
        if any(first <= offset < end for first, end in self.done):
            return n
        return min(n, self._begun.get(offset, 0))

    def complete(self, first: int, end: int) -> None:
        """Note that all examples of the impressions from ``first`` up to ``end`` are written."""
        self.done = joined(self.done, first, end)
        for offset in [offset for offset in self._begun if first <= offset < end]:
            del self._begun[offset]

    def only_before(self, end: int) -> None:
        """Keep what is known of impressions before ``end``: the topic has others from there on.

        New marks get the next number of the topic, so that those of the lost impressions do not count.
        """
        self.done = [(a, min(b, end)) for a, b in self.done if a < end]
        self._begun = {offset: n for offset, n in self._begun.items() if offset < end}
        self.log += 1


def joined(ranges: Iterable[Range], first: int, end: int) -> list[Range]:
    """Return ``ranges`` with one more, sorted and without overlaps; at most ``MAX_RANGES``."""
    if first >= end:
        return list(ranges)
    apart = []
    for a, b in ranges:
        if b < first or end < a:
            apart.append((a, b))
        else:
            first, end = min(a, first), max(b, end)
    return sorted([*apart, (first, end)])[-MAX_RANGES:]
