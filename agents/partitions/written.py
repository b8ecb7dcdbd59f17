"""Which examples of a partition are in the topic `examples`: the last records there say it. Pure.

Every example carries a *mark* in its header: the slot it is of, and what is complete besides. The slots of a
list are written in order when it closes, and a write that fails leaves a prefix. So whoever takes over the
partition reads the marks at the end of the topic, and writes what is missing and nothing else::

    impressions   100   101   102   103   104
    examples      ***   ***   *
                              mark of the last one: offset 102, position 0, done 100..102

``done`` is a list of ranges, because an operator may move the consumer group: forward, and some impressions
are never read; back, and some are read again.

Slots that close before their list are written before those of other lists, in no order. Their header has
another name: `EARLY`. All such slots of lists that are not done yet are listed in a mark, ``begun``, at least
once in `CHECKPOINT` records or in one write, whichever has more. So the end of the topic says which they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from headrace.streams.messages.codec import UNDECODABLE

log = logging.getLogger(__name__)

#: Header of an example: its mark, as JSON.
HEADER = "headrace-slot"
#: The same of a slot that closed before its list. (Version 0.1.0 would take it for the end of a prefix.)
EARLY = "headrace-early"
#: Most ranges in a mark. Beyond, the lowest are dropped.
MAX_RANGES = 100
#: Most records without a list of the slots that are written of lists still open.
CHECKPOINT = 1000
#: Most lists in it, of about 12 bytes. While there are more, slots close with their lists.
MOST_BEGUN = 4000

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
    begun
        Slots written of lists that are not done, those of this write excepted: ``offset:positions``, with
        commas between; the positions are the bits of a hexadecimal number. None: the mark does not say it.
    """

    offset: int
    position: int
    done: list[Range]
    log: int = 0
    begun: str | None = None


_decoder = msgspec.json.Decoder(Mark)
_encoder = msgspec.json.Encoder()


class Found(NamedTuple):
    """A mark that was read, and whether its slot closed before its list."""

    mark: Mark
    early: bool


def read_mark(headers: Iterable[tuple[str, bytes]]) -> Found | None:
    """Return the mark in the headers of an example, None when there is none."""
    for name, value in headers:
        if name in (HEADER, EARLY):
            try:
                return Found(_decoder.decode(value), name == EARLY)
            except UNDECODABLE:
                return None
    return None


def marks_of(
    offset: int, positions: Iterable[int], done: list[Range], log: int, *, early: bool = False
) -> list[Sequence[Any]]:
    """Return the headers of the examples of one impression, one for each position."""
    name = EARLY if early else HEADER
    return [[(name, _encoder.encode(Mark(offset, p, done, log)))] for p in positions]


class Written:
    """The impressions of a partition whose examples are written.

    Parameters
    ----------
    found
        Marks at the end of the partition of `examples`. All of them are true, whoever wrote them.
    """

    def __init__(self, found: Iterable[Found] = ()) -> None:
        found = list(found)
        self.log = max((mark.log for mark, _ in found), default=0)
        self.done: list[Range] = []
        self._begun: dict[int, int] = {}  # offset -> bits of the slots written, of lists that may lack some
        self._since_listed = CHECKPOINT
        ours = [(mark, early) for mark, early in found if mark.log == self.log]
        for mark, early in ours:
            for first, end in mark.done:
                self.done = joined(self.done, first, end)
            self._add(mark.offset, 1 << mark.position if early else (2 << mark.position) - 1)
            for offset, bits in _listed(mark.begun or ""):
                self._add(offset, bits)
        for offset in [offset for offset in self._begun if self._is_done(offset)]:
            del self._begun[offset]

    def _add(self, offset: int, bits: int) -> None:
        self._begun[offset] = self._begun.get(offset, 0) | bits

    def _is_done(self, offset: int) -> bool:
        return any(first <= offset < end for first, end in self.done)

    def missing(self, offset: int, positions: Iterable[int]) -> list[int]:
        """Return which of some slots of the impression at ``offset`` are not written."""
        if self._is_done(offset):
            return []
        bits = self._begun.get(offset, 0)
        return [p for p in positions if not bits >> p & 1]

    def may_begin(self, offset: int) -> bool:
        """Return whether slots of an impression may be written before it closes: not of too many at once."""
        if offset in self._begun or len(self._begun) < MOST_BEGUN:
            return True
        lowest = min(self._begun)
        if not self.done or lowest > self.done[-1][1]:
            return False
        del self._begun[lowest]  # an operator has moved the group past it
        return True

    def begin(self, offset: int, positions: Iterable[int]) -> None:
        """Note that some slots of an impression are written."""
        for p in positions:
            self._add(offset, 1 << p)

    def complete(self, first: int, end: int) -> None:
        """Note that all examples of the impressions from ``first`` up to ``end`` are written."""
        self.done = joined(self.done, first, end)
        for offset in [offset for offset in self._begun if first <= offset < end]:
            del self._begun[offset]

    def list_begun(self, mark: Sequence[Any], records: int) -> Sequence[Any]:
        """Return the header of the first of ``records`` to be written now, with ``begun`` when it is due."""
        self._since_listed += records
        if self._since_listed <= CHECKPOINT or not self._begun:
            return mark
        self._since_listed = records
        told = ",".join(f"{offset}:{bits:x}" for offset, bits in self._begun.items())
        return [(name, _encoder.encode(_begun(_decoder.decode(value), told))) for name, value in mark]

    def only_before(self, end: int) -> None:
        """Keep what is known of impressions before ``end``: the topic has others from there on.

        New marks get the next number of the topic, so that those of the lost impressions do not count.
        """
        self.done = [(a, min(b, end)) for a, b in self.done if a < end]
        self._begun = {offset: bits for offset, bits in self._begun.items() if offset < end}
        self.log += 1
        self._since_listed = CHECKPOINT


def _begun(mark: Mark, told: str) -> Mark:
    return msgspec.structs.replace(mark, begun=told)


def _listed(told: str) -> Iterator[tuple[int, int]]:
    for pair in filter(None, told.split(",")):
        offset, _, bits = pair.partition(":")
        yield int(offset), int(bits, 16)


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
