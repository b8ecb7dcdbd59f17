"""Which events of an import are in the topic: the topic itself says so.

The first record of each batch of an import names it, and the numbers of the batch's first and last event.
A broker takes a batch as a whole, and the batches of a producer in their order or not at all. So in each
partition the events up to the last number found are there, and none of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings
from headrace.streams.topics.reader import open_reader, read_to
from headrace.streams.transport.record_list import RecordList

#: Header of the first record of each batch.
HEADER = "headrace-import"


def mark(job: str, first: int, last: int) -> bytes:
    """Return the value of the header."""
    return f"{job}/{first}/{last}".encode()


def _parts(headers: Sequence[tuple[str, Any]]) -> tuple[str, str, str]:
    """Return import, first and last number that headers name, empty where there is none."""
    for name, value in headers:
        if name == HEADER:
            job, _, rest = (value or b"").decode("utf-8", "replace").partition("/")
            first, _, last = rest.partition("/")
            return job, first, last
    return "", "", ""


def numbers_of(headers: Sequence[tuple[str, Any]], job: str) -> tuple[int, int] | None:
    """Return the first and the last number that the headers of a record name, None for other records."""
    of, first, last = _parts(headers)
    return (int(first), int(last)) if of == job and first.isdigit() and last.isdigit() else None


async def arrived(
    settings: Settings, topic: str, job: str, places: Mapping[int, tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Return by partition the end offset, and how far the events of an import are before it.

    Parameters
    ----------
    places
        What is known already, see ``jobs.Job``: records before its offsets are not read.

    Raises
    ------
    ConfigError
        The topic is not the one it was.
    """
    # Read uncommitted: there ours may be behind the beginning of somebody's open transaction.
    async with open_reader(settings, [topic], isolation="read_uncommitted") as reader:
        begins, ends = await reader.bounds()
        for tp, end in ends.items():
            if end < places.get(tp.partition, (0, 0))[0]:
                raise ConfigError(
                    f"{topic} has lost records of this import, or was made again: import into a new one"
                )
        out = {tp.partition: (ends[tp], places.get(tp.partition, (0, 0))[1]) for tp in reader.partitions}
        starts = {
            tp: min(max(begin, places.get(tp.partition, (0, 0))[0]), ends[tp]) for tp, begin in begins.items()
        }
        async for part in read_to(reader, starts, ends):
            for number in _last_numbers(part.records, job):
                end, known = out[part.tp.partition]
                out[part.tp.partition] = end, max(known, number + 1)
    return out


async def imports_in(settings: Settings, topic: str) -> set[str]:
    """Return the imports of which events are in the topic; all of it is read."""
    out = set[str]()
    async with open_reader(settings, [topic], isolation="read_uncommitted") as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            out.update(_parts(record.headers)[0] for record in _marked(part.records))
    return out - {""}


def _marked(records: Sequence[Any]) -> Sequence[Any]:
    return list(records.where(records.with_header(HEADER))) if isinstance(records, RecordList) else records


def _last_numbers(records: Sequence[Any], job: str) -> list[int]:
    found = [numbers_of(record.headers, job) for record in _marked(records)]
    return [numbers[1] for numbers in found if numbers is not None]
