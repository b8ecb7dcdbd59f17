"""Which item events of a source were counted: the high-water mark of the source. Pure.

The numbers of a source only grow. An event alone is new when its number is above the mark. Events that were
put together in one record batch are new or known together: they are known when the mark has reached the first
of them. Then the next owner of the source has begun to send them again, one by one, and sends all of them::

    numbers      1  2  3  4  5  6  7
    put together       [-----------]        comes late, from a worker that lost the partition
    one by one   x  x  x  x                 the mark is 4: those put together are known, 5 to 7 will come

``new_item_events`` (``models/state/item_events.pyx``) compares with the marks, and moves them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(slots=True)
class SourceMark:
    """The high-water mark of one source.

    Attributes
    ----------
    mark
        The largest number counted; -1 without any.
    first
        First number of the events put together that were counted last; -1 without any. The rest of them may
        come in the next batch.
    """

    mark: int = -1
    first: int = -1

    @classmethod
    def of(cls, value: bytes) -> Self:
        """Return the mark in a meta record."""
        return cls(
            int.from_bytes(value[:8], "little", signed=True), int.from_bytes(value[8:], "little", signed=True)
        )

    def value(self) -> bytes:
        """Return the value of the meta record."""
        return self.mark.to_bytes(8, "little", signed=True) + self.first.to_bytes(8, "little", signed=True)
