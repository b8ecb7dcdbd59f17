"""Sends the requests and events of the simulated audience, and counts the replies.

Requests go through the public request topic, events through `events`, as any producer would send them.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter, deque

import msgspec

from headrace.demo.meters import Latencies, Meter
from headrace.demo.replay import CHUNK, encode_events, encode_items
from headrace.demo.simulation.simulator import Simulator, Visit
from headrace.serving.requests.client import RecClient
from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import Event, Item, RecReply, RecRequest
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

#: A request without a reply for this long has failed.
REPLY_TIMEOUT_S = 5.0
#: Visits wait while this many requests are open.
IN_FLIGHT = 400
TICK_S = 0.02
FLUSH_S = 0.1
#: The audience slows down when the median reply takes longer than SLOW_MS, and speeds up below QUICK_MS.
SLOW_MS, QUICK_MS = 300.0, 200.0
LEAST_PACE = 0.25
#: One list of so many is compared with the best possible one; this looks at the whole catalogue.
JUDGED = 4


class Traffic:
    """Lets users visit: asks for lists, shows them, sends the events of the users.

    Parameters
    ----------
    simulator
        The world; its items have not been published yet.
    sender, client, topics
        The connections to the installation.
    """

    def __init__(self, simulator: Simulator, sender: BatchSender, client: RecClient, topics: Topics) -> None:
        self.simulator = simulator
        self._sender, self._client, self._topics = sender, client, topics
        self._due: list[tuple[int, int, Event]] = []  # heap by time
        self._order = self._shown = 0
        self._open: set[asyncio.Task[None]] = set()
        self.titles: dict[str, str] = {}
        self.events, self.answered = Meter(), Meter()
        self.latencies = Latencies()
        self.requests = self.replies = self.errors = self.past_events = 0
        self.first_error = ""
        self.ranked: deque[tuple[float, bool]] = deque(maxlen=1000)
        self.ranked_replies = 0
        self.ranker = self.online = ""
        self.degraded: Counter[str] = Counter()

    # --- set-up ---

    async def publish_world(self) -> None:
        """Send the items and the profiles."""
        await self._publish(self.simulator.starting_items())
        profiles = self.simulator.profiles()
        encode = msgspec.json.encode
        records = [(p.user_id.encode(), encode(p), None, ()) for p in profiles]
        await self._sender.send_keyed(self._topics.users, records)

    async def publish_past(self) -> None:
        """Send the events of known users before the start; the timestamps of the records are the present."""
        past = self.simulator.past()
        for start in range(0, len(past), CHUNK):
            part = past[start : start + CHUNK]
            records = [(key, value, None, headers) for key, value, _, headers in encode_events(part)]
            await self._sender.send_keyed(self._topics.events, records)
            self.events.add(len(part), time.monotonic())
            self.past_events += len(part)

    async def _publish(self, items: list[Item]) -> None:
        self.titles.update({i.item_id: i.title for i in items})
        await self._sender.send_keyed(self._topics.items, encode_items(items, now_ms()))

    async def first_reply(self, timeout_s: float) -> None:
        """Send requests until a reply has items; raise ``HeadraceError`` after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        for attempt in range(10_000):
            request = RecRequest(
                f"probe-{attempt}", self.simulator.audience.ids[0], "home", deadline_ms=60_000
            )
            reply = await self._ask(request, deadline - time.monotonic())
            if reply is not None and reply.items:
                return
            if reply is None or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        raise HeadraceError(f"no list came within {timeout_s:.0f} s of the first request: {self.first_error}")

    # --- the loop ---

    async def visits(self, until: float) -> None:
        """Let users visit until ``until`` (monotonic seconds)."""
        sim = self.simulator
        sim.begin(now_ms())
        published = time.monotonic()
        while (at := time.monotonic()) < until:
            if len(self._open) < IN_FLIGHT:
                for visit in sim.visits(now_ms(), limit=IN_FLIGHT - len(self._open)):
                    if visit.control:
                        self._look(visit, sim.popular(visit, now_ms()))
                        sim.go_on(visit, now_ms())
                    else:
                        task = asyncio.create_task(self._visit(visit))
                        self._open.add(task)
                        task.add_done_callback(self._open.discard)
            if at - published >= 1.0:
                published = at
                self._adapt(at)
                if items := sim.new_items(now_ms()):
                    await self._publish(items)
            await asyncio.sleep(TICK_S)

    def _adapt(self, at: float) -> None:
        """Adapt the pace to the machine, so that reply times do not include waiting in a queue."""
        p50, _ = self.latencies.recent(at, 3.0)
        if p50 > SLOW_MS:
            self.simulator.pace = max(LEAST_PACE, self.simulator.pace * 0.88)
        elif p50 < QUICK_MS:
            self.simulator.pace = min(1.0, self.simulator.pace * 1.1)

    async def settle(self) -> None:
        """Wait for open requests, no longer than their time-out, and send all events that are left."""
        if self._open:
            await asyncio.wait(set(self._open), timeout=REPLY_TIMEOUT_S + 1)
        await self.flush(everything=True)

    async def flushes(self, over: asyncio.Event) -> None:
        """Send events when they are due, until ``over`` is set."""
        while not over.is_set():
            await self.flush()
            await asyncio.sleep(FLUSH_S)

    async def flush(self, *, everything: bool = False) -> None:
        """Send the events that are due by now, or ``everything``."""
        now, happened = now_ms(), []
        while self._due and (everything or self._due[0][0] <= now):
            happened.append(heapq.heappop(self._due)[2])
        if happened:
            await self._sender.send_keyed(self._topics.events, encode_events(happened))
            self.events.add(len(happened), time.monotonic())

    async def _visit(self, visit: Visit) -> None:
        try:
            reply = await self._ask(visit.request, REPLY_TIMEOUT_S)
        finally:
            self.simulator.go_on(visit, now_ms())
        if reply is None:
            return
        if not reply.items:
            self._failed(f"an empty list for {visit.request.user_id} ({', '.join(reply.degraded)})")
            return
        self._look(visit, [i.item_id for i in reply.items])

    def _look(self, visit: Visit, item_ids: list[str]) -> None:
        if item_ids:
            now = now_ms()
            self._shown += 1
            if self._shown % JUDGED == 0:
                self.simulator.judge(visit, item_ids, now)
            for event in self.simulator.look(visit, item_ids, now):
                self._order += 1
                heapq.heappush(self._due, (event.ts, self._order, event))

    async def ask(self, request: RecRequest) -> RecReply | None:
        """Send one request and count its reply; None when no reply came or it was an error."""
        return await self._ask(request, REPLY_TIMEOUT_S)

    async def _ask(self, request: RecRequest, timeout_s: float) -> RecReply | None:
        self.requests += 1
        began = time.perf_counter()
        try:
            reply = await self._client.recommend(request, timeout_s)
        except TimeoutError:
            self._failed(f"no reply to {request.request_id} within {timeout_s:.0f} s")
            return None
        except HeadraceError as exc:
            self._failed(str(exc))
            return None
        at = time.monotonic()
        self.replies += 1
        self.answered.add(1, at)
        if reply.error is not None:
            self._failed(f"{reply.error.code}: {reply.error.message}")
            return None
        if not request.request_id.startswith("probe-"):
            self.latencies.add((time.perf_counter() - began) * 1000, at)
        self._note(reply, at)
        return reply

    def _note(self, reply: RecReply, at: float) -> None:
        model = reply.model
        ranked = model is not None and bool(model.ranker)
        self.ranked.append((at, ranked))
        self.ranked_replies += ranked
        if model is not None:
            self.ranker, self.online = model.ranker or self.ranker, model.online or self.online
        self.degraded.update(set(reply.degraded))

    def _failed(self, why: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or why

    def ranked_share(self, at: float, over_s: float = 5.0) -> float:
        """Return the share of the replies of the last ``over_s`` seconds that LightGBM ranked."""
        recent = [ranked for t, ranked in self.ranked if t >= at - over_s]
        return sum(recent) / len(recent) if recent else 0.0
