"""rollout: reads `examples`, `models`; writes counts, and what is tried, to `models`; keeps counts.

It runs in the one `trainer` process, once for rankers and once for settings. The counts of the present stage
are published with the offsets of `examples` that they contain. Whoever starts next goes on there, so every
example counts once. Which users came in which period is not published: whoever starts reads it again.
"""

from __future__ import annotations

import asyncio
import logging

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.learn import check_example
from headrace.agents.stage.pointing import point, publication, tombstones
from headrace.agents.wiring import Wiring
from headrace.models.learning import pointers, registry
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.kinds import KINDS, RANKER, SETTINGS, Kind
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.registry import Registry
from headrace.models.learning.rollout import Decision, Rules, decide
from headrace.models.learning.shelf import Shelf
from headrace.streams.errors import ArtefactError, UnavailableError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Example
from headrace.streams.topics.reader import Reader, open_reader, read_to
from headrace.streams.topics.sender import OutRecord
from headrace.streams.topics.tail import Tail
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.plain_gathering import records_before

log = logging.getLogger(__name__)

#: Pause between two looks, s.
LOOK_S = 1.0
#: A text that nothing has named for so long is deleted, s.
FORGET_S = 60.0


class Follower:
    """What the rollout knows of `models`: by kind, the artefacts and the newest counts."""

    def __init__(self) -> None:
        self.shelves = {kind: Shelf(kind) for kind in KINDS}
        self.counts: dict[Kind, ArmCounts] = {}

    @property
    def shelf(self) -> Shelf:
        """The rankers."""
        return self.shelves[RANKER]

    def take(self, batch: RecordBatch) -> None:
        """Apply records of `models`."""
        for shelf in self.shelves.values():
            shelf.apply(batch)
        kinds = {kind.counts: kind for kind in KINDS}
        for record in batch:
            kind = kinds.get(record.key)
            if kind is not None and record.value is not None:
                try:
                    self.counts[kind] = ArmCounts.decode(record.value, kind)
                except ArtefactError as exc:
                    log.warning("counts of a rollout are skipped: %s", exc)


