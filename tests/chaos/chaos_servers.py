"""The broker and the Redis of a chaos run: started, stopped, killed, frozen, emptied."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import redis.asyncio

from ops.kafka.run import KafkaServer, KeptServer, RedisServer


class Servers:
    """A Kafka and a Redis on this machine."""

    def __init__(self) -> None:
        self.kafka, self.redis = KafkaServer(), RedisServer()
        # Threads that live as long as this process: Linux kills a child with the thread that started it.
        self._threads: dict[KeptServer, ThreadPoolExecutor] = {
            self.kafka: ThreadPoolExecutor(1),
            self.redis: ThreadPoolExecutor(1),
        }

    async def start(self) -> None:
        """Start both."""
        await asyncio.gather(self.call(self.kafka, "start"), self.call(self.redis, "start"))

    async def call(self, server: KeptServer, what: str) -> None:
        """Call ``start``, ``stop`` or ``kill`` of a server in its thread."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads[server], getattr(server, what))

    async def freeze(self, name: str, for_s: float) -> None:
        """Stop ``broker`` or ``redis`` for a while, as a paused virtual machine is."""
        server: KeptServer = self.kafka if name == "broker" else self.redis
        if server.pid is not None:
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.sleep(for_s)
            os.kill(server.pid, signal.SIGCONT)

    async def flush_redis(self) -> bool:
        """Delete all data of a running Redis; return whether it accepted the command within 10 s."""
        return await self._redis("FLUSHALL")

    async def redis_takes_writes(self, yes: bool) -> bool:
        """Let Redis refuse writes, as a master without enough replicas does, or take them again.

        Returns whether it accepted the command within 10 s.
        """
        return await self._redis("CONFIG", "SET", "min-replicas-to-write", "0" if yes else "1")

    async def _redis(self, *command: str) -> bool:
        client = redis.asyncio.Redis.from_url(self.redis.url)
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
