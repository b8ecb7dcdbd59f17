"""Push recorded events through the real topics, at full speed or at a multiple of real time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from aiokafka.errors import KafkaError

from streams.errors import ConfigError, UnavailableError
from streams.files import Format, read_globo, read_jsonl
from streams.schemas import Event, Item
from streams.sender import BatchSender, OutRecord
from streams.settings import Settings
from streams.topics import Topics, check_topics

#: Events encoded and sent at a time: what bounds the memory.
CHUNK = 5000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was sent and how fast. ``event_time_s`` is the time the events span."""

    events: int
    items: int
    seconds: float
    events_per_s: float
    event_time_s: float

    def as_dict(self) -> dict[str, float]:
        """Return it as JSON-ready values."""
        return asdict(self)


def source(path: Path, kind: Format, limit: int | None = None) -> Iterator[Event]:
    """Yield the events of a file, in its order, at most ``limit``; raise ``ConfigError`` for a bad line."""
    if kind == "globo":
        return (click.event(number) for number, click in enumerate(read_globo(path, limit)))
    return itertools.islice(read_jsonl(path), limit)


def encode_events(events: list[Event]) -> list[OutRecord]:
    """Return records for `events`: keyed by user, dated by the event."""
    encode = msgspec.json.encode
    return [(e.user_id.encode(), encode(e), e.ts, ()) for e in events]


def encode_items(items: list[Item], timestamp_ms: int | None = None) -> list[OutRecord]:
    """Return records for `items`: keyed by item, dated ``timestamp_ms`` or by their publication."""
    encode = msgspec.json.encode
    return [
        (i.item_id.encode(), encode(i), i.published_ts if timestamp_ms is None else timestamp_ms, ())
        for i in items
    ]


class FirstClicks:
    """Makes an item of an article the first time it is clicked: such files carry no catalogue."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, events: list[Event]) -> list[Item]:
        """Return the items first seen in ``events``."""
        out = []
        for event in events:
            if event.item_id not in self._seen:
                self._seen.add(event.item_id)
                out.append(Item(item_id=event.item_id, published_ts=event.ts))
        return out


class Pace:
    """When an event is due: event time runs ``speed`` times as fast as the clock.

    Parameters
    ----------
    speed
        Multiple of real time; 0 or less is never a wait.
    clock
        Seconds, monotonic.
    """

    def __init__(self, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._speed = speed
        self._clock = clock
        self._origin: tuple[float, int] | None = None

    def wait_s(self, ts: int) -> float:
        """Return how long an event of time ``ts`` (ms) has to wait; the first one never does."""
        if self._origin is None:
            self._origin = (self._clock(), ts)
        started, first = self._origin
        if self._speed <= 0:
            return 0.0
        return max(0.0, started + (ts - first) / 1000 / self._speed - self._clock())


def chunks(events: Iterator[Event], pace: Pace | None) -> Iterator[tuple[list[Event], float]]:
    """Cut into chunks of at most ``CHUNK``; with each, the seconds to wait before it is sent.

    With a pace a chunk ends where the next event is not due yet.
    """
    part: list[Event] = []
    wait = 0.0
    for event in events:
        pause = pace.wait_s(event.ts) if pace is not None else 0.0
        if part and (len(part) >= CHUNK or pause > 0.05):
            yield part, wait
            part = []
            pause = pace.wait_s(event.ts) if pace is not None else 0.0
        if not part:
            wait = pause
        part.append(event)
    if part:
        yield part, wait


async def replay(
    settings: Settings,
    path: Path,
    kind: Format,
    *,
    speed: float = 0.0,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Replayed:
    """Send a file's events to `events`, each user's in order, and for Globo its articles to `items`.

    Parameters
    ----------
    speed
        Multiple of real time; 0: as fast as the broker takes them.
    limit
        Send at most so many events.
    progress
        Called with (events sent, time of the last one in ms) after every chunk.

    Raises
    ------
    ConfigError
        A bad file, or missing topics.
    UnavailableError
        No broker answers.
    """
    events = source(path, kind, limit)
    topics = Topics(settings)
    needed = (f"{topics.events} is missing", f"{topics.items} is missing")
    missing = [p for p in await check_topics(settings) if p.startswith(needed)]
    if missing:
        raise ConfigError("; ".join(missing))
    new_items = FirstClicks() if kind == "globo" else None
    pace = Pace(speed) if speed > 0 else None
    sender = BatchSender(settings)
    started = time.perf_counter()
    sent = items_sent = 0
    first = last = 0
    try:
        await sender.start()
        for part, wait in chunks(events, pace):
            if wait > 0:
                await asyncio.sleep(wait)
            if new_items is not None and (items := new_items(part)):
                await sender.send_keyed(topics.items, encode_items(items))
                items_sent += len(items)
            await sender.send_keyed(topics.events, encode_events(part))
            first, last = first or part[0].ts, part[-1].ts
            sent += len(part)
            if progress is not None:
                progress(sent, last)
    except KafkaError as exc:
        raise UnavailableError(f"the broker at {settings.brokers} took {sent} events, then: {exc}") from exc
    finally:
        await sender.stop()
    seconds = time.perf_counter() - started
    return Replayed(sent, items_sent, round(seconds, 3), round(sent / seconds, 1), (last - first) / 1000)
