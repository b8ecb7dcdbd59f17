"""Beats: while the online store has all rows of a partition, its worker says so once a second."""

from __future__ import annotations

import pytest
from stage_rows import Stage, rows_of

from headrace.serving.store.applied import Applied, Reached, decode
from headrace.serving.store.freshness import Freshness
from headrace.serving.store.memory import MemoryStore
from headrace.serving.store.protocol import BEAT_S, Kind
from headrace.streams.clock import ManualClock
from headrace.streams.tables.rows import PackedRows


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock)


async def fresh(stage: Stage) -> bool:
    return await stage.store.beating("u", [3]) == {3}


async def test_an_idle_worker_beats(stage: Stage, clock: ManualClock) -> None:
    assert not await fresh(stage)
    for _ in range(3):
        await stage.feed.look()
        assert await fresh(stage)
        await clock.advance(BEAT_S - 0.1)
        assert await fresh(stage)
    await clock.advance(0.1)
    assert not await fresh(stage), "the worker is down"


async def test_a_store_that_takes_no_writes_is_noticed_by_an_idle_worker(
    stage: Stage, clock: ManualClock
) -> None:
    await stage.feed.look()
    stage.store.read_only = True
    for _ in range(6):
        await clock.advance(1)
        await stage.feed.look()
    assert not await fresh(stage)
    stage.store.read_only = False
    await stage.feed.look()
    assert await fresh(stage)
    assert stage.shown() == stage.truth()


async def test_rows_that_were_not_written_are_missing_until_they_are(
    stage: Stage, clock: ManualClock
) -> None:
    await stage.feed.look()
    stage.store.read_only = True
    stage.change(rows_of([1], 9))
    await stage.flush()
    stage.store.read_only = False
    await clock.advance(BEAT_S)
    await stage.feed.look()
    assert not await fresh(stage), "a row is missing"
    await stage.feed.catch_up(3)
    await stage.feed.look()
    assert await fresh(stage)
    assert stage.shown() == stage.truth()


