"""learn_towers: reads `events` and `items`; writes the two towers to `models`; keeps what users clicked last.

One worker of the role learns, from all partitions of `events`: the one that owns the first of them. What is
published says up to which event it has learnt, so whoever learns next goes on there. It runs beside the other
agents of the role, in a thread and with a bounded share of a core: when clicks come faster, a sample of them
is learnt, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time

import faust
import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.partitions.tower_clicks import ItemReader, TowerClicks
from headrace.agents.stage.drive import forget_when_revoked
from headrace.agents.stage.foreign_events import ForeignEvents
from headrace.agents.stage.group import AppMember, Member
from headrace.agents.stage.towers_out import Published, read_published, write
from headrace.agents.wiring import Wiring
from headrace.models.embeddings.pace import Pace
from headrace.models.embeddings.stream import Clicks, TowerStream
from headrace.models.state.users import ROW
from headrace.streams.errors import ArtefactError, UnavailableError
from headrace.streams.settings import DAY_MS, HOUR_MS
from headrace.streams.tables.rows import unpack
from headrace.streams.topics import flow
from headrace.streams.topics.reader import Reader, open_reader, read_to
from headrace.streams.transport.fetching import Fetched

FLOW = flow.agent("learn_towers")
log = logging.getLogger(__name__)

#: How often a worker looks whether it is the one that learns, s.
LOOK_S = 0.25
#: Before it goes on, it reads the clicks of so long: what users had clicked before.
WARM_UP_MS = HOUR_MS
#: Users whose rows are asked for at once.
_ROWS = 256


class TowersStage:
    """Learns the towers from clicks and publishes them.

    Parameters
    ----------
    wiring
        Settings, producer, online store and clock.
    member
        The place of this worker in its group.
    pace
        Which clicks are learnt when there are too many.

    Attributes
    ----------
    read
        By partition of `events`, the offset after the last event that was read.
    """

    def __init__(self, wiring: Wiring, member: Member, pace: Pace | None = None) -> None:
        self.wiring = wiring
        self.pace = pace or Pace()
        self._member = member
        self._epoch = 0  # grows with every rebalance
        self._learns = False
        self._foreign = ForeignEvents(wiring)
        self._busy = asyncio.Lock()  # what reads and what changes the learner take turns
        self._start_again()

    def _start_again(self) -> None:
        s = self.wiring.settings
        self.items = ItemReader(s.max_event_bytes)
        self.stream = TowerStream(self.items.content, s.towers_rows, int(s.towers_keep_days * DAY_MS))
        self.read: dict[int, int] = {}
        self._lag: dict[int, int] = {}
        self._last = Published()
        self._told = self.pace.skipped

    def revoked(self) -> None:
        """Learn nothing more: another worker may go on from what was published last."""
        self._epoch += 1
        self._learns = False

    def _leads(self, epoch: int) -> bool:
        return epoch == self._epoch and self._member.owns(self.wiring.topics.events, 0)

    # -- learning

    async def lead(self) -> None:
        """Learn as long as this worker owns the first partition of `events`."""
        epoch, topics = self._epoch, self.wiring.topics
        if not self._leads(epoch):
            return
        try:
            await self.restore()
            async with open_reader(self.wiring.settings, [topics.items, topics.events]) as reader:
                await self._seek(reader)
                self._learns = epoch == self._epoch
                while self._learns and self._leads(epoch):
                    for part in await reader.fetch(1.0):
                        if epoch == self._epoch:
                            await self._take(part)
        except (KafkaError, UnavailableError) as exc:
            log.warning("learning the towers waits for the broker: %s", exc, extra={"action": "broker_away"})
        finally:
            self._learns = False

    async def restore(self) -> None:
        """Go on from the newest published towers that fit."""
        self._start_again()
        self._last = await read_published(self.wiring, self.wiring.topics.models, self.stream)
        self.read = dict(self._last.read)

    async def _seek(self, reader: Reader) -> None:
        """Read all items; begin a while before the first event that was not learnt."""
        begins, ends = await reader.bounds()
        since = await reader.offsets_for_time(max(0, self._last.created_ts - WARM_UP_MS))
        events = [tp for tp in begins if tp.topic == self.wiring.topics.events]
        items = {tp: offset for tp, offset in ends.items() if tp not in events}
        self.items.partitions = len(items)
        self._clicks = TowerClicks(self.wiring.settings, len(events))
        start: dict[TopicPartition, int] = {}
        for tp in events:
            at = self.read.get(tp.partition, begins[tp])
            at = at if begins[tp] <= at <= ends[tp] else begins[tp]
            self.read[tp.partition] = at
            found = since[tp]
            start[tp] = at if found is None else max(begins[tp], min(at, found))
            self._lag[tp.partition] = ends[tp] - start[tp]
        async for part in read_to(reader, {tp: begins[tp] for tp in items}, items):
            await self._take(part)
        reader.start({**items, **start})

    async def _take(self, part: Fetched) -> None:
        async with self._busy:
            if part.tp.topic == self.wiring.topics.items:
                await asyncio.to_thread(self.items.apply, part.records, part.tp.partition)
                return
            number = part.tp.partition
            self._lag[number] = max(0, part.highwater - part.position)
            part = part._replace(records=(await self._foreign.read(part.records)).records)
            spent = await self._learn(part) if part.records else 0.0
            self.read[number] = max(self.read[number], part.position)
        await asyncio.sleep(spent * (1 / self.wiring.settings.towers_cpu - 1))

    async def _learn(self, part: Fetched) -> float:
        """Note clicks and learn those that are new; return the CPU time it took, s."""
        began = time.thread_time()
        number, now = part.tp.partition, self.wiring.clock.now_ms()
        clicks, seen = self._clicks.read(part.records, number, now)
        before = self.stream.remember(seen.user, seen.item, seen.ts)
        new = seen.offset >= self.read[number]  # others were learnt before a restart
        new[new] = self.pace.choose(int(np.count_nonzero(new)), sum(self._lag.values()))
        learnt = clicks(np.flatnonzero(new))
        spent = time.thread_time() - began
        await self._add_profiles(learnt)

        def learn() -> float:
            began = time.thread_time()
            self.stream.learn(learnt, before[new])
            return time.thread_time() - began

        return spent + await asyncio.to_thread(learn)

    async def _add_profiles(self, clicks: Clicks) -> None:
        """Fill what users prefer and follow, from their rows; without an answer, nothing is known of it."""
        users, at = np.unique(clicks.user, return_inverse=True)
        rows = np.zeros(len(users), ROW)
        try:
            for start in range(0, len(users), _ROWS):
                packed = await self.wiring.store.get("u", users[start : start + _ROWS].tolist())
                rows[start : start + _ROWS] = unpack(packed, ROW)[0]
        except UnavailableError as exc:
            log.debug("the towers learn without profiles: %s", exc)
        clicks.preferred, clicks.followed = rows["preferred"][at], rows["followed"][at]

    # -- publishing

    async def publish(self) -> None:
        """Learn the clicks that wait; publish the towers when there is anything new.

        Towers that are not finite are not published: learning goes on from the last ones that were.
        """
        async with self._busy:
            learner = self.stream.learner
            if not self._learns or learner.learnt + learner.waiting == self._last.learnt:
                return
            epoch, read = self._epoch, dict(self.read)
            try:
                body = await asyncio.to_thread(self.stream.pack)
            except ArtefactError as exc:
                log.error("the towers are not published: %s", exc, extra={"action": "towers_refused"})  # noqa: TRY400
                self._go_on()
                return
            metrics = {"clicks": float(learner.learnt), "loss": float(learner.loss)}
        metrics["skipped"] = float(self.pace.skipped)
        self._tell()
        published = Published(body, read, self.wiring.clock.now_ms(), learner.learnt, 1 - self._last.slot)
        with self._member.writing():
            if await write(
                self.wiring, self.wiring.topics.models, published, metrics, lambda: self._leads(epoch)
            ):
                self._last = published

    def _go_on(self) -> None:
        """Continue from what was published last; the clicks since are lost."""
        if self._last.body:
            self.stream.restore(self._last.body)
        else:
            recent, s = self.stream.recent, self.wiring.settings
            self.stream = TowerStream(self.items.content, s.towers_rows, int(s.towers_keep_days * DAY_MS))
            self.stream.recent = recent

    def _tell(self) -> None:
        skipped, self._told = self.pace.skipped - self._told, self.pace.skipped
        if skipped:
            log.warning(
                "%d clicks were not learnt by the towers: they come faster than HEADRACE_TOWERS_CPU allows",
                skipped,
                extra={"action": "towers_sampled", "count": skipped},
            )


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app, unless it is switched off; return the services it needs."""
    if not wiring.settings.towers_every_s:
        return []
    stage = TowersStage(wiring, AppMember(app))

    @app.task
    async def learn_towers_when_first() -> None:
        while not app.should_stop:
            await stage.lead()
            await app.sleep(LOOK_S)

    @app.timer(interval=wiring.settings.towers_every_s)
    async def publish_towers() -> None:
        await stage.publish()

    forget_when_revoked(app, stage.revoked)
    return []
