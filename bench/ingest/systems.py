"""The systems measured: our workers and the peers; each is a program that reads a topic from its start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from headrace.demo.stack import environment
from headrace.models.state import items as item_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from ingest.events import VIRAL, Record, clicks_on, describe, fill, newcomers, viral
from ingest.measure import Positions, Process, Servers, cpu_s, settled, touch_memory

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "bench" / "peers"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
POLL_S = 0.1

#: System -> its roles.
OURS = {
    "user_stage": "ingest",
    "pipeline": "ingest,aggregate",
    "pipeline_viral": "ingest,aggregate",
    "pipeline_misplaced": "ingest,aggregate",
}
#: In ``pipeline_misplaced`` every so-manieth record is in the wrong partition.
MISPLACED = 10
#: Peer -> its program, its distribution.
THEIRS = {
    "stock_faust": ("stock_faust.py", "faust-streaming"),
    "quixstreams": ("quix.py", "quixstreams"),
    "bytewax": ("bytewax_fold.py", "bytewax"),
}
_ASK = (
    "import sys, json; from importlib.metadata import version; name = sys.argv[1]; "
    "__import__({'faust-streaming': 'faust'}.get(name, name)); print(json.dumps(version(name)))"
)


class FailedError(Exception):
    """A program ended early, did not reach the end of the topic, or did not count all events."""


def peer_versions() -> tuple[dict[str, str], dict[str, str]]:
    """Return the versions of the peers that are installed, and why the others are not measured."""
    versions, missing = {}, {}
    for name, (_, distribution) in THEIRS.items():
        if not PEERS_PYTHON.exists():
            missing[name] = "there is no .venv-peers: make bench-ingest installs it"
            continue
        done = subprocess.run(
            [PEERS_PYTHON, "-c", _ASK, distribution], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            versions[name] = json.loads(done.stdout)
        else:
            last = (done.stderr.strip().splitlines() or ["?"])[-1]
            missing[name] = f"{distribution} is not usable in .venv-peers: {last}"
    return versions, missing


@dataclass(slots=True)
class Run:
    """One run of one system.

    The time of ``wall_events_per_s`` begins when the program has used as much CPU time as an idle run needs
    to start. It ends with the program; for ours, when the last users and items are readable in Redis, because
    the last commit may be up to ``durable_every_ms`` later. (The time between the first and the last commit
    would not be exact: there are few commits.)
    """

    cpu_s: float
    wall_s: float
    wall_events_per_s: float = 0.0
    peak_mb: float = 0.0
    broker_cpu_s: float = 0.0
    redis_cpu_s: float = 0.0
    proof: dict[str, Any] = field(default_factory=dict)


class Bench:
    """Topics, servers and a scratch folder; runs systems one at a time.

    The CPU time of an idle program is read after ``idle_s``, later if its start takes longer (``settled``).
    ``touch_bytes`` of memory are used and freed before a program starts (``touch_memory``).
    """

    def __init__(
        self,
        servers: Servers,
        events: list[Record],
        items: list[Record],
        positions: Positions,
        folder: Path,
        idle_s: float,
        touch_bytes: int,
    ) -> None:
        self.servers = servers
        self.events, self.items = events, items
        self.positions = positions
        self.folder = folder
        self.idle_s = idle_s
        self.touch_bytes = touch_bytes
        self.described = describe(events)
        self._viral = viral(events)
        self._last = {"pipeline_viral": newcomers(self._viral)}
        self._others_last = newcomers(events)
        self._ends: dict[str, dict[int, int]] = {}
        self._number = 0
        self._start_cpu_s: dict[str, float] = {}  # what idle runs used to start

    def settings(self, prefix: str) -> Settings:
        """Return settings of an installation of its own."""
        s = self.servers
        return Settings(
            brokers=s.brokers,
            redis_url=s.redis_url,
            topic_prefix=prefix,
            data_dir=self.folder / f"{prefix}data",
        )

    async def topics(self, prefix: str, *, events: bool, name: str = "") -> Settings:
        """Create an installation's topics and fill `items` and, unless left empty, `events`; once.

        ``name`` is the system that will read them: it decides which events there are.
        """
        settings = self.settings(prefix)
        if prefix not in self._ends:
            names = Topics(settings)
            await create_topics(settings)
            await fill(settings, names.items, self.items, settings.partitions)
            ends = dict.fromkeys(range(settings.partitions), 0)
            if events:
                records = self._viral if name == "pipeline_viral" else self.events
                misplaced = MISPLACED if name == "pipeline_misplaced" else 0
                ends = await fill(settings, names.events, records, settings.partitions, misplaced)
            self._ends[prefix] = ends
        return settings

    def ends(self, prefix: str) -> dict[int, int]:
        """Return where `events` ends, by partition."""
        return self._ends[prefix]

    def fresh(self) -> str:
        """Return a new, unique name."""
        self._number += 1
        return f"b{os.getpid()}n{self._number}"

    async def run(self, name: str, *, idle: bool = False, **options: Any) -> Run:
        """Run a system over all events, or over none. Raises ``FailedError``."""
        run = self._ours if name in OURS else self._theirs
        try:
            return await run(name, idle, **options)
        finally:
            await self.empty_redis()

    async def empty_redis(self) -> None:
        """Empty Redis, so that every system starts with an empty store."""
        redis = Redis.from_url(self.servers.redis_url)
        await redis.flushall()
        await redis.aclose()

    async def _ours(self, name: str, idle: bool, beside: Callable[[int], Any] | None = None) -> Run:
        prefix = "idle-" if idle else f"{self.fresh()}-"
        settings = await self.topics(prefix, events=not idle, name=name)
        topics = Topics(settings)
        roles = OURS[name]

        async def committed() -> int:
            done = await self.positions.committed(settings.name("headrace-ingest"), topics.events)
            return sum(done.values())

        seen = {"committed": len(self.events), "users_in_redis": 0}

        async def finished() -> bool:
            for role, topic in (("ingest", topics.events), ("aggregate", topics.item_events)):
                ends = await self.positions.ends(topic, settings.partitions)
                done = await self.positions.committed(settings.name(f"headrace-{role}"), topic)
                if role in roles and any(done.get(p, 0) < end for p, end in ends.items()):
                    return False
            if name == "pipeline_viral":
                seen["viral_clicks"] = await self._clicks(settings, VIRAL)
                seen["viral_clicks_sent"] = clicks_on(self._viral, VIRAL)
                if seen["viral_clicks"] < seen["viral_clicks_sent"]:
                    return False
            # After an outage of Redis, rows are written again from the changelog: this is part of the cost.
            seen["users_in_redis"] = await self._rows_in_redis(f"{prefix}u:*")
            return seen["users_in_redis"] >= self.described["users"]

        users, items = self._last.get(name, self._others_last)
        last = [f"{prefix}u:{hash64(user.decode()):016x}" for user in users]
        if "aggregate" in roles:
            last += [f"{prefix}i:{hash64(item.decode()):016x}" for item in items]

        async def readable() -> bool:
            async with Redis.from_url(self.servers.redis_url) as redis:
                return bool(last) and await redis.exists(*last) == len(last)

        command = [sys.executable, "-m", "headrace", "worker", roles]
        env = environment(settings)
        run = await self._watch(name, command, env, idle, committed, finished, readable, ROOT, beside)
        run.proof = {} if idle else seen
        if run.proof and seen.get("viral_clicks") != seen.get("viral_clicks_sent"):
            raise FailedError(f"{name}: {seen}")
        return run

    async def _clicks(self, settings: Settings, item: bytes) -> int:
        """Return the clicks in an item's row in Redis."""
        store = RedisStore(settings)
        try:
            row, there = unpack(await store.get("i", [hash64(item.decode())]), item_state.ROW)
        finally:
            await store.close()
        return int(item_state.COUNTS.totals(row, "click")[0]) if there[0] else 0

    async def _theirs(self, name: str, idle: bool) -> Run:
        prefix = "idle-" if idle else "peers-"
        settings = await self.topics(prefix, events=not idle)
        topic, group = Topics(settings).events, self.fresh()
        command = [str(PEERS_PYTHON), str(PEERS / THEIRS[name][0]), self.servers.brokers, topic]
        env = {k: v for k, v in os.environ.items() if not k.upper().startswith("HEADRACE_")}
        if name == "bytewax":  # reads to the end and writes its counts
            told = self.folder / f"{group}.json"
            run = await self._watch(name, [*command, str(told)], env, idle, None, None)
            run.proof = json.loads(told.read_text())
            if not idle and run.proof["counted"] + run.proof["late"] != len(self.events):
                raise FailedError(f"{name}: {run.proof} of {len(self.events)} events")
            return run
        command += [group, str(settings.partitions)] if name == "stock_faust" else [group]

        async def committed() -> int:
            return sum((await self.positions.committed(group, topic)).values())

        run = await self._watch(name, command, env, idle, committed, None)
        if not idle:
            run.proof = {"committed": len(self.events)}
        return run

    async def _watch(
        self,
        name: str,
        command: list[str],
        env: dict[str, str],
        idle: bool,
        committed: Callable[[], Any] | None,
        finished: Callable[[], Any] | None,
        readable: Callable[[], Any] | None = None,
        cwd: Path | None = None,
        beside: Callable[[int], Any] | None = None,
    ) -> Run:
        """Run a program until all events are committed and it has ``finished``; without ``committed`` until
        it ends by itself; an idle one for ``idle_s``. ``beside`` runs with it, from the end of its start."""
        total, servers = len(self.events), self.servers
        before = (cpu_s(servers.broker_pid), cpu_s(servers.redis_pid))
        log = self.folder / f"{name}.log"
        touch_memory(self.touch_bytes)
        with Process(command, env, log, cwd) as process:
            began = time.monotonic()
            deadline = began + 90 + total / 1000
            started: float | None = None
            worked: float | None = None
            done = 0
            used: list[float] = []  # CPU time of an idle run, at every look
            extra: asyncio.Task[None] | None = None
            while True:
                await asyncio.sleep(POLL_S)
                now = time.monotonic()
                if process.ended():
                    if committed is None and process.returncode == 0:
                        break
                    raise FailedError(f"{name} ended with {process.returncode}:\n{process.last_words()}")
                if now > deadline:
                    raise FailedError(f"{name}: {done} of {total} events\n{process.last_words()}")
                if started is None and process.cpu_s() >= self._start_cpu_s.get(name, 0.0):
                    started = now
                    if beside is not None:
                        extra = asyncio.create_task(beside(process.pid))
                if committed is None:
                    continue
                if idle:
                    used.append(process.cpu_s())
                    idled = (now - began) / self.idle_s
                    if idled >= 4 or (idled >= 1 and settled(used, POLL_S)):
                        break
                    continue
                if started is not None and worked is None and readable is not None and await readable():
                    worked = time.monotonic()
                if done < total:
                    done = await committed()
                if done >= total and (finished is None or await finished()):
                    break
            wall = time.monotonic() - began
            run = Run(round(process.cpu_s(), 3), round(wall, 2))
            run.peak_mb = process.peak_mb()
            if idle:
                self._start_cpu_s[name] = start_cpu_s(used) if used else run.cpu_s
            elif started is not None and (ended := worked or began + wall) > started:
                run.wall_events_per_s = round(total / (ended - started))
            if extra is not None:
                extra.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await extra
        run.broker_cpu_s = round(cpu_s(servers.broker_pid) - before[0], 2)
        run.redis_cpu_s = round(cpu_s(servers.redis_pid) - before[1], 2)
        return run

    async def _rows_in_redis(self, pattern: str) -> int:
        redis = Redis.from_url(self.servers.redis_url)
        try:
            return len({key async for key in redis.scan_iter(pattern, count=5000)})
        finally:
            await redis.aclose()


def start_cpu_s(used: list[float]) -> float:
    """Return the CPU time (s) at the end of the last second that took more than a tenth of a core.

    ``used`` is a program's CPU time, read every ``POLL_S``. After the returned time the program only idled.
    """
    looks = round(1 / POLL_S)
    ends = [later for before, later in zip(used, used[looks:], strict=False) if later - before > 0.1]
    return ends[-1] if ends else used[-1]


def scratch() -> contextlib.AbstractContextManager[str]:
    """Return a folder that is removed at the end of its ``with`` block."""
    return tempfile.TemporaryDirectory(prefix="headrace-bench-")
