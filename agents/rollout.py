"""rollout: reads `examples`, `models`; writes counts, and which ranker is tried, to `models`; keeps counts.

It runs in the one `trainer` process. The counts of the present stage are published with the offsets of
`examples` that they contain. Whoever starts next goes on there, so every example counts once.
"""

from __future__ import annotations

import asyncio
import logging

from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.learn import check_example
from headrace.agents.stage.pointing import point, publication, tombstones
from headrace.agents.wiring import Wiring
from headrace.models.learning import arm_counts, pointers, registry
from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.registry import Registry
from headrace.models.learning.rollout import Decision, Rules, decide
from headrace.models.learning.shelf import Shelf
from headrace.streams.errors import ArtefactError, UnavailableError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Example
from headrace.streams.topics.reader import Reader, open_reader
from headrace.streams.topics.sender import OutRecord
from headrace.streams.topics.tail import Tail
from headrace.streams.transport.batches import RecordBatch

log = logging.getLogger(__name__)

#: Pause between two looks, s.
LOOK_S = 1.0
#: A text that nothing has named for so long is deleted, s.
FORGET_S = 60.0


class Follower:
    """What the rollout knows of `models`: the rankers, and the newest counts."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.counts: ArmCounts | None = None

    def take(self, batch: RecordBatch) -> None:
        """Apply records of `models`."""
        self.shelf.apply(batch)
        for record in batch:
            if record.key == arm_counts.KEY and record.value is not None:
                try:
                    self.counts = ArmCounts.decode(record.value)
                except ArtefactError as exc:
                    log.warning("counts of a rollout are skipped: %s", exc)


class Rollout(Service):
    """Counts what the users of both arms do; takes the candidate further, or back."""

    mundane_level = "debug"

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.follower = Follower()
        self.tail = Tail(wiring.settings, wiring.topics.models, self.follower.take, name="models")
        self.counts: ArmCounts | None = None
        self._rules = Rules.of(wiring.settings)
        self._decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        self._unused: dict[str, float] = {}
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "Rollout"

    @Service.task
    async def _run(self) -> None:
        await self.tail.caught_up.wait()
        self.counts = self.follower.counts
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
    def pointers(self) -> Pointers:
        """The pointers that count."""
        return self.follower.shelf.pointers

    async def _upkeep(self) -> None:
        """Write the pointers again when a writer that came too late wrote over them; delete old texts."""
        shelf, now = self.follower.shelf, self.wiring.clock.monotonic()
        if shelf.overwritten:
            again = pointers.renumbered(shelf.pointers)
            await self._write(publication(shelf, again))
        unused = shelf.unused()
        self._unused = {version: self._unused.get(version, now) for version in unused}
        if gone := [v for v in unused if now - self._unused[v] >= FORGET_S]:
            await self._write(tombstones(gone))

    async def _stage(self) -> None:
        """Count and decide until the stage is another one."""
        async with open_reader(self.wiring.settings, [self.wiring.topics.examples]) as reader:
            counts = await self._start(reader)
            stage = self.pointers
            while not self.should_stop and counts.of_stage(self.pointers):
                changed = await self._count(reader, counts)
                if not counts.of_stage(self.pointers):
                    return
                if changed:
                    await self._write([(arm_counts.KEY, counts.encode(), None, ())])
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
            self.counts = ArmCounts(self.pointers, {tp.partition: at for tp, at in first.items()})
        start = {tp: self.counts.read.get(tp.partition, begins[tp]) for tp in reader.partitions}
        # A topic that was made again, or lost records, has other offsets: counting goes on in what there is.
        start = {tp: at if begins[tp] <= at <= ends[tp] else begins[tp] for tp, at in start.items()}
        reader.start(start)
        return self.counts

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
        """Write what was decided, if the stage is still the present one."""
        now = self.wiring.clock.now_ms()

        def change(p: Pointers) -> Pointers:
            if (p.rollout, p.share, p.stage_ts) != (stage.rollout, stage.share, stage.stage_ts):
                return p
            step = pointers.promoted if decision.action == "promote" else pointers.rolled_back
            return step(p, now, "rollout", decision.reason)

        if decision.action == "roll back":
            kept = Registry(registry.folder_of(self.wiring.settings))
            await asyncio.to_thread(kept.note, stage.candidate, f"taken back: {decision.reason}")
        found = await point(self.wiring.settings, self.wiring.topics.models, self.wiring.sender, change)
        log.info(
            "ranker %s at %s: %s (%s); live is %s",
            stage.candidate,
            pointers.stage_name(stage.share),
            decision.action,
            decision.reason,
            found.live,
            extra={"action": "rollout"},
        )
        await self._until_known(found)

    async def _until_known(self, found: Pointers) -> None:
        """Wait until the tail has read a change, so that it is not decided twice."""
        while self.pointers.number < found.number and not self.should_stop:
            await self.sleep(0.05)

    async def _write(self, records: list[OutRecord]) -> None:
        await self.wiring.sender.send_many(self.wiring.topics.models, records, partition=0)


def attach(wiring: Wiring) -> tuple[Tail, Rollout]:
    """Return the services of the rollout."""
    service = Rollout(wiring)
    return service.tail, service
