"""build_index: reads `items`, all of it, without a group; writes snapshots of the catalogue to files.

All serving processes of a machine map the newest snapshot (``agents/stage/mapped_catalog.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.stage.catalog_build import Built, build_apart
from headrace.agents.wiring import Wiring
from headrace.serving.snapshot.files import Manifest, SnapshotError, places_of, read_manifest
from headrace.serving.snapshot.folder import MAX_AGE_MS, SnapshotFolder, folder_of
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.reader import Reader, open_reader
from headrace.streams.transport.places import Place

log = logging.getLogger(__name__)

#: How often the end of `items` is looked at, s; and the pause after a failure.
LOOK_S, AGAIN_S = 5.0, 30.0


def due(settings: Settings, age_ms: int, changes: int) -> bool:
    """Return whether a snapshot is to be written.

    Parameters
    ----------
    age_ms
        Age of the last one.
    changes
        Records of `items` that it does not have.
    """
    if age_ms > MAX_AGE_MS // 2:
        return True  # serving processes do not use old ones
    late = age_ms >= 1000 * settings.catalog_every_s
    return changes >= settings.catalog_changes or (changes > 0 and late)


def changes_since(places: Mapping[int, Place], ends: Mapping[TopicPartition, int]) -> int:
    """Return how many records of `items` are after some places; a log that ends before counts as changed."""
    behind = {
        tp: end - (places[tp.partition].next if tp.partition in places else 0) for tp, end in ends.items()
    }
    return sum(1 + abs(n) if n < 0 else n for n in behind.values())


class IndexBuilder(Service):
    """Writes a snapshot when items changed; one that is being written ends with the service."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._folder = SnapshotFolder(folder_of(wiring.settings))
        self._building: asyncio.Task[Built] | None = None
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "IndexBuilder"

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            try:
                async with open_reader(self._wiring.settings, [self._wiring.topics.items]) as reader:
                    await self._build_when_due(reader)
            except (KafkaError, UnavailableError) as exc:
                log.warning("items cannot be looked at: %s", exc, extra={"action": "index_waits"})
                await self.sleep(LOOK_S)

    async def _build_when_due(self, reader: Reader) -> None:
        while not self.should_stop:
            _, ends = await reader.bounds()
            if await self._due(ends):
                await self.sleep(0.0 if await self._build() else AGAIN_S)
            await self.sleep(min(LOOK_S, self._wiring.settings.catalog_every_s))

    async def _due(self, ends: Mapping[TopicPartition, int]) -> bool:
        try:
            path = await asyncio.to_thread(self._folder.current)
            if path is None:
                return True
            manifest: Manifest = await asyncio.to_thread(read_manifest, path)
            places = places_of(path, manifest)
        except (SnapshotError, OSError):
            return True  # the build says what is wrong
        age_ms = self._wiring.clock.now_ms() - manifest.written_ms
        return due(self._wiring.settings, age_ms, changes_since(places, ends))

    async def _build(self) -> bool:
        """Write a snapshot; return whether one was written."""
        self._building = asyncio.create_task(build_apart(self._wiring.settings))
        try:
            built = await self._building
        except Exception:
            # The last snapshot stays in use, other roles of this process run on.
            log.exception("no catalogue snapshot was written", extra={"action": "index_failed"})
            return False
        log.info(
            "catalogue snapshot %s: %d items, %d records read, %.1f s",
            *(built.name, built.items, built.records, built.seconds),
            extra={"action": "index_built", "items": built.items, "records": built.records},
        )
        return True

    async def on_stop(self) -> None:
        """Kill a build that runs, and wait until its process is gone."""
        if self._building is not None and not self._building.done():
            self._building.cancel()
            await asyncio.wait({self._building})
