"""monitor: reads `models`, parts of `items`, `users`, `traces`; writes `rec-requests-bulk`; keeps points.

The dashboard. Lag comes from the broker, models and rollouts from `models`, everything else from `/metrics`
of the workers. The page and its routes: ``serving/monitor/``. Lists of the page of a user are bulk requests:
they are not logged as shown, and nothing on them rests, so looking changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import msgspec
from mode import Service

from headrace.agents.rollout import Follower
from headrace.agents.stage.http_server import HttpServer
from headrace.agents.stage.http_token import token_of
from headrace.agents.stage.kept_lookup import KeptLookup
from headrace.agents.stage.lag_figures import lag_point, lag_table
from headrace.agents.stage.metrics_reading import MetricsReading
from headrace.agents.wiring import Wiring
from headrace.models.learning.kinds import KINDS
from headrace.models.learning.rollout import Rules
from headrace.models.learning.shelf import Shelf
from headrace.serving.gateway.faults import FaultError
from headrace.serving.gateway.guard import Guard
from headrace.serving.gateway.kept import KeptItem, KeptUser
from headrace.serving.monitor import figures
from headrace.serving.monitor.board import Board
from headrace.serving.monitor.models_table import models_table, rankers_table
from headrace.serving.monitor.routes import Routes, is_open
from headrace.serving.requests.client import RecClient
from headrace.serving.traces.made import is_traced
from headrace.serving.traces.record import Trace
from headrace.streams import series
from headrace.streams.errors import ConfigError, NoTraceError, UnavailableError
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.scraping import targets_of
from headrace.streams.settings import Settings
from headrace.streams.topics import flow
from headrace.streams.topics.lag import LagReader
from headrace.streams.topics.lag_watch import EVERY_S, PEEK_S, LagWatch
from headrace.streams.topics.tail import CompactedTail
from headrace.streams.transport.batches import RecordBatch

FLOW = flow.agent("monitor")
log = logging.getLogger(__name__)

#: Time between two points, s. They are shown with the next look at the lag.
POINT_S = 2.0
#: The points go to their file this often, s, and at the end.
SAVE_S = 60.0
#: Longest time for one look at the lag, s.
LOOK_S = 5.0
#: Longest wait for a list, s; lists that may be waited for at once.
LIST_S, LISTS = 8.0, 8
#: Longest wait for the trace of a list, after its reply, s. Ids that are tried until one is traced, at most.
TRACE_S, MOST_IDS = 4.0, 100_000
#: Only who compares needs it, and LightGBM with it.
_LOOKUP: Final = "headrace.agents.stage.trace_lookup"
#: Slots of the list on the page of a user.
SLOTS = 20
#: Requests in flight at once, with the streams of open pages.
IN_FLIGHT = 128
HEAD_S = 10.0
FILE: Final = "monitor.points"


def new_id() -> str:
    """Return an id for the request for a list."""
    return f"monitor-{secrets.token_hex(8)}"


def traced_id(share: float) -> str:
    """Return an id whose request is of the share that is traced; raise ``UnavailableError`` when none is."""
    for _ in range(MOST_IDS if share > 0 else 0):
        if is_traced(name := new_id(), share):
            return name
    raise UnavailableError(
        f"a list under another ranker is made from its trace, and HEADRACE_TRACE_SHARE is {share:g}"
    )


def _under(settings: Settings, texts: Mapping[str, bytes], trace: Trace, model: str) -> dict[str, Any]:
    """Return what another ranker would have made of a list; it takes some 10 ms."""
    from headrace.agents.stage.trace_lookup import Rankers
    from headrace.serving.traces.explained import instead
    from headrace.serving.traces.replay import again

    if trace.ranked is None:
        return {"note": "no ranker made this list: it is a popular one"}
    rankers = Rankers(settings, texts)
    was, other = again(trace, rankers.own(trace)), again(trace, rankers.get(model), instead=True)
    return {"instead": instead(trace, was, other, model)}


class Looker:
    """What is behind the pages of a user and of an item.

    Parameters
    ----------
    shelf
        Returns the rankers on `models`.
    """

    def __init__(self, wiring: Wiring, shelf: Callable[[], Shelf]) -> None:
        topics = wiring.topics
        self._settings, self._shelf = wiring.settings, shelf
        self._kept = KeptLookup(wiring, topics.users, topics.items)
        self._topic, self._traces = topics.bulk_requests, topics.traces
        self._client = RecClient(
            wiring.settings, f"monitor-{secrets.token_hex(4)}", max_pending=LISTS, bulk=True
        )
        self._opening = asyncio.Lock()
        self._comparing = asyncio.Lock()  # each comparison has a consumer and a list of its own
        self._open = False

    async def user(self, user_id: str, names: bool) -> KeptUser | None:
        """Return what is kept of a user."""
        return await self._kept.user(user_id, names)

    async def item(self, item_id: str) -> KeptItem | None:
        """Return what is kept of an item."""
        return await self._kept.item(item_id)

    async def list_now(self, user_id: str, surface: str, model: str = "") -> dict[str, Any]:
        """Return the list that a user would be shown now, with reasons and titles; also under ``model``."""
        shelf = self._shelf()
        if model and model not in shelf.texts:
            raise FaultError("unknown", "there is no such ranker on the topic of models", "model")
        async with self._opening:
            if not self._open:  # at the first list: most monitors never ask for one
                await self._client.start()
                self._open = True
        name = traced_id(self._settings.trace_share) if model else new_id()
        request = RecRequest(
            name, user_id, surface,  # type: ignore[arg-type]
            n=SLOTS, deadline_ms=int(1000 * LIST_S), explain=True,
        )  # fmt: skip
        other: dict[str, Any] = {}
        if model:
            async with self._comparing:
                reply, other = await self._compared(request, model, dict(shelf.texts))
        else:
            reply = await self._ask(request)
        seen = [item.item_id for item in reply.items]
        seen += [slot["item_id"] for slot in other.get("instead", {}).get("slots", ())]
        titles = await self._kept.titles(list(dict.fromkeys(seen)))
        return {
            "reply": msgspec.to_builtins(reply),
            "titles": titles,
            "rankers": rankers_table(shelf),
            **other,
        }

    async def _compared(
        self, request: RecRequest, model: str, texts: Mapping[str, bytes]
    ) -> tuple[RecReply, dict[str, Any]]:
        """Return the list of now, and what another ranker makes of the same inputs."""
        lookup = await asyncio.to_thread(import_module, _LOOKUP)
        try:
            reply, trace = await lookup.traced(
                self._settings, self._traces, request.request_id, lambda: self._ask(request), TRACE_S
            )
        except NoTraceError as exc:
            raise UnavailableError(str(exc)) from exc
        return reply, await asyncio.to_thread(_under, self._settings, texts, trace, model)

    async def _ask(self, request: RecRequest) -> RecReply:
        try:
            return await self._client.recommend(request, timeout_s=LIST_S)
        except TimeoutError:
            raise TimeoutError(
                f"no list within {LIST_S:g} s: {self._topic} waits, or no worker serves"
            ) from None

    async def close(self) -> None:
        """Disconnect."""
        if self._open:
            await self._client.stop()


class Monitor(Service):
    """Gathers points and serves the dashboard."""

    def __init__(self, wiring: Wiring) -> None:
        settings = wiring.settings
        self._wiring = wiring
        self._board, self._clicks = Board(), figures.Clicks()
        self._reading = MetricsReading(targets_of(settings.monitor_targets), figures.READ)
        self._follower = Follower()
        self._tail = CompactedTail(settings, wiring.topics.models, self._on_models, name="models")
        self._looker = Looker(wiring, lambda: self._follower.shelf)
        self._alphas = {kind: Rules.of(settings, kind).alpha for kind in KINDS}
        self._lag_point: dict[str, float] = {}
        self._file = settings.data_dir / settings.name(FILE)
        routes = Routes(self._board, self._looker)
        guard = Guard(routes.app(), token_of(settings, "monitor"), IN_FLIGHT, lambda *_: None, is_open)
        self._server = HttpServer(guard, settings.monitor_host, settings.monitor_port, HEAD_S, "monitor")
        super().__init__()
        self.add_dependency(self._tail)

    @property
    def label(self) -> str:
        """Name for logs."""
        return "Monitor"

    async def on_start(self) -> None:
        """Take the points of the file, then listen."""
        try:
            await asyncio.to_thread(self._board.series.load, self._file)
        except (ConfigError, OSError) as exc:
            log.warning("%s is not used: %s", self._file, exc, extra={"action": "points_refused"})
        self._board.publish(self._wiring.clock.now_ms(), lag=None, workers=[], models=[])
        await self._server.start()
        settings = self._wiring.settings
        log.info(
            "the dashboard is at http://%s:%d", settings.monitor_host, settings.monitor_port,
            extra={"action": "monitor_up", "port": settings.monitor_port},
        )  # fmt: skip

    async def on_stop(self) -> None:
        """Stop listening, disconnect, keep the points."""
        self._board.close()
        await self._server.stop()
        await self._looker.close()
        await self._reading.close()
        await self._save()

    @Service.task
    async def _serve(self) -> None:
        await self._server.wait()

    @Service.task
    async def _look_at_lag(self) -> None:
        clock, seen = self._wiring.clock, LagWatch.of(self._wiring.settings)
        async with LagReader(self._wiring.settings, answer_s=LOOK_S, peek_s=PEEK_S) as reader:
            while not self.should_stop:
                began = clock.monotonic()
                try:
                    found = await reader.look(known=seen.known())
                    rows = seen.add(found)
                    self._lag_point = lag_point(rows)
                    table = lag_table(rows, found.missing)
                    lag = {**table, "at": int(found.asked_s * 1000), "error": ""}
                    self._board.publish(clock.now_ms(), lag=lag)
                except UnavailableError as exc:
                    self._lag_point = {}
                    self._board.publish(clock.now_ms(), lag={"error": str(exc)})
                await clock.sleep(max(0.05, began + EVERY_S - clock.monotonic()))

    @Service.task
    async def _gather(self) -> None:
        clock = self._wiring.clock
        last = saved = clock.monotonic()
        while not self.should_stop:
            await clock.sleep(max(0.05, last + POINT_S - clock.monotonic()))
            now = clock.monotonic()
            await self._reading.read()
            self._take(now - last)
            last = now
            if now - saved >= SAVE_S:
                saved = now
                await self._save()

    def _take(self, seconds: float) -> None:
        """Make a point of what was read."""
        reading, now_ms = self._reading, self._wiring.clock.now_ms()
        more, total = reading.more(), reading.total()
        point = figures.metric_point([w.samples for w in reading.workers.values()], more, seconds)
        point |= self._clicks.add(more) | self._lag_point
        workers = [
            {"worker": name, "trouble": w.trouble, **figures.worker_row(w.samples, w.more, w.seconds)}
            for name, w in reading.workers.items()
        ]
        self._board.hold(
            now_ms,
            point={"at": now_ms, "values": self._board.point(now_ms / 1000, point)},
            workers=workers,
            letters=figures.letters_table(total),
            clicks=figures.clicks_table(total),
            index=figures.index_table({name: w.samples for name, w in reading.workers.items()}),
        )

    def _on_models(self, batch: RecordBatch) -> None:
        self._follower.take(batch)
        table = models_table(self._follower.shelves, self._follower.counts, self._alphas)
        self._board.hold(self._wiring.clock.now_ms(), models=table)

    async def _save(self) -> None:
        try:
            await asyncio.to_thread(series.write, self._file, self._board.series.encode())
        except OSError as exc:
            log.warning("the points cannot be kept: %s", exc, extra={"action": "points_lost"})
