"""Redriving on a broker: each record once, whatever was written before, and nothing newer is replaced."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from installation import read_all

from headrace.streams.clock import now_ms
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics import redrive as job
from headrace.streams.topics.dead_letters import REDRIVEN, dead_letter, is_letter
from headrace.streams.topics.names import Topics
from headrace.streams.topics.partitioners import right_partition
from headrace.streams.topics.redrives import Note, Rules, Source, Wanted
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker
NOW = now_ms()


def letter(topic: str, key: bytes, offset: int, value: bytes = b"{}", **more: Any) -> Any:
    """Return the letter about a record that was in the right partition of its key."""
    original = SimpleNamespace(key=key, value=value, offset=offset, timestamp=NOW, headers=(("h", b"1"),))
    partition = more.pop("partition", right_partition(key, 4))
    return dead_letter(
        original, topic, partition, agent=more.pop("agent", "track_users"), reason=more.pop("reason", "r")
    )


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up no group, however busy the machine is."""
    monkeypatch.setattr(job, "WRITE_S", 60.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for a redrive that was cut off."""
    monkeypatch.setattr(job, "SETTLED_S", 0.05)


async def redriven(settings: Settings, *, write: bool = True, limit: int = 1000, **wanted: Any) -> job.Plan:
    rules = Rules(settings, 3, now_ms())
    return await job.redrive(settings, Wanted(**wanted), rules, limit=limit, write=write)


async def places(settings: Settings) -> dict[bytes, tuple[int, int]]:
    """Return where the letter of each key is."""
    records = await read_all(settings, Topics(settings).dead_letters)
    return {r.key: (r.partition, r.offset) for r in records if is_letter(r)}


async def values(settings: Settings, topic: str) -> Sequence[tuple[bytes, bytes | None]]:
    return sorted((r.key, r.value) for r in await read_all(settings, topic))


async def test_every_letter_once(
    topics_made: Settings, sender: BatchSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "GROUP_LETTERS", 3)
    topics, keys = Topics(topics_made), [b"user-%d" % n for n in range(20)]
    letters = [letter(topics.events, key, n, b"%d" % n) for n, key in enumerate(keys)]
    await sender.send_keyed(
        topics.dead_letters, [*letters, *letters[:5]]
    )  # a killed worker writes some twice
    plan = await redriven(topics_made, write=False)
    assert (len(plan), plan.written, plan.left) == (20, 0, {"same_record": 5})
    assert await read_all(topics_made, topics.events) == []
    records = await read_all(topics_made, topics.dead_letters)
    assert len(records) == len(letters) + 5, "planning writes nothing"
    assert (await redriven(topics_made)).written == 20
    found = await read_all(topics_made, topics.events)
    assert {r.key: r.value for r in found} == {key: b"%d" % n for n, key in enumerate(keys)}
    assert len(found) == 20
    for r in found:
        assert r.partition == right_partition(r.key, 4)
        assert r.timestamp == NOW
        assert [name for name, _ in r.headers] == ["h", REDRIVEN]
        assert bytes(r.headers[1][1]) in {
            b"%d-%d/1" % (x.partition, x.offset) for x in records if x.key == r.key
        }
    again = await redriven(topics_made)
    assert (again.written, again.left) == (0, {"redriven": 25})
    assert len(await read_all(topics_made, topics.events)) == 20


async def test_only_those_that_are_meant_and_at_most_the_limit(
    topics_made: Settings, sender: BatchSender
) -> None:
    topics = Topics(topics_made)
    letters = [letter(topics.events, b"u%d" % n, n, reason="ab"[n % 2]) for n in range(10)]
    await sender.send_keyed(topics.dead_letters, letters)
    some = await redriven(topics_made, reason="a", limit=2)
    assert (some.written, some.more) == (2, True)
    rest = await redriven(topics_made, reason="a", limit=3)
    assert (rest.written, rest.more, rest.left) == (3, False, {"redriven": 2})
    assert {key for key, _ in await values(topics_made, topics.events)} == {
        b"u%d" % n for n in range(0, 10, 2)
    }
    assert (await redriven(topics_made, key=b"u3")).written == 1


async def test_a_newer_item_stays(topics_made: Settings, sender: BatchSender) -> None:
    topics = Topics(topics_made)
    await sender.send_keyed(topics.items, [(b"a", b"bad", NOW, ()), (b"b", b"bad", NOW, ())])
    await sender.send_keyed(topics.items, [(b"a", b"newer", NOW, ())])
    offsets = {r.key: r.offset for r in reversed(await read_all(topics_made, topics.items))}
    wrong = (right_partition(b"c", 4) + 1) % 4
    await sender.send_keyed(
        topics.dead_letters,
        [
            *(letter(topics.items, key, offsets[key], b"bad " + key) for key in (b"a", b"b")),
            letter(topics.items, b"c", 0, b"first", partition=wrong),
            letter(topics.items, b"c", 1, b"second", partition=wrong),
        ],
    )
    assert offsets[b"a"] < max(r.offset for r in await read_all(topics_made, topics.items) if r.key == b"a")
    plan = await redriven(topics_made)
    assert (plan.written, plan.left) == (2, {"overtaken": 2})
    last = {r.key: r.value for r in await read_all(topics_made, topics.items)}
    assert last == {b"a": b"newer", b"b": b"bad b", b"c": b"second"}
    assert (await redriven(topics_made)).written == 0


async def test_overtaken_letters_do_not_use_up_the_limit(topics_made: Settings, sender: BatchSender) -> None:
    topics = Topics(topics_made)
    await sender.send_keyed(topics.items, [(b"a", b"bad", NOW, ()), (b"a", b"newer", NOW, ())])
    a, others = letter(topics.items, b"a", 0), [letter(topics.events, b"u%d" % n, n) for n in range(3)]
    await sender.send_many(topics.dead_letters, [a, *others], partition=0)
    plans = [await redriven(topics_made, limit=1) for _ in range(4)]
    assert [plan.written for plan in plans] == [1, 1, 1, 0]
    assert [plan.more for plan in plans] == [True, True, False, False]
    assert plans[-1].left == {"overtaken": 1, "redriven": 3}


async def test_an_item_that_comes_while_one_is_redriven_stays_the_newest(
    topics_made: Settings, sender: BatchSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = Topics(topics_made)
    await sender.send_keyed(topics.dead_letters, [letter(topics.items, b"a", 0, b"old")])
    plain = BatchSender.send_many

    async def send_many(self: BatchSender, topic: str, records: Any, *, partition: int) -> Any:
        if topic == topics.items and [r[1] for r in records] == [b"old"]:
            await plain(self, topic, [(b"a", b"new", NOW, ())], partition=partition)
        return await plain(self, topic, records, partition=partition)

    monkeypatch.setattr(BatchSender, "send_many", send_many)
    assert (await redriven(topics_made)).written == 1
    assert [r.value for r in await read_all(topics_made, topics.items)] == [b"new", b"old", b"new"]


async def begun(settings: Settings, sender: BatchSender, end: int | None = None) -> dict[bytes, Any]:
    """Note that a redrive of two letters of one partition began; return where the letters are."""
    topics = Topics(settings)
    (one, two) = [key for key in (b"u%d" % n for n in range(99)) if right_partition(key, 4) == 2][:2]
    await sender.send_keyed(
        topics.dead_letters, [letter(topics.events, k, n) for n, k in enumerate((one, two))]
    )
    at = await places(settings)
    named = [(at[k][1], Source(topics.events, 2, n, NOW)) for n, k in enumerate((one, two))]
    ends = [(topics.events, 2, 0 if end is None else end)]
    await sender.send_many(topics.dead_letters, [Note("x", True, named, ends).record()], partition=2)
    return at


@pytest.mark.usefixtures("quick")
async def test_what_a_redrive_had_written_before_it_was_killed_is_found(
    topics_made: Settings, sender: BatchSender
) -> None:
    topics = Topics(topics_made)
    at = await begun(topics_made, sender)
    one, two = sorted(at, key=lambda key: at[key])
    header = (REDRIVEN, b"2-%d/1" % at[one][1])
    await sender.send_many(topics.events, [(one, b"{}", NOW, [header])], partition=2)
    assert (await redriven(topics_made, write=False)).left == {"unfinished": 2}
    plan = await redriven(topics_made)
    assert (plan.written, plan.left) == (1, {"redriven": 1})
    assert [r.key for r in await read_all(topics_made, topics.events)] == [one, two]
    assert (await redriven(topics_made)).left == {"redriven": 2}


@pytest.mark.usefixtures("quick")
async def test_what_cannot_be_told_is_not_written(topics_made: Settings, sender: BatchSender) -> None:
    await begun(topics_made, sender, end=50)  # the topic ends before: it has lost records
    plan = await redriven(topics_made)
    assert (plan.written, plan.left) == (0, {"unsure": 2})
    assert await read_all(topics_made, Topics(topics_made).events) == []


async def test_of_two_at_once_one_writes(
    topics_made: Settings, sender: BatchSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = Topics(topics_made)
    await sender.send_many(topics.dead_letters, [letter(topics.events, b"u1", 0)], partition=1)
    plain = job.Redrive.plan

    async def plan(self: job.Redrive, wanted: Wanted, limit: int) -> job.Plan:
        out = await plain(self, wanted, limit)
        other = Note("other", True, [(0, Source(topics.events, 0, 0, NOW))], [(topics.events, 0, 0)])
        await sender.send_many(topics.dead_letters, [other.record()], partition=1)
        return out

    monkeypatch.setattr(job.Redrive, "plan", plan)
    with pytest.raises(UnavailableError, match="another redrive is under way"):
        await redriven(topics_made)
    assert await read_all(topics_made, topics.events) == []


async def test_no_topics(settings: Settings) -> None:
    with pytest.raises(UnavailableError, match="dead-letters does not exist"):
        await redriven(settings, write=False)
