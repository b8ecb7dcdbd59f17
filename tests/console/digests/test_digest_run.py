"""``headrace digest`` with a real worker: killed, stopped, with workers that die; every user once."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fresh_topics import make_topics
from installation import ITEMS, producer, publish, until, worker

from headrace.agents.stage.bulk import BulkStage
from headrace.demo.stack import environment
from headrace.serving.requests.client import RecClient
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

USERS = [f"user-{n}" for n in range(300)]
PART = 10


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path / "data", candidates_ms=10_000, part_ms=10_000, bulk_share=0.3)


@pytest.fixture
async def stocked(settings: Settings) -> Settings:
    """Make the topics, with a catalogue in them."""
    await make_topics(settings)
    async with producer(settings) as sender:
        await publish(sender, Topics(settings).items, [(item.item_id, item) for item in ITEMS])
    return settings


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[RecClient]:
    """Run a worker that has the catalogue; yield a client of its interactive requests."""
    async with worker(settings, ["serve"], within_s=60), RecClient(settings, "now", timeout_s=60) as client:
        await until(lambda: client.recommend(interactive(0)), lambda reply: len(reply.items) == 5)
        yield client


def interactive(number: int) -> RecRequest:
    return RecRequest(f"now-{number}", f"reader-{number % 7}", "home", n=5, deadline_ms=60_000)


def headrace(settings: Settings, *arguments: str, output: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "headrace", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment(settings),
    )


def command(settings: Settings, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    (folder / "users.txt").write_text("\n".join(USERS))
    arguments = [str(folder / "users.txt"), "--out", str(folder / "lists.parquet"), "--n", "5"]
    arguments += ["--part", str(PART), "--in-flight", "8", "--json", str(folder / "figures.json")]
    return headrace(settings, "digest", *arguments, *more)


async def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=240)
    return process.returncode, (out + err).decode()


def parts(folder: Path) -> int:
    return len(list((folder / "lists.parquet.parts").glob("part-*.parquet")))


async def begun(folder: Path, at_least: int = 2) -> None:
    async def count() -> int:
        return parts(folder)

    await until(count, lambda n: n >= at_least, 60)


def each_once(folder: Path) -> None:
    table = pq.read_table(folder / "lists.parquet")
    assert table["user_id"].to_pylist() == [user for user in USERS for _ in range(5)]
    assert table["rank"].to_pylist() == [1, 2, 3, 4, 5] * len(USERS)
    assert not (folder / "lists.parquet.parts").exists()
    assert not (folder / "lists.parquet.failed.csv").exists()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, -15)])
async def test_a_digest_that_was_stopped_goes_on_while_readers_are_answered(
    stocked: Settings, tmp_path: Path, how: signal.Signals, code: int
) -> None:
    replies: list[RecReply] = []

    async def read(client: RecClient) -> None:
        while True:
            replies.append(await client.recommend(interactive(len(replies))))
            await asyncio.sleep(0.02)  # readers read

    async with serving(stocked) as client:
        reading = asyncio.create_task(read(client))
        first = command(stocked, tmp_path)
        await begun(tmp_path)
        first.send_signal(how)
        status, said = await ended(first)
        assert status == code, said
        assert 2 <= parts(tmp_path) < len(USERS) // PART
        if how == signal.SIGINT:
            assert "the same command goes on there" in said
            assert "Traceback" not in said
        assert not (tmp_path / "lists.parquet").exists()
        status, said = await ended(command(stocked, tmp_path))
        assert status == 0, said
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    each_once(tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["users"], figures["lists"], figures["failed"]) == (len(USERS), len(USERS), 0)
    assert 2 * PART <= figures["before"] < len(USERS)
    assert len(replies) > 10
    assert all(reply.error is None and len(reply.items) == 5 for reply in replies)


async def test_a_worker_that_crashes_midway_loses_no_request(
    stocked: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, calls = BulkStage.finish, 0

    async def crashing(self: BulkStage, batch: Any, sent: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise ZeroDivisionError("a fault of a test")
        await finish(self, batch, sent)

    with monkeypatch.context() as patched:
        patched.setattr(BulkStage, "finish", crashing)
        crashed = asyncio.create_task(crash(stocked))
        await asyncio.sleep(0)
        running = command(stocked, tmp_path)
        with pytest.raises(Exception, match=r"ZeroDivisionError|a fault of a test|crashed"):
            await asyncio.wait_for(crashed, 60)
    async with serving(stocked):
        status, said = await ended(running)
    assert status == 0, said
    each_once(tmp_path)


async def crash(settings: Settings) -> None:
    """Run a worker until it ends by itself."""
    from headrace.agents.roles import run_worker

    await run_worker(settings, ["serve"])


async def test_a_worker_that_is_killed_midway_loses_no_request(
    stocked: Settings, tmp_path: Path, real_kafka: bool
) -> None:
    if not real_kafka:
        pytest.skip("the embedded broker never removes a dead member from its group")
    with (tmp_path / "worker.log").open("ab") as output:
        killed = headrace(stocked, "worker", "serve", output=output)
    try:
        running = command(stocked, tmp_path)
        await begun(tmp_path)
    finally:
        killed.kill()
        await asyncio.to_thread(killed.wait)
    assert parts(tmp_path) < len(USERS) // PART
    async with serving(stocked):
        status, said = await ended(running)
    assert status == 0, said
    each_once(tmp_path)


async def test_without_workers_it_says_so_and_stops(stocked: Settings, tmp_path: Path) -> None:
    status, said = await ended(command(stocked, tmp_path, "--timeout", "1"))
    assert status == 1
    assert "no reply for 1 s; 0 of 300 users have a list" in said
    assert "is a `headrace worker serve` running" in said


async def test_refused_users_are_named(stocked: Settings, tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text(f"user_id\ngood\n{'x' * 65}\n")
    out = tmp_path / "few.parquet"
    async with serving(stocked):
        process = headrace(stocked, "digest", str(tmp_path / "u.csv"), "--out", str(out))
        status, said = await ended(process)
    assert status == 1, said
    assert "1 users have no list" in said
    assert set(pq.read_table(out)["user_id"].to_pylist()) == {"good"}
    assert "invalid_field" in (tmp_path / "few.parquet.failed.csv").read_text()


async def test_what_was_on_an_earlier_digest_is_not_on_the_next(stocked: Settings, tmp_path: Path) -> None:
    (tmp_path / "u.txt").write_text("a\nb\n")

    async def made(out: str, *more: str) -> dict[str, set[str]]:
        users = str(tmp_path / "u.txt")
        process = headrace(stocked, "digest", users, "--out", str(tmp_path / out), *more)
        status, said = await ended(process)
        assert status == 0, said
        found: dict[str, set[str]] = {}
        for row in pq.read_table(tmp_path / out).to_pylist():
            found.setdefault(row["user_id"], set()).add(row["item_id"])
        return found

    async with serving(stocked):
        monday = await made("mon.parquet")
        tuesday = await made("tue.parquet", "--seen", str(tmp_path / "mon.parquet"))
    assert all(monday[user] and tuesday[user] and not monday[user] & tuesday[user] for user in ("a", "b"))
