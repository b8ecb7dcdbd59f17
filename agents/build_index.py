"""build_index: reads `items` and `models`, without a group; writes snapshots of the catalogue to files.

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
from headrace.agents.stage.towers_out import TowersWatch
from headrace.agents.wiring import Wiring
from headrace.models.embeddings.many import CONTENT_VERSION
from headrace.serving.snapshot.files import Manifest, SnapshotError, places_of, read_manifest
from headrace.serving.snapshot.folder import MAX_AGE_MS, SnapshotFolder, folder_of
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.reader import Reader, open_reader
from headrace.streams.transport.places import Place

log = logging.getLogger(__name__)

#: How often the end of `items` is looked at, s; and the pause after a failure.
LOOK_S, AGAIN_S = 5.0, 30.0


def due(settings: Settings, age_ms: int, changes: int, towers: bool = False) -> bool:
    """Return whether a snapshot is to be written.

    Parameters
    ----------
    age_ms
        Age of the last one.
    changes
        Records of `items` that it does not have.
    towers
        Whether other towers were published than those that made it.
    """
    if age_ms > MAX_AGE_MS // 2:
        return True  # serving processes do not use old ones
    late = age_ms >= 1000 * settings.catalog_every_s
    return changes >= settings.catalog_changes or (late and (changes > 0 or towers))


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
        self._towers = TowersWatch()
        self._tried = ""  # the version of the towers when the last build began
        super().__init__()

    @property
    def label(self) -> str:
        """Name for logs."""
        return "IndexBuilder"

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            try:
                settings, topics = self._wiring.settings, self._wiring.topics
                async with (
                    open_reader(settings, [topics.items]) as items,
                    open_reader(settings, [topics.models]) as models,
                ):
                    await self._build_when_due(items, models)
            except (KafkaError, UnavailableError) as exc:
                log.warning("items and models cannot be looked at: %s", exc, extra={"action": "index_waits"})
                await self.sleep(LOOK_S)

    async def _build_when_due(self, items: Reader, models: Reader) -> None:
        while not self.should_stop:
            _, ends = await items.bounds()
            await self._towers.look(models)
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
        if manifest.vectors != CONTENT_VERSION:
            return True  # of other code: serving processes do not search it
        age_ms = self._wiring.clock.now_ms() - manifest.written_ms
        others = self._towers.version not in ("", manifest.towers, self._tried)
        return due(self._wiring.settings, age_ms, changes_since(places, ends), others)

    async def _build(self) -> bool:
        """Write a snapshot; return whether one was written."""
        tried = self._towers.version
        self._building = asyncio.create_task(build_apart(self._wiring.settings))
        try:
            built = await self._building
        except Exception:
            # The last snapshot stays in use, other roles of this process run on.
            log.exception("no catalogue snapshot was written", extra={"action": "index_failed"})
            return False
        self._tried = tried  # towers that could not be used are not tried again
        log.info(
            "catalogue snapshot %s: %d items, vectors %s, %d records read, %.1f s",
            *(built.name, built.items, built.vectors, built.records, built.seconds),
            extra={"action": "index_built", "items": built.items, "records": built.records},
        )
        return True

    async def on_stop(self) -> None:
        """Kill a build that runs, and wait until its process is gone."""
        if self._building is not None and not self._building.done():
            self._building.cancel()
            await asyncio.wait({self._building})
