"""The broker and the Redis of a chaos run: started, stopped, killed, frozen, emptied."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import redis.asyncio
from chaos_plan import Action

from headrace.streams.settings import Settings
from ops.kafka.run import KafkaServer, RedisServer


class Store(Protocol):
    """The Redis of a run, or its Redis Cluster. What starts processes runs in a thread that stays."""

    @property
    def access(self) -> dict[str, Any]:
        """Settings of who uses it."""

    def start(self) -> object:
        """Start it."""

    def kill(self) -> None:
        """Kill all of it."""

    def close(self) -> None:
        """Remove its data."""

    def figures(self) -> dict[str, Any]:
        """Return what the report says of it."""

    def lose(self, action: Action) -> str:
        """Kill it, or a part of it, with the data; return what was killed."""

    def bring_back(self) -> str:
        """Start what was killed; return how it is now."""

    def pick(self, action: Action) -> RedisServer:
        """Return a server that is frozen, emptied or takes no writes."""

    def admin(self, server: RedisServer) -> redis.asyncio.Redis[bytes]:
        """Return a client that may do everything."""

    def read_only(self, server: RedisServer, yes: bool) -> tuple[str, ...]:
        """Return the command that lets a server refuse writes, or take them again."""


class OneRedis:
    """One Redis: what happens to it happens to all rows."""

    def __init__(self) -> None:
        self._server = RedisServer()

    @property
    def access(self) -> dict[str, Any]:
        """Settings of who uses it."""
        return {"redis_url": self._server.url}

    def start(self) -> object:
        """Start it."""
        return self._server.start()

    def kill(self) -> None:
        """Kill it."""
        self._server.kill()

    def close(self) -> None:
        """Remove its data."""
        self._server.close()

    def figures(self) -> dict[str, Any]:
        """Return nothing: what happens to it is in the plan."""
        return {}

    def lose(self, action: Action) -> str:
        """Kill it; it comes back empty."""
        self._server.kill()
        self._server.wipe()
        return "redis, its data is lost"

    def bring_back(self) -> str:
        """Start it again."""
        self._server.start()
        return "redis is back, empty"

    def pick(self, action: Action) -> RedisServer:
        """Return it."""
        return self._server

    def admin(self, server: RedisServer) -> redis.asyncio.Redis[bytes]:
        """Return a client."""
        return redis.asyncio.Redis.from_url(server.url)

    def read_only(self, server: RedisServer, yes: bool) -> tuple[str, ...]:
        """Return the command: a master without enough replicas refuses writes."""
        return ("CONFIG", "SET", "min-replicas-to-write", "1" if yes else "0")


class Servers:
    """A Kafka and a Redis on this machine; both are open to everybody."""

    def __init__(self) -> None:
        self.kafka: KafkaServer
        self.redis: Store
        self.kafka, self.redis = self.made()
        # Threads that live as long as this process: Linux kills a child with the thread that started it.
        self._threads = {self.kafka: ThreadPoolExecutor(1), self.redis: ThreadPoolExecutor(1)}

    def made(self) -> tuple[KafkaServer, Store]:
        """Return the two servers, not started."""
        return KafkaServer(), OneRedis()

    @property
    def access(self) -> dict[str, Any]:
        """Settings of the run itself, which may do everything in Kafka."""
        return {"brokers": self.kafka.address, **self.redis.access}

    def of_user(self, settings: Settings, user: str) -> Settings:
        """Return the run's settings as a role, or the operator, has them."""
        return settings

    async def prepare(self, settings: Settings) -> None:
        """Let the users in."""

    async def start(self) -> None:
        """Start both."""
        await asyncio.gather(self.call(self.kafka, "start"), self.call(self.redis, "start"))

    async def call(self, server: KafkaServer | Store, what: str, *arguments: Any) -> Any:
        """Call a method of a server in its thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads[server], getattr(server, what), *arguments)

    async def freeze(self, action: Action) -> None:
        """Stop the broker or a Redis for a while, as a paused virtual machine is."""
        server = self.kafka if action.target == "broker" else await self.call(self.redis, "pick", action)
        if server.pid is not None:
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.sleep(action.for_s)
            os.kill(server.pid, signal.SIGCONT)

    async def flush_redis(self, action: Action) -> bool:
        """Delete all data of a Redis that runs; return whether it accepted the command within 10 s."""
        return await self._redis(await self.call(self.redis, "pick", action), "FLUSHALL")

    async def pause_writes(self, action: Action) -> bool:
        """Let a Redis refuse writes for a while; return whether it accepted both commands within 10 s."""
        server = await self.call(self.redis, "pick", action)
        refused = await self._redis(server, *self.redis.read_only(server, True))
        await asyncio.sleep(action.for_s)
        return await self._redis(server, *self.redis.read_only(server, False)) and refused

    async def _redis(self, server: RedisServer, *command: str) -> bool:
        client = self.redis.admin(server)
        try:
            for _ in range(50):
                try:
                    await client.execute_command(*command)
                except (redis.exceptions.RedisError, OSError):  # it may be down just now
                    await asyncio.sleep(0.2)
                else:
                    return True
            return False
        finally:
            await client.aclose()

    def kill(self) -> None:
        """Kill both, and end the threads that start them."""
        for server, thread in self._threads.items():
            server.kill()  # a start that still runs in its thread fails then
            thread.shutdown(wait=True, cancel_futures=True)
            server.kill()

    def close(self) -> None:
        """Remove the data of both."""
        self.kafka.close()
        self.redis.close()
