"""Writes the examples of slots that close: each once, also after a crash or when the group was moved."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from headrace.agents.partitions.outcomes import Closing, JoinPartition
from headrace.agents.partitions.written import Written, joined, marks_of, read_mark
from headrace.agents.stage.drive import all_of
from headrace.agents.stage.group import Member
from headrace.agents.stage.join_reader import JoinReader
from headrace.models.learning.source_outcomes import MOST, SourceOutcomes
from headrace.models.outcomes import examples_of, request_key, unshown_items
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.messages.schemas import Example, Impression
from headrace.streams.topics.lost_ends import LOST_END
from headrace.streams.topics.sender import BatchSender, OutRecord

log = logging.getLogger(__name__)

#: Most slots of a partition written at once (or one list), and most of all partitions together.
SLOTS, ALL_SLOTS = 2000, 8000
#: Most requests, and slots, of a partition that are looked at at once for slots that close before their list.
EARLY_REQUESTS, EARLY_SLOTS = 100, 1000
#: Records at the end of `examples` that are looked at after a take-over: more than one late write of a paused
#: worker can put there, and what is between two marks that list the slots of open lists.
LAST_EXAMPLES = 8000


class _Shown(msgspec.Struct):
    """What an impression and its examples have in common, and no other impression has."""

    request_id: str
    user_id: str
    ts: int


class JoinWriter:
    """Writes examples to one topic.

    Parameters
    ----------
    partitions
        The partitions that this worker owns, by number; whoever gives one away removes it.
    member
        Says whether this worker may write.

    Attributes
    ----------
    sources
        What came of the shown slots that this worker has written, by source. A slot that is closed again, by
        this or another worker, is not written again, so it counts once. What the broker has of a write that
        failed is not counted.
    """

    def __init__(
        self,
        partitions: Mapping[int, JoinPartition],
        reader: JoinReader,
        sender: BatchSender,
        topic: str,
        member: Member,
    ) -> None:
        self._partitions = partitions
        self._reader, self._sender, self._topic, self._member = reader, sender, topic, member
        self.sources = SourceOutcomes(MOST)
        self._decoder = msgspec.json.Decoder(Impression)
        self._encoder = msgspec.json.Encoder()
        self._turn = asyncio.Lock()

    async def write(self) -> None:
        """Write the examples of all lists that have waited long enough.

        Returns early when the broker cannot be reached or has lost the last examples, or this worker may not
        write: then call it again.

        Raises
        ------
        KafkaError
            When a write fails. What was written of it is found in the topic the next time.
        """
        async with self._turn:
            while self._member.may_write() and (due := self._due()):
                try:
                    records = await self._read(due)
                except (KafkaError, UnavailableError) as exc:
                    log.warning("examples wait for the broker: %s", exc, extra={"action": "broker_away"})
                    return
                with self._member.writing():
                    if self._member.may_write():
                        try:
                            await all_of(*(self._write(n, *due[n], records.get(n, {})) for n in due))
                        except LOST_END as exc:  # what is there is read first: each once
                            text = "the broker has lost the last examples: they are looked up (%r)"
                            log.warning(text, exc, extra={"action": "written_again"})
                            return
            for part in self._partitions.values():
                part.close([])

    def _due(self) -> dict[int, tuple[JoinPartition, list[Closing]]]:
        due, slots = {}, 0
        for number, part in self._partitions.items():
            n = part.due(SLOTS) if slots < ALL_SLOTS else 0
            closing = part.closing(n) if n else []
            slots += sum(c.slots for c in closing)
            closing += part.early(EARLY_REQUESTS, EARLY_SLOTS)
            if closing:
                due[number] = part, closing
        return due

    async def _read(
        self, due: Mapping[int, tuple[JoinPartition, list[Closing]]]
    ) -> dict[int, dict[int, Any]]:
        """Return the impressions of slots that are not written, by partition and offset."""
        wanted = {}
        for number, (part, closing) in due.items():
            if part.written is None:
                part.written = await what_is_written(self._reader, number)
            written = part.written
            wanted[number] = {c.offset for c in closing if _missing(written, c)}
        return await self._reader.impressions(wanted)

    async def _write(
        self, number: int, part: JoinPartition, closing: list[Closing], records: Mapping[int, Any]
    ) -> None:
        written = part.written
        if written is None or self._partitions.get(number) is not part:
            return  # the partition was revoked, or its topic has gone back: the lists are read again
        try:
            out, shown, begun = self._examples(number, written, closing, records)
            if out:
                await self._sender.send_many(self._topic, out, partition=number)
        except BaseException:
            part.written = None  # a part of it may be written
            raise
        self.sources.add([e.sources for e in shown], [e.clicked for e in shown])
        for offset, positions in begun.items():
            written.begin(offset, positions)
        closed = [c for c in closing if c.early is None]
        for c in closed:
            written.complete(c.since, c.offset + 1)
        part.close(closed)

    def _examples(
        self, number: int, written: Written, closing: list[Closing], records: Mapping[int, Any]
    ) -> tuple[list[OutRecord], list[Example], dict[int, list[int]]]:
        """Return what is missing: records, examples of shown slots, and positions of lists that stay open."""
        out, shown, begun = list[OutRecord](), list[Example](), dict[int, list[int]]()
        done, gone = written.done, 0
        for c in closing:
            done = done if c.early is not None else joined(done, c.since, c.offset)
            if not (missing := _missing(written, c)):
                continue
            impression = self._impression(records.get(c.offset), c)
            if impression is None:
                gone += c.early is None
                continue
            if c.early is not None:
                begun[c.offset] = missing
            marks = marks_of(c.offset, missing, done, written.log, early=c.early is not None)
            made = examples_of(impression, c.outcomes, missing)
            shown += [example for example in made if not example.unshown]
            for example, mark in zip(made, marks, strict=True):
                out.append((example.user_id.encode(), self._encoder.encode(example), None, mark))
        if out:
            key, value, ts, mark = out[0]
            out[0] = key, value, ts, written.list_begun(mark, len(out))
        if gone:
            log.error(
                "%d impressions of partition %d are not in their topic any more: no examples of them",
                gone,
                number,
                extra={"action": "impressions_gone", "partition": number, "count": gone},
            )
        return out, shown, begun

    def _impression(self, record: Any, closing: Closing) -> Impression | None:
        """Return the impression in a record; None when the topic has another one there, or none."""
        if record is None or not record.value:
            return None
        try:
            found = self._decoder.decode(record.value)
        except UNDECODABLE:
            return None
        same = request_key(found.user_id, found.request_id) == closing.key
        slots = len(found.item_ids) + len(unshown_items(found))
        return found if same and slots == closing.slots else None


def _missing(written: Written, closing: Closing) -> list[int]:
    """Return the positions that close now and are not written."""
    if closing.early is None:
        return written.missing(closing.offset, range(closing.slots))
    return written.missing(closing.offset, closing.early) if written.may_begin(closing.offset) else []


async def what_is_written(reader: JoinReader, number: int) -> Written:
    """Return what the end of a partition of `examples` says is written.

    When `impressions` was deleted and made again, or has lost its end, it has other impressions at the same
    offsets. What is said of those does not count.
    """
    records = await reader.last_examples(number, LAST_EXAMPLES)
    marked = [(found, r) for r in records if (found := read_mark(r.headers)) is not None]
    written = Written(found for found, _ in marked)
    examples = {found.mark.offset: r for found, r in marked if found.mark.log == written.log}
    replaced = await _replaced_from(reader, number, examples) if examples else None
    if replaced is not None:
        log.warning(
            "impressions-%d has other records from offset %d on: it was deleted, or lost its end",
            number,
            replaced,
            extra={"action": "impressions_replaced", "partition": number, "offset": replaced},
        )
        written.only_before(replaced)
    return written


async def _replaced_from(reader: JoinReader, number: int, examples: Mapping[int, Any]) -> int | None:
    """Return the offset from which `impressions` has others than those of ``examples``; None: the same."""
    first = await reader.first_impression(number)
    for offset in sorted(examples, reverse=True):
        found = (await reader.impressions({number: {offset}}))[number].get(offset)
        if offset < first or _same(found, examples[offset]):  # an old one is deleted for its age
            return None if offset == max(examples) else offset + 1
    return 0


def _same(*records: Any) -> bool:
    """Return whether records are an impression and its example."""
    try:
        one, other = (msgspec.json.decode(record.value, type=_Shown) for record in records if record)
    except (ValueError, TypeError):  # msgspec's errors are ValueErrors
        return False
    return one == other
