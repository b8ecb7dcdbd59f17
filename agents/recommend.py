"""recommend: reads `rec-requests`, `rec-requests-bulk`; writes replies, `impressions`, `traces`; mirrors.

Every worker reads the mirrors (catalogue, item rows, models) from their topics. User rows and neighbour rows
come from Redis, with one round trip each for ``CHUNK`` requests. When a dependency is missing, the list is
worse and the reply says so (``degraded``); the request is still answered. A request that demands a state
(``at_least``) waits for it while there is time, beside the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import faust
import msgspec
import numpy.typing as npt
from faust.types import TP
from mode import Service

from headrace.agents import follow_catalog
from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.stage.admission import Admission
from headrace.agents.stage.answering import answer_all
from headrace.agents.stage.background import Background
from headrace.agents.stage.bulk import MOST, UNFINISHED, BulkStage
from headrace.agents.stage.mirrored_rows import row_tail
from headrace.agents.stage.online_rows import OnlineRows, stacked
from headrace.agents.stage.replies_out import RepliesOut, Sent
from headrace.agents.stage.request_intake import RequestIntake
from headrace.agents.stage.shown_out import ShownOut
from headrace.agents.stage.spans_out import SpansOut
from headrace.agents.stage.state_waits import StateWaits
from headrace.agents.stage.store_watch import StoreWatch
from headrace.agents.stage.traces_out import TracesOut
from headrace.agents.wiring import Wiring
from headrace.serving import fallbacks
from headrace.serving.answering import Answer
from headrace.serving.measured import Measured
from headrace.serving.mirrors import Mirrors
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.requests.address import ReplyAddress
from headrace.serving.requests.canary import is_canary
from headrace.serving.requests.pace import Pace
from headrace.serving.requests.page import beside, parts_of, reply_to
from headrace.serving.requests.read import Job, Reject
from headrace.serving.requests.turns import Turns
from headrace.serving.store.freshness import Freshness
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Impression, RecReply, RecRequest
from headrace.streams.settings import HOUR_MS
from headrace.streams.topics import flow
from headrace.streams.topics.tail import CompactedTail
from headrace.streams.transport.batches import Batches, RecordBatch, batch_topic, chunks
from headrace.streams.transport.fetch_delay import delay_fetches
from headrace.streams.transport.warm import warm_up

FLOW = flow.agent("recommend")
Row = npt.NDArray[Any]
#: What a reply says in ``degraded`` when it lacks records that the request demands.
_STATE = "state"
log = logging.getLogger(__name__)

#: Requests answered together: one Redis round trip serves all of them, and none waits long for the others.
CHUNK = 16
#: Most batches that wait in this process, and records of one: what waits in Kafka, no list can pay heed to.
QUEUED, LARGEST = 64, 256
#: After the replies, impressions are made for so long (s) at one stretch.
SLICE_S = 0.004
#: At the start, requests wait at most this long (s) for the mirrors; then they are answered without the rest.
WARM_UP_S = 10.0


class ServeStage:
    """Answers requests with the mirrors and models of this process."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        s = wiring.settings
        self.recommender = Recommender(
            Policy.of(s), hot_ms=int(s.hot_hours * HOUR_MS), hot_index=s.hot_index, settings=s
        )
        self.intake = RequestIntake(wiring)
        self.mirrors = Mirrors(self.recommender)
        self.pace = Pace(wiring.clock, drop=s.expired == "drop", max_bytes=s.max_event_bytes)
        self.turns = Turns(s.bulk_share)
        self._admission = Admission(wiring, self.pace)
        #: Returns how many records wait in Kafka behind a batch.
        self.behind: Callable[[RecordBatch], int] = lambda batch: 0
        self._ticked = 0
        self.out = RepliesOut(wiring, FLOW.name, wiring.topics.impressions)
        self.traces = TracesOut(wiring, wiring.topics.traces)
        self._shown_out = ShownOut(self.out, self.traces)
        self.spans = SpansOut(wiring, self.recommender.data.stages)
        self.freshness = Freshness(
            wiring.store, {"u": s.partitions, "s": s.partitions, "n": s.partitions}, wiring.clock
        )
        self._rows = OnlineRows(wiring.store, self.freshness, self.recommender.data.stages)
        self._states = StateWaits(self._rows, self.freshness, wiring.clock)
        self.measured = Measured(wiring.metrics, self.recommender, self.freshness, s, wiring.clock)

    # -- mirrors

    async def on_models(self, batch: RecordBatch) -> None:
        """Use the newest model of each name that fits this code. Replies go out while rankers are read."""
        records = list(batch.records)
        await asyncio.to_thread(self.recommender.data.models.rankers.read, records)
        self.mirrors.models(records, self.wiring.clock.now_ms())

    # -- requests

    async def answer(self, batch: RecordBatch | Batches) -> list[Sent]:
        """Answer every request of what came together; return when its dead letters are acknowledged.

        Returns
        -------
        The replies and impressions that are being sent; pass them to ``finish``.
        """
        self.turns.begin(self.wiring.clock.monotonic())
        try:
            return await self._answer(batch)
        finally:
            self.turns.end(self.wiring.clock.monotonic())

    async def _answer(self, batch: RecordBatch | Batches) -> list[Sent]:
        self.pace.gather(batch.records)
        for part in batch.parts:
            self._admission.begin(part.partition, len(batch), self.behind(part))
        refused = {part: self.intake.misplaced(part) for part in batch.parts}
        sent: list[Sent] = []
        rejects: dict[RecordBatch, list[Reject]] = {}
        for chunk in chunks(batch, CHUNK):  # reading all at once would hold the loop
            jobs, of, here = list[Job](), dict[int, RecordBatch](), list[Sent]()
            self._admission.read(sum(len(records) for _, records in chunk))
            for part, records in chunk:
                self.pace.begin(part.partition)
                good, bad = self.read(records, refused[part])
                self.pace.read(good)
                of |= {id(record): part for record, *_ in bad} | {id(record): part for _, record, _ in good}
                here += self.out.refuse(bad, self.intake.requests.error_reply)
                rejects.setdefault(part, []).extend(bad)
                jobs += good
            jobs, denied = await self._admission.admit(jobs)
            here += [self.out.send(record, address, reply) for (_, record, address), reply in denied]
            here += await self._chunk(jobs) if jobs else await asyncio.sleep(0, [])
            for one in here:
                one.batch = of[id(one.record)]
            sent += here
        for part, bad in rejects.items():
            await self.out.bury(part, bad)
        self.pace.end()
        return sent

    def read(self, part: list[Any], refused: set[int]) -> tuple[list[Job], list[Reject]]:
        """Return the requests of some records, and the records to refuse."""
        stages = self.recommender.data.stages
        stages.begin()
        found = self.intake.requests.read(part, refused)
        stages.done("read")
        return found

    async def _chunk(self, chunk: list[Job]) -> list[Sent]:
        """Answer requests together; a reply waits a moment at most for those of the next lists.

        What no caller waits for, impressions and traces, is made and written after the last reply.
        """
        stages, since = self.recommender.data.stages, self.wiring.clock.monotonic()
        sent: list[Sent] = []
        shown: list[tuple[Sent, ReplyAddress, Answer]] = []
        replied: list[tuple[RecRequest, RecReply, list[Answer]]] = []
        self.spans.begin(chunk)
        async for job, reply, answers in self.answers(chunk, self.pace, _give_way, sent):
            request, record, address = job
            sent.append(self.out.send(record, address, reply))
            stages.done("encode")
            self.spans.follow(sent[-1], job, reply, answers)
            self.traces.note(self.recommender.pipeline, request, answers)
            if not is_canary(request.user_id):  # its lists count nowhere
                self.measured.answered(reply, answers)
                shown += [(sent[-1], address, answer) for answer in answers]
            replied.append((request, reply, answers))
            await self.out.give_way()
            stages.begin()
        await self.out.gone()
        stages.begin()
        replies = [(r, reply) for r, reply, _ in replied if not is_canary(r.user_id)]
        self.measured.replied(replies)
        self._admission.took([reply for _, reply in replies], since)
        impressions = await self._shown(shown)
        traces = await self.traces.after(self.recommender.pipeline, replied)
        self.turns.end(self.wiring.clock.monotonic())  # nothing is computed while the broker is too slow
        try:
            writing = await self._shown_out.add(impressions, traces)
        finally:
            self.turns.begin(self.wiring.clock.monotonic())
        if writing is not None:
            sent[-1].writing = writing
        return sent

    async def _shown(self, shown: list[tuple[Sent, ReplyAddress, Answer]]) -> list[Impression]:
        """Make the impressions of replies that are on their way, in slices; return those to write now."""
        stages, since = self.recommender.data.stages, time.perf_counter()
        impressions: list[Impression] = []
        for reply, address, answer in shown:
            impression = fallbacks.impression(answer)
            if impression is not None:
                self.measured.logged(answer, impression)
                if self.out.knows(address):
                    impressions.append(impression)
                else:  # the reply topic may not exist: write the impression when the reply is acknowledged
                    reply.impressions.append(impression)
            stages.done("log")
            if time.perf_counter() - since > SLICE_S:
                await asyncio.sleep(0)
                stages.begin()
                since = time.perf_counter()
        return impressions

    async def finish(self, batch: RecordBatch | Batches, sent: list[Sent]) -> None:
        """Wait until replies are acknowledged; a request whose reply was refused becomes a dead letter."""
        await self.out.finish(batch, sent)

    async def answers(
        self,
        chunk: list[Job],
        pace: Pace | None,
        between: Callable[[], Awaitable[None]],
        sent: list[Sent] | None = None,
    ) -> AsyncIterator[tuple[Job, RecReply, list[Answer]]]:
        """Yield the reply to each request as soon as it is made, with the answer that each list of it is.

        All share reads of the online store. Without ``pace`` there is time for every list. ``between`` is
        awaited between two lists of a page. Requests that wait for a state are added to ``sent`` instead;
        without it none waits.
        """
        keys = [hash64(r.user_id) for r, _, _ in chunk]
        (users, shown), missing = await self._rows.read_several([("u", keys), ("s", keys)])
        stages = self.recommender.data.stages
        stages.begin()
        if sent is not None and not missing:
            stay = [i for i, job in enumerate(chunk) if not self._put_off(job, users[i], sent)]
            chunk, users, shown = [chunk[i] for i in stay], [users[i] for i in stay], [shown[i] for i in stay]
            if not chunk:
                return
        self._tick(min(now := self.wiring.clock.now_ms(), max(record.timestamp for _, record, _ in chunk)))
        times = [r.context.ts if r.context.ts is not None else now for r, _, _ in chunk]
        parts = [
            [(part, fallbacks.anchors_for(self.recommender, part, user, at)) for part in parts_of(request)]
            for (request, _, _), user, at in zip(chunk, users, times, strict=True)
        ]
        distinct = sorted({item for each in parts for _, items in each for item in items})
        stages.done("tick")
        rows, missing_n = await self._rows.read("n", distinct)
        stages.begin()
        by_item = dict(zip(distinct, rows, strict=True))
        for job, user, seen, each, at in zip(chunk, users, shown, parts, times, strict=True):
            request, record, _ = job
            if pace is not None and pace.dropped(job):
                self.wiring.metrics.count("headrace_rungs_total", "dropped")
                continue
            if pace is not None:
                pace.turn(job)
                stages.waited("queue", pace.spent(job))
            answers, own = list[Answer](), self._states.own(request)
            for part, items in each:
                if answers:
                    self.traces.note(self.recommender.pipeline, request, answers[-1:])
                    await between()  # a page does not hold the loop for all its lists
                    stages.begin()
                anchors = Anchors(items, stacked(items, by_item))
                answer = self._one(job, beside(part, answers), user, seen, anchors, at, pace)
                lacking = [*missing, *missing_n, *self._rows.outdated(own, items)]
                lacking += [_STATE] if self._states.lacks(request, user) else []
                answer.reply.degraded += dict.fromkeys(lacking)
                answers.append(answer)
            reply = reply_to(request, answers)
            reply.state = self._states.behind(request, user, reply, self.recommender.catalog.base)
            reply.took_ms = float(max(0, self.wiring.clock.now_ms() - record.timestamp))
            yield job, reply, answers

    # -- requests that wait for a state

    def _put_off(self, job: Job, user: Row | None, sent: list[Sent]) -> bool:
        """Return whether a request lacks its state and waits for it now; then it is added to ``sent``."""
        if not self._states.lacks(job[0], user) or self.pace.kept(job) or self._states.full:
            return False
        if (spare := self.pace.spare(job)) <= 0:
            return False
        self.pace.keep(job)
        there = self._states.enter(job[0], spare)
        sent.append(Sent(job[1], asyncio.create_task(self._after(there, job))))
        return True

    async def _after(self, there: asyncio.Future[str | None], job: Job) -> None:
        """Answer a request that waits; return when reply and impression are acknowledged."""
        try:
            row, (request, record, address) = await there, job
            self.wiring.metrics.count("headrace_state_waits_total", "over" if row is None else "reached")
            if row is not None:
                job = msgspec.structs.replace(request, at_least=row), record, address
            self.turns.begin(self.wiring.clock.monotonic())
            try:
                sent = await self._chunk([job])
            finally:
                self.turns.end(self.wiring.clock.monotonic())
            for one in sent:
                try:
                    await one.delivery
                    await self.out.log(one.impressions)
                finally:  # a refused reply ends its request, but not before what is written of others
                    if one.writing is not None:
                        await one.writing
        finally:
            self.pace.forget(job)

    def _tick(self, now: int) -> None:
        """Bring lists and indexes up to ``now`` (ms). Their time never goes back: callers' clocks differ."""
        self._ticked = max(self._ticked, now)
        try:
            self.recommender.tick(self._ticked)
        except Exception:
            log.exception("popular lists or the hot index are not brought up to date")

    def _one(
        self,
        job: Job,
        part: RecRequest,
        user: Row | None,
        seen: Row | None,
        anchors: Anchors,
        at: int,
        pace: Pace | None,
    ) -> Answer:
        """Answer one request, or a part of it, with as much as there is time for."""
        if pace is None:
            return fallbacks.answer(self.recommender, part, user, seen, anchors, at)
        rung, began = pace.rung(job), self.wiring.clock.monotonic()
        self.wiring.metrics.count("headrace_rungs_total", rung)
        if rung == "popular":
            answer = fallbacks.popular(self.recommender, part, user, seen, at, "deadline")
        else:
            answer = fallbacks.answer(self.recommender, part, user, seen, anchors, at, rung)
            pace.took(rung, began)
        answer.rung = rung
        return answer


