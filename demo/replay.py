"""Push recorded events through the real topics, at full speed or at a multiple of real time.

Recorded times are moved to the present. A broker deletes records by their timestamps, so it would delete an
event of last year at once, and windows at the present time would be empty.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from aiokafka.errors import KafkaError

from headrace.streams.clock import now_ms
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.messages.files import Format, read_globo, read_jsonl
from headrace.streams.messages.schemas import Event, Item
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import check_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.refusal import refusal
from headrace.streams.topics.sender import BatchSender, OutRecord

#: Events encoded and sent at a time; this bounds the memory.
CHUNK = 5000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was sent and how fast. ``event_time_s``: time from the first to the last event, s."""

    events: int
    items: int
    seconds: float
    events_per_s: float
    event_time_s: float

    def as_dict(self) -> dict[str, float]:
        """Return it as JSON-ready values."""
        return asdict(self)


def source(path: Path, kind: Format, limit: int | None = None) -> Iterator[Event]:
    """Yield at most ``limit`` events of a file, in its order; raise ``ConfigError`` for a bad line."""
    if kind == "globo":
        return (click.event(number) for number, click in enumerate(read_globo(path, limit)))
    return itertools.islice(read_jsonl(path), limit)


def encode_events(events: list[Event]) -> list[OutRecord]:
    """Return records for `events`: keyed by user, with the time of the event."""
    encode = msgspec.json.encode
    return [(e.user_id.encode(), encode(e), e.ts, ()) for e in events]


def encode_items(items: list[Item], timestamp_ms: int | None = None) -> list[OutRecord]:
    """Return records for `items`: keyed by item, with ``timestamp_ms`` or the time of publication."""
    encode = msgspec.json.encode
    return [
        (i.item_id.encode(), encode(i), i.published_ts if timestamp_ms is None else timestamp_ms, ())
        for i in items
    ]


class FirstClicks:
    """Makes an item for every article at its first click, for files without a catalogue."""

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


class Timeline:
    """Moves recorded times to the present; says when an event is due.

    At full speed everything is sent at once and the recording ends now. At a speed, the recording begins now
    and its time runs ``speed`` times as fast.

    Parameters
    ----------
    first, last
        Earliest and latest recorded time, ms.
    now
        The present, ms.
    speed
        Multiple of real time; 0: full speed.
    keep
        Leave the recorded times as they are.
    """

    def __init__(self, first: int, last: int, now: int, speed: float, *, keep: bool = False) -> None:
        self._first = first
        self._start = now if speed > 0 else now - (last - first)
        self._speed = speed
        self._keep = keep

    def due(self, ts: int) -> int:
        """Return the time a recorded ``ts`` (ms) is moved to; at a speed, it is sent then."""
        return self._start + int((ts - self._first) / (self._speed or 1))

    def moved(self, event: Event) -> Event:
        """Return the event at its new time."""
        if not self._keep:
            event.ts = self.due(event.ts)
        return event


def span(events: Iterator[Event]) -> tuple[int, int]:
    """Return the earliest and the latest time; raise ``ConfigError`` when there are no events."""
    first, last = 1 << 62, -1
    for event in events:
        first, last = min(first, event.ts), max(last, event.ts)
    if last < 0:
        raise ConfigError("there are no events in it")
    return first, last


def chunks(
    events: Iterator[Event], timeline: Timeline, wait_for: Callable[[int], float] | None
) -> Iterator[tuple[list[Event], float]]:
    """Yield events in chunks of at most ``CHUNK``, each with the seconds to wait before it is sent.

    ``wait_for`` returns the seconds until a time (ms). With it, a chunk also ends when the next event is due
    later.
    """
    part: list[Event] = []
    wait = 0.0
    for event in events:
        pause = wait_for(timeline.due(event.ts)) if wait_for is not None else 0.0
        if part and (len(part) >= CHUNK or pause > wait + 0.05):
            yield part, wait
            part = []
            pause = wait_for(timeline.due(event.ts)) if wait_for is not None else 0.0
        if not part:
            wait = pause
        part.append(timeline.moved(event))
    if part:
        yield part, wait


async def replay(
    settings: Settings,
    path: Path,
    kind: Format,
    *,
    speed: float = 0.0,
    limit: int | None = None,
    keep_times: bool = False,
    progress: Progress | None = None,
) -> Replayed:
    """Send a file's events to `events`, each user's in order, and for Globo its articles to `items`.

    Parameters
    ----------
    speed
        Multiple of real time; 0: as fast as the broker takes them.
    limit
        Send at most so many events.
    keep_times
        Leave the recorded times: only for topics whose retention reaches that far back.
    progress
        Called after every chunk with the events sent and the time (ms) of the last one.

    Raises
    ------
    ConfigError
        A bad file, or missing topics.
    UnavailableError
        No broker answers.
    """
    first, last = span(source(path, kind, limit))
    timeline = Timeline(first, last, now_ms(), speed, keep=keep_times)
    wait_for = (lambda due: max(0.0, (due - now_ms()) / 1000)) if speed > 0 else None
    topics = Topics(settings)
    needed = (f"{topics.events} is missing", f"{topics.items} is missing")
    missing = [p for p in await check_topics(settings) if p.startswith(needed)]
    if missing:
        raise ConfigError("; ".join(missing))
    new_items = FirstClicks() if kind == "globo" else None
    sender = BatchSender(settings)
    started = time.perf_counter()
    sent = items_sent = 0
    try:
        await sender.start()
        for part, wait in chunks(source(path, kind, limit), timeline, wait_for):
            if wait > 0:
                await asyncio.sleep(wait)
            if new_items is not None and (items := new_items(part)):
                await sender.send_keyed(topics.items, encode_items(items))
                items_sent += len(items)
            await sender.send_keyed(topics.events, encode_events(part))
            sent += len(part)
            if progress is not None:
                progress(sent, part[-1].ts)
    except KafkaError as exc:
        why = refusal(settings, exc) or str(exc)
        raise UnavailableError(f"the broker at {settings.brokers} took {sent} events, then: {why}") from exc
    finally:
        await sender.stop()
    seconds = time.perf_counter() - started
    return Replayed(sent, items_sent, round(seconds, 3), round(sent / seconds, 1), (last - first) / 1000)
