"""Writes one snapshot of the catalogue from the last one and what `items` has since. In a process of its own.

Its vectors are made by the newest towers on `models`. When those are not the towers of the last snapshot,
all vectors are made again, from the features that the snapshot has of its items.

Its memory, about 100 bytes an item, goes back with the process, and a stop may kill it at any moment: a
snapshot counts when it is whole.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping

import msgspec
from aiokafka import TopicPartition

from headrace.agents.stage.item_records import item_decoder, last_of_each
from headrace.agents.stage.towers_out import published
from headrace.models.embeddings import artefact
from headrace.models.embeddings.many import ContentVectors, ItemVectors, TowerVectors
from headrace.serving.snapshot.changed import Changed
from headrace.serving.snapshot.files import SnapshotError
from headrace.serving.snapshot.folder import SnapshotFolder, check_age, check_fits, folder_of
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.serving.snapshot.writer import Writer
from headrace.streams import garbage
from headrace.streams.child_process import end_with_parent, run_apart
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import ArtefactError, HeadraceError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.ids import use_key
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.placement import misplaced
from headrace.streams.topics.reader import Reader, open_reader, read_to
from headrace.streams.transport.fetching import Fetched
from headrace.streams.transport.gathering import gather_from_now_on
from headrace.streams.transport.places import Place
from headrace.streams.transport.record_list import chosen

log = logging.getLogger(__name__)


class Built(msgspec.Struct):
    """A snapshot that was written.

    Attributes
    ----------
    name
        Name of its folder.
    items, records
        Items in it, and records read for it.
    seconds
        Time it took, s.
    vectors
        Version of its vectors.
    """

    name: str
    items: int
    records: int
    seconds: float
    vectors: str = ""


async def build(settings: Settings, vectors: ItemVectors | None = None, clock: Clock = SYSTEM) -> Built:
    """Write a snapshot; it becomes the newest of the folder.

    Parameters
    ----------
    vectors
        What gives items their vectors; None: the towers on `models`.

    Raises
    ------
    BlockingIOError
        When another process is writing one.
    HeadraceError
        When `items` was made again, or lost records, meanwhile, or the broker does not answer.
    """
    began, topic = time.monotonic(), Topics(settings).items
    folder = SnapshotFolder(folder_of(settings))
    async with open_reader(settings, [topic]) as reader:
        begins, ends = await reader.bounds()
        old = await _usable(folder, reader, clock.now_ms())
        towers = b""
        if vectors is None:
            vectors, towers = await _by_newest_towers(settings, old)
        before = {} if old is None else _by_partition(topic, old.places)
        start = {tp: before[tp].next if tp in before else begin for tp, begin in begins.items()}
        turns, count = list[str](), 0
        await reader.watch(start, lambda tp, offset, end: turns.append(f"{tp[0]}-{tp[1]}"))
        with folder.writing() as path, Writer(path, max(1, (os.cpu_count() or 1) // 2)) as writer:
            changed = Changed(writer, old, vectors)
            decoder = item_decoder(settings.max_event_bytes)
            async for part in read_to(reader, start, ends):
                count += len(part.records)
                _apply(changed, decoder, part, len(begins))
            if turns:
                raise HeadraceError(f"{', '.join(turns)} was made again or lost records while it was read")
            written_ms = clock.now_ms()
            changed.keep_rest()
            places = {tp.partition: _place(reader, tp, before) for tp in begins}
            writer.finish(changed.names, places, vectors.content, written_ms, towers)
            items = len(writer)
        if old is not None:
            old.close()
    name = folder.current()
    seconds = round(time.monotonic() - began, 3)
    return Built(name.name if name else "", items, count, seconds, vectors.version)


async def _by_newest_towers(settings: Settings, old: CatalogSnapshot | None) -> tuple[ItemVectors, bytes]:
    """Return what makes vectors by the newest towers, and their artefact; those of ``old`` without any."""
    for whole in await published(settings, Topics(settings).models):
        try:
            body = whole.body()
            return TowerVectors(artefact.towers_of(body)), body
        except ArtefactError as exc:
            log.warning("published towers are skipped: %s", exc, extra={"action": "model_refused"})
    if old is None:
        return ContentVectors(), b""
    return TowerVectors(old.towers()), old.column["towers"].tobytes()


def _by_partition(topic: str, places: Mapping[int, Place]) -> dict[TopicPartition, Place]:
    return {TopicPartition(topic, number): place for number, place in places.items()}


async def _usable(folder: SnapshotFolder, reader: Reader, now: int) -> CatalogSnapshot | None:
    """Return the last snapshot if the next one can be made from it."""
    old: CatalogSnapshot | None = None
    try:
        old = folder.open(thorough=True)
        if old is None:
            return None
        check_age(old, now)
        why = await reader.misfit(_by_partition(reader.partitions[0].topic, old.places))
        if old.content != (content := ContentVectors().version):
            why = f"its vectors are of version {old.content}, not {content}"
        check_fits(old.folder, why)
        old.towers()
    except SnapshotError as exc:
        log.warning("all of items is read: %s", exc, extra={"action": "snapshot_refused"})
        if old is not None:
            old.close()
        return None
    return old


def _apply(changed: Changed, decoder: Decoder[Item], part: Fetched, partitions: int) -> None:
    records = part.records
    if not len(records):
        return
    wrong = misplaced(records, part.tp.partition, partitions)
    if wrong.any():
        records = chosen(records, ~wrong)
    last = last_of_each(records, decoder)
    changed.apply(last.gone, last.put)


def _place(reader: Reader, tp: TopicPartition, before: Mapping[TopicPartition, Place]) -> Place:
    """Return the place after what was read; that of the last snapshot where nothing was."""
    assert reader.positions is not None  # noqa: S101 - watched by the only caller
    place = reader.positions.place(tp)
    if place is None or (place.at < 0 and tp in before):
        return before.get(tp, Place(0))
    return place


# -- in a process of its own


async def build_apart(settings: Settings) -> Built:
    """Write a snapshot in a process; it is killed when this task is cancelled.

    Raises
    ------
    HeadraceError
        The process failed, or was killed. Its error output is that of this process.
    """
    line = msgspec.json.encode(settings.model_dump(mode="json")) + b"\n"
    what = "process that writes a catalogue snapshot"
    return msgspec.json.decode(await run_apart(__name__, str(folder_of(settings)), what, line), type=Built)


def main() -> None:
    """Write a snapshot with the settings in the first line of standard input; print the result."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings(**msgspec.json.decode(sys.stdin.buffer.readline()))
    end_with_parent()
    garbage.set_up(small=False)
    gather_from_now_on()
    use_key(settings.id_key)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(build(settings))))


if __name__ == "__main__":
    main()
