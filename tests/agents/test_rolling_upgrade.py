"""Workers of a next version take the place of those that run, role by role, while events flow."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from fresh_topics import make_topics
from installation import until, worker

from headrace.console.verification.live_rows import latest_rows
from headrace.demo.stack import environment
from headrace.models.state import users as user_state
from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

NEXT = Path(__file__).parents[1] / "support" / "next_version.py"
USERS, ITEMS = 40, 30


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(partitions=2, data_dir=tmp_path / "present", durable_every_ms=200)


class Load:
    """Sends events of the first ``users`` users until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.sent, self.users = 0, USERS
        self._stop = False

    async def __aenter__(self) -> Load:
        self._sender = BatchSender(self._settings)
        await self._sender.start()
        items = [
            Item(f"item-{n}", now_ms(), category=f"c{n % 5}", creator_id=f"by{n % 3}") for n in range(ITEMS)
        ]
        topic = Topics(self._settings).items
        await self._sender.send_keyed(
            topic, [(i.item_id.encode(), json.dumps(_document(i)).encode(), None, ()) for i in items]
        )
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        await self._sender.stop()

    async def stop(self) -> None:
        self._stop = True
        await self._running

    async def _run(self) -> None:
        while not self._stop:
            now, events = now_ms(), []
            for _ in range(20):
                n = self.sent
                self.sent += 1
                user = f"user-{n * 7 % self.users}"
                event = {
                    "event_id": f"event-{n}", "type": ("click", "skip", "like", "hide")[n % 4],
                    "user_id": user, "item_id": f"item-{n * 11 % ITEMS}", "ts": now,
                    "context": {"country": ("DE", "FR")[n % 2]},
                }  # fmt: skip
                events.append((user.encode(), json.dumps(event).encode(), None, ()))
            await self._sender.send_keyed(Topics(self._settings).events, events)
            await asyncio.sleep(0.02)  # the pace of the load


def _document(item: Item) -> dict[str, Any]:
    return {
        "item_id": item.item_id, "published_ts": item.published_ts, "category": item.category,
        "creator_id": item.creator_id,
    }  # fmt: skip


@contextlib.asynccontextmanager
async def next_worker(settings: Settings, role: str, folder: Path) -> AsyncIterator[None]:
    """Run a worker of the next version in a process of its own."""
    mine = settings.model_copy(update={"data_dir": folder / f"next-{role}"})
    with (folder / f"{role}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(NEXT), "worker", role, env=environment(mine), stdout=log, stderr=log
        )
    try:
        yield
        assert process.returncode is None, (folder / f"{role}.log").read_text()[-3000:]
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)


async def _counted(settings: Settings) -> int:
    """Return how many events are committed."""
    events = Topics(settings).events
    return sum(max(r.committed, 0) for r in await lag(settings) if (r.agent, r.topic) == ("ingest", events))


async def _written_layout(settings: Settings) -> int:
    """Return the smallest layout that a partition of `user-state` says it has."""
    told = []
    for number in range(settings.partitions):
        latest = await latest_rows(
            settings, Topics(settings).user_state, number, user_state.ROW, user_state.ORDER
        )
        told.append(int.from_bytes(latest.meta.get(b"layout-number", b""), "little"))
    return min(told)


async def test_a_rolling_upgrade_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    await make_topics(settings)
    async with Load(settings) as load, contextlib.AsyncExitStack() as running:
        async with worker(settings, ["aggregate"]):
            async with worker(settings, ["ingest"]):
                await until(lambda: _written_layout(settings), lambda layout: layout == 3, timeout=150)
                await until(lambda: _counted(settings), lambda count: count >= USERS, timeout=150)
                load.users -= 10  # the rows of the others stay in Redis as they are
                await running.enter_async_context(next_worker(settings, "ingest", tmp_path))
                # The new worker is a member: it has partitions, while the old one has the others.
                await until(lambda: _newest_layout(settings), lambda layout: layout == 4, timeout=150)
            await until(lambda: _written_layout(settings), lambda layout: layout == 4, timeout=150)
            await running.enter_async_context(next_worker(settings, "aggregate", tmp_path))
        await load.stop()
        await until(lambda: _behind(settings), lambda records: records == 0, timeout=150)
        figures = await _verify(settings, tmp_path)
        assert (figures["differences"], figures["rejected"]) == (0, 0), figures["first"]
        assert figures["accepted"] == figures["events"] == load.sent
        assert figures["users"] == USERS
    with pytest.raises(HeadraceError, match="a newer version of Headrace has written them"):
        async with worker(settings, ["ingest"]):
            pass
    figures = await _verify(settings, tmp_path)
    assert figures["differences"] == 0, "the worker of the older version has changed nothing"


async def _newest_layout(settings: Settings) -> int:
    newest = 0
    for number in range(settings.partitions):
        latest = await latest_rows(
            settings, Topics(settings).user_state, number, user_state.ROW, user_state.ORDER
        )
        newest = max(newest, int.from_bytes(latest.meta.get(b"layout-number", b""), "little"))
    return newest


async def _behind(settings: Settings) -> int:
    return sum(r.records for r in await lag(settings))


async def _verify(settings: Settings, folder: Path) -> dict[str, Any]:
    """Run `headrace verify` of the next version."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(NEXT), "verify", "--json", str(folder / "verify.json"),
        env=environment(settings), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode in (0, 1), out.decode()
    figures: dict[str, Any] = json.loads((folder / "verify.json").read_text())
    return figures
