"""Writes the records of dead letters to their topics again, each once, however often it is cut off.

A group of letters of one partition at a time: a note that it begins, the records, a note that it has ended
(``redrives``). After a redrive that was cut off, the next one first waits until nothing of it can be under
way. Then it looks for its records behind the offsets that its note names, and notes those that are there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import redriven_from
from headrace.streams.topics.letter_reader import FoundLetter, Letters, read_letters
from headrace.streams.topics.names import Topics
from headrace.streams.topics.partitioners import right_partition
from headrace.streams.topics.reader import Reader, open_reader, read_to
from headrace.streams.topics.redrives import (
    Newest,
    Note,
    Rules,
    Source,
    Wanted,
    redriven_record,
    source_of,
    written_over,
)
from headrace.streams.topics.refusal import refusal
from headrace.streams.topics.sender import BatchSender, OutRecord

#: Largest group: letters, and bytes of their bodies.
GROUP_LETTERS, GROUP_BYTES = 500, 8 * 1024 * 1024
#: A group whose records are not written so long after it began is given up, s. What the producer has taken by
#: then, it may try to write for 40 s more.
WRITE_S = 10.0
#: So long after a group that was cut off was seen, nothing of it is under way any more, s.
SETTLED_S = 60.0


@dataclass
class Plan:
    """What a redrive is about to do, or has done.

    Attributes
    ----------
    chosen
        Letters to be redriven: offsets by partition.
    topics
        How many of them by topic.
    left
        Letters that are not redriven, by the code of the reason.
    more
        Whether there are more letters than the limit.
    written
        How many records were written.
    """

    chosen: dict[int, list[int]] = field(default_factory=dict)
    topics: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    more: bool = False
    written: int = 0

    def __len__(self) -> int:
        return self.topics.total()


class Redrive:
    """One redrive; made by ``redrive``.

    Parameters
    ----------
    letters
        The dead letters.
    inputs
        Reads the topics that are written to.
    every
        Reads them, too, also what is behind the beginning of an open transaction: there ours may be.
    rules
        Which letters may be redriven.
    """

    def __init__(self, letters: Letters, inputs: Reader, every: Reader, rules: Rules) -> None:
        self._letters = letters
        self._inputs = inputs
        self._every = every
        self._rules = rules
        self._counts = Counter(tp.topic for tp in inputs.partitions)
        self._newest = Newest()
        self._looked: dict[TopicPartition, int] = {}  # up to where ``_newest`` has the records
        self._run = secrets.token_hex(8)
        self._groups = 0

    def _target(self, found: FoundLetter) -> TopicPartition:
        topic = found.letter.topic
        return TopicPartition(topic, right_partition(found.letter.key or b"", self._counts[topic]))

    # -- the plan

    async def plan(self, wanted: Wanted, limit: int) -> Plan:
        """Choose at most ``limit`` letters; write nothing."""
        plan, chosen = Plan(), dict[Source, FoundLetter]()
        async with aclosing(self._letters.found(wanted)) as letters:
            async for found in letters:
                source = source_of(found.letter)
                progress = self._letters.progress[self._tp(found.partition)]
                code = self._rules.verdict(found.letter) or progress.verdict(source)
                if code:
                    plan.left[code] += 1
                elif source in chosen:
                    plan.left["same_record"] += 1
                else:
                    if len(chosen) >= limit:
                        plan.left["overtaken"] += await self._drop_overtaken(chosen)
                    if len(chosen) >= limit:
                        plan.more = True
                        break
                    chosen[source] = _without_body(found)
        plan.left["overtaken"] += await self._drop_overtaken(chosen)
        for found in chosen.values():
            plan.chosen.setdefault(found.partition, []).append(found.offset)
            plan.topics[found.letter.topic] += 1
        plan.left = +plan.left
        return plan

    def _tp(self, partition: int) -> TopicPartition:
        return next(tp for tp in self._letters.progress if tp.partition == partition)

    async def _drop_overtaken(self, chosen: dict[Source, FoundLetter]) -> int:
        """Take out the letters whose record must not replace a newer one; return how many."""
        ours = [found for found in chosen.values() if self._rules.replaces(found.letter.topic)]
        firsts: dict[TopicPartition, int] = {}
        for found in ours:
            tp, letter = self._target(found), found.letter
            first = letter.offset + 1 if letter.partition == tp.partition else 0
            firsts[tp] = min(first, firsts.get(tp, first))
        begins, ends = await self._inputs.bounds(list(firsts))
        self._looked = {tp: min(max(first, begins[tp]), ends[tp]) for tp, first in firsts.items()}
        await self._look(_keys(ours))
        best: dict[tuple[str, bytes | None], FoundLetter] = {}
        for found in ours:
            if not self._overtaken(found):
                at = found.letter.topic, found.letter.key
                best[at] = max(found, best.get(at, found), key=lambda f: (f.letter.timestamp, f.offset))
        gone = [f for f in ours if best.get((f.letter.topic, f.letter.key)) is not f]
        for found in gone:
            del chosen[source_of(found.letter)]
        return len(gone)

    def _overtaken(self, found: FoundLetter) -> bool:
        if not self._rules.replaces(found.letter.topic):
            return False
        return self._newest.overtakes(found.letter, self._target(found).partition)

    async def _look(self, keys: set[tuple[str, bytes | None]]) -> None:
        """Read on what has come of some keys to the partitions that are looked at."""
        _, ends = await self._inputs.bounds(list(self._looked))
        async for part in read_to(self._inputs, dict(self._looked), ends):
            for record in part.records:
                if (part.tp.topic, record.key) in keys:
                    self._newest.add(part.tp.topic, record)
            self._looked[part.tp] = max(self._looked[part.tp], part.position)

    # -- the writing

    async def settle(self, sender: BatchSender, tell: Callable[[str], None]) -> None:
        """End the groups that were cut off."""
        if not any(progress.open for progress in self._letters.progress.values()):
            return
        tell(f"another redrive has not ended: waiting {SETTLED_S:g} s until nothing of it is under way")
        seen = {tp: progress.open for tp, progress in self._letters.progress.items() if progress.open}
        await asyncio.sleep(SETTLED_S)
        await self._letters.catch_up()
        for tp, note in seen.items():
            now = self._letters.progress[tp].open
            if now is not None and now.group == note.group:
                await self._end(sender, tp, now, set())
                await self._letters.catch_up(tp)
        if any(progress.open for progress in self._letters.progress.values()):
            raise UnavailableError("another redrive is under way: run this one after it")

    async def write(self, sender: BatchSender, plan: Plan, report: Callable[[int], None]) -> None:
        """Redrive the chosen letters of a plan; keep ``plan`` up to date."""
        for partition, offsets in plan.chosen.items():
            tp = self._tp(partition)
            async for group in self._groups_of(tp, offsets):
                plan.written += await self._write(sender, tp, group, plan)
                report(plan.written)

    async def _groups_of(
        self, tp: TopicPartition, offsets: Sequence[int]
    ) -> AsyncIterator[list[FoundLetter]]:
        """Yield the letters at some offsets of a partition, with their bodies, in groups."""
        left = sorted(offsets)
        while left:
            wanted, group, size = set(left), list[FoundLetter](), 0
            async with aclosing(self._letters.found(Wanted(), {tp: left[0]})) as letters:
                async for found in letters:
                    if found.offset not in wanted:
                        continue
                    group.append(found)
                    size += len(found.letter.value or b"")
                    if len(group) == len(wanted) or len(group) >= GROUP_LETTERS or size >= GROUP_BYTES:
                        break
            if not group:
                return  # they were deleted meanwhile: they are older than letters are kept
            yield group
            left = [offset for offset in left if offset > group[-1].offset]

    async def _write(
        self, sender: BatchSender, tp: TopicPartition, group: list[FoundLetter], plan: Plan
    ) -> int:
        try:
            async with asyncio.timeout(WRITE_S):
                await self._look(_keys(group))
                going = [found for found in group if not self._overtaken(found)]
                if len(going) < len(group):
                    plan.left["overtaken"] += len(group) - len(going)
                if not going:
                    return 0
                records: dict[TopicPartition, list[OutRecord]] = {}
                for found in going:
                    record = redriven_record(found.letter, found.place)
                    records.setdefault(self._target(found), []).append(record)
                _, ends = await self._inputs.bounds(list(records))
                ends |= {to: self._looked[to] for to in records if to in self._looked}
                note = await self._begin(sender, tp, going, [(*to, end) for to, end in ends.items()])
                for to, some in records.items():
                    await sender.send_many(to.topic, some, partition=to.partition)
        except TimeoutError as exc:
            raise UnavailableError(
                f"the broker did not take a group of letters within {WRITE_S:g} s; nothing is lost and "
                "nothing was written twice: run the command again"
            ) from exc
        await self._end(sender, tp, note, {found.offset for found in going})
        return len(going)

    async def _begin(
        self,
        sender: BatchSender,
        tp: TopicPartition,
        going: list[FoundLetter],
        ends: list[tuple[str, int, int]],
    ) -> Note:
        """Note that a group begins; return the note when the group is the one that is open."""
        self._groups += 1
        named = [(found.offset, source_of(found.letter)) for found in going]
        note = Note(f"{self._run}-{self._groups}", begin=True, letters=named, ends=ends)
        await sender.send_many(tp.topic, [note.record()], partition=tp.partition)
        progress = self._letters.progress[tp]
        await self._letters.catch_up(tp)
        done = any(source in progress.done for _, source in named)
        if progress.open is None or progress.open.group != note.group or done:
            if progress.open is not None and progress.open.group == note.group:
                end = Note(note.group, begin=False, letters=[])
                await sender.send_many(tp.topic, [end.record()], partition=tp.partition)
            raise UnavailableError("another redrive is under way: run this one after it")
        return note

    async def _end(self, sender: BatchSender, tp: TopicPartition, note: Note, sure: set[int]) -> None:
        """Note which letters of a group were redriven: those of ``sure``, and those whose records are found.

        A record that came in between, of a key where the newest one counts, is written once more: the
        redriven one was newer in the topic, but not in truth.
        """
        starts = {TopicPartition(topic, partition): end for topic, partition, end in note.ends}
        begins, ends = await self._every.bounds(list(starts))
        named = {f"{tp.partition}-{offset}": offset for offset, _ in note.letters}
        lost = any(begins[to] > at or ends[to] < at for to, at in starts.items())
        starts = {to: max(at, begins[to]) for to, at in starts.items()}
        found, ours = set(sure), dict[TopicPartition, dict[int, bytes]]()
        async for part in read_to(self._every, starts, ends):
            for record in part.records:
                before = redriven_from(record)
                if before is not None and before[0] in named:
                    found.add(named[before[0]])
                    ours.setdefault(part.tp, {})[record.offset] = record.key
        for to, places in ours.items():
            if self._rules.replaces(to.topic):
                await self._restore(sender, to, places, starts[to])
        done = [(offset, source) for offset, source in note.letters if offset in found]
        unsure = [(offset, source) for offset, source in note.letters if lost and offset not in found]
        end_note = Note(note.group, begin=False, letters=done, unsure=unsure)
        await sender.send_many(tp.topic, [end_note.record()], partition=tp.partition)

    async def _restore(
        self, sender: BatchSender, to: TopicPartition, ours: dict[int, bytes], start: int
    ) -> None:
        """Write the newer records again that redriven ones (their offsets and keys) came after."""
        keys, same_keys = set(ours.values()), list[Any]()
        _, ends = await self._inputs.bounds([to])
        async for part in read_to(self._inputs, {to: start}, ends):
            same_keys += [record for record in part.records if record.key in keys]
        again = [
            (record.key, record.value, record.timestamp, list(record.headers))
            for record in written_over(same_keys, set(ours))
        ]
        await sender.send_many(to.topic, again, partition=to.partition)


def _without_body(found: FoundLetter) -> FoundLetter:
    return found._replace(letter=replace(found.letter, value=None, headers=(), detail=""))


def _keys(letters: Iterable[FoundLetter]) -> set[tuple[str, bytes | None]]:
    return {(found.letter.topic, found.letter.key) for found in letters}


async def redrive(
    settings: Settings,
    wanted: Wanted,
    rules: Rules,
    *,
    limit: int,
    write: bool,
    tell: Callable[[str], None] = lambda text: None,
    report: Callable[[int], None] = lambda done: None,
) -> Plan:
    """Redrive the letters that are meant, or only plan it.

    Parameters
    ----------
    wanted, rules
        Which letters are meant, and which of them may be redriven.
    limit
        Most letters; they bound the memory.
    write
        False: nothing is written.
    tell, report
        Called with a sentence before a wait, and with the number of records written so far.

    Raises
    ------
    UnavailableError
        The broker does not answer, a topic is missing, or another redrive is under way. Whatever was written
        until then is known, and a later redrive does not write it again.
    """
    topics = Topics(settings)
    try:
        async with (
            open_reader(settings, [topics.dead_letters]) as reader,
            open_reader(settings, rules.inputs) as inputs,
            open_reader(settings, rules.inputs, isolation="read_uncommitted") as every,
        ):
            run = Redrive(await read_letters(reader), inputs, every, rules)
            if not write:
                return await run.plan(wanted, limit)
            sender = BatchSender(settings)
            await sender.start()
            try:
                await run.settle(sender, tell)
                plan = await run.plan(wanted, limit)
                await run.write(sender, plan, report)
            finally:
                await sender.stop()
            return plan
    except KafkaError as exc:
        raise UnavailableError(
            refusal(settings, exc) or f"the broker at {settings.brokers} refuses, or does not answer: {exc}"
        ) from exc
