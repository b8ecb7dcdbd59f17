"""Up to where the rows of users in the online store have everything: the text of a beat (``protocol.py``).

The row of a user says which records of this user it has. It does not say so of records that change no row:
a retry, a record that is refused, one that a worker sends on to the right partition. The beat of a partition
does, at most a second later. Offsets are effective ones: offset in the log + ``base``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.messages.state import Mark, Source

#: The beat of rows that say nothing more.
PLAIN = b"1"


class Reached(msgspec.Struct, omit_defaults=True):
    """Up to where the records of one topic and partition are in the rows.

    Attributes
    ----------
    last
        Effective offset of the last record, -1 before the first.
    base
        Effective offset minus offset.
    elsewhere
        Other partitions that records were sent on from: the last one of each, as it was numbered there.
    """

    last: int = -1
    base: int = 0
    elsewhere: dict[int, int] = {}


class Applied(msgspec.Struct, omit_defaults=True):
    """Up to where the rows of one partition of users have `events` and `users`."""

    events: Reached = msgspec.field(default_factory=Reached)
    users: Reached = msgspec.field(default_factory=Reached)

    def of(self, source: Source) -> Reached:
        """Return it for one of the two topics."""
        return self.users if source == "users" else self.events


_decoder = msgspec.json.Decoder(Applied)
encode = msgspec.json.Encoder().encode


def decode(beat: bytes) -> Applied | None:
    """Return what a beat says; None when it says nothing more (an older version may have written it)."""
    try:
        return _decoder.decode(beat)
    except UNDECODABLE:
        return None


@dataclass(slots=True)
class Known:
    """What a serving worker knows of the rows of users, by partition, and of its own catalogue.

    Attributes
    ----------
    users
        Of each partition of users, from its last beat: for the bases of its offsets.
    items
        Returns, of a partition of `items`, the first offset that the catalogue does not have.
    """

    users: dict[int, Applied] = field(default_factory=dict)
    items: Callable[[int], int] = lambda partition: 0

    def base(self, mark: Mark) -> int | None:
        """Return the base of the log that a record is in, None before the first beat of its partition."""
        there = self.users.get(mark.partition)
        return None if there is None else there.of(mark.source).base

    def has(self, mark: Mark, own: int, in_row: int, beat: Applied | None = None) -> bool:
        """Return whether an answer made now has a record; not before it is known how its log is numbered.

        Parameters
        ----------
        mark
            The record.
        own
            The partition of the user that is asked for.
        in_row
            Effective offset of the last record of the topic in the user's row, -1 without a row.
        beat
            The beat of ``own``, read now. An old one does not count: the store may have lost rows since.
        """
        if mark.source == "items":
            return self.items(mark.partition) > mark.offset
        base = self.base(mark)
        if base is None:
            return False
        wanted = mark.offset + base
        rows = Reached() if beat is None else beat.of(mark.source)
        if mark.partition == own:
            return max(in_row, rows.last) >= wanted
        # In the wrong partition, a record counts only when it was sent on and is in the right one.
        return rows.elsewhere.get(mark.partition, -1) >= wanted
