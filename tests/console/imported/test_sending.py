"""Who sends the events of an import: one run at a time, the next when nothing of the last is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from installation import producer, read_all
from past_events import lasting_topics, past_events

from headrace.console.imported import sending
from headrace.console.imported.bad_rows import BadRows
from headrace.console.imported.event_columns import SCHEMA, events_of
from headrace.console.imported.jobs import Job, Jobs
from headrace.console.imported.mapping import FieldMap
from headrace.console.imported.sending import Sending
from headrace.console.imported.sorting import Runs
from headrace.console.imported.tables import Chunk
from headrace.streams.clock import ManualClock, now_ms
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker


class JumpingClock(ManualClock):
    """A clock that a sleep moves at once."""

    def __init__(self, start_ms: int) -> None:
        super().__init__(start_ms)
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.advance(seconds)


@pytest.fixture
async def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    made = make_settings(partitions=2, data_dir=tmp_path / "data")
    await lasting_topics(made)
    return made


def sorted_events(folder: Path, n: int = 1000) -> Runs:
    table = past_events(n, now_ms())
    runs = Runs(folder, SCHEMA)
    chunk = Chunk("past", table, table.column("ts").to_numpy())
    runs.add(events_of(chunk, FieldMap(), BadRows(), made_id="x", newest_ms=now_ms()))
    runs.finish("")
    return runs


def cut_off(now: int, ago_s: float) -> Job:
    """Return an import whose run said so long ago that it was at work."""
    job = Job("job", {"d": "past"}, "o", now, "other", now - round(ago_s * 1000), "sending", 2, 1000)
    job.places = {0: (0, 0), 1: (0, 0)}
    return job


async def test_a_run_that_was_killed_is_waited_for_and_one_that_ended_is_not(settings: Settings) -> None:
    jobs, clock = Jobs(settings), JumpingClock(now_ms())
    async with producer(settings) as sender:
        for ago_s, run, waits in ((10, "other", [50.0]), (70, "other", []), (10, "", [])):
            job = cut_off(clock.now_ms(), ago_s)
            job.run = run
            jobs.write(job)
            clock.slept.clear()
            ours = Sending(settings, sender, jobs, clock, 0)
            told: list[str] = []
            assert await ours.take_over(job, 2, told.append) == 0
            assert clock.slept == waits
            assert len(told) == len(waits)
            assert jobs.read("job").run not in ("", "other")
            ours.stopped(job)
            assert jobs.read("job").run == ""


async def test_a_run_that_is_at_work_is_left_alone(settings: Settings) -> None:
    jobs, clock = Jobs(settings), ManualClock(now_ms())
    job = cut_off(clock.now_ms(), 1)
    jobs.write(job)
    async with producer(settings) as sender:
        taking = asyncio.create_task(
            Sending(settings, sender, jobs, clock, 0).take_over(job, 2, lambda _: None)
        )
        await clock.advance(30)
        jobs.write(cut_off(clock.now_ms(), 0))
        await clock.advance(60)
        with pytest.raises(UnavailableError, match="another run of this import is at work"):
            await taking
        with pytest.raises(ConfigError, match="had 2 partitions when this import began"):
            await Sending(settings, sender, jobs, clock, 0).take_over(job, 3, lambda _: None)


async def test_a_run_stops_when_another_one_has_taken_over(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TOGETHER", 100)
    monkeypatch.setattr(sending, "TOUCH_S", 0.0)
    jobs, clock, runs = Jobs(settings), JumpingClock(now_ms()), sorted_events(tmp_path / "runs")
    job = Job("job", {"d": "past"}, "o", now_ms())
    async with producer(settings) as sender:
        first, second = (Sending(settings, sender, jobs, clock, 0) for _ in range(2))
        await first.take_over(job, 2, lambda _: None)

        def report(done: int, text: str) -> None:
            if done == 300:
                taken = jobs.read("job")
                taken.run = second._run
                jobs.write(taken)

        with pytest.raises(UnavailableError, match="another run of this import has taken over"):
            await first.send(job, runs, report)
        first.stopped(job)
        again = jobs.read("job")
        assert again.run == second._run, "the other run's note stays"
        again.run = ""
        assert await second.take_over(again, 2, lambda _: None) <= 300
        assert await second.send(again, runs, lambda done, text: None) == 700
    assert len(await read_all(settings, Topics(settings).events)) == 1000
    assert jobs.read("job").state == "done"


async def test_a_rate_is_kept(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TOGETHER", 100)
    clock = JumpingClock(now_ms())
    async with producer(settings) as sender:
        slow = Sending(settings, sender, Jobs(settings), clock, 50)
        job = Job("job", {"d": "past"}, "o", now_ms())
        await slow.take_over(job, 2, lambda _: None)
        assert await slow.send(job, sorted_events(tmp_path / "runs"), lambda done, text: None) == 1000
    assert clock.monotonic() == pytest.approx(1000 / 50)


async def test_a_topic_that_was_made_again_is_refused(settings: Settings) -> None:
    job = cut_off(now_ms(), 100)
    job.places = {0: (17, 40), 1: (0, 0)}
    async with producer(settings) as sender:
        with pytest.raises(ConfigError, match="has lost records of this import"):
            await Sending(settings, sender, Jobs(settings), JumpingClock(now_ms()), 0).take_over(
                job, 2, lambda _: None
            )
