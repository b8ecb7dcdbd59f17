"""Keeps the catalogue of a serving process on the newest snapshot of the machine.

A snapshot that was made by other towers than those in use comes into use together with its towers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.wiring import Wiring
from headrace.models.embeddings.many import CONTENT_VERSION
from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.serving.snapshot.base import Base
from headrace.serving.snapshot.files import SnapshotError, places_of, read_manifest
from headrace.serving.snapshot.folder import SnapshotFolder, check_age, check_fits, folder_of
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.vectors.swap import Swap
from headrace.streams.topics.reader import Reader
from headrace.streams.topics.tail import Tail
from headrace.streams.transport.places import Place

log = logging.getLogger(__name__)

U64 = npt.NDArray[np.uint64]

#: How often it is looked whether there is a newer snapshot.
LOOK_S = 5.0
#: Pause between two steps that drop from memory what a snapshot has.
TRIM_S = 0.02


class MappedCatalog(Service):
    """Opens snapshots in a background thread, and lets the catalogue use them between two requests.

    A snapshot that cannot be used is named in the log; then `items` is read instead, or the present one
    stays.

    Parameters
    ----------
    catalog
        The catalogue.
    hot
        The hot index; it finds the new items of the snapshot in use, too.
    look_s
        How often it is looked whether there is a newer snapshot, s.
    swap
        Brings other towers into use; None: no towers are published to this process.

    Attributes
    ----------
    tail
        What reads `items`; to be set before the start.
    applied
        Partition -> next offset of `items` to be applied to the catalogue.
    longest_ms
        Longest time that the event loop waited for a step of a swap, ms.
    """

    mundane_level = "debug"

    def __init__(
        self,
        wiring: Wiring,
        catalog: Catalog,
        hot: HotIndex,
        look_s: float = LOOK_S,
        swap: Swap | None = None,
    ) -> None:
        self._wiring, self._catalog, self._hot, self._look_s = wiring, catalog, hot, look_s
        self._swap, self._own_swap = swap or Swap(catalog.vectors, hot), swap is None
        self._folder = SnapshotFolder(folder_of(wiring.settings))
        self._topic = wiring.topics.items
        self._seen: Path | None = None  # in use, or refused
        self._turns = 0
        self.tail: Tail | None = None
        self.applied: dict[int, int] = {}
        self.longest_ms = 0.0
        super().__init__()

    # -- the start

    async def starts(
        self, reader: Reader, begins: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        """Take the newest snapshot; return the offsets from which `items` is to be read after it."""
        self.applied = {tp.partition: offset for tp, offset in begins.items()}
        places = await self._use_newest(reader)
        self.applied |= {tp.partition: place.next for tp, place in places.items()}
        return {tp: place.next for tp, place in places.items()}

    # -- newer snapshots

    def turned(self, _topic: str, partition: int) -> None:
        """The log of a partition is another one, or has lost its last records."""
        self._turns += 1
        self.applied[partition] = 0
        self._catalog.turned(partition)

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(self._look_s)
            self._catalog.forget_old(self._wiring.clock.now_ms())
            reader = None if self.tail is None else self.tail.reader
            if reader is None or self.should_stop or not await self._ahead():
                continue
            if await self._use_newest(reader):
                await self._trim()

    async def _ahead(self) -> bool:
        """Return whether there is another snapshot, all of which the catalogue has from `items`."""
        try:
            path = await asyncio.to_thread(self._folder.current)
            if path is None or path == self._seen:
                return False
            places = places_of(path, await asyncio.to_thread(read_manifest, path))
        except (SnapshotError, OSError):
            return True  # opening it says what is wrong
        return all(place.next <= self.applied.get(number, 0) for number, place in places.items())

    async def _use_newest(self, reader: Reader) -> dict[TopicPartition, Place]:
        """Let the catalogue use the newest snapshot; return its places, none when it is not used."""
        path = await asyncio.to_thread(self._folder.current)
        if path is None or path == self._seen:
            return {}
        turns, keys = self._turns, await changed_keys(self._catalog)
        base: Base | None = None
        try:
            base = await asyncio.to_thread(self._opened, path, keys)
            places = {TopicPartition(self._topic, n): place for n, place in base.snapshot.places.items()}
            old = list[Base | None]()
            while not old:
                await self._made(base)
                why = await reader.misfit(places)
                check_fits(path, why if turns == self._turns else "the topic changed while it was opened")
                self._take(path, base, old)
        except (SnapshotError, OSError, KafkaError) as exc:
            self._swap.cancel_with()
            self._catalog.cancel_swap()
            self._refuse(path, base, exc)
            return {}
        await asyncio.to_thread(_release, old)
        return places

    def _by_others(self, base: Base) -> bool:
        """Return whether the vectors of a snapshot need other towers than those in use."""
        if base.snapshot.content != CONTENT_VERSION:
            return False  # of other code: they are not used
        return self._swap.busy or base.snapshot.towers_version != self._catalog.vectors.version

    async def _made(self, base: Base) -> None:
        """Wait for the vectors of the items in memory by the towers of a snapshot, if it has others."""
        if self._swap.base is None and self._by_others(base):
            self._catalog.hide_changed(base)
            self._swap.begin_with(base, self._wiring.clock.now_ms())
        if self._swap.base is not None and (making := self._swap.making) is not None:
            made = asyncio.wrap_future(making)
            await asyncio.wait([made])
            if not made.cancelled():
                made.exception()  # what went wrong, take_with says

    def _take(self, path: Path, base: Base, old: list[Base | None]) -> None:
        """Let the catalogue use a snapshot, if nothing is to be made before; ``old`` gets the last one."""
        if self._swap.base is not None:
            self._swap.take_with(self._wiring.clock.now_ms(), lambda: old.append(self._change(path, base)))
        elif not self._by_others(base):
            old.append(self._change(path, base))

    def _opened(self, path: Path, keys: Sequence[U64]) -> Base:
        snapshot = CatalogSnapshot(path)
        try:
            check_age(snapshot, self._wiring.clock.now_ms())
            base = Base(snapshot, self._catalog.blocked_flags)
            for part in keys:
                base.hide(part)
            base.young.begin(self._hot.oldest(self._wiring.clock.now_ms()))
        except BaseException:
            snapshot.close()
            raise
        return base

    def _refuse(self, path: Path, base: Base | None, exc: Exception) -> None:
        if base is not None:
            base.snapshot.close()
        if not isinstance(exc, KafkaError):
            self._seen = path
        instead = "all of items is read" if self._catalog.base is None else "the last one stays in use"
        told = {"action": "snapshot_refused", "path": str(path)}
        log.warning("the catalogue's snapshot is not used, %s: %s", instead, exc, extra=told)

    def _change(self, path: Path, base: Base) -> Base | None:
        began = time.perf_counter()
        old = self._catalog.swap(base)
        self._hot.over(base.young if self._catalog.searchable else None)
        self._took(began)
        self._seen = path
        log.info(
            "catalogue: %d items of %s, towers %s, %d in memory",
            *(base.count, path.name, base.snapshot.towers_version or "0", len(self._catalog.table)),
            extra={"action": "catalogue_snapshot", "items": base.count},
        )
        return old

    async def _trim(self) -> None:
        """Drop from memory what the snapshot has, a little at a time."""
        more = True
        while more and not self.should_stop:
            began = time.perf_counter()
            more = self._catalog.trim(self._found_there)
            self._took(began)
            await asyncio.sleep(TRIM_S)

    def _found_there(self, keys: U64) -> None:
        """Let the hot index find items in the snapshot alone, which has them as they are."""
        if self._hot.mapped is not None:
            self._hot.drop_many(keys)

    def _took(self, began: float) -> None:
        self.longest_ms = max(self.longest_ms, 1000 * (time.perf_counter() - began))

    async def on_stop(self) -> None:
        """Say that this process no longer needs the files."""
        if self._own_swap:
            await asyncio.to_thread(self._swap.close)
        if self._catalog.base is not None:
            self._catalog.base.snapshot.close()


async def changed_keys(catalog: Catalog) -> list[U64]:
    """Begin a swap of a catalogue; return the keys of ``begin_swap``, a part taken in a turn of the loop."""
    out = []
    for keys in catalog.begin_swap():
        out.append(keys)
        await asyncio.sleep(0)
    return out


def _release(old: list[Base | None]) -> None:
    """Give the memory of a snapshot back: the caller keeps no reference to it."""
    base = old.pop()
    if base is not None:
        base.snapshot.close()
