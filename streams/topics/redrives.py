"""What is known of redriven dead letters, and which letters may be redriven. Pure.

A redrive notes in `dead-letters` itself what it does, in the partition of the letters: so a note is kept at
least as long as its letters. For each group of letters there is one note before the records are written and
one after::

    begin  the letters of the group, and the end offsets of the partitions that their records go to
    end    those whose records are there

A group without an end was cut off. Its records, as far as they were written, are behind the noted offsets:
each has a header that names its letter. A begin that comes while another group is open does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import NOTE, REDRIVEN, DeadLetter
from headrace.streams.topics.names import FORWARDED, Topics

#: How often a record is redriven at most, if nothing else is said.
MOST_TIMES = 3
#: The agent that decides which records of the topics of producers count.
JUDGE = "track_users"

#: Code of a letter that is not redriven -> why.
WHY: Mapping[str, str] = {
    "redriven": "done before",
    "same_record": "a second letter of the same record",
    "unfinished": "of a redrive that has not ended",
    "unsure": "perhaps redriven: the records that could tell were deleted",
    "overtaken": "a newer record of the same key must stay",
    "no_origin": "it does not say where the record was",
    "request": "its caller no longer waits",
    "internal": "a record that workers wrote: other agents have counted it",
    "incomplete": "without the body, the key or the headers: the record was too large",
    "no_key": "without a key: send the record again, with one",
    "too_old": "older than its topic keeps records: it would be deleted unread",
    "too_often": "redriven and refused too often (--most-times)",
}


class Source(NamedTuple):
    """The record that a letter is about. A worker that is killed may write two letters about one record.

    The timestamp tells records of a topic from those of one that was made again.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int


def source_of(letter: DeadLetter) -> Source:
    """Return the record that a letter is about."""
    return Source(letter.topic, letter.partition, letter.offset, letter.timestamp)


class Note(msgspec.Struct):
    """One note of a redrive.

    Attributes
    ----------
    group
        Name of the group of letters.
    begin
        Whether the records are to be written; else they were.
    letters
        Offset of each letter, and the record that it is about.
    ends
        Topic, partition and end offset of the partitions that the records go to; in a begin.
    unsure
        Letters of a group that was cut off of which it cannot be told; in an end.
    """

    group: str
    begin: bool
    letters: list[tuple[int, Source]]
    ends: list[tuple[str, int, int]] = []
    unsure: list[tuple[int, Source]] = []

    def record(self) -> tuple[None, bytes, None, list[tuple[str, bytes]]]:
        """Return the record of the note, for the sender."""
        return None, msgspec.json.encode(self), None, [(NOTE, b"begin" if self.begin else b"end")]


_NOTE = msgspec.json.Decoder(Note)


