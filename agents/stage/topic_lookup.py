"""Looks things up in compacted topics, for people: the last record of a key, the names behind hashes.

It reads whole partitions, within a time: for a question now and then, not for every request. One look-up runs
at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from headrace.serving.gateway.kept import ItemNames, Names
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.settings import Settings
from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.reader import open_reader, read_to

#: Look-ups that may wait for the one that runs; more are refused.
MOST_WAITING = 8


class TopicLookup:
    """Reads compacted topics on demand.

    Parameters
    ----------
    settings
        Broker, and largest message.
    most_s
        Longest time of a look-up, with its wait, s.
    """

    def __init__(self, settings: Settings, most_s: float) -> None:
        self._settings = settings
        self._most_s = most_s
        self._one = asyncio.Lock()
        self._waiting = 0
        self._decode = msgspec.json.Decoder(ItemNames).decode

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise UnavailableError("too many look-ups are waiting")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._most_s), self._one:
                yield
        except TimeoutError:
            raise TimeoutError(f"the topic was not read within {self._most_s:g} s") from None
        except KafkaError as exc:
            raise UnavailableError(f"the broker does not answer: {exc!r}") from exc
        finally:
            self._waiting -= 1

    async def last_value(self, topic: str, key: str, partitions: int) -> bytes | None:
        """Return the value of the last record of a key; None when there is none, or it is a tombstone.

        Only the partition where keys belong is read.

        Raises
        ------
        TimeoutError
            When it takes longer than ``most_s``.
        UnavailableError
            When the broker does not answer, or too many look-ups wait.
        """
        wanted, found = key.encode(), None
        partition = int(partitions_of_keys([wanted], partitions)[0])
        async with self._turn(), open_reader(self._settings, [topic], [partition]) as reader:
            async for part in read_to(reader, *await reader.bounds()):
                for record in part.records:
                    if record.key == wanted:
                        found = record.value
        return found

    async def find_names(self, topic: str, names: Names) -> bool:
        """Look through `items` for the names that are wanted; return whether it was read to the end.

        It stops when every name was found, and after ``most_s``. Raises ``UnavailableError`` as
        ``last_value``.
        """
        if names.complete:
            return True
        try:
            async with self._turn(), open_reader(self._settings, [topic]) as reader:
                async for part in read_to(reader, *await reader.bounds()):
                    self._offer(part.records, names)
                    if names.complete:
                        break
        except TimeoutError:
            return False
        return True

    def _offer(self, records: Iterable[Any], names: Names) -> None:
        """Offer the keys of records, and what the items among them name."""
        items = list[ItemNames]()
        for record in records:
            try:
                items.append(self._decode(record.value or b""))
            except UNDECODABLE:
                items.append(
                    ItemNames((record.key or b"").decode(errors="replace"))
                )  # withdrawn, or a bad one
        names.items(items)