async def test_marks_that_cannot_be_written_stop_the_beats(
    stage: Stage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows can be written, scripts are forbidden."""
    await stage.feed.look()

    async def refuse(*_: object) -> set[int]:
        stage.store.read_only = True
        try:
            return await MemoryStore.set_marks(stage.store, "u", {3: 0})
        finally:
            stage.store.read_only = False

    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "set_marks", refuse)
        for _ in range(6):
            await clock.advance(1)
            await stage.feed.look()
        await stage.feed.put({3: PackedRows.of([1], [b"1 v1"])})
        assert not await fresh(stage)
    await stage.feed.look()
    await stage.feed.catch_up(3)
    await stage.feed.look()
    assert await fresh(stage)


async def test_a_store_that_lost_its_rows_has_no_beat_until_it_is_full_again(stage: Stage) -> None:
    await stage.feed.look()
    stage.store.lose()
    for _ in range(2):
        await stage.feed.look()
        assert not await fresh(stage)
    await stage.feed.catch_up(3)
    await stage.feed.look()
    assert await fresh(stage)


async def test_a_refill_takes_the_beat_back_before_it_writes_older_rows(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a row that is not in memory, all versions in the changelog are written, one after the other."""
    for version in (1, 2):
        stage.change(rows_of(range(20), version))
        await stage.flush()
    stage.evict([0])
    await stage.feed.look()
    stage.store.restart()  # with all rows
    await stage.feed.look()
    assert await fresh(stage), "until it expires"
    told, plain = list[tuple[bytes | None, bool]](), stage.store.put

    async def put(kind: Kind, rows: PackedRows) -> None:
        await plain(kind, rows)
        told.append(((await stage.store.get("u", [0]))[0], await fresh(stage)))

    monkeypatch.setattr(stage.store, "put", put)
    await stage.feed.catch_up(3)
    (old,), (new,) = rows_of([0], 1).values(), rows_of([0], 2).values()
    assert (old, False) in told
    assert (old, True) not in told
    assert told[-1][0] == new
    await stage.feed.look()
    assert await fresh(stage)
    assert stage.shown() == {**stage.truth(), 0: new}


async def test_only_the_owner_beats(stage: Stage) -> None:
    stage.feed.owned = lambda partition: False
    await stage.feed.look()
    assert not await fresh(stage)
    stage.feed.owned = lambda partition: True
    stage.feed.detach(3)
    await stage.feed.look()
    assert not await fresh(stage)


async def test_readers_know_which_partitions_are_stale(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    seen = Freshness(store, {"u": 3, "n": 2}, clock)
    assert seen.stale == {"u": frozenset(), "n": frozenset()}
    await seen.look()
    assert seen.stale == {"u": {0, 1, 2}, "n": {0, 1}}, "no worker has started yet"
    await store.set_marks("u", dict.fromkeys(range(3), 0))
    await store.set_marks("n", dict.fromkeys(range(2), 0))
    await store.beat("u", [0, 2])
    await store.beat("n", [0, 1])
    await seen.look()
    assert seen.stale == {"u": {1}, "n": frozenset()}
    store.away = True
    await clock.advance(BEAT_S - 1)
    await seen.look()
    assert seen.stale == {"u": {1}, "n": frozenset()}, "one failed look says nothing"
    await clock.advance(1)
    await seen.look()
    assert seen.stale == {"u": {0, 1, 2}, "n": {0, 1}}
    store.away = False
    await store.beat("u", [0, 1, 2])
    await store.beat("n", [0, 1])
    await seen.look()
    assert seen.stale == {"u": frozenset(), "n": frozenset()}
    said = [(r.action, r.kind) for r in caplog.records if hasattr(r, "action")]
    stale, good = "store_stale", "store_fresh"
    assert said == [(stale, "u"), (stale, "n"), (good, "n"), (stale, "n"), (good, "u"), (good, "n")]


async def said(stage: Stage) -> Applied | None:
    text = (await stage.store.beats("u", [3])).get(3)
    return None if text is None else decode(text)


def upto(last: int) -> Applied:
    return Applied(Reached(last))


async def test_a_beat_says_what_the_rows_have_that_were_written(stage: Stage, clock: ManualClock) -> None:
    await stage.feed.look()
    assert await said(stage) is None
    stage.change(rows_of([1], 1))
    await stage.online()
    await stage.feed.say({3: upto(7)})
    assert await said(stage) is None, "with the next beat"
    await stage.feed.look()
    assert await said(stage) == upto(7)
    await stage.feed.say({3: upto(9)}, [3])
    assert await said(stage) == upto(9), "at once"
    await clock.advance(BEAT_S)
    assert await said(stage) is None


async def test_a_beat_says_nothing_while_rows_are_missing(stage: Stage) -> None:
    await stage.feed.look()
    await stage.feed.say({3: upto(7)}, [3])
    stage.store.lose()
    stage.store.read_only = True
    stage.change(rows_of([1], 1))
    await stage.online()
    stage.store.read_only = False
    await stage.feed.say({3: upto(8)}, [3])
    assert await said(stage) is None, "row 1 is not there"
    await stage.feed.look()
    await stage.feed.catch_up(3)
    await stage.feed.look()
    assert await said(stage) == upto(8)
    assert stage.shown() == stage.truth()


async def test_a_store_that_goes_away_before_a_beat_is_noticed(stage: Stage) -> None:
    await stage.feed.look()
    stage.store.away = True
    await stage.feed.say({3: upto(7)}, [3])
    assert not stage.feed.caught_up


async def test_a_partition_that_is_taken_over_says_what_its_changelog_has(stage: Stage) -> None:
    stage.feed.detach(3)
    stage.feed.attach(3, stage.lookup, len(stage.log), upto(5))
    await stage.feed.catch_up(3)
    await stage.feed.look()
    assert await said(stage) == upto(5)
