"""recommend: reads `rec-requests`; writes replies and `impressions`; keeps mirrors of items and models.

The mirrors (catalogue, item rows, models) are read from their topics by every worker; user and neighbour rows
come from Redis, one round trip each for a whole batch of requests. A missing dependency lowers the quality of
the list, and the reply says so; it never loses the request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import faust
import msgspec
import numpy as np
import numpy.typing as npt
from aiokafka.errors import KafkaError
from mode import Service

from agents import follow_catalog
from agents.follow_catalog import CatalogFollower
from agents.wiring import Wiring
from models import neighbours, online, ranker, user_state
from models.item_rows import load_rows
from serving.candidates import Anchors
from serving.recommender import Answer, Policy, Recommender
from streams.codec import Decoder
from streams.errors import ArtefactError, RejectedError, UnavailableError
from streams.ids import hash64
from streams.replies import ReplyAddress, check_allowed, format_reply, parse_reply_address, unwrap
from streams.schemas import ErrorInfo, Impression, RecReply, RecRequest, check_request
from streams.sender import OutRecord
from streams.settings import HOUR_MS
from streams.tail import Tail
from streams.transport import RecordBatch, batch_topic, durable

NAME = "recommend"
log = logging.getLogger(__name__)

#: Requests answered together: their Redis reads share a round trip, none waits for many others.
CHUNK = 16
#: At the start, requests wait this long for the mirrors; then they are answered from what there is.
WARM_UP_S = 10.0

Job = tuple[RecRequest, Any, ReplyAddress]


class Unwrapped:
    """A request's record with Faust's envelope taken off its value."""

    __slots__ = ("headers", "key", "offset", "timestamp", "value")

    def __init__(self, record: Any) -> None:
        self.key: bytes | None = record.key
        self.value = unwrap(record.value)
        self.offset: int = record.offset
        self.timestamp: int = record.timestamp
        self.headers: Sequence[tuple[str, bytes]] = record.headers


class ServeStage:
    """The serving state of this process, and its way from requests to replies."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        s = wiring.settings
        self.recommender = Recommender(Policy.of(s), hot_ms=int(s.hot_hours * HOUR_MS))
        self._future_ms = s.future_ms
        self._requests = Decoder(RecRequest, s.max_event_bytes, self._check)
        self._json = msgspec.json.Encoder()
        self._store_down_until = 0

    def _check(self, request: RecRequest, record: Any) -> None:
        check_request(request)
        ts = request.context.ts
        if ts is not None and ts - record.timestamp > self._future_ms:
            raise RejectedError(
                "from_the_future",
                "context.ts",
                f"ts is {ts - record.timestamp} ms past the record's timestamp",
            )

    # -- mirrors

    def on_rows(self, batch: RecordBatch) -> None:
        """Take over item rows."""
        load_rows(self.recommender.stats, batch.records)

    def on_models(self, batch: RecordBatch) -> None:
        """Take over models; one that does not fit is refused and the last good one stays."""
        newest = {r.key: r.value for r in batch if r.value is not None}
        for key, value in newest.items():
            try:
                if key == ranker.NAME.encode():
                    self.recommender.ranker = ranker.decode(value)
                    log.info("ranker %s is in use", self.recommender.ranker.version)
                elif key == online.NAME.encode():
                    self.recommender.online = online.decode(value)
            except ArtefactError as exc:
                log.error("a model was refused: %s", exc, extra={"action": "model_refused"})  # noqa: TRY400

    # -- requests

    async def answer(self, batch: RecordBatch) -> None:
        """Answer every request of a batch; returns when replies, impressions and dead letters are safe."""
        jobs, rejects = self._accept(batch)
        sent: list[asyncio.Future[Any]] = []
        for record, address, error in rejects:
            if address is not None:
                sent += await self._reply(address, _error_reply(record, error))
        impressions: list[tuple[Impression, Any]] = []
        for start in range(0, len(jobs), CHUNK):
            chunk = jobs[start : start + CHUNK]
            answers = await self._answer(chunk)
            for (_, record, address), answer in zip(chunk, answers, strict=True):
                sent += await self._reply(address, answer.reply)
                if answer.impression is not None:
                    impressions.append((answer.impression, record))
        await self._log(impressions, batch.partition)
        await self.wiring.bury(NAME, batch, [(record, error) for record, _, error in rejects])
        await self._delivered(sent)

    def _accept(
        self, batch: RecordBatch
    ) -> tuple[list[Job], list[tuple[Any, ReplyAddress | None, RejectedError]]]:
        jobs: list[Job] = []
        rejects: list[tuple[Any, ReplyAddress | None, RejectedError]] = []
        for record in batch:
            address: ReplyAddress | None = None
            try:
                address = self._address(record)
                jobs.append((self._requests.one(Unwrapped(record)), record, address))
            except RejectedError as exc:
                rejects.append((record, address, exc))
        return jobs, rejects

    def _address(self, record: Any) -> ReplyAddress:
        """Return where the reply goes; raise ``RejectedError`` when that is nowhere, or not allowed."""
        address = parse_reply_address(record.headers, record.value)
        if address is None:
            raise RejectedError("no_reply_address", "reply_to", "the request says nowhere to reply to")
        check_allowed(address, self.wiring.settings.reply_topics, self.wiring.settings.topic_prefix)
        return address

    async def _answer(self, chunk: list[Job]) -> list[Answer]:
        rec = self.recommender
        users, missing = await self._rows("u", [hash64(r.user_id) for r, _, _ in chunk], user_state.ROW)
        now = self.wiring.clock()
        times = [r.context.ts if r.context.ts is not None else now for r, _, _ in chunk]
        wanted = [rec.anchors_for(r, u, t) for (r, _, _), u, t in zip(chunk, users, times, strict=True)]
        distinct = sorted({item for items in wanted for item in items})
        rows, missing_n = await self._rows("n", distinct, neighbours.ROW)
        by_item = dict(zip(distinct, rows, strict=True))
        out = []
        for (request, record, _), user, items, at in zip(chunk, users, wanted, times, strict=True):
            if self.wiring.clock() - record.timestamp > request.deadline_ms:
                answer = rec.popular(request, at, "deadline")
            else:
                answer = self._one(request, user, Anchors(items, _stack(items, by_item)), at)
            answer.reply.degraded += [*missing, *missing_n]
            answer.reply.took_ms = float(max(0, self.wiring.clock() - record.timestamp))
            out.append(answer)
        rec.hot.expire(min(now, max(record.timestamp for _, record, _ in chunk)))
        return out

    def _one(self, request: RecRequest, user: npt.NDArray[Any] | None, anchors: Anchors, at: int) -> Answer:
        """Answer one request; a fault of ours costs it quality, never the reply, and never its neighbours."""
        try:
            return self.recommender.answer(request, user, anchors, at)
        except Exception:
            log.exception("request %s fell back to the popular list", request.request_id)
            return self.recommender.popular(request, at, "internal")

    async def _rows(
        self, kind: Any, keys: Sequence[int], dtype: np.dtype[Any]
    ) -> tuple[list[npt.NDArray[Any] | None], list[str]]:
        """Return one row a key, ``(1,)`` or None, and what to call the failure when the store is away."""
        nothing: list[npt.NDArray[Any] | None] = [None] * len(keys)
        away = {"u": "user", "n": "neighbours"}[kind]
        if self.wiring.clock() < self._store_down_until:
            return nothing, [away]
        try:
            packed = await self.wiring.store.get(kind, keys)
        except UnavailableError as exc:
            # The next requests do not wait for the same timeout again.
            self._store_down_until = self.wiring.clock() + 1000
            log.warning("answering without the online store: %s", exc, extra={"action": "store_down"})
            return nothing, [away]
        return [
            np.frombuffer(row, dtype) if row is not None and len(row) == dtype.itemsize else None
            for row in packed
        ], []

    # -- what goes out

    async def _reply(self, address: ReplyAddress, reply: RecReply) -> list[asyncio.Future[Any]]:
        topic, partition, key, value, headers = format_reply(address, self._json.encode(reply))
        try:
            return [await self.wiring.replier.send_one(topic, value, key, partition, headers)]
        except (KafkaError, AssertionError) as exc:
            log.warning("a reply to %s could not be sent: %r", topic, exc, extra={"action": "reply_lost"})
            return []

    async def _delivered(self, sent: list[asyncio.Future[Any]]) -> None:
        for result in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(result, KafkaError):
                # The caller's topic is gone or refuses: that is no reason to answer everybody else again.
                log.warning("a reply was not delivered: %r", result, extra={"action": "reply_lost"})
            elif isinstance(result, BaseException):
                raise result

    async def _log(self, impressions: list[tuple[Impression, Any]], partition: int) -> None:
        if not impressions:
            return
        here: list[OutRecord] = []
        elsewhere: list[OutRecord] = []
        for impression, record in impressions:
            key = impression.user_id.encode()
            out: OutRecord = (key, self._json.encode(impression), None, ())
            # A request keyed by its user is in the user's partition already; any other is not.
            (here if record.key == key else elsewhere).append(out)
        topic = self.wiring.topics.impressions
        if here:
            await self.wiring.sender.send_many(topic, here, partition=partition)
        if elsewhere:
            await self.wiring.sender.send_keyed(topic, elsewhere)


