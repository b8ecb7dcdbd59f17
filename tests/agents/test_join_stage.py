"""When the stage of the outcome join acknowledges, writes, and holds a topic back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import logged_examples
import pytest
from fresh_topics import make_topics
from join_world import click, encode, examples, lists, user_of, write
from msgspec import json
from msgspec.structs import replace
from prometheus_client import generate_latest
from scraped import Scraped
from shown_lists import with_unshown

from headrace.agents.join_outcomes import AHEAD_MS, SLICES, JoinStage
from headrace.agents.stage.join_reader import APART, JoinReader
from headrace.agents.wiring import Wiring
from headrace.models.learning.source_counts import source_counts
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import ManualClock, now_ms
from headrace.streams.messages.schemas import Event, Impression
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import RecordBatch

pytestmark = pytest.mark.broker

WAIT = 64_000
SLICE = WAIT // SLICES
USER = user_of(0, 4)


@dataclass
class Alone:
    """A member of a group that a test controls."""

    writes: bool = True
    ended: bool = True
    held: set[str] = field(default_factory=set)

    def at_end(self, topic: str, partition: int, processed: int | None) -> bool:
        return self.ended

    def owns(self, topic: str, partition: int) -> bool:
        return self.writes

    def may_write(self) -> bool:
        return self.writes

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield

    def hold_back(self, topic: str, partition: int) -> None:
        self.held.add(topic)

    def let_go(self, topic: str, partition: int) -> None:
        self.held.discard(topic)


@dataclass
class Record:
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[()] = ()


class World:
    """A stage, its clock, and the batches that it has acknowledged."""

    def __init__(self, settings: Settings, sender: BatchSender, reader: JoinReader) -> None:
        self.topics, self.begin = Topics(settings), now_ms()
        self.clock, self.member = ManualClock(self.begin), Alone()
        self.sender, self.reader, self.settings = sender, reader, settings
        self.acked: list[str] = []
        self.start()

    def start(self) -> None:
        """Begin as a new process."""
        wiring = Wiring(self.settings, self.sender, self.sender, MemoryStore(), self.clock)
        self.stage = JoinStage(wiring, self.member, self.reader)

    async def read(
        self, topic: str, offset: int, at: int, *messages: Impression | Event, name: str = ""
    ) -> None:
        records = [
            Record(offset + i, self.begin + at, m.user_id.encode(), encode(m)) for i, m in enumerate(messages)
        ]
        await self.stage.apply(RecordBatch(topic, 0, records), lambda: self.acked.append(name))

    async def pass_(self, ms: int) -> None:
        await self.clock.advance(ms / 1000)
        await self.stage.tick()


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    settings = settings.model_copy(update={"outcome_wait_ms": WAIT})
    await make_topics(settings)
    sender, reader = BatchSender(settings), JoinReader(settings)
    await sender.start()
    await reader.start()
    yield World(settings, sender, reader)
    await reader.stop()
    await sender.stop()


async def shown(world: World, n: int) -> list[Impression]:
    """Write lists to `impressions` as well: they are read again when they close."""
    return await publish(world, lists([USER], 0, n))


async def publish(world: World, out: list[Impression]) -> list[Impression]:
    await world.sender.send_many(
        world.topics.impressions, [(s.user_id.encode(), encode(s), None, ()) for s in out], partition=0
    )
    return out


async def test_the_first_batch_of_a_slice_of_time_is_held_until_its_lists_have_closed(world: World) -> None:
    impressions, some = world.topics.impressions, await shown(world, 4)
    begin = -world.begin % SLICE  # a slice begins here
    await world.clock.advance(10 * SLICE / 1000)
    for offset, at in enumerate((begin + 1, begin + 2, begin + SLICE - 1, begin + SLICE + 1)):
        await world.read(impressions, offset, at, some[offset], name=f"{offset}")
    assert world.acked == ["1", "2"], "offsets are committed in order: the first one holds them"
    await world.pass_(begin + SLICE + WAIT - 10 * SLICE - 500)
    assert world.acked == ["1", "2"]
    await world.pass_(2000)
    assert "0" in world.acked
    assert "3" not in world.acked
    await world.pass_(2 * SLICE)
    assert sorted(world.acked) == ["0", "1", "2", "3"]
    assert len(await examples(world.settings)) == 4 * 3


async def test_nothing_is_written_or_acknowledged_while_another_worker_may_own_the_partition(
    world: World,
) -> None:
    (one,) = await shown(world, 1)
    await world.read(world.topics.impressions, 0, 0, one, name="0")
    world.member.writes = False
    await world.pass_(3 * WAIT)
    assert world.acked == []
    assert await examples(world.settings) == []
    world.member.writes = True
    await world.pass_(1)
    assert world.acked == ["0"]
    assert len(await examples(world.settings)) == 3


async def test_a_batch_that_is_delivered_again_is_held_again(world: World) -> None:
    impressions, some = world.topics.impressions, await shown(world, 3)
    await world.read(impressions, 0, 0, *some, name="first")
    await world.read(impressions, 1, 0, *some[1:], name="again")
    assert world.acked == []
    await world.pass_(3 * WAIT)
    assert len(await examples(world.settings)) == 9
    assert sorted(world.acked) == ["again", "first"]


async def test_events_that_label_nothing_are_acknowledged_at_once(world: World) -> None:
    (one,) = lists([USER], 0, 1)
    other = Event("e", "skip", USER, "item-0", one.ts)
    await world.read(world.topics.events, 0, 0, other, name="skip")
    await world.read(world.topics.events, 1, 0, click(one, 0), name="click")
    assert world.acked == ["skip"]


async def test_the_topic_that_is_far_ahead_waits_for_the_other(world: World) -> None:
    """Three hours of backlog: without this, all the events would be in memory before the first list."""
    impressions, events, ahead = world.topics.impressions, world.topics.events, max(AHEAD_MS, WAIT)
    hour, some = 3_600_000, lists([USER], 0, 3)
    world.member.ended = False
    await world.read(impressions, 0, -3 * hour, some[0])
    assert world.member.held == {impressions}, "nothing is known of the events yet"
    await world.read(events, 0, -3 * hour, click(some[0], 0, ts=world.begin - 3 * hour))
    assert world.member.held == set()
    await world.read(events, 1, -3 * hour + ahead + 1, click(some[0], 0, ts=world.begin - 3 * hour + ahead))
    assert world.member.held == {events}
    await world.read(impressions, 1, -3 * hour + 2, some[1])
    assert world.member.held == set()
    await world.read(impressions, 2, -hour, some[2])
    assert world.member.held == {impressions}
    world.member.ended = True
    await world.pass_(2000)
    assert world.member.held == set(), "there are no events left: both are at the present time"


async def test_one_record_dated_far_ahead_closes_nothing(world: World) -> None:
    (one,) = await shown(world, 1)
    await world.read(world.topics.impressions, 0, 0, one)
    await world.read(world.topics.events, 0, 10**12, click(one, 1, ts=world.begin))
    await world.read(world.topics.impressions, 1, 10**12, lists([USER], 1, 1)[0])
    await world.read(world.topics.events, 1, 20, click(one, 0))
    await world.pass_(WAIT - 2000)
    assert await examples(world.settings) == []
    await world.pass_(4000)
    found = await examples(world.settings)
    assert [e.clicked for e in found][:3] == [True, False, False]


async def test_impressions_that_are_far_apart_are_read_without_those_between(world: World) -> None:
    shown = lists([USER], 0, 4 * APART, slots=1)
    await write(world.sender, world.topics.impressions, shown)
    wanted = {0, 1, APART + 1, 3 * APART, 4 * APART - 1, 4 * APART}
    found = await world.reader.impressions({0: wanted, 1: set(), 2: {0}})
    have = {n: [json.decode(r.value, type=Impression).request_id for r in found[n].values()] for n in found}
    assert have == {0: [f"r{k}" for k in sorted(wanted) if k < 4 * APART], 1: [], 2: []}
    assert list(found[0]) == sorted(wanted)[:-1]


def outcomes(world: World) -> dict[tuple[str, str], float]:
    """Return the counts of the metric, by source and step."""
    scraped = Scraped(generate_latest(world.stage.wiring.metrics.registry).decode())
    return {
        (source, step): n for (source, step), n in scraped.all("headrace_source_outcomes_total").items() if n
    }


async def test_a_slot_counts_once_for_its_sources_whatever_is_read_twice(
    world: World, tmp_path: Path
) -> None:
    """Slots that close early, candidates that were not shown, double clicks, batches that come again."""
    sources = [["hot", "ann"], ["hot"], ["new"]]
    first, second = (replace(one, sources=sources) for one in lists([USER], 0, 2))
    await publish(world, some := [first, with_unshown(second, "item-8", "item-9")])
    clicks = [click(first, 2), click(first, 2), click(second, 0, "f")]

    async def read() -> None:
        await world.read(world.topics.impressions, 0, 0, *some)
        await world.read(world.topics.events, 0, 0, *clicks)

    await read()
    assert outcomes(world) == {}, "nothing is known yet"
    await world.pass_(WAIT - 20_000)
    early = {("hot", "shown"): 2, ("hot", "alone"): 1, ("ann", "shown"): 1}
    assert outcomes(world) == early, "two slots were passed"
    await read()
    await world.pass_(3 * WAIT)
    once = {
        ("hot", "shown"): 4, ("hot", "clicked"): 1, ("hot", "alone"): 2,
        ("ann", "shown"): 2, ("ann", "clicked"): 1,
        ("new", "shown"): 2, ("new", "clicked"): 1, ("new", "alone"): 2, ("new", "clicked_alone"): 1,
    }  # fmt: skip
    assert outcomes(world) == once

    world.stage.revoked()
    await read()
    await world.pass_(3 * WAIT)
    assert outcomes(world) == once, "the partition came back"
    world.start()
    await read()
    await world.pass_(3 * WAIT)
    assert outcomes(world) == {}, "another process has counted them"

    logged_examples.write(tmp_path, await examples(world.settings))
    found, slots, clicked = source_counts(tmp_path)
    assert (slots, clicked) == (6, 2)
    steps = ("shown", "clicked", "alone", "clicked_alone")
    assert {(c.source, step): n for c in found for step in steps if (n := getattr(c, step))} == once
