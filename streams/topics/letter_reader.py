"""Reads `dead-letters`: the letters that are meant, and the notes of what was redriven."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import DeadLetter, is_letter, read_dead_letter
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import Reader, open_reader, read_to
from headrace.streams.topics.redrives import Progress, Wanted, source_of
from headrace.streams.topics.refusal import unavailable


class FoundLetter(NamedTuple):
    """A letter, where it is, when it was written (ms), and whether its record was redriven."""

    partition: int
    offset: int
    written_ms: int
    letter: DeadLetter
    redriven: bool

    @property
    def place(self) -> str:
        """Return partition and offset, as ``headrace dead-letters show`` takes them."""
        return f"{self.partition}-{self.offset}"


@dataclass
class Letters:
    """The letters between two offsets of every partition, and what was redriven of them.

    Attributes
    ----------
    begins, ends
        First offset of each partition, and the offset after the last one, when the reading began.
    progress
        What the notes say, by partition.
    """

    reader: Reader
    begins: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]
    progress: dict[TopicPartition, Progress]

    async def catch_up(self, tp: TopicPartition | None = None) -> None:
        """Read the notes that were written since the last call, of one partition or of all."""
        tps = [tp] if tp is not None else list(self.progress)
        begins, ends = await self.reader.bounds(tps)
        starts = {tp: max(begins[tp], self.progress[tp].next) for tp in tps}
        async for part in read_to(self.reader, starts, ends):
            progress = self.progress[part.tp]
            for record in part.records:
                if record.offset >= progress.next and not is_letter(record):
                    progress.read(record)
            progress.next = max(progress.next, part.position)
        self.ends.update(ends)

    async def one(self, partition: int, offset: int) -> FoundLetter | None:
        """Return the letter at a place; None when there is none."""
        for tp, end in self.ends.items():
            if tp.partition == partition and self.begins[tp] <= offset < end:
                async with aclosing(self.found(Wanted(), {tp: offset})) as letters:
                    async for found in letters:
                        return found if found.offset == offset else None
        return None

    async def found(
        self, wanted: Wanted, begins: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[FoundLetter, None]:
        """Yield the letters that are meant, those of a partition in order."""
        starts = self.begins if begins is None else begins
        ends = {tp: end for tp, end in self.ends.items() if tp in starts}
        async for part in read_to(self.reader, starts, ends):
            progress = self.progress[part.tp]
            for record in part.records:
                if record.offset >= ends[part.tp] or not is_letter(record):
                    continue
                letter = read_dead_letter(record)
                if wanted.fits(letter, record.timestamp):
                    done = source_of(letter) in progress.done
                    yield FoundLetter(part.tp.partition, record.offset, record.timestamp, letter, done)


async def read_letters(reader: Reader, since_ms: int | None = None) -> Letters:
    """Return the letters from a time on, up to the present end, with the notes read."""
    begins, ends = await reader.bounds()
    if since_ms is not None:
        later = await reader.offsets_for_time(since_ms)
        begins = {tp: ends[tp] if (at := later.get(tp)) is None else at for tp in begins}
    letters = Letters(reader, dict(begins), dict(ends), {tp: Progress(begins[tp]) for tp in begins})
    await letters.catch_up()
    return letters


@asynccontextmanager
async def open_letters(settings: Settings, since_ms: int | None = None) -> AsyncIterator[Letters]:
    """Open the dead letters from a time on.

    Raises
    ------
    UnavailableError
        The broker does not answer, or the topic is missing.
    """
    try:
        async with open_reader(settings, [Topics(settings).dead_letters]) as reader:
            yield await read_letters(reader, since_ms)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
