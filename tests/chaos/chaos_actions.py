"""Carries out the plan of a chaos run: every action at its time, one at a time on the same target."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from chaos_crew import Crew
from chaos_log import Log
from chaos_operator import Operator
from chaos_plan import ON_WORKERS, Action, role_of
from chaos_servers import Servers
from chaos_traffic import Traffic

#: Number and distance of the times that producers without an acknowledgement send again.
AGAIN_TIMES, AGAIN_EVERY_S = 2, 3.0


class Breaker:
    """Acts on workers and servers; ``done`` counts actions by kind, ``kills`` killed workers by role.

    ``operator`` does what concerns neither a single worker nor a server.
    """

    def __init__(self, crew: Crew, servers: Servers, traffic: Traffic, operator: Operator, log: Log) -> None:
        self.done: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.broker_away_s: list[float] = []
        self._crew, self._servers, self._traffic, self._log = crew, servers, traffic, log
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._do = {
            "kill": self._kill,
            "leave": self._leave,
            "join": self._join,
            "freeze": self._freeze,
            "broker-stop": self._broker_away,
            "broker-kill": self._broker_away,
            "broker-freeze": self._freeze_server,
            "redis-freeze": self._freeze_server,
            "redis-kill": self._redis_away,
            "redis-away": self._redis_away,
            "redis-flush": self._flush_redis,
            "redis-readonly": self._redis_readonly,
            **operator.actions(),
        }

    async def follow(self, plan: Sequence[Action]) -> None:
        """Carry out the whole plan; times are counted from ``Log.t0``."""
        await asyncio.gather(*[self._act(action) for action in plan])

    async def _act(self, action: Action) -> None:
        await asyncio.sleep(max(0.0, self._log.t0 + action.at_s - time.monotonic()))
        async with contextlib.AsyncExitStack() as held:
            for lock in self._locks_of(action):
                await held.enter_async_context(lock)
            if action.kind in ON_WORKERS and not await self._crew.is_up(action.target):
                self._log.problems.append(f"{action.target} was never up for: {action}")
                return
            self.done[action.kind] += 1
            await self._do[action.kind](action)

    def _locks_of(self, action: Action) -> list[asyncio.Lock]:
        """Return the locks of what an action needs for itself: its target, or a role with all its workers."""
        if action.kind.startswith("group-"):
            names = [name for name in sorted(self._crew.members) if role_of(name) == action.target]
            return [self._locks[name] for name in (action.target, *names)]
        if action.kind == "join":
            return [self._locks[role_of(action.target)], self._locks[action.target]]
        return [self._locks["clock " * (action.kind == "clock") + action.target]]

    # -- workers

    async def _kill(self, action: Action) -> None:
        self.kills[role_of(action.target)] += 1
        self._log.tell(f"kill -9    {action.target} for {action.for_s:.1f} s", style="red")
        self._crew.kill(action.target)
        await self._again(action)

    async def _leave(self, action: Action) -> None:
        self._log.tell(f"leave      {action.target}", style="cyan")
        await self._crew.leave(action.target)
        if action.for_s:
            await self._again(action)

    async def _join(self, action: Action) -> None:
        self._log.tell(f"join       {action.target}", style="cyan")
        self._crew.start(action.target)

    async def _freeze(self, action: Action) -> None:
        self._log.tell(f"freeze     {action.target} for {action.for_s:.1f} s", style="magenta")
        self._crew.freeze(action.target)
        await asyncio.sleep(action.for_s)
        self._log.tell(f"thaw       {action.target}", style="magenta")
        self._crew.thaw(action.target)

    async def _again(self, action: Action) -> None:
        """Start a worker after its pause; producers without acknowledgements then send events again."""
        await asyncio.sleep(action.for_s)
        self._crew.start(action.target)
        if role_of(action.target) == "ingest":
            for _ in range(AGAIN_TIMES):
                await self._traffic.send_recent_again()
                await asyncio.sleep(AGAIN_EVERY_S)

    # -- servers

    async def _broker_away(self, action: Action) -> None:
        how = "stop" if action.kind == "broker-stop" else "kill"
        self._log.tell(f"{how}       broker for {action.for_s:.1f} s", style="bold red")
        began = time.monotonic()
        await self._servers.call(self._servers.kafka, how)
        await asyncio.sleep(action.for_s)
        await self._servers.call(self._servers.kafka, "start")
        self.broker_away_s.append(round(time.monotonic() - began, 1))
        self._log.tell("broker is back", style="bold green")

    async def _freeze_server(self, action: Action) -> None:
        self._log.tell(f"freeze     {action.target} for {action.for_s:.1f} s", style="bold red")
        await self._servers.freeze(action)
        self._log.tell(f"{action.target} goes on", style="bold green")

    async def _redis_away(self, action: Action) -> None:
        what = await self._servers.call(self._servers.redis, "lose", action)
        self._log.tell(f"kill -9    {what}, for {action.for_s:.1f} s", style="bold red")
        await asyncio.sleep(action.for_s)
        back = await self._servers.call(self._servers.redis, "bring_back")
        self._log.tell(back, style="bold green")

    async def _redis_readonly(self, action: Action) -> None:
        self._log.tell(f"read-only  redis, for {action.for_s:.1f} s", style="bold red")
        if not await self._servers.pause_writes(action):
            self._log.problems.append("Redis did not become read-only, or writable again")
        self._log.tell("redis takes writes again", style="bold green")

    async def _flush_redis(self, action: Action) -> None:
        self._log.tell("flush      redis loses its data", style="bold red")
        if not await self._servers.flush_redis(action):
            self._log.problems.append("Redis did not take FLUSHALL")