async def _give_way() -> None:
    await asyncio.sleep(0)


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agents of a serving worker to the app; return the services they need."""
    stage = ServeStage(wiring)
    follower = CatalogFollower(
        stage.recommender.catalog, stage.recommender.hot, wiring.settings.max_event_bytes
    )
    recommender = stage.recommender
    items, mapped = follow_catalog.attach(app, wiring, follower, recommender.hot, recommender.swap)
    ends = app.monitor.tp_end_offsets
    stage.behind = lambda batch: max(0, ends.get(TP(batch.topic, batch.partition), 0) - batch.last_offset - 1)
    stage.freshness.known.items = lambda partition: mapped.applied.get(partition, 0)
    topics = wiring.topics
    rows = row_tail(wiring, topics.item_features, topics.item_countries, stage.mirrors)
    models = CompactedTail(wiring.settings, topics.models, stage.on_models, name="models")

    # While other workers can answer, this one takes no partition of theirs: its lists would be worse.
    warm_up(app).extend(tail.caught_up.wait for tail in (items, rows, models))
    watch = StoreWatch(wiring, stage.freshness)

    async def warm() -> None:
        mirrors = asyncio.gather(*(t.caught_up.wait() for t in (items, rows, models)), watch.looked.wait())
        try:
            await asyncio.wait_for(mirrors, WARM_UP_S)
        except TimeoutError:
            log.warning("answering before the mirrors have caught up", extra={"action": "cold_start"})

    requests, bulk_requests = FLOW.input_topics(wiring.topics)
    bulk = BulkStage(stage, stopping=lambda: not app.consumer.flow_active)

    @app.agent(batch_topic(app, requests, queued_batches=QUEUED, max_records=LARGEST), name=FLOW.name)
    async def recommend(stream: Any) -> None:
        await warm()
        bulk.queued = stream.channel.queue.qsize
        stage.pace.queued = stream.channel.queue.records
        delay_fetches(app, stage.pace.fetch_delay_s)
        await answer_all(stream, stage, most=CHUNK)

    @app.agent(batch_topic(app, bulk_requests, queued_batches=1, max_records=MOST), name="recommend_bulk")
    async def recommend_bulk(stream: Any) -> None:
        await warm()
        await answer_all(stream, bulk, UNFINISHED)

    read = [tail.caught_up for tail in (items, rows, models)]
    background = Background(stage.recommender, stage.measured, wiring.clock, read)
    return [items, mapped, rows, models, watch, background]
