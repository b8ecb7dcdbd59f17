"""Growths: how often the partitions of an installation were made more, and where its logs were cut. Pure.

A key belongs to partition ``hash % partitions``. When the new number is a multiple of the old one, every new
partition has one parent, ``partition % old``: it goes on where the log of its parent was *cut*, at the offset
up to which everything was counted::

    4 partitions   0: |------------|            1: ...
    8 partitions   0: |------------|--------    4: |------------|------
                       cut ________^               the log of 0, ^ then its own

So what is remembered of a user (event ids of the dedup window, the numbers of its records) goes on, too. The
first state store of `ingest` keeps the growths in a meta record of every partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import msgspec

#: Key of the meta record.
GROWN = b"partitions-grown"


def staging_of(topic: str) -> str:
    """Return the name of the topic with the copy of a changelog, while partitions are made more."""
    return f"{topic}-growing"


class Segment(NamedTuple):
    """A part of the log of a partition, as long as it had one parent.

    Attributes
    ----------
    partition
        Where its records are.
    of
        Number of partitions when they were read.
    begin, end
        The first offset, and the one after the last; None: to the end.
    """

    partition: int
    of: int
    begin: int
    end: int | None


class Growth(msgspec.Struct, frozen=True):
    """One growth.

    Attributes
    ----------
    old, new
        Number of partitions before and after.
    cuts
        By topic, for each old partition the offset up to which everything was counted.
    """

    old: int
    new: int
    cuts: dict[str, list[int]]


@dataclass(frozen=True)
class Growths:
    """All growths of an installation, the oldest first."""

    all: tuple[Growth, ...] = ()

    @classmethod
    def of(cls, meta: Mapping[bytes, bytes]) -> Self:
        """Return those in the meta records of a state store."""
        packed = meta.get(GROWN)
        return cls(() if packed is None else tuple(msgspec.json.decode(packed, type=list[Growth])))

    def encode(self) -> bytes:
        """Return the value of the meta record."""
        return msgspec.json.encode(list(self.all))

    def then(self, growth: Growth) -> Growths:
        """Return these and one more."""
        return Growths((*self.all, growth))

    def segments(self, topic: str, partition: int, count: int) -> list[Segment]:
        """Return the log of a partition, with those of its parents, in order.

        Parameters
        ----------
        count
            Number of partitions now.
        """
        out, end = list[Segment](), None
        for growth in reversed(self.all):
            begin = growth.cuts[topic][partition] if partition < growth.old else 0
            out.append(Segment(partition, count, begin, end))
            partition, count = partition % growth.old, growth.old
            end = growth.cuts[topic][partition]
        out.append(Segment(partition, count, 0, end))
        return out[::-1]

    def shift(self, topic: str, partition: int) -> int:
        """Return by how much the numbers of a partition's own records are larger than their offsets.

        The numbers of its parents' records come before them.
        """
        out = 0
        for growth in reversed(self.all):
            if partition >= growth.old:
                partition %= growth.old
                out += growth.cuts[topic][partition]
        return out

    def cuts(self, topic: str) -> Sequence[tuple[int, int, Sequence[int]]]:
        """Return, for each growth, the number of partitions before and after, and where logs were cut."""
        return [(growth.old, growth.new, growth.cuts[topic]) for growth in self.all]

    def counts(self, topic: str) -> Sequence[tuple[int, Sequence[int]]]:
        """Return, for each growth, the number of partitions before, and where their logs were cut."""
        return [(growth.old, growth.cuts[topic]) for growth in self.all]