class Rollout(Service):
    """Counts what the users of both arms do; takes candidates further, or back.

    Parameters
    ----------
    tail, follower
        What reads `models`, and what it knows.
    kind
        What is tried.
    """

    mundane_level = "debug"

    def __init__(self, wiring: Wiring, tail: Tail, follower: Follower, kind: Kind = RANKER) -> None:
        self.wiring = wiring
        self.follower, self.tail, self.kind = follower, tail, kind
        self.counts: ArmCounts | None = None
        self._return_ms = int(1000 * wiring.settings.rollout_return_s)
        self._rules = Rules.of(wiring.settings, kind)
        self._decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        self._unused: dict[str, float] = {}
        for share in pointers.STAGES:
            for step in ("promote", "roll back"):
                self._count_step(step, share, by=0)
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return f"Rollout of {self.kind.name}"

    @Service.task
    async def _run(self) -> None:
        await self.tail.caught_up.wait()
        self.counts = self.follower.counts.get(self.kind)
        while not self.should_stop:
            try:
                await self._upkeep()
                if self.pointers.candidate:
                    await self._stage()
            except (KafkaError, UnavailableError) as exc:
                log.warning("the rollout waits for the broker: %s", exc, extra={"action": "broker_away"})
            except Exception:
                log.exception("the rollout failed", extra={"action": "rollout_failed"})
            await self.sleep(LOOK_S)

    @property
    def shelf(self) -> Shelf:
        """The artefacts on `models`, and the pointers."""
        return self.follower.shelves[self.kind]

    @property
    def pointers(self) -> Pointers:
        """The pointers that count."""
        return self.shelf.pointers

    async def _upkeep(self) -> None:
        """Write the pointers again when a writer that came too late wrote over them; delete old texts."""
        shelf, now = self.shelf, self.wiring.clock.monotonic()
        if shelf.overwritten:
            again = pointers.renumbered(shelf.pointers)
            await self._write(publication(shelf, again))
        unused = shelf.unused()
        self._unused = {version: self._unused.get(version, now) for version in unused}
        if gone := [v for v in unused if now - self._unused[v] >= FORGET_S]:
            await self._write(tombstones(gone, self.kind))

    async def _stage(self) -> None:
        """Count and decide until the stage is another one."""
        async with open_reader(self.wiring.settings, [self.wiring.topics.examples]) as reader:
            counts = await self._start(reader)
            while not self.should_stop and counts.of_stage(self.pointers):
                changed = await self._count(reader, counts)
                if not counts.of_stage(self.pointers):
                    return
                if changed:
                    await self._write([(self.kind.counts, counts.encode(), None, ())])
                stage = self.pointers  # of the same stage; others may have come, or gone
                decision = decide(stage, counts, self.wiring.clock.now_ms(), self._rules)
                if decision.action != "wait":
                    await self._act(stage, decision)
                    return
                await self._upkeep()
                await self.sleep(LOOK_S)

    async def _start(self, reader: Reader) -> ArmCounts:
        """Return the counts of the present stage, read from where they end."""
        begins, ends = await reader.bounds()
        if self.counts is None or not self.counts.of_stage(self.pointers):
            since = await reader.offsets_for_time(self.pointers.stage_ts)
            first = {tp: ends[tp] if at is None else max(at, begins[tp]) for tp, at in since.items()}
            begin = {tp.partition: at for tp, at in first.items()}
            self.counts = ArmCounts(self.pointers, begin, self._return_ms, self.kind)
        start = {tp: self.counts.read.get(tp.partition, begins[tp]) for tp in reader.partitions}
        # A topic that was made again, or lost records, has other offsets: counting goes on in what there is.
        start = {tp: at if begins[tp] <= at <= ends[tp] else begins[tp] for tp, at in start.items()}
        await self._come_again(reader, self.counts, start)
        reader.start(start)
        return self.counts

    async def _come_again(self, reader: Reader, counts: ArmCounts, until: dict[TopicPartition, int]) -> None:
        """Read again who came when, of what is counted already."""
        if counts.return_ms == self._return_ms and (counts.visits is not None or not counts.return_ms):
            return
        counts.again(self._return_ms)
        begins, _ = await reader.bounds()
        first = {tp: max(begins[tp], counts.begin.get(tp.partition, begins[tp])) for tp in until}
        async for part in read_to(reader, first, {tp: max(at, first[tp]) for tp, at in until.items()}):
            records = records_before(part.records, until[part.tp])
            counts.come_again(self._decoder.batch(records).values)
            await asyncio.sleep(0)
            if self.should_stop:
                return

    async def _count(self, reader: Reader, counts: ArmCounts) -> bool:
        """Count what can be read now; return whether there was anything."""
        changed, until = False, self.wiring.clock.monotonic() + LOOK_S
        while parts := await reader.fetch(0.1):
            for part in parts:
                found = self._decoder.batch(part.records).values
                counts.add(found)
                counts.read[part.tp.partition] = part.position
                changed = True
                await asyncio.sleep(0)
            if self.should_stop or self.wiring.clock.monotonic() >= until:
                break
        return changed

    async def _act(self, stage: Pointers, decision: Decision) -> None:
        """Write what was decided, if the stage is still the present one, and the candidate still there."""
        now, version = self.wiring.clock.now_ms(), decision.version or stage.candidate
        done = False

        def change(p: Pointers) -> Pointers:
            nonlocal done
            done = False
            if (p.rollout, p.share, p.stage_ts) != (stage.rollout, stage.share, stage.stage_ts):
                return p
            if version not in p.candidates():
                return p
            done = True
            step = pointers.promoted if decision.action == "promote" else pointers.rolled_back
            return step(p, now, "rollout", decision.reason, version)

        if decision.action == "roll back":
            await asyncio.to_thread(self._note, version, f"taken back: {decision.reason}")
        s, topic = self.wiring.settings, self.wiring.topics.models
        found = await point(s, topic, self.wiring.sender, change, kind=self.kind)
        if done:
            self._count_step(decision.action, stage.share)
        log.info(
            "%s %s at %s: %s (%s); live is %s",
            self.kind.name,
            version,
            pointers.stage_name(stage.share),
            decision.action,
            decision.reason,
            found.live,
            extra={"action": "rollout"},
        )
        await self._until_known(found)

    def _count_step(self, step: str, share: int, by: int = 1) -> None:
        stage = pointers.stage_name(share)
        self.wiring.metrics.count("headrace_rollout_steps_total", self.kind.name, step, stage, by=by)

    def _note(self, version: str, why: str) -> None:
        """Note in the registry why a version went. Settings may have been registered elsewhere."""
        kept = Registry(registry.folder_of(self.wiring.settings, self.kind), self.kind)
        if self.kind is SETTINGS and version in self.shelf.texts and version not in kept.names():
            kept.add(self.shelf.texts[version], "published")
        kept.note(version, why)

    async def _until_known(self, found: Pointers) -> None:
        """Wait until the tail has read a change, so that it is not decided twice."""
        while self.pointers.number < found.number and not self.should_stop:
            await self.sleep(0.05)

    async def _write(self, records: list[OutRecord]) -> None:
        await self.wiring.sender.send_many(self.wiring.topics.models, records, partition=0)


def attach(wiring: Wiring) -> tuple[Tail, Rollout, Rollout]:
    """Return what reads `models`, the rollout of rankers, and that of settings."""
    follower = Follower()
    tail = Tail(wiring.settings, wiring.topics.models, follower.take, name="models")
    return tail, Rollout(wiring, tail, follower), Rollout(wiring, tail, follower, SETTINGS)
