"""recommend: reads `rec-requests`; writes replies and `impressions`; keeps mirrors of items and models.

Every worker reads the mirrors (catalogue, item rows, models) from their topics. User rows and neighbour rows
come from Redis, with one round trip each for ``CHUNK`` requests. When a dependency is missing, the list is
worse and the reply says so (``degraded``); the request is still answered.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import faust
import msgspec
import numpy as np
import numpy.typing as npt
from mode import Service

from headrace.agents import follow_catalog
from headrace.agents.follow_catalog import CatalogFollower
from headrace.agents.stage.background import Background
from headrace.agents.stage.hold import AckHold
from headrace.agents.stage.store_watch import StoreWatch
from headrace.agents.wiring import Wiring
from headrace.models.state import neighbours
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
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
from headrace.serving.store.protocol import Kind
from headrace.streams.errors import RejectedError, UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Impression, RecReply, RecRequest
from headrace.streams.settings import HOUR_MS
from headrace.streams.tables.rows import unpack
from headrace.streams.topics import flow
from headrace.streams.topics.placement import misplaced
from headrace.streams.topics.sender import OutRecord, partition_of
from headrace.streams.topics.tail import CompactedTail, Tail
from headrace.streams.transport.batches import RecordBatch, batch_topic, manual
from headrace.streams.transport.warm import warm_up

FLOW = flow.agent("recommend")
Row = npt.NDArray[Any]
log = logging.getLogger(__name__)

#: What a reply says in ``degraded`` when rows are missing or may be old: of the user, of what was shown.
_OF_USER: dict[Kind, str] = {"u": "user", "s": "shown"}
_NEIGHBOURS = "neighbours"
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
        self._store_down = False
        self._ticked = 0
        self._replies = ReplySender(wiring.replier)
        self.misplaced = MisplacedRequests(refuse=s.wrong_partition == "refuse", clock=wiring.clock)
        self.freshness = Freshness(
            wiring.store, {"u": s.partitions, "s": s.partitions, "n": s.partitions}, wiring.clock
        )
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
        sent: list[Sent] = []
        rejects: list[Reject] = []
        records, refused = iter(batch), self._refused(batch)
        while part := list(islice(records, CHUNK)):  # reading them all at once would hold the loop
            jobs, bad = self._read(part, refused)
            self._pace.read(jobs)
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
        stages = self.recommender.data.stages
        sent: list[Sent] = []
        replies: list[tuple[RecRequest, RecReply]] = []
        shown: list[tuple[Sent, ReplyAddress, Answer]] = []
        async for (request, record, address), reply, answers in self._answers(chunk):
            sent.append(Sent(record, self._reply(address, reply)))
            stages.done("encode")
            replies.append((request, reply))
            shown += [(sent[-1], address, answer) for answer in answers]
            await asyncio.sleep(0)  # lets the reply go out
            stages.begin()
        self.measured.replied(replies)
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

    async def _answers(self, chunk: list[Job]) -> AsyncIterator[tuple[Job, RecReply, list[Answer]]]:
        """Yield the reply to each request as soon as it is made, with the answer that each list of it is.

        All share reads of the online store.
        """
        keys = [hash64(r.user_id) for r, _, _ in chunk]
        (users, missing), (shown, missing_s) = await asyncio.gather(
            self._rows("u", keys, user_state.ROW), self._rows("s", keys, shown_state.ROW)
        )
        stages = self.recommender.data.stages
        stages.begin()
        now = self.wiring.clock.now_ms()
        self._tick(min(now, max(record.timestamp for _, record, _ in chunk)))
        times = [r.context.ts if r.context.ts is not None else now for r, _, _ in chunk]
        parts = [
            [(part, fallbacks.anchors_for(self.recommender, part, user, at)) for part in parts_of(request)]
            for (request, _, _), user, at in zip(chunk, users, times, strict=True)
        ]
        distinct = sorted({item for each in parts for _, items in each for item in items})
        stages.done("tick")
        rows, missing_n = await self._rows("n", distinct, neighbours.ROW)
        stages.begin()
        by_item = dict(zip(distinct, rows, strict=True))
        for job, user, seen, each, at in zip(chunk, users, shown, parts, times, strict=True):
            request, record, _ = job
            if self._pace.dropped(job):
                self.wiring.metrics.count("headrace_rungs_total", "dropped")
                continue
            stages.waited("queue", self._pace.spent(job))
            answers: list[Answer] = []
            for part, items in each:
                if answers:
                    await asyncio.sleep(0)  # a page does not hold the loop for all its lists
                    stages.begin()
                anchors = Anchors(items, _stack(items, by_item))
                answer = self._one(job, beside(part, answers), user, seen, anchors, at)
                lacking = [*missing, *missing_s, *missing_n, *self._outdated(request, items)]
                answer.reply.degraded += dict.fromkeys(lacking)
                answers.append(answer)
            reply = reply_to(request, answers)
            reply.took_ms = float(max(0, self.wiring.clock.now_ms() - record.timestamp))
            yield job, reply, answers

    def _tick(self, now: int) -> None:
        """Bring lists and indexes up to ``now`` (ms). Their time never goes back: callers' clocks differ."""
        self._ticked = max(self._ticked, now)
        try:
            self.recommender.tick(self._ticked)
        except Exception:
            log.exception("popular lists or the hot index are not brought up to date")

    def _outdated(self, request: RecRequest, anchors: list[int]) -> list[str]:
        """Return what the online store may have no or old rows of: of this user, of some of the anchors."""
        stale = self.freshness.stale
        partition = partition_of(request.user_id.encode(), self.freshness.partitions["u"])
        out = [name for kind, name in _OF_USER.items() if partition in stale[kind]]
        if stale["n"] and anchors:
            out.append(_NEIGHBOURS)
        return out

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

    async def _rows(
        self, kind: Any, keys: Sequence[int], dtype: np.dtype[Any]
    ) -> tuple[list[npt.NDArray[Any] | None], list[str]]:
        """Read rows from the online store.

        Returns
        -------
        rows, degraded
            For each key an array ``(1,)`` of ``dtype``, or None; and what the reply says in ``degraded``: a
            list of one name when the store did not answer, else empty.
        """
        nothing: list[npt.NDArray[Any] | None] = [None] * len(keys)
        away = {**_OF_USER, "n": _NEIGHBOURS}[kind]
        stages = self.recommender.data.stages
        asked = stages.clock()
        try:
            packed = await self.wiring.store.get(kind, keys)
        except UnavailableError as exc:
            log.log(
                logging.DEBUG if self._store_down else logging.WARNING,
                "answering without the online store: %s",
                exc,
                extra={"action": "store_down"},
            )
            self._store_down = True
            return nothing, [away]
        self._store_down = False
        stages.waited("store", stages.clock() - asked)
        stages.begin()
        rows, there = unpack(packed, dtype)
        found = [rows[i : i + 1] if there[i] else None for i in range(len(rows))]
        stages.done("rows")
        return found, []

    # -- what goes out

    def _reply(self, address: ReplyAddress, reply: RecReply) -> asyncio.Task[None]:
        topic, partition, key, value, headers = format_reply(address, self._json.encode(reply))
        stages = self.recommender.data.stages
        begun = stages.clock()
        sending = self._replies.send(topic, partition, key, value, headers)
        sending.add_done_callback(lambda _: stages.waited("send", stages.clock() - begun))
        return sending

    async def _log(self, impressions: list[Impression]) -> None:
        """Write impressions to the partitions of their users."""
        if impressions:
            out: list[OutRecord] = [(i.user_id.encode(), self._json.encode(i), None, ()) for i in impressions]
            await self.wiring.sender.send_keyed(self.wiring.topics.impressions, out)


def _stack(items: list[int], rows: dict[int, npt.NDArray[Any] | None]) -> npt.NDArray[np.void]:
    out = np.full(len(items), neighbours.BLANK, neighbours.ROW)
    for i, item in enumerate(items):
        row = rows.get(item)
        if row is not None:
            out[i] = row[0]
    return out


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agents of a serving worker to the app; return the services they need."""
    stage = ServeStage(wiring)
    follower = CatalogFollower(
        stage.recommender.catalog, stage.recommender.hot, wiring.settings.max_event_bytes
    )
    recommender = stage.recommender
    items, mapped = follow_catalog.attach(app, wiring, follower, recommender.hot, recommender.swap)
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