def _stack(items: list[int], rows: dict[int, npt.NDArray[Any] | None]) -> npt.NDArray[np.void]:
    out = np.full(len(items), neighbours.BLANK, neighbours.ROW)
    for i, item in enumerate(items):
        row = rows.get(item)
        if row is not None:
            out[i] = row[0]
    return out


class _RequestId(msgspec.Struct):
    request_id: str = ""


def _error_reply(record: Any, error: RejectedError) -> RecReply:
    """Return the reply that says what is wrong; it carries the request's id where that can be read."""
    request_id = ""
    body = unwrap(record.value)
    if body is not None and error.reason != "too_large":
        try:
            request_id = msgspec.json.decode(body, type=_RequestId).request_id[:64]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            request_id = ""
    return RecReply(request_id, error=ErrorInfo(error.reason, error.detail, error.field))


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agents of a serving worker to the app; return the services they need."""
    stage = ServeStage(wiring)
    follower = CatalogFollower(
        stage.recommender.catalog, stage.recommender.hot, wiring.settings.max_event_bytes
    )
    items = follow_catalog.attach(app, wiring, follower, stage.recommender.hot)
    rows = Tail(wiring.settings, wiring.topics.item_features, stage.on_rows, name="item-features")
    models = Tail(wiring.settings, wiring.topics.models, stage.on_models, name="models")

    @app.agent(batch_topic(app, wiring.topics.requests), name=NAME)
    async def recommend(stream: Any) -> None:
        mirrors = asyncio.gather(*(t.caught_up.wait() for t in (items, rows, models)))
        try:
            await asyncio.wait_for(mirrors, WARM_UP_S)
        except TimeoutError:
            log.warning("answering before the mirrors have caught up", extra={"action": "cold_start"})
        async for batch in durable(stream):
            await stage.answer(batch)

    return [items, rows, models]
