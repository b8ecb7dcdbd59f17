"""`headrace repartition` is killed again and again with SIGKILL: in the end nothing is lost."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fresh_topics import make_topics
from installation import producer, until, worker
from oracle_examples import encode

from headrace.console.verification.run import verify
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import Event, Item, UserProfile
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker
USERS, ITEMS, EVENTS = 40, 30, 400

#: The real command. It dies at a write or at a change of topics: while that is under way, or when it is done.
COMMAND = """
import asyncio, os, signal, sys
from headrace.console.main import main
from headrace.console.repartitioning.broker import Broker
from headrace.streams.topics.sender import BatchSender

left, late = int(sys.argv.pop(1)), sys.argv.pop(1) == "late"

def dies(owner, name):
    plain = getattr(owner, name)

    async def called(self, *given, **named):
        global left
        left -= 1
        running = asyncio.ensure_future(plain(self, *given, **named))
        if left == 0:
            for _ in range(30):
                await (running if late else asyncio.sleep(0))
            os.kill(os.getpid(), signal.SIGKILL)
        return await running

    setattr(owner, name, called)

dies(BatchSender, "_send")
for name in ("grow", "make", "remove"):
    dies(Broker, name)
main()
"""
#: Before which write or change each run is killed: while rows are copied, then while topics are made anew.
KILLS = ((19, "late"), (80, "while"), (3, "late"), (14, "while"), (25, "late"), (16, "while"), (31, "late"))


async def run_repartition(settings: Settings, kill_at: int, moment: str) -> tuple[int, str]:
    """Run the command as a process of its own; return its exit code and output."""
    environment = {
        **os.environ,
        "HEADRACE_BROKERS": settings.brokers,
        "HEADRACE_REDIS_URL": settings.redis_url,
        "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        "HEADRACE_PARTITIONS": str(settings.partitions),
        "HEADRACE_DATA_DIR": str(settings.data_dir),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, str(kill_at), moment, "repartition", "6"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return int(process.returncode or 0), out.decode()


async def counted(settings: Settings) -> None:
    async def behind() -> list[str]:
        return [r.agent for r in await lag(settings) if r.records and r.agent in ("ingest", "aggregate")]

    await until(behind, lambda agents: not agents, timeout=90)


async def send(settings: Settings) -> None:
    """Send the same events, whenever it is called: after the first time all are retries."""
    now, t = now_ms(), Topics(settings)
    async with producer(settings) as sender:
        for n in range(EVENTS):
            user, item = f"user-{n % USERS}", f"item-{n * 7 % ITEMS}"
            body = encode(Event(f"event-{n}", ("click", "skip", "like")[n % 3], user, item, now))
            await sender.send_keyed(t.events, [(user.encode(), body, None, [])])


async def test_killed_at_any_write_it_is_gone_on_with(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(partitions=3, data_dir=tmp_path, durable_every_ms=200, dedup_window_ms=HOUR_MS)
    await make_topics(settings)
    t = Topics(settings)
    async with producer(settings) as sender:
        items = [Item(f"item-{n}", now_ms(), category=f"c{n % 4}") for n in range(ITEMS)]
        await sender.send_keyed(t.items, [(i.item_id.encode(), encode(i), None, []) for i in items])
        profiles = [UserProfile(f"user-{n}", "NL", 20 + n) for n in range(USERS)]
        await sender.send_keyed(t.users, [(p.user_id.encode(), encode(p), None, []) for p in profiles])
    await send(settings)
    async with worker(settings, ["ingest", "aggregate"], within_s=60):
        await counted(settings)
    codes = [(await run_repartition(settings, *kill))[0] for kill in KILLS]
    assert codes == [-9] * len(KILLS)
    code, said = await run_repartition(settings, 0, "late")
    assert (code, said.splitlines()[-1]) == (0, "ready: start all workers with HEADRACE_PARTITIONS=6")
    code, said = await run_repartition(settings, 0, "late")
    assert (code, said) == (0, "there are 6 partitions: nothing to do\n")
    larger = settings.model_copy(update={"partitions": 6})
    await send(larger)
    async with worker(larger, ["ingest", "aggregate"], within_s=60):
        await counted(larger)

        async def compared() -> tuple[int, int, int, int, int]:
            r = await verify(larger)
            return r.exit_code, r.accepted, r.duplicates, r.users, r.items

        await until(compared, lambda got: got == (0, EVENTS, EVENTS, USERS, ITEMS), timeout=60)
