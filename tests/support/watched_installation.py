"""A whole installation with an audience, whose metrics are read as Prometheus would; and what breaks in it.

Embedded broker and Redis, all roles in six worker processes, as the demo starts them. The simulated audience
of the demo visits; a caller of HTTP asks the gateway and a job asks for lists in bulk, all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
from alert_hours import EVERY_S, Round, asked
from gateways import caller

from headrace.agents.stage.metrics_reading import MetricsReading
from headrace.demo.simulation.simulator import Simulator
from headrace.demo.simulation.world import WorldSpec
from headrace.demo.stack import DEMO_SETTINGS, Stack, Worker, free_ports
from headrace.demo.traffic import Traffic
from headrace.serving.requests.client import RecClient
from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import RecRequest
from headrace.streams.scraping import targets_of
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

PROCESSES = ("serve", "ingest,aggregate,learn", "log,trainer,index", "gateway", "canary", "monitor")
WORLD = WorldSpec(users=600, items=1500, creators=150, visits_per_s=8.0, new_items_per_s=0.2)
CHANGED = {
    "train_every_s": 20.0, "trace_share": 0.05, "canary_every_s": 1.0, "canary_publish_every_s": 5.0,
    "overload_s": 0.2,  # a thousand callers are enough for that
}  # fmt: skip
#: Pauses of the caller of HTTP and of the job in bulk, s.
ASK_S, BULK_S = 0.5, 2.0
HZ = os.sysconf("SC_CLK_TCK")


class Installation:
    """What runs, and what is read of it.

    Attributes
    ----------
    rounds
        What all workers said, every few seconds.
    """

    def __init__(self, stack: Stack, settings: Settings) -> None:
        self.stack, self.settings, self.topics = stack, settings, Topics(settings)
        names = tuple(sorted(set().union(*asked().values()) - {"up"})) + ("headrace_model_info",)
        first = settings.metrics_port
        self.targets = [f"127.0.0.1:{first + n}" for n in range(len(PROCESSES))]
        self._reading = MetricsReading(targets_of(self.targets), names)
        self.rounds = list[Round]()
        self.sender: BatchSender
        self.client: RecClient

    def worker(self, role: str) -> Worker:
        """Return the process that has a role."""
        return next(one for one in self.stack.workers if role in one.roles.split(","))

    async def look(self) -> Round:
        """Read all workers once."""
        await self._reading.read()
        found = {name: None if w.trouble else w.samples for name, w in self._reading.workers.items()}
        self.rounds.append(found)
        return found

    async def watch(self, seconds: float) -> list[Round]:
        """Read all workers every few seconds, for so long; return the rounds."""
        first, until = len(self.rounds), time.monotonic() + seconds
        while True:
            began = time.monotonic()
            await self.look()
            if began + EVERY_S > until:
                return self.rounds[first:]
            await asyncio.sleep(max(0.0, began + EVERY_S - time.monotonic()))

    async def until(self, name: str, least: float = 1.0, within_s: float = 120.0, **labels: str) -> None:
        """Read all workers until the sum of a metric is large enough."""
        until = time.monotonic() + within_s
        while True:
            samples = [s for one in (await self.look()).values() for s in (one or {}).items()]
            found = sum(v for (n, told), v in samples if n == name and labels.items() <= dict(told).items())
            if found >= least:
                return
            assert time.monotonic() < until, f"{name} {labels} is {found:g}, not {least:g}"
            await asyncio.sleep(1.0)

    async def names(self) -> dict[str, set[str]]:
        """Return by the roles of a worker the names of all its samples of ours."""
        reading = MetricsReading(targets_of(self.targets), ("headrace_",))
        await reading.read()
        await reading.close()
        found = [{name for name, _ in reading.workers[target].samples} for target in self.targets]
        return dict(zip(PROCESSES, found, strict=True))

    @contextmanager
    def held(self, *pids: int) -> Iterator[None]:
        """Stop processes for a while, as if their machine had hung."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def own_cpu_s(self) -> float:
        """Return the CPU time so far of this process and everything that it started, s."""
        parents, used = dict[int, int](), dict[int, int]()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                # Of children that have ended, the parent has the time.
                parents[int(entry.name)], used[int(entry.name)] = int(fields[1]), sum(map(int, fields[11:15]))
        mine, before = {os.getpid()}, 0
        while len(mine) > before:
            before = len(mine)
            mine |= {pid for pid, parent in parents.items() if parent in mine}
        return sum(used[pid] for pid in mine if pid in used) / HZ

    # -- what goes on all the time

    async def ask_over_http(self) -> None:
        """Ask the gateway for lists, and send it events."""
        async with caller(self.settings) as http:
            for number in range(10**9):
                user = f"user-{number % WORLD.users:05d}"
                with contextlib.suppress(httpx.HTTPError):
                    await http.get("/recommendations", params={"user_id": user, "surface": "home"})
                await asyncio.sleep(ASK_S)

    async def ask_in_bulk(self, client: RecClient) -> None:
        """Ask for lists in bulk."""
        for number in range(10**9):
            user = f"user-{number % WORLD.users:05d}"
            request = RecRequest(f"bulk-{number}-{now_ms()}", user, "digest")
            with contextlib.suppress(TimeoutError, HeadraceError):
                await client.recommend(request, 10.0)
            await asyncio.sleep(BULK_S)


def machine_cpu_s() -> float:
    """Return the CPU time that the machine has given to all processes so far, s."""
    user, nice, system, _, _, irq, soft, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + soft + steal) / HZ


@asynccontextmanager
async def watched_installation() -> AsyncIterator[Installation]:
    """Run the installation with its audience."""
    with Stack() as stack:
        first, other = free_ports(len(PROCESSES) + 2), len(PROCESSES)
        settings = stack.settings(**DEMO_SETTINGS | CHANGED, metrics_port=first)
        settings = settings.model_copy(
            update={
                "gateway_port": first + other,
                "monitor_port": first + other + 1,
                "monitor_targets": tuple(f"127.0.0.1:{first + n}" for n in range(other - 1)),
            }
        )
        await create_topics(settings)
        for roles in PROCESSES:
            stack.start_worker(roles, settings)
        it = Installation(stack, settings)
        async with AsyncExitStack() as exits:
            it.sender = BatchSender(settings)
            await it.sender.start()
            exits.push_async_callback(it.sender.stop)
            it.client = await exits.enter_async_context(RecClient(settings, "audience"))
            bulk = await exits.enter_async_context(RecClient(settings, "job", bulk=True))
            traffic = Traffic(Simulator(WORLD, now_ms()), it.sender, it.client, it.topics)
            await traffic.publish_world()
            await traffic.publish_past()
            await traffic.first_reply(90.0)
            over = asyncio.Event()
            beside = [
                asyncio.create_task(one)
                for one in (
                    traffic.visits(float("inf")), traffic.flushes(over),
                    it.ask_over_http(), it.ask_in_bulk(bulk),
                )
            ]  # fmt: skip
            try:
                yield it
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                await it._reading.close()
