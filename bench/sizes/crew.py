"""Workers of several roles, a process each, over a real Kafka and Redis: their CPU and memory by phase."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ingest.measure import ROOT, Process

from headrace.demo.stack import environment
from headrace.streams.settings import Settings

#: All have settled when in so many seconds none of them used more CPU than this share of it over its idling.
SETTLE_S, CALM = 3.0, 0.04
#: A process has not started before it has used so much CPU.
START_CPU_S = 1.5
#: Cores that all of them together use when they have started.
STARTED = 0.5
#: Longest time of a phase: other work on the machine makes it long.
LONGEST_S = 1200.0
#: Idling is looked at so often, for so long.
LOOKS, IDLE_S = 4, 5.0


@dataclass(frozen=True, slots=True)
class Phase:
    """What a role used in a phase, beyond idling."""

    cpu_s: dict[str, float]
    wall_s: float


class Crew:
    """Processes of a list of roles. A context manager."""

    def __init__(self, settings: Settings, folder: Path, roles: Iterable[str]) -> None:
        self._stack = contextlib.ExitStack()
        self._settings, self._folder, self._roles = settings, folder, tuple(roles)
        self.workers: dict[str, Process] = {}
        self.idle: dict[str, float] = {}
        self._stopped_s: dict[str, float] = {}

    def __enter__(self) -> Self:
        for role in self._roles:
            command = [sys.executable, "-m", "headrace", "worker", role]
            log = self._folder / f"{role}.log"
            worker = Process(command, environment(self._settings), log, ROOT)
            self.workers[role] = self._stack.enter_context(worker)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cpu(self) -> dict[str, float]:
        """Return the CPU time of every role, s."""
        return {role: worker.cpu_s() for role, worker in self.workers.items()}

    @contextlib.contextmanager
    def frozen(self, roles: Iterable[str]) -> Iterator[None]:
        """Stop the processes of some roles for as long as the block runs: their work piles up."""
        began = time.monotonic()
        for role in roles:
            os.kill(self.workers[role].pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for role in roles:
                os.kill(self.workers[role].pid, signal.SIGCONT)
                self._stopped_s[role] = self._stopped_s.get(role, 0.0) + time.monotonic() - began

    def resident(self) -> dict[str, int]:
        """Return the resident memory of every role, bytes."""
        out = {}
        for role, worker in self.workers.items():
            status = Path(f"/proc/{worker.pid}/status").read_text()
            out[role] = int(status.partition("VmRSS:")[2].split()[0]) * 1024
        return out

    async def settled(self, allowed: Mapping[str, float] | None = None) -> None:
        """Wait until all of them have nothing to do but idle."""
        end, calm = time.monotonic() + LONGEST_S, 0
        while True:
            before, began = self.cpu(), time.monotonic()
            await asyncio.sleep(SETTLE_S)
            took = time.monotonic() - began
            busy = {
                r: (cpu - before[r]) / took - (allowed or {}).get(r, 0.0) for r, cpu in self.cpu().items()
            }
            for role, worker in self.workers.items():
                if worker.ended():
                    raise SystemExit(f"{role} ended with {worker.returncode}:\n{worker.last_words()}")
            if allowed and max(busy.values()) < CALM:
                return
            # While processes start, cores are full: each has little, together they have much.
            started = min(self.cpu().values()) > START_CPU_S and sum(busy.values()) < STARTED
            calm = calm + 1 if started and max(busy.values()) < 3 * CALM else 0
            if not allowed and calm == 2:
                return
            if time.monotonic() > end:
                raise SystemExit(f"they do not come to rest: {busy}")

    async def rest(self) -> None:
        """Wait until they have started; note how much each uses when idle, in cores."""
        await self.settled()
        looks: list[dict[str, float]] = []
        for _ in range(LOOKS):
            before, began = self.cpu(), time.monotonic()
            await asyncio.sleep(IDLE_S)
            took = time.monotonic() - began
            looks.append({role: (cpu - before[role]) / took for role, cpu in self.cpu().items()})
        # The least: what is left of the start, and collections of garbage, are not idling.
        self.idle = {role: min(look[role] for look in looks) for role in self.workers}

    async def phase(self, work: Awaitable[Any], done: Callable[[], Awaitable[bool]]) -> Phase:
        """Do some work; wait until it is ``done`` and all have settled; return what each role used for it."""
        before, began = self.cpu(), time.monotonic()
        await work
        while True:
            await self.settled(self.idle)
            if await done():
                break
            if time.monotonic() - began > LONGEST_S:
                raise SystemExit("the work is not done in time")
        wall = time.monotonic() - began
        idled = {r: self.idle[r] * (wall - self._stopped_s.pop(r, 0.0)) for r in self.workers}
        used = {r: max(0.0, cpu - before[r] - idled[r]) for r, cpu in self.cpu().items()}
        return Phase(used, wall)
