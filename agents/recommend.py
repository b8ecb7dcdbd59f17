"""recommend: reads `rec-requests`; writes replies and `impressions`; keeps mirrors of items and models.

Every worker reads the mirrors (catalogue, item rows, models) from their topics. User rows and neighbour rows
come from Redis, with one round trip each for ``CHUNK`` requests. When a dependency is missing, the list is
worse and the reply says so (``degraded``); the request is still answered. A request that demands a state
(``at_least``) waits for it while there is time, beside the others.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import faust
import msgspec
import numpy.typing as npt
from faust.types import TP
from mode import Service

from headrace.agents import follow_catalog
from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.stage.admission import Admission
from headrace.agents.stage.background import Background
from headrace.agents.stage.hold import AckHold
from headrace.agents.stage.online_rows import OnlineRows, stacked
from headrace.agents.stage.state_waits import StateWaits
from headrace.agents.stage.store_watch import StoreWatch
from headrace.agents.wiring import Wiring
from headrace.serving import fallbacks
from headrace.serving.answering import Answer
from headrace.serving.measured import Measured
from headrace.serving.mirrors import Mirrors
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.serving.requests.address import ReplyAddress, format_reply
from headrace.serving.requests.misplaced import MisplacedRequests
from headrace.serving.requests.pace import Pace
from headrace.serving.requests.page import beside, parts_of, reply_to
from headrace.serving.requests.read import Job, Reject, RequestReader
from headrace.serving.requests.replies import ReplySender
from headrace.serving.store.freshness import Freshness
from headrace.streams.errors import RejectedError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Impression, RecReply, RecRequest
from headrace.streams.settings import HOUR_MS
from headrace.streams.topics import flow
from headrace.streams.topics.placement import misplaced
from headrace.streams.topics.sender import OutRecord
from headrace.streams.topics.tail import CompactedTail, Tail
from headrace.streams.transport.batches import RecordBatch, batch_topic, manual
from headrace.streams.transport.warm import warm_up

FLOW = flow.agent("recommend")
Row = npt.NDArray[Any]
#: What a reply says in ``degraded`` when it lacks records that the request demands.
_STATE = "state"
log = logging.getLogger(__name__)

#: Requests answered together: one Redis round trip serves all of them, and none waits long for the others.
CHUNK = 16
#: After the replies, impressions are made for so long (s) at one stretch.
SLICE_S = 0.004
#: At the start, requests wait at most this long (s) for the mirrors; then they are answered without the rest.
WARM_UP_S = 10.0


@dataclass(slots=True)
class Sent:
    """A reply that is being sent.

    Attributes
    ----------
    record
        Record of the request.
    delivery
        Ends when the broker has acknowledged the reply.
    buried
        Whether the request is already a dead letter.
    impressions
        Written to `impressions` when the reply is acknowledged; without those that were written before.
    """

    record: Any
    delivery: asyncio.Task[None]
    buried: bool = False
    impressions: list[Impression] = field(default_factory=list)


class ServeStage:
    """Answers requests with the mirrors and models of this process."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        s = wiring.settings
        self.recommender = Recommender(
            Policy.of(s), hot_ms=int(s.hot_hours * HOUR_MS), hot_index=s.hot_index, settings=s
        )
        self._requests = RequestReader(s)
        self._json = msgspec.json.Encoder()
        self._mirrors = Mirrors(self.recommender)
        self._pace = Pace(wiring.clock, drop=s.expired == "drop")
        self._admission = Admission(wiring, self._pace)
        #: Returns how many records wait in Kafka behind a batch.
        self.behind: Callable[[RecordBatch], int] = lambda batch: 0
        self._ticked = 0
        self._replies = ReplySender(wiring.replier)
        self.misplaced = MisplacedRequests(refuse=s.wrong_partition == "refuse", clock=wiring.clock)
        self.freshness = Freshness(
            wiring.store, {"u": s.partitions, "s": s.partitions, "n": s.partitions}, wiring.clock
        )
        self._rows = OnlineRows(wiring.store, self.freshness, self.recommender.data.stages)
        self._states = StateWaits(self._rows, self.freshness, wiring.clock)
        self.measured = Measured(wiring.metrics, self.recommender, self.freshness, s, wiring.clock)

    # -- mirrors

    def on_rows(self, batch: RecordBatch) -> None:
        """Apply rows of items, or of items by country, to the mirror."""
        now = self.wiring.clock.now_ms()
        if batch.topic == self.wiring.topics.item_countries:
            self._mirrors.item_countries(batch.records, now)
        else:
            self._mirrors.item_features(batch.records, now)

    def on_models(self, batch: RecordBatch) -> None:
        """Use the newest model of each name that fits this code."""
        self._mirrors.models(batch.records, self.wiring.clock.now_ms())

    # -- requests

    async def answer(self, batch: RecordBatch) -> list[Sent]:
        """Answer every request of a batch; return when its impressions and dead letters are acknowledged.

        Returns
        -------
        The replies that are being sent; pass them to ``finish``.
        """
        self._pace.begin(batch.partition)
        self._admission.begin(batch.partition, len(batch), self.behind(batch))
        sent: list[Sent] = []
        rejects: list[Reject] = []
        records, refused = iter(batch), self._refused(batch)
        while part := list(islice(records, CHUNK)):  # reading them all at once would hold the loop
            jobs, bad = self._read(part, refused)
            self._pace.read(jobs)
            self._admission.read(len(part))
            jobs, denied = await self._admission.admit(jobs)
            sent += [Sent(record, self._reply(address, reply)) for (_, record, address), reply in denied]
            sent += [
                Sent(record, self._reply(address, self._requests.error_reply(record, error)), buried=True)
                for record, address, error in bad
                if address is not None
            ]
            rejects += bad
            if jobs:
                sent += await self._chunk(jobs)
            else:
                await asyncio.sleep(0)
        await self.wiring.bury(FLOW.name, batch, [(record, error) for record, _, error in rejects])
        self._pace.end()
        return sent

    def _read(self, part: list[Any], refused: set[int]) -> tuple[list[Job], list[Reject]]:
        stages = self.recommender.data.stages
        stages.begin()
        found = self._requests.read(part, refused)
        stages.done("read")
        return found

    async def _chunk(self, chunk: list[Job]) -> list[Sent]:
        """Answer requests together; every reply is on its way before the next list is made.

        What no caller waits for, the impressions, is made and written after the last reply.
        """
        stages, since = self.recommender.data.stages, self.wiring.clock.monotonic()
        sent: list[Sent] = []
        replies: list[tuple[RecRequest, RecReply]] = []
        shown: list[tuple[Sent, ReplyAddress, Answer]] = []
        async for (request, record, address), reply, answers in self._answers(chunk, sent):
            sent.append(Sent(record, self._reply(address, reply)))
            stages.done("encode")
            replies.append((request, reply))
            shown += [(sent[-1], address, answer) for answer in answers]
            await asyncio.sleep(0)  # lets the reply go out
            stages.begin()
        self.measured.replied(replies)
        self._admission.took([reply for _, reply in replies], since)
        await self._log_shown(shown)
        return sent

    async def _log_shown(self, shown: list[tuple[Sent, ReplyAddress, Answer]]) -> None:
        """Make and write the impressions of replies that are on their way, in slices."""
        stages = self.recommender.data.stages
        impressions: list[Impression] = []
        since = time.perf_counter()
        for reply, address, answer in shown:
            impression = fallbacks.impression(answer)
            if impression is not None:
                self.measured.logged(answer, impression)
                if self._replies.knows(address.topic, address.partition):
                    impressions.append(impression)
                else:  # the reply topic may not exist: write the impression when the reply is acknowledged
                    reply.impressions.append(impression)
            stages.done("log")
            if time.perf_counter() - since > SLICE_S:
                await asyncio.sleep(0)
                stages.begin()
                since = time.perf_counter()
        await self._log(impressions)

    def _refused(self, batch: RecordBatch) -> set[int]:
        """Count the requests in the wrong partition; return the offsets of those to refuse."""
        partitions = self.wiring.sender.known_partitions(batch.topic)
        if not partitions:
            return set()
        wrong = misplaced(batch.records, batch.partition, partitions)
        return self.misplaced.refused(batch.records, wrong, f"{batch.topic}-{batch.partition}")

    async def finish(self, batch: RecordBatch, sent: list[Sent]) -> None:
        """Wait until replies are acknowledged; a request whose reply was refused becomes a dead letter."""
        results = await asyncio.gather(*(s.delivery for s in sent), return_exceptions=True)
        lost: list[tuple[Any, RejectedError]] = []
        seen: list[Impression] = []
        for reply, result in zip(sent, results, strict=True):
            if isinstance(result, RejectedError):
                log.warning("%s", result, extra={"action": "reply_lost"})
                if not reply.buried:
                    lost.append((reply.record, result))
            elif isinstance(result, BaseException):
                raise result
            else:
                seen += reply.impressions
        await self._log(seen)
        await self.wiring.bury(FLOW.name, batch, lost)

    async def _answers(
        self, chunk: list[Job], sent: list[Sent]
    ) -> AsyncIterator[tuple[Job, RecReply, list[Answer]]]:
        """Yield the reply to each request as soon as it is made, with the answer that each list of it is.

        All share reads of the online store. Those that wait for a state are added to ``sent`` instead.
        """
        keys = [hash64(r.user_id) for r, _, _ in chunk]
        (users, missing), (shown, missing_s) = await asyncio.gather(
            self._rows.read("u", keys), self._rows.read("s", keys)
        )
        stages = self.recommender.data.stages
        stages.begin()
        if not missing:
            stay = [i for i, job in enumerate(chunk) if not self._put_off(job, users[i], sent)]
            chunk, users, shown = [chunk[i] for i in stay], [users[i] for i in stay], [shown[i] for i in stay]
            if not chunk:
                return
        now = self.wiring.clock.now_ms()
        self._tick(min(now, max(record.timestamp for _, record, _ in chunk)))
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
            if self._pace.dropped(job):
                self.wiring.metrics.count("headrace_rungs_total", "dropped")
                continue
            answers, own = list[Answer](), self._states.own(request)
            for part, items in each:
                if answers:
                    await asyncio.sleep(0)  # a page does not hold the loop for all its lists
                    stages.begin()
                anchors = Anchors(items, stacked(items, by_item))
                answer = self._one(job, beside(part, answers), user, seen, anchors, at)
                lacking = [*missing, *missing_s, *missing_n, *self._rows.outdated(own, items)]
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
        if not self._states.lacks(job[0], user) or self._pace.kept(job) or self._states.full:
            return False
        if (spare := self._pace.spare(job)) <= 0:
            return False
        self._pace.keep(job)
        there = self._states.enter(job[0], spare)
        sent.append(Sent(job[1], asyncio.create_task(self._after(there, job))))
        return True

    async def _after(self, there: asyncio.Future[bool], job: Job) -> None:
        """Answer a request that waits; return when reply and impression are acknowledged."""
        try:
            reached, (request, record, address) = await there, job
            self.wiring.metrics.count("headrace_state_waits_total", "reached" if reached else "over")
            if reached:
                job = msgspec.structs.replace(request, at_least=""), record, address
            for one in await self._chunk([job]):
                await one.delivery
                await self._log(one.impressions)
        finally:
            self._pace.forget(job)

    def _tick(self, now: int) -> None:
        """Bring lists and indexes up to ``now`` (ms). Their time never goes back: callers' clocks differ."""
        self._ticked = max(self._ticked, now)
        try:
            self.recommender.tick(self._ticked)
        except Exception:
            log.exception("popular lists or the hot index are not brought up to date")

    def _one(
        self, job: Job, part: RecRequest, user: Row | None, seen: Row | None, anchors: Anchors, at: int
    ) -> Answer:
        """Answer one request, or a part of it, with as much as there is time for."""
        rung, began = self._pace.rung(job), self.wiring.clock.monotonic()
        self.wiring.metrics.count("headrace_rungs_total", rung)
        if rung == "popular":
            return fallbacks.popular(self.recommender, part, user, seen, at, "deadline")
        answer = fallbacks.answer(self.recommender, part, user, seen, anchors, at, rung)
        self._pace.took(rung, began)
        return answer

    # -- what goes out

    def _reply(self, address: ReplyAddress, reply: RecReply) -> asyncio.Task[None]:
        topic, partition, key, value, headers = format_reply(address, self._json.encode(reply))
        return self._replies.send(topic, partition, key, value, headers)

    async def _log(self, impressions: list[Impression]) -> None:
        """Write impressions to the partitions of their users."""
        if impressions:
            out: list[OutRecord] = [(i.user_id.encode(), self._json.encode(i), None, ()) for i in impressions]
            await self.wiring.sender.send_keyed(self.wiring.topics.impressions, out)


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
    rows = Tail(wiring.settings, [topics.item_features, topics.item_countries], stage.on_rows, name="rows")
    models = CompactedTail(wiring.settings, wiring.topics.models, stage.on_models, name="models")

    # While other workers can answer, this one takes no partition of theirs: its lists would be worse.
    warm_up(app).extend(tail.caught_up.wait for tail in (items, rows, models))
    watch = StoreWatch(wiring, stage.freshness)

    @app.agent(batch_topic(app, *FLOW.input_topics(wiring.topics)), name=FLOW.name)
    async def recommend(stream: Any) -> None:
        mirrors = asyncio.gather(*(t.caught_up.wait() for t in (items, rows, models)), watch.looked.wait())
        try:
            await asyncio.wait_for(mirrors, WARM_UP_S)
        except TimeoutError:
            log.warning("answering before the mirrors have caught up", extra={"action": "cold_start"})
        held = AckHold()
        try:
            async for batch, ack in manual(stream):
                # A rebalance or a stop waits until the replies are sent, as for a loop body.
                consumer = stream.current_event.message.consumer
                body = consumer.body_started()
                over = functools.partial(consumer.body_ended, body)
                try:
                    sent = await stage.answer(batch)
                except BaseException:
                    over()
                    raise
                await held.after(stage.finish(batch, sent), ack, over)
        finally:
            held.cancel()

    return [items, mapped, rows, models, watch, Background(stage.recommender, stage.measured, wiring.clock)]