@dataclass(slots=True)
class Progress:
    """What the notes of one partition of `dead-letters` say, as far as they were read.

    Attributes
    ----------
    next
        Offset of the next record to be read.
    done
        Records that were redriven.
    unsure
        Records of which it cannot be told.
    open
        The note of the group that has begun and not ended.
    """

    next: int = 0
    done: set[Source] = field(default_factory=set)
    unsure: set[Source] = field(default_factory=set)
    open: Note | None = None

    def read(self, record: Any) -> None:
        """Take a note. What is no note of this version is left out."""
        try:
            note = _NOTE.decode(record.value or b"")
        except UNDECODABLE:
            return
        if note.begin:
            self.open = self.open or note
            return
        if self.open is not None and self.open.group == note.group:
            self.open = None
        self.done.update(source for _, source in note.letters)
        self.unsure.update(source for _, source in note.unsure)

    def verdict(self, source: Source) -> str:
        """Return why a record is not redriven: a code of ``WHY``, or ""."""
        if source in self.done:
            return "redriven"
        if source in self.unsure:
            return "unsure"
        unfinished = self.open is not None and any(source == other for _, other in self.open.letters)
        return "unfinished" if unfinished else ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; None and "": any. Times are those of the letter, ms, the end not included."""

    reason: str = ""
    agent: str = ""
    topic: str = ""
    key: bytes | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def fits(self, letter: DeadLetter, written_ms: int) -> bool:
        """Return whether a letter that was written at ``written_ms`` is meant."""
        return (
            (not self.reason or letter.reason == self.reason)
            and (not self.agent or letter.agent == self.agent)
            and (not self.topic or letter.topic == self.topic)
            and (self.key is None or letter.key == self.key)
            and (self.since_ms is None or written_ms >= self.since_ms)
            and (self.until_ms is None or written_ms < self.until_ms)
        )


class Rules:
    """Which letters may be redriven.

    Only records of producers' topics are, when ``JUDGE`` refused them: then nobody has counted them. Records
    of the topics between agents are read by several, each with rules of its own.

    Parameters
    ----------
    most_times
        How often a record is redriven at most.
    now_ms
        The time, for the age of records.

    Attributes
    ----------
    inputs
        Topics whose records are redriven.
    """

    def __init__(self, settings: Settings, most_times: int, now_ms: int) -> None:
        topics = Topics(settings)
        self.inputs = (topics.events, topics.items, topics.users)
        self._compacted = {spec.name for spec in topics.specs(settings) if spec.compacted}
        kept = {spec.name: spec.retention_ms for spec in topics.specs(settings) if not spec.compacted}
        self._oldest = {name: now_ms - kept[name] for name in self.inputs if name in kept}
        self._requests = topics.requests
        self._most_times = most_times

    def replaces(self, topic: str) -> bool:
        """Return whether a record of a topic replaces the earlier ones of its key."""
        return topic in self._compacted

    def verdict(self, letter: DeadLetter) -> str:
        """Return why a letter is not redriven, whatever else is in the topics: a code of ``WHY``, or ""."""
        checks = (
            ("no_origin", not letter.topic or letter.partition < 0 or letter.offset < 0),
            ("request", letter.topic == self._requests),
            ("internal", letter.topic not in self.inputs or letter.agent != JUDGE),
            ("incomplete", not letter.complete),
            ("no_key", not letter.key),
            ("too_often", letter.redriven >= self._most_times),
            ("too_old", letter.timestamp < self._oldest.get(letter.topic, letter.timestamp)),
        )
        return next((code for code, holds in checks if holds), "")


@dataclass(slots=True)
class Newest:
    """The newest records of some keys in their right partitions: topic and key -> offset, and timestamp."""

    offsets: dict[tuple[str, bytes], int] = field(default_factory=dict)
    times: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def add(self, topic: str, record: Any) -> None:
        """Take a record of the right partition of its key."""
        at = topic, record.key
        self.offsets[at] = max(record.offset, self.offsets.get(at, -1))
        self.times[at] = max(record.timestamp, self.times.get(at, -1))

    def overtakes(self, letter: DeadLetter, partition: int) -> bool:
        """Return whether a newer record of the letter's key is in ``partition``, the right one.

        Offsets tell when the letter's record was there, too; else the timestamps of the records do.
        """
        at = letter.topic, letter.key or b""
        if letter.partition == partition:
            return self.offsets.get(at, -1) > letter.offset
        return self.times.get(at, -1) >= letter.timestamp


def redriven_record(
    letter: DeadLetter, place: str
) -> tuple[bytes | None, bytes | None, int | None, list[tuple[str, bytes]]]:
    """Return what is written to redrive the letter at ``place``: the original record, and one header.

    The producer's headers are kept; ours of the original record are not.
    """
    headers = [(name, value) for name, value in letter.headers if name not in (FORWARDED, REDRIVEN)]
    headers.append((REDRIVEN, f"{place}/{letter.redriven + 1}".encode()))
    return letter.key, letter.value, letter.timestamp if letter.timestamp >= 0 else None, headers


def written_over(records: Iterable[Any], ours: set[int]) -> list[Any]:
    """Return the records that ours came after, and nothing newer of their keys: they must be written again.

    Parameters
    ----------
    records
        Records of one partition of a topic where the newest record of a key counts, in order.
    ours
        Offsets of those that were redriven now.
    """
    before: dict[bytes, Any] = {}
    hidden: dict[bytes, Any] = {}
    for record in records:
        if record.offset not in ours:
            before[record.key] = record
            hidden.pop(record.key, None)
        elif record.key in before:
            hidden[record.key] = before[record.key]
    return list(hidden.values())
