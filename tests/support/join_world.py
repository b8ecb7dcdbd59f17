"""Topics of the outcome join: lists and clicks that are written, and the examples that come of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from installation import read_all
from project import ROOT
from shown_lists import event, shown, with_unshown

from headrace.agents import join_outcomes
from headrace.agents.wiring import Wiring
from headrace.models.outcomes import unshown_items
from headrace.serving.store.memory import MemoryStore
from headrace.streams.app import make_app
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import Event, Example, Impression
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, partition_of

#: What names a slot: user, request, time of the list, position.
Slot = tuple[str, str, int, int]
encode = msgspec.json.Encoder().encode


def user_of(partition: int, partitions: int, n: int = 0) -> str:
    """Return the n-th user of a partition."""
    users = (f"user-{i}" for i in range(10**6))
    mine = (u for u in users if partition_of(u.encode(), partitions) == partition)
    return next(u for i, u in enumerate(mine) if i == n)


def lists(
    users: Sequence[str], first: int, n: int, slots: int = 3, unshown: Sequence[str] = ()
) -> list[Impression]:
    """Return ``n`` lists of different requests and times, of the users in turn."""
    items = [f"item-{k}" for k in range(slots)]
    now = now_ms()
    made = [shown(f"r{i}", users[i % len(users)], items, ts=now + i) for i in range(first, first + n)]
    return [with_unshown(one, *unshown) for one in made] if unshown else made


def click(impression: Impression, position: int, event_id: str = "e", ts: int | None = None) -> Event:
    """Return a click on a slot; its time is that of the list, unless given."""
    at = impression.ts if ts is None else ts
    item = impression.item_ids[position]
    clicked = event(item, user=impression.user_id, request=impression.request_id, ts=at)
    return msgspec.structs.replace(clicked, event_id=event_id)


async def write(sender: BatchSender, topic: str, messages: Iterable[Impression | Event]) -> None:
    """Write messages; the timestamp of a record is the time of its message, however slow the broker is."""
    await sender.send_keyed(topic, [(m.user_id.encode(), encode(m), m.ts, ()) for m in messages])


def slots_of(impressions: Iterable[Impression]) -> Counter[Slot]:
    """Return the slots that were shown, each once, and the places after them of what was not."""
    return Counter(
        (s.user_id, s.request_id, s.ts, p)
        for s in impressions
        for p in range(len(s.item_ids) + len(unshown_items(s)))
    )


async def examples(settings: Settings) -> list[Example]:
    records = await read_all(settings, Topics(settings).examples)
    return [msgspec.json.decode(record.value, type=Example) for record in records]


def counted(found: Iterable[Example]) -> Counter[Slot]:
    """Return how many examples each slot has."""
    return Counter((e.user_id, e.request_id, e.ts, e.position) for e in found)


def clicked(found: Iterable[Example]) -> set[Slot]:
    return {(e.user_id, e.request_id, e.ts, e.position) for e in found if e.clicked}


@asynccontextmanager
async def joining(settings: Settings, **options: Any) -> AsyncIterator[Any]:
    """Run a process that only joins; yield its app."""
    sender, replier = BatchSender(settings), BatchSender(settings)
    wiring = Wiring(settings, sender, replier, MemoryStore())
    app = make_app(settings, "learn", **{"broker_commit_interval": 0.1, **options})
    services = join_outcomes.attach(app, wiring)
    ready, stop = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(
        run_apps([app], settings=settings, services=[sender, *services], ready=ready, stop=stop)
    )
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    assert ready.is_set()
    try:
        yield app
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


WORKER = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from join_world import joining
from headrace.streams.process import run
from headrace.streams.settings import Settings

async def main(settings):
    member = {"consumer_group_instance_id": sys.argv[3]} if sys.argv[3] else {}
    async with joining(settings, **member):
        await asyncio.Event().wait()

run(main(Settings.model_validate_json(sys.argv[2])))
"""


def start_process(settings: Settings, member: str = "w") -> subprocess.Popen[bytes]:
    """Start a process that joins. A static member gets its partitions back at once when it is restarted."""
    support = str(ROOT / "tests" / "support")
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, support, settings.model_dump_json(), member],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


async def move_group(settings: Settings, topic: str, offsets: dict[int, int]) -> None:
    """Set the committed offsets of the join's group, which must be empty, as an operator does."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers, group_id=settings.name("headrace-learn"), enable_auto_commit=False
    )
    await consumer.start()
    try:
        places = {TopicPartition(topic, number): offset for number, offset in offsets.items()}
        consumer.assign(list(places))
        await consumer.commit({tp: OffsetAndMetadata(offset, "") for tp, offset in places.items()})
    finally:
        await consumer.stop()
