"""The load: events of every sort, good and bad, and intended repetitions. Pure, seeded.

Every record has a header ``chaos`` with its sort, so that the topics show afterwards exactly what was
produced, also when acknowledgements were lost.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import msgspec
from chaos_world import CATEGORIES, COUNTRIES, CREATORS, World

from headrace.streams.messages.schemas import (
    AnyNone,
    Context,
    Event,
    EventType,
    Filters,
    ListRequest,
    RecRequest,
    Surface,
)
from headrace.streams.settings import DAY_MS, MINUTE_MS, Settings
from headrace.streams.topics.sender import OutRecord

MARK = "chaos"
GOOD, BAD, AGAIN, ABORTED = b"good", b"bad", b"again", b"aborted"

TYPES: tuple[EventType, ...] = ("click", "skip", "dwell", "like", "save", "follow", "hide")
TYPE_WEIGHTS = (34, 22, 26, 6, 4, 4, 4)
SURFACES: tuple[Surface, ...] = ("home", "home", "home", "related", "digest")

#: Shares of the events.
LATE, AHEAD, TOO_LATE, FUTURE, INVALID = 0.08, 0.02, 0.006, 0.004, 0.012
#: Shares of the good events that are sent again: at once, within the window, outside of it; and share of the
#: events with the event_id of another user's event.
AT_ONCE, WITHIN, OUTSIDE, BORROWED = 0.015, 0.02, 0.01, 0.002
#: Share of the hides that are of the item's creator.
OF_CREATOR = 0.4
#: Number of recent events that are sent again after the restart of an ingest worker.
AFTER_RESTART = 150

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of accepted records, and the window of repeated event ids."""

    lateness_ms: int
    future_ms: int
    max_event_bytes: int
    dedup_window_ms: int

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Take them from the settings."""
        return cls(
            settings.lateness_ms, settings.future_ms, settings.max_event_bytes, settings.dedup_window_ms
        )


@dataclass(slots=True)
class Sent:
    """An event as it was first sent. ``ts`` is None when its body is always bad."""

    key: bytes | None
    value: bytes | None
    ts: int | None


class Load:
    """Makes records for ``events`` (and the other public topics), a few at a time.

    Parameters
    ----------
    seed
        The same seed and the same calls make the same records.
    limits
        Limits of the installation: they decide which records are bad.
    """

    def __init__(self, seed: int, world: World, limits: Limits) -> None:
        self.world = world
        self._limits = limits
        self._rng = random.Random(f"load-{seed}")
        self._number = 0
        self._again: list[tuple[int, int, Sent]] = []  # heap by time
        self._react: list[tuple[int, int, Event]] = []
        self._recent: deque[Sent] = deque(maxlen=3000)

    # -- events

    def take(self, now: int, count: int) -> list[OutRecord]:
        """Return about ``count`` records to send at ``now`` (ms): repetitions, reactions, new events."""
        out: list[OutRecord] = []
        while self._again and self._again[0][0] <= now and len(out) < count:
            out.append(self._record(heapq.heappop(self._again)[2], now, again=True))
        while self._react and self._react[0][0] <= now and len(out) < count:
            self._send(self._good(heapq.heappop(self._react)[2]), now, out)
        while len(out) < count:
            self._send(self._new(now), now, out)
        return out

    def plain(self, now: int, count: int) -> list[OutRecord]:
        """Return new events, all good, none of them sent again."""
        return [self.good_record(self.event_of(self.user(), now), now) for _ in range(count)]

    def good_record(self, event: Event, now: int) -> OutRecord:
        """Return the record of a good event."""
        return self._record(self._good(event), now, again=False)

    def event_of(self, user: int, now: int, event_id: str = "") -> Event:
        """Return a new event of a user, good, that is not sent again."""
        self._number += 1
        kind = self._rng.choices(TYPES, TYPE_WEIGHTS)[0]
        event = self._event(kind, user, self.world.item(self._rng), now)
        event.event_id = event_id or f"plain-{self._number}"
        return event

    def user(self) -> int:
        """Pick a user."""
        return self.world.user(self._rng)

    def recent_again(self, now: int, count: int = AFTER_RESTART) -> list[OutRecord]:
        """Return recent events again, as producers without an acknowledgement send them."""
        have = list(self._recent)
        return [self._record(s, now, again=True) for s in self._rng.sample(have, min(count, len(have)))]

    def react(self, user: int, request_id: str, item_ids: list[str], now: int) -> None:
        """Let a user do something with a list that was shown."""
        rng = self._rng
        for position, item_id in enumerate(item_ids):
            if rng.random() < 0.25:
                kind = rng.choices(TYPES, TYPE_WEIGHTS)[0]
                event = self._event(kind, user, item_id, now + rng.randrange(2000))
                event.request_id, event.position, event.surface = request_id, position, "home"
                heapq.heappush(self._react, (event.ts, self._number, event))

    def _send(self, sent: Sent, now: int, out: list[OutRecord]) -> None:
        rng, window = self._rng, self._limits.dedup_window_ms
        out.append(self._record(sent, now, again=False))
        self._recent.append(sent)
        dice = rng.random()
        if dice < AT_ONCE:
            out.append(self._record(sent, now, again=True))
        elif dice < AT_ONCE + WITHIN:
            self._later(sent, now + int(window * rng.random() ** 2 * 0.98))
            if rng.random() < 0.3:  # a chain of them may reach further than the window
                self._later(sent, now + int(window * rng.uniform(0.9, 1.9)))
        elif dice < AT_ONCE + WITHIN + OUTSIDE:
            self._later(sent, now + int(window * rng.uniform(1.02, 1.6)))

    def _later(self, sent: Sent, due: int) -> None:
        self._number += 1
        heapq.heappush(self._again, (due, self._number, sent))

    def _record(self, sent: Sent, now: int, *, again: bool) -> OutRecord:
        """Add timestamp and header to a record. Producers' clocks differ: some are behind, a few ahead."""
        rng = self._rng
        dice = rng.random()
        at = now - rng.randrange(3000) if dice < 0.1 else now + rng.randrange(1500) if dice < 0.102 else now
        bad = sent.ts is None
        if sent.ts is not None:
            bad = at - sent.ts > self._limits.lateness_ms or sent.ts - at > self._limits.future_ms
        mark = BAD if bad else AGAIN if again else GOOD
        return sent.key, sent.value, at, [(MARK, mark)]

    def _new(self, now: int) -> Sent:
        rng, limits = self._rng, self._limits
        user = self.world.user(rng)
        kind = rng.choices(TYPES, TYPE_WEIGHTS)[0]
        dice = rng.random()
        ts = now - rng.randrange(1500)
        if dice < LATE:  # as often seconds as minutes as hours; clear of the limit
            least, most = 2000.0, 0.98 * limits.lateness_ms - 10_000
            ts = now - int(least * (most / least) ** rng.random())
        elif dice < LATE + AHEAD:
            ts = now + rng.randrange(max(1, limits.future_ms - 10_000))
        elif dice < LATE + AHEAD + TOO_LATE:
            ts = now - limits.lateness_ms - 10_000 - rng.randrange(DAY_MS)
        elif dice < LATE + AHEAD + TOO_LATE + FUTURE:
            ts = now + limits.future_ms + 10_000 + rng.randrange(MINUTE_MS)
        elif dice < LATE + AHEAD + TOO_LATE + FUTURE + INVALID:
            return self._invalid(self._event(kind, user, self.world.item(rng), ts))
        return self._good(self._event(kind, user, self.world.item(rng), ts))

    def _event(self, kind: EventType, user: int, item_id: str, ts: int) -> Event:
        rng = self._rng
        self._number += 1
        event = Event(
            event_id=f"e-{self._number}",
            type=kind,
            user_id=self.world.users[user],
            item_id=item_id,
            ts=ts,
            context=Context(
                country=self.world.home[user] if rng.random() < 0.9 else rng.choice(COUNTRIES),
                age=None if rng.random() < 0.3 else rng.randrange(0, 151),
            ),
        )
        if kind == "dwell":
            dice = rng.random()
            event.dwell_ms = int(rng.lognormvariate(9.3, 1.0))
            if dice < 0.03:  # none, half a second, a whole day
                event.dwell_ms = rng.choice((0, 499, 500, 86_400_000))
            event.dwell_ms = min(event.dwell_ms, 86_400_000)
        if kind == "hide" and rng.random() < OF_CREATOR:
            event.scope = "creator"
        if rng.random() < BORROWED and self._recent:
            event.event_id = f"e-{rng.randrange(max(1, self._number - 2000), self._number + 1)}"
        return event

    @staticmethod
    def _good(event: Event) -> Sent:
        return Sent(event.user_id.encode(), _encode(event), event.ts)

    def _invalid(self, event: Event) -> Sent:
        key: bytes | None = event.user_id.encode()
        body: dict[str, Any] = msgspec.to_builtins(event)
        sort = self._rng.randrange(16)
        whole = _encode(event)
        values: list[bytes | None] = [
            b"\xff\xfe not json",
            whole[: len(whole) // 2],
            b"[]",
            None,
            b"",
            _encode(body | {"ts": "now"}),
            _encode(body | {"type": "purchase"}),
            _encode(body | {"type": "dwell", "dwell_ms": None}),
            _encode(body | {"type": "dwell", "dwell_ms": -1}),
            _encode(body | {"event_id": "y" * 65}),
            _encode(body | {"item_id": None}),
            _encode(body | {"type": "hide", "scope": "everything"}),
        ]
        if sort < len(values):
            return Sent(key, values[sort], None)
        if sort == len(values):
            return Sent(key, _encode(body | {"padding": "p" * self._limits.max_event_bytes}), None)
        if sort == len(values) + 1:
            return Sent(
                (self.world.users[self._rng.randrange(len(self.world.users))] + "x").encode(), whole, None
            )
        # Without a key, the body must name the user.
        nobody = {name: value for name, value in body.items() if name != "user_id"}
        return Sent(None, _encode(nobody) if sort == len(values) + 2 else b"\xff\xfe not json", None)

    # -- the other topics

    def profiles(self, count: int) -> list[OutRecord]:
        """Return profiles of some users, now and then a bad one."""
        out: list[OutRecord] = []
        for _ in range(count):
            profile = self.world.profile(self._rng)
            if self._rng.random() < 0.05:
                out.append((profile.user_id.encode(), b'{"user_id": 7}', None, [(MARK, BAD)]))
            else:
                out.append((profile.user_id.encode(), _encode(profile), None, [(MARK, GOOD)]))
        return out

    def farewells(self, count: int) -> list[OutRecord]:
        """Return requests to forget users; events of them, and later profiles, come before and after."""
        leavers = [self.world.leaver(self._rng) for _ in range(count)]
        return [(user_id.encode(), None, None, [(MARK, GOOD)]) for user_id in leavers]

    def catalogue(self, now: int, *, again: bool) -> list[OutRecord]:
        """Return the whole catalogue; when it is sent again, some items are withdrawn first."""
        gone = self.world.withdrawn(self._rng) if again else []
        out: list[OutRecord] = [(item_id.encode(), None, None, [(MARK, GOOD)]) for item_id in gone]
        return out + [(i.item_id.encode(), _encode(i), None, [(MARK, GOOD)]) for i in self.world.items(now)]

    def bad_items(self, count: int) -> list[OutRecord]:
        """Return items that cannot be decoded."""
        values = (b"{}", b'{"item_id": "i", "published_ts": -5}')
        return [(b"item-x", self._rng.choice(values), None, [(MARK, BAD)]) for _ in range(count)]

    def request(self, number: int) -> tuple[int, RecRequest, bool]:
        """Return a user and a request, and whether it is a bad one (its answer is an error)."""
        rng = self._rng
        user = self.world.user(rng)
        request = RecRequest(
            request_id=f"r-{number}",
            user_id=self.world.users[user],
            surface=rng.choice(SURFACES),
            n=rng.randint(4, 16),
            context=Context(country=self.world.home[user], age=rng.choice((None, 17, 30, 80))),
            deadline_ms=2000,
        )
        if request.surface == "related":
            request.item_id = self.world.item_ids[rng.randrange(len(self.world.item_ids))]
        self._more_of(request)
        bad = rng.random() < 0.02
        if bad:
            self._spoil(request)
        return user, request, bad

    def _more_of(self, request: RecRequest) -> None:
        """Let some requests filter, say what was seen, bring their own candidates, or ask for a page."""
        rng, world = self._rng, self.world
        if rng.random() < 0.15:
            request.seen = [world.item(rng) for _ in range(rng.randint(1, 30))]
        if rng.random() < 0.2:
            request.filters = self._filters()
        dice = rng.random()
        if dice < 0.12:
            request.candidates = [world.item(rng) for _ in range(rng.randint(1, 60))]
            request.candidates += [f"unknown-{rng.randrange(50)}" for _ in range(rng.randint(0, 5))]
        elif dice < 0.24:
            request.lists = [self._list() for _ in range(rng.randint(1, 8))]

    def _filters(self) -> Filters:
        rng = self._rng
        some = [f"category-{c}" for c in rng.sample(range(CATEGORIES), 3)]
        return rng.choice(
            (
                Filters(category=AnyNone(some)),
                Filters(category=AnyNone(none=some), language=AnyNone(["en"])),
                Filters(creator=AnyNone([f"creator-{rng.randrange(CREATORS)}"])),
                Filters(tags=AnyNone([f"tag-{rng.randrange(57)}", "tag-1"], ["tag-2"])),
                Filters(category=AnyNone(["no such category"])),
            )
        )

    def _list(self) -> ListRequest:
        rng = self._rng
        surface = rng.choice(SURFACES)
        item_id = self.world.item(rng) if surface == "related" else ""
        filters = self._filters() if rng.random() < 0.4 else Filters()
        return ListRequest(surface, rng.randint(2, 8), item_id, filters)

    def _spoil(self, request: RecRequest) -> None:
        sort = self._rng.randrange(4)
        if sort == 0:
            request.n = 100_000
        elif sort == 1:
            request.seen = ["x"] * 501
        elif sort == 2:
            request.lists = [ListRequest("related")]
        else:
            request.lists, request.candidates = [ListRequest("home")], ["item-00001"]
