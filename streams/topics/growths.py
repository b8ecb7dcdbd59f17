"""Growths: how often the partitions of an installation were made more, and where its logs were cut. Pure.

A key belongs to partition ``hash % partitions``. When the new number is a multiple of the old one, every new
partition has one parent, ``partition % old``: it goes on where the log of its parent was *cut*, at the offset
up to which everything was counted::

    4 partitions   0: |------------|            1: ...
    8 partitions   0: |------------|--------    4: |------------|------
                       cut ________^               the log of 0, ^ then its own

So what is remembered of a user (event ids of the dedup window, the numbers of its records) goes on, too. The
first state store of `ingest` keeps the growths in a meta record of every partition.

A cut belongs to one log. When a topic is deleted and made again, or loses its last records, offsets before
the cut come a second time, and nothing there is of the parent: ``Growths.kept`` says how much of a log is
still that of then. Numbers go on after the cut all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import msgspec

from headrace.streams.transport.places import Place

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
    places
        By topic, the encoded ``Place`` of each cut: it tells the log of then from another one. Of the logs of
        a topic that is not there, only the cuts are known.
    """

    old: int
    new: int
    cuts: dict[str, list[int]]
    places: dict[str, list[bytes]] = {}

    def place(self, topic: str, partition: int) -> Place:
        """Return the place of a cut."""
        cut = Place(self.cuts[topic][partition])
        return Place.decode(self.places[topic][partition]) or cut if topic in self.places else cut


@dataclass(frozen=True)
class Growths:
    """All growths of an installation, the oldest first.

    Attributes
    ----------
    all
        The growths.
    kept
        For each growth, by topic, up to which offset the log of an old partition is still the one that was
        cut (0: it is another log). Where it does not say it: up to the cut.
    """

    all: tuple[Growth, ...] = ()
    kept: tuple[Mapping[str, Sequence[int]], ...] = ()

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

    def in_logs(self, kept: Sequence[Mapping[str, Sequence[int]]]) -> Growths:
        """Return the growths in logs that have so much of those that were cut: see ``kept``."""
        return replace(self, kept=tuple(kept))

    def _kept(self, topic: str) -> list[Sequence[int]]:
        kept = self.kept or tuple[Mapping[str, Sequence[int]], ...]({} for _ in self.all)
        return [some.get(topic, growth.cuts[topic]) for growth, some in zip(self.all, kept, strict=True)]

    def parents(self, partition: int) -> set[int]:
        """Return the partitions whose logs that of a partition goes on from; itself, too."""
        out = {partition}
        for growth in reversed(self.all):
            partition %= growth.old
            out.add(partition)
        return out

    def whole(self, topic: str, partition: int) -> bool:
        """Return whether the log of a partition still goes on from all that was cut."""
        for growth, kept in zip(reversed(self.all), reversed(self._kept(topic)), strict=True):
            partition %= growth.old
            if kept[partition] < growth.cuts[topic][partition]:
                return False
        return True

    def segments(self, topic: str, partition: int, count: int) -> list[Segment]:
        """Return the log of a partition, with those of its parents, in order.

        Parameters
        ----------
        count
            Number of partitions now.
        """
        out, end = list[Segment](), None
        for growth, kept in zip(reversed(self.all), reversed(self._kept(topic)), strict=True):
            begin = kept[partition] if partition < growth.old else 0
            out.append(Segment(partition, count, begin, end))
            partition, count = partition % growth.old, growth.old
            end = kept[partition]
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

    def cuts(self, topic: str) -> Sequence[tuple[int, int, Sequence[int], Sequence[int]]]:
        """Return, for each growth, both numbers of partitions, where logs were cut, what is kept of them."""
        every = zip(self.all, self._kept(topic), strict=True)
        return [(growth.old, growth.new, growth.cuts[topic], kept) for growth, kept in every]

    def counts(self, topic: str) -> Sequence[tuple[int, Sequence[int]]]:
        """Return, for each growth, the number of partitions before, and up to where they were read by it."""
        return [(growth.old, kept) for growth, kept in zip(self.all, self._kept(topic), strict=True)]
