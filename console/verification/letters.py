"""The dead letters, as far as the oracle needs them: which records were refused for their own timestamp."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from headrace.oracle.records.places import FUTURE, At
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import is_letter, read_dead_letter
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_to

#: A letter is written at most this long (ms) after its record was refused.
WRITTEN_MS = 10_000


@dataclass(frozen=True)
class Letters:
    """Origins of dead letters: topic, partition, offset.

    Attributes
    ----------
    every
        All of them.
    future
        Records that were refused because of their own timestamp, rightly: it is more than ``future_ms`` past
        the time at which the letter was written.
    """

    every: set[At] = field(default_factory=set)
    future: set[At] = field(default_factory=set)

    def add(self, record: Any, future_ms: int) -> None:
        """Note one record of `dead-letters`."""
        letter = read_dead_letter(record)
        at = letter.topic, letter.partition, letter.offset
        self.every.add(at)
        ahead = letter.timestamp - record.timestamp + WRITTEN_MS
        if (letter.reason, letter.field) == (FUTURE, "timestamp") and ahead > future_ms:
            self.future.add(at)


async def read_letters(settings: Settings) -> Letters:
    """Read `dead-letters` to its present end."""
    out = Letters()
    async with open_reader(settings, [Topics(settings).dead_letters]) as reader:
        async for part in read_to(reader, *await reader.bounds()):
            for record in filter(is_letter, part.records):
                out.add(record, settings.future_ms)
    return out
