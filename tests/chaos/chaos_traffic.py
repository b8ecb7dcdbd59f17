"""Sends the load: events at a steady rate, requests for lists, reactions to the replies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from aiokafka.errors import KafkaError
from chaos_load import BAD, GOOD, MARK, Limits, Load
from chaos_shape import Shape
from chaos_states import States
from chaos_strangers import SHARE, Strangers
from chaos_transactions import Transactions
from chaos_world import World

from headrace.serving.requests.address import PLAIN_ID, PLAIN_TOPIC
from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.messages.state import Mark, token_of
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, OutRecord
from headrace.streams.topics.tail import Tail

USERS, ITEMS = 6000, 8000
#: Profiles before the first event, and afterwards every second; and users who are forgotten, in five seconds.
PROFILES, PROFILES_PER_S, FAREWELLS = 3000, 4, 2
#: Events in a transaction.
IN_TRANSACTION = 25
REQUESTS_PER_S = 8.0
#: Of so many requests, one is sent in bulk.
BULK_EVERY = 4
#: Names of callers that keep to their rate; one that does not, how many requests it sends at once, and when.
CALLERS, GREEDY = 8, "greedy"
AT_ONCE, AT_ONCE_EVERY_S = 20, 6.0
TICK_S = 0.05
#: Number of times that events are sent after a disturbance.
AFTER_TICKS = 20
#: Largest number of events at once, after an outage of the broker.
BURST = 2000
#: The oracle compares affinities for items that were published this long before an event about them.
PUBLISHED_S = 11.0


class Traffic:
    """Producers and callers.

    Attributes
    ----------
    sent, resent
        Events sent, and records sent again after an error.
    strangers
        Producers with partitioners of their own; they send a share of all records.
    transactions
        The producer of transactions.
    states
        The tokens that callers have of users.
    profiles, farewells
        Profiles sent, and requests to forget a user.
    first_reply
        Set when the first list has come.
    """

    def __init__(self, seed: int, shape: Shape, settings: Settings, tell: Callable[[str], None]) -> None:
        self.sent = self.resent = self.profiles = self.farewells = 0
        self.first_reply = asyncio.Event()
        self._shape = shape
        self._settings = settings
        self._tell = tell
        self._topics = Topics(settings)
        self.load = Load(seed, World(seed, USERS, ITEMS), Limits.of(settings))
        self.states = States(seed)
        self.strangers = Strangers(SHARE if "strangers" in shape.load else 0.0)
        self.transactions = Transactions(seed, settings, self._topics.events, self._for_transaction, tell)
        self._sender = BatchSender(settings)
        self._requests = 0
        self._asked: dict[bytes, int] = {}  # correlation id -> user; until its reply is seen
        self._published = self._complained = 0.0

    async def start(self) -> None:
        """Connect, and publish items and profiles."""
        await self._sender.start()
        await self.send_catalogue(again=False)
        await self._account(PROFILES, 0)
        self._published = time.monotonic()

    async def stop(self) -> None:
        """Disconnect."""
        await self._sender.stop()

    async def produce(self, over: asyncio.Event) -> None:
        """Send events at a steady rate until all are sent and it is ``over``; catch up after an outage."""
        rate, began = self._shape.events / self._shape.seconds, time.monotonic()
        others = began
        while self.sent < self._shape.events or not over.is_set():
            due = min(BURST, int(rate * (time.monotonic() - began)) - self.sent)
            if due > 0:
                await self.send_events(self.load.take(now_ms(), due))
            if time.monotonic() - others > 1.0:
                others = time.monotonic()
                now_and_then = int(others) % 5 == 0
                await self._account(PROFILES_PER_S, FAREWELLS * now_and_then)
                await self._send(self._topics.items, self.load.bad_items(now_and_then))
            await asyncio.sleep(TICK_S)

    async def _account(self, profiles: int, farewells: int) -> None:
        """Send what the account service says."""
        self.profiles += profiles
        self.farewells += farewells
        records = self.load.profiles(profiles) + self.load.farewells(farewells)
        await self._send(self._topics.users, records)

    async def send_catalogue(self, *, again: bool = True) -> None:
        """Send the whole catalogue; when it is sent again, some items are withdrawn first."""
        await self._send(self._topics.items, self.load.catalogue(now_ms(), again=again))

    def _for_transaction(self) -> list[OutRecord]:
        self.sent += IN_TRANSACTION
        return self.load.take(now_ms(), IN_TRANSACTION)

    async def after(self, events: int, seconds: float) -> None:
        """Send events that are all good and new, and requests, for some seconds."""
        self.states.made_again()
        asking = asyncio.create_task(self.ask_for_lists())
        try:
            for _ in range(AFTER_TICKS):
                await self._until_sent(
                    self._topics.events, None, self.load.plain(now_ms(), events // AFTER_TICKS)
                )
                await asyncio.sleep(seconds / AFTER_TICKS)
        finally:
            asking.cancel()
            await asyncio.wait({asking})

    async def until_published(self) -> None:
        """Wait until the catalogue is old enough for events about it."""
        await asyncio.sleep(max(0.0, self._published + PUBLISHED_S - time.monotonic()))

    async def send_recent_again(self) -> None:
        """Send recent events again, as producers without an acknowledgement do."""
        await self.send_events(self.load.recent_again(now_ms()))

    async def send_events(self, records: list[OutRecord]) -> None:
        """Send events until acknowledged."""
        self.sent += len(records)
        await self._send(self._topics.events, records)

    async def _send(self, topic: str, records: list[OutRecord]) -> None:
        """Send until acknowledged. After an error records are sent again and may be there twice."""
        topics = self._topics
        keyless = topic in (topics.events, topics.requests, topics.bulk_requests)  # the others are compacted
        ours, theirs = self.strangers.split(records, self._settings.partitions, keyless=keyless)
        await asyncio.gather(
            self._until_sent(topic, None, ours), *[self._until_sent(topic, *part) for part in theirs.items()]
        )

    async def _until_sent(self, topic: str, partition: int | None, records: list[OutRecord]) -> None:
        """Send to ``partition``, or where Kafka's own client sends records of their keys."""
        while records:
            try:
                if partition is None:
                    await self._sender.send_keyed(topic, records)
                else:
                    await self._sender.send_many(topic, records, partition=partition)
            except KafkaError as exc:
                self.resent += len(records)
                if time.monotonic() - self._complained > 10.0:
                    self._complained = time.monotonic()
                    self._tell(f"sending again: {exc!r}")
                await asyncio.sleep(0.5)
            else:
                return

    async def ask_for_lists(self) -> None:
        """Send requests until cancelled; their replies come to the shared reply topic."""
        while True:
            await asyncio.sleep(1 / REQUESTS_PER_S)
            self._requests += 1
            user, request, bad = self.load.request(self._requests)
            request.caller = f"service-{self._requests % CALLERS}"
            if not bad:
                user = await self._demand(user, request)
            in_bulk = self._requests % BULK_EVERY == 0
            topic = self._topics.bulk_requests if in_bulk else self._topics.requests
            await self._send(topic, [self._asked_for(f"c-{self._requests}", user, request, bad=bad)])

    async def ask_too_often(self) -> None:
        """Send many requests at once, again and again until cancelled: more than one caller may."""
        while True:
            await asyncio.sleep(AT_ONCE_EVERY_S)
            records = []
            for _ in range(AT_ONCE):
                self._requests += 1
                name, user = f"g-{self._requests}", self.load.user()
                request = RecRequest(name, self.load.world.users[user], "home", n=4, caller=GREEDY)
                records.append(self._asked_for(name, user, request))
            await self._send(self._topics.requests, records)

    def _asked_for(self, name: str, user: int, request: RecRequest, *, bad: bool = False) -> OutRecord:
        """Return the record of a request; its reply is expected from now on."""
        headers = [(PLAIN_TOPIC, self._topics.replies.encode()), (PLAIN_ID, name.encode())]
        headers.append((MARK, BAD if bad else GOOD))
        self._asked[name.encode()] = user
        return request.user_id.encode(), msgspec.json.encode(request), None, headers

    async def _demand(self, user: int, request: RecRequest) -> int:
        """Let some requests demand a state, perhaps of another user; return the user."""
        what = self.states.demand()
        if what == "reply" and (known := self.states.one()):
            user, request.at_least = known
            request.user_id = self.load.world.users[user]
        elif what == "event":
            request.at_least = await self._write_one(user)
        return user

    async def _write_one(self, user: int) -> str:
        """Write an event of a user as any producer does; return its token, empty when it is not known."""
        key, value, at, headers = self.load.good_record(self.load.event_of(user, now_ms()), now_ms())
        partition = self.states.partition(key or b"", self._settings.partitions)
        self.sent += 1
        try:
            written = await self._sender.send_many(
                self._topics.events, [(key, value, at, headers)], partition=partition
            )
        except KafkaError:
            return ""  # it may be there, and may not: like a producer that gives up
        return token_of([Mark("events", partition, written.first)])

    async def follow_replies(self) -> None:
        """Let users react to lists until cancelled; a reader that fails is replaced."""
        while True:
            tail = Tail(self._settings, self._topics.replies, self._on_replies, name="replies")
            try:
                await tail.start()
                await tail.wait()
            except (KafkaError, HeadraceError, OSError) as exc:
                self._tell(f"reading replies: {exc!r}")
            finally:
                await tail.stop()
            self._tell("replies are read anew")
            await asyncio.sleep(1.0)

    def _on_replies(self, batch: Any) -> None:
        for record in batch:
            user = self._asked.pop(dict(record.headers).get(PLAIN_ID, b""), None)
            if user is None:
                continue
            reply = msgspec.json.decode(record.value or b"{}", type=RecReply)
            self.states.seen(user, reply.state)
            for shown in (reply, *reply.lists):
                if shown.items:
                    self.first_reply.set()
                    self.load.react(user, shown.request_id, [i.item_id for i in shown.items], now_ms())
