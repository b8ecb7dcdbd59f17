"""Looks whether the rows in the online store are up to date, for a serving worker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.wiring import Wiring
from headrace.serving.store.freshness import LOOK_S, Freshness


class StoreWatch(Service):
    """Looks once a second whether the rows in the online store are up to date."""

    mundane_level = "debug"

    def __init__(self, wiring: Wiring, freshness: Freshness, **kwargs: Any) -> None:
        self._wiring = wiring
        self._freshness = freshness
        self.looked = asyncio.Event()
        super().__init__(**kwargs)

    @Service.task
    async def _watch(self) -> None:
        topic, sender = self._wiring.topics.requests, self._wiring.sender
        with contextlib.suppress(KafkaError):  # until it is known, the settings have the right number
            await sender.partitions_of(topic)  # from now on it is kept up to date
        while not self.should_stop:
            if count := sender.known_partitions(topic):  # all topics have as many
                self._freshness.partitions = dict.fromkeys(self._freshness.partitions, count)
            await self._freshness.look()
            self.looked.set()
            await self.sleep(LOOK_S)
