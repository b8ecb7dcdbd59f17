"""The outcome join on a broker: every shown slot becomes exactly one example, whatever happens to workers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from fresh_topics import delete_topics, make_topic, make_topics
from installation import producer, read_all, until
from join_world import (
    click,
    clicked,
    counted,
    encode,
    examples,
    joining,
    lists,
    move_group,
    slots_of,
    start_process,
    user_of,
    write,
)
from shown_lists import event

from headrace.agents.partitions.written import read_mark
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import Example, Impression
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

PARTITIONS = 2
USERS = [user_of(p, PARTITIONS, n) for n in range(3) for p in range(PARTITIONS)]
Make = Callable[..., Settings]


@pytest.fixture
async def settings(make_settings: Make) -> Settings:
    made = make_settings(partitions=PARTITIONS, outcome_wait_ms=400)
    await make_topics(made)
    return made


@pytest.fixture
async def sender(settings: Settings) -> AsyncIterator[BatchSender]:
    service = BatchSender(settings)
    await service.start()
    yield service
    await service.stop()


async def written(settings: Settings, n: int, timeout: float = 60) -> list[Example]:
    """Wait until there are ``n`` examples or more."""
    found: list[Example] = await until(lambda: examples(settings), lambda e: len(e) >= n, timeout)
    return found


async def test_every_slot_of_two_workers_becomes_one_example_with_its_click(
    settings: Settings, sender: BatchSender
) -> None:
    """One of the workers comes later, so partitions move while lists are open."""
    topics, shown = Topics(settings), list[Impression]()
    async with joining(settings) as first:
        for turn in range(2):
            some = lists(USERS, len(shown), 40)
            shown += some
            await write(sender, topics.events, [click(s, 1) for s in some[::4]])
            await write(sender, topics.impressions, some)
            if not turn:
                await written(settings, 3 * 20)
        async with joining(settings) as second:
            await until(
                lambda: asyncio.sleep(0, [len(app.consumer.assignment()) for app in (first, second)]),
                lambda owned: owned == [2, 2],
                30,
            )
            some = lists(USERS, len(shown), 40)
            shown += some
            await write(sender, topics.events, [click(s, 1) for s in some[::4]])
            await write(sender, topics.impressions, some)
            found = await written(settings, 3 * len(shown))
    assert counted(found) == slots_of(shown)
    wanted = {
        (s.user_id, s.request_id, s.ts, 1) for start in (0, 40, 80) for s in shown[start : start + 40 : 4]
    }
    assert clicked(found) == wanted


async def test_a_worker_that_is_killed_writes_no_slot_twice(make_settings: Make) -> None:
    settings = make_settings(partitions=PARTITIONS, outcome_wait_ms=2000)
    await make_topics(settings)
    topics, shown, sender = Topics(settings), list[Impression](), BatchSender(settings)
    await sender.start()
    async with asyncio.timeout(150):
        for _ in range(3):
            process = start_process(settings)
            try:
                some = lists(USERS, len(shown), 200)
                shown += some
                for start in range(0, 200, 20):
                    await write(sender, topics.impressions, some[start : start + 20])
                await written(settings, 3 * (len(shown) - 150))
            finally:
                process.kill()
                process.wait()
        last = lists(USERS, len(shown), PARTITIONS)  # comes after all that is delivered again
        shown += last
        await write(sender, topics.impressions, last)
        async with joining(settings, consumer_group_instance_id="w"):
            found = await written(settings, 3 * len(shown))
    await sender.stop()
    assert counted(found) == slots_of(shown)


async def test_what_was_not_shown_is_written_once_by_workers_that_are_killed(make_settings: Make) -> None:
    """Its users act on it without a request, before the workers are killed."""
    settings = make_settings(partitions=PARTITIONS, outcome_wait_ms=2000)
    await make_topics(settings)
    topics, shown, sender = Topics(settings), list[Impression](), BatchSender(settings)
    await sender.start()
    async with asyncio.timeout(150):
        for turn in range(2):
            process = start_process(settings)
            try:
                some = lists(USERS, len(shown), 100, unshown=[f"new-{turn}", "other"])
                shown += some
                done = [event(f"new-{turn}", user=s.user_id, request="", ts=s.ts) for s in some[-6:]]
                await write(sender, topics.events, done)
                for start in range(0, 100, 20):
                    await write(sender, topics.impressions, some[start : start + 20])
                await written(settings, 5 * (len(shown) - 70))
            finally:
                process.kill()
                process.wait()
        last = lists(USERS, len(shown), PARTITIONS)
        shown += last
        await write(sender, topics.impressions, last)
        async with joining(settings, consumer_group_instance_id="w"):
            found = await written(settings, 5 * 200 + 3 * PARTITIONS)
    await sender.stop()
    assert counted(found) == slots_of(shown)
    assert {e.position for e in found if e.unshown} == {3, 4}
    assert {e.item_id for e in found if e.clicked} == {"new-0", "new-1"}
    assert {e.user_id for e in found if e.clicked} == set(USERS)


async def test_passed_slots_are_written_before_their_lists_and_once_by_workers_that_are_killed(
    make_settings: Make,
) -> None:
    """Every third list is clicked at its third slot of four; workers are killed while the lists are open."""
    wait = 8000
    settings = make_settings(
        partitions=PARTITIONS, outcome_wait_ms=wait, passed_wait_ms=200, seen_below=0, session_timeout_s=6.0
    )
    await make_topics(settings)
    topics, shown, sender = Topics(settings), list[Impression](), BatchSender(settings)
    await sender.start()

    async def passed() -> list[Example]:
        return [e for e in await examples(settings) if e.label == "passed"]

    async with asyncio.timeout(150):
        for turn in range(3):
            process = start_process(settings)
            try:
                for n in (3, 60):  # after the first, the worker is there
                    some = lists(USERS, len(shown), n, slots=4)
                    shown += some
                    await write(sender, topics.impressions, some)
                    await write(sender, topics.events, [click(s, 2) for s in some[::3]])
                    wanted = 42 * turn + (2 if n == 3 else 12)
                    await until(passed, lambda found, n=wanted: len(found) >= n, 60)
            finally:
                process.kill()
                process.wait()
        async with joining(settings, consumer_group_instance_id="w"):
            found = await written(settings, 4 * len(shown), timeout=90)
    await sender.stop()
    assert counted(found) == slots_of(shown)
    touched = {s.request_id for s in shown[::3]}
    labels = ["passed", "passed", "touched", "unseen"]
    for e in found:
        assert e.label == (labels[e.position] if e.request_id in touched else "unseen")
    records = await read_all(settings, topics.examples)
    made = [(r, msgspec.json.decode(r.value, type=Example)) for r in records]
    early = [e for r, e in made if r.timestamp < e.ts + wait]
    assert {e.label for e in early} == {"passed"}
    assert len(early) > 30


async def test_a_worker_that_was_paused_while_another_took_over_writes_no_slot_again(
    make_settings: Make, short_session_s: float, real_kafka: bool
) -> None:
    if not real_kafka:
        pytest.skip("the embedded broker never removes a member from its group")
    settings = make_settings(partitions=PARTITIONS, outcome_wait_ms=1500, session_timeout_s=short_session_s)
    await make_topics(settings)
    topics, shown = Topics(settings), lists(USERS, 0, 200)
    process = start_process(settings, member="")
    try:
        async with producer(settings) as sender, asyncio.timeout(120):
            for start in range(0, 100, 10):
                await write(sender, topics.impressions, shown[start : start + 10])
            await written(settings, 3 * 20)
            process.send_signal(signal.SIGSTOP)
            await write(sender, topics.impressions, shown[100:])
            async with joining(settings):
                await written(settings, 3 * 200)
                process.send_signal(signal.SIGCONT)
                more = lists(USERS, 200, 20)
                await write(sender, topics.impressions, more)
                found = await written(settings, 3 * 220)
    finally:
        process.kill()
        process.wait()
    assert counted(found) == slots_of([*shown, *more])


async def test_a_group_that_is_moved_back_writes_nothing_again(
    settings: Settings, sender: BatchSender
) -> None:
    topics, shown = Topics(settings), lists(USERS, 0, 60)
    await write(sender, topics.impressions, shown)
    async with joining(settings):
        await written(settings, 3 * 60)
    for topic in (topics.impressions, topics.events):
        await move_group(settings, topic, dict.fromkeys(range(PARTITIONS), 0))
    more = lists(USERS, 60, 10)
    await write(sender, topics.impressions, more)
    async with joining(settings):
        found = await written(settings, 3 * 70)
    assert counted(found) == slots_of([*shown, *more])


async def test_what_a_group_that_was_moved_forward_left_out_is_written_when_it_is_moved_back(
    settings: Settings, sender: BatchSender
) -> None:
    user = USERS[0]
    topics, shown = Topics(settings), lists([user], 0, 30)
    await write(sender, topics.impressions, shown)
    await move_group(settings, topics.impressions, {0: 20})
    async with joining(settings):
        found = await written(settings, 3 * 10)
    assert counted(found) == slots_of(shown[20:])
    await move_group(settings, topics.impressions, {0: 10})
    async with joining(settings):
        found = await written(settings, 3 * 20)
    assert counted(found) == slots_of(shown[10:])
    await move_group(settings, topics.impressions, {0: 0})
    more = lists([user], 30, 1)
    await write(sender, topics.impressions, more)
    async with joining(settings):
        found = await written(settings, 3 * 31)
    assert counted(found) == slots_of([*shown, *more])


@pytest.mark.parametrize("kept", [1, 3, 7, 28])
async def test_a_list_that_was_half_written_is_completed(
    settings: Settings, make_settings: Make, sender: BatchSender, kept: int
) -> None:
    """The examples of a run, cut off after ``kept`` of them: what a crash in a write leaves."""
    topics, shown = Topics(settings), lists([USERS[0]], 0, 10)
    await write(sender, topics.impressions, shown)
    async with joining(settings):
        await written(settings, 30)
    records = await read_all(settings, topics.examples)
    other = make_settings(partitions=PARTITIONS, outcome_wait_ms=400)
    await make_topics(other)
    there = Topics(other)
    await write(sender, there.impressions, shown)
    cut = [(r.key, r.value, None, list(r.headers)) for r in records[:kept]]
    await sender.send_many(there.examples, cut, partition=0)
    async with joining(other):
        found = await written(other, 30)
    assert counted(found) == slots_of(shown)
    last = (await read_all(other, there.examples))[-1]
    told = read_mark(last.headers)
    assert told is not None
    mark = told.mark
    assert (mark.offset, mark.position, mark.done) == (9, 2, [(0, 9)])


async def test_a_reused_request_id_loses_no_slot_and_no_click(
    settings: Settings, sender: BatchSender
) -> None:
    topics, now, user = Topics(settings), now_ms(), USERS[0]
    shown = [
        Impression(
            **{f: getattr(s, f) for f in s.__struct_fields__} | {"request_id": "home", "ts": now + 100 * i}
        )
        for i, s in enumerate(lists([user], 0, 3))
    ]
    await write(sender, topics.impressions, shown)
    clicks = [click(shown[0], 0), click(shown[1], 1, ts=now + 150), click(shown[2], 2, ts=now + 230)]
    await write(sender, topics.events, [*clicks, *clicks])
    async with joining(settings):
        found = await written(settings, 9)
    assert counted(found) == slots_of(shown)
    assert clicked(found) == {(user, "home", now + 100 * i, i) for i in range(3)}


async def test_an_event_in_the_wrong_partition_labels_nothing_until_it_is_sent_on(
    settings: Settings, sender: BatchSender
) -> None:
    topics, shown = Topics(settings), lists([USERS[0]], 0, 2)
    await write(sender, topics.impressions, shown)
    stray, sent_on = (encode(click(s, 0)) for s in shown)
    key = USERS[0].encode()
    await sender.send_many(topics.events, [(key, stray, shown[0].ts, ())], partition=1)
    wrong = [(other, stray, shown[0].ts, ()) for other in (None, b"other")]
    await sender.send_many(topics.events, wrong, partition=0)
    header = [("headrace-from", b"events/1/0")]
    await sender.send_many(topics.events, [(key, sent_on, shown[1].ts, header)], partition=0)
    async with joining(settings):
        found = await written(settings, 6)
    assert clicked(found) == {(USERS[0], "r1", shown[1].ts, 0)}


@pytest.mark.parametrize("stamp", [0, 1, 4_000_000_000_000])
async def test_a_record_of_any_timestamp_closes_its_list_and_no_other_early(
    settings: Settings, sender: BatchSender, real_kafka: bool, stamp: int
) -> None:
    if real_kafka and stamp > now_ms():
        pytest.skip("this broker refuses such a record")
    topics, shown = Topics(settings), lists([USERS[0]], 0, 5)
    out = [(s.user_id.encode(), encode(s), stamp if i == 2 else s.ts, ()) for i, s in enumerate(shown)]
    bad = encode(click(shown[4], 2, ts=min(stamp, 4_000_000_000_000)))
    await sender.send_many(topics.events, [(USERS[0].encode(), bad, stamp, ())], partition=0)
    await sender.send_many(topics.impressions, out, partition=0)
    await write(sender, topics.events, [click(s, 0) for s in shown])
    async with joining(settings):
        found = await written(settings, 15)
    assert counted(found) == slots_of(shown)
    assert {slot for slot in clicked(found) if slot[3] == 0} == {
        (s.user_id, s.request_id, s.ts, 0) for s in shown
    }


async def test_a_topic_that_was_deleted_and_made_again_is_joined_again(settings: Settings) -> None:
    topics, shown = Topics(settings), lists([USERS[0]], 0, 20)
    async with producer(settings) as sender, joining(settings):
        await write(sender, topics.impressions, shown)
        await written(settings, 60)
    await delete_topics(settings.brokers, [topics.impressions])
    await make_topic(settings, topics.impressions, PARTITIONS)
    await move_group(settings, topics.impressions, {0: 0})
    more = lists([USERS[0]], 20, 8)
    async with producer(settings) as sender, joining(settings):
        await write(sender, topics.impressions, more)
        await written(settings, 60 + 24)
    await move_group(settings, topics.impressions, {0: 0})
    last = lists([USERS[0]], 28, 1)
    async with producer(settings) as sender, joining(settings):
        await write(sender, topics.impressions, last)
        found = await written(settings, 60 + 27)
    assert counted(found) == slots_of([*shown, *more, *last])
