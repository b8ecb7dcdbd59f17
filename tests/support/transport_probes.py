"""Observes a running batch transport: records that agents got, commits, fetch requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.errors import KafkaConnectionError
from transport_worker import committed

from headrace.streams.app import HeadraceApp, make_app
from headrace.streams.settings import Settings
from headrace.streams.transport.batches import batch_topic, durable


def quick_app(settings: Settings, role: str, **options: Any) -> HeadraceApp:
    """Return an app that commits often and has short group intervals, so that tests wait little."""
    often = {"broker_commit_interval": 0.05, "broker_heartbeat_interval": 0.1}
    return make_app(settings, role, **{**often, **options})


def collecting(app: HeadraceApp, topic: str, into: list[tuple[int, int]], pause: float = 0.0) -> None:
    """Attach an agent that collects ``(partition, offset)``."""

    @app.agent(batch_topic(app, topic))
    async def collect(stream: Any) -> None:
        async for batch in durable(stream):
            await asyncio.sleep(pause)
            into.extend((batch.partition, record.offset) for record in batch)


def committed_is(
    settings: Settings, role: str, topic: str, partition: int, offset: int
) -> Callable[[], Awaitable[bool]]:
    """Return a condition: the group of ``role`` has committed ``offset``."""

    async def check() -> bool:
        return (await committed(settings, role, topic)).get(partition, -1) == offset

    return check


class Commits:
    """Counts the commits of an app's consumer, also those that had nothing to commit."""

    def __init__(self, app: HeadraceApp) -> None:
        self.count = 0
        consumer = app.consumer
        commit = consumer.commit

        async def counted(*args: Any, **options: Any) -> Any:
            done = await commit(*args, **options)
            self.count += 1
            return done

        consumer.commit = counted

    def two_more(self) -> Callable[[], bool]:
        """Return a condition: a commit has begun and ended from now on (one may be running already)."""
        wanted = self.count + 2
        return lambda: self.count >= wanted


class Asked:
    """The fetch requests of a running app's consumer from now on, and the partitions they asked for."""

    def __init__(self, app: HeadraceApp) -> None:
        self.partitions: Counter[tuple[str, int]] = Counter()
        self._requests: list[set[tuple[str, int]]] = []
        fetcher = app.consumer._thread._consumer._fetcher
        send = fetcher._proc_fetch_request

        async def note(assignment: Any, node_id: Any, request: Any) -> Any:
            asked = [(topic, part[0]) for topic, parts in request.topics for part in parts]
            self.partitions.update(asked)
            self._requests.append(set(asked))
            return await send(assignment, node_id, request)

        fetcher._proc_fetch_request = note

    def leaves_out(self, topic: str, partition: int | None = None) -> bool:
        """Return whether the last three requests did not ask for a partition, or any of a topic."""
        last = self._requests[-3:]
        named = {(t, p) for asked in last for t, p in asked if t == topic and partition in (None, p)}
        return len(last) == 3 and not named

    def begin_again(self) -> None:
        """Forget the requests up to now."""
        self.partitions.clear()
        self._requests.clear()


class Interruption:
    """A fetch of a running app fails, as when the broker restarts; then the partitions are compared."""

    def __init__(self, app: HeadraceApp) -> None:
        self._compared: set[tuple[str, int]] = set()
        self._thread = app.consumer._thread
        positions = self._thread.positions
        seek = positions._seek

        def note(tp: tuple[str, int], offset: int) -> None:
            seek(tp, offset)
            self._compared.add(tuple(tp))

        positions._seek = note

    def begin(self) -> None:
        """Let the next fetch fail."""
        client = self._thread._consumer._fetcher._client
        fetch = client._fetch

        async def fail(*_: Any) -> Any:
            client._fetch = fetch
            raise KafkaConnectionError("the broker restarts")

        client._fetch = fail

    def over(self, *tps: tuple[str, int]) -> Callable[[], bool]:
        """Return a condition: these partitions were compared with their logs, and are read on."""
        return lambda: self._compared >= set(tps)
