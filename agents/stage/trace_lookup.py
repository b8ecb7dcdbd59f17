"""Finds traces on `traces`, and the rankers that are needed to make their lists again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Self, TypeVar

from headrace.agents.rollout import Follower
from headrace.models.learning import ranker
from headrace.models.learning.ranker import Ranker
from headrace.models.learning.registry import Registry, folder_of
from headrace.serving.traces.record import Trace, decode
from headrace.streams.errors import ArtefactError, NoTopicError, NoTraceError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.partitioners import right_partition
from headrace.streams.topics.reader import open_reader, read_partition, read_to
from headrace.streams.transport.batches import RecordBatch

T = TypeVar("T")
#: Time between two looks at the end of `traces`, s.
_LOOK_S: Final = 0.1


async def traced(
    settings: Settings, topic: str, name: str, ask: Callable[[], Awaitable[T]], within_s: float
) -> tuple[T, Trace]:
    """Ask for a list, and wait for its trace; only the end of `traces` is read.

    Parameters
    ----------
    topic
        Full name of the topic.
    name
        Id of the request: one that is traced.
    within_s
        Longest wait for the trace, after the reply.

    Raises
    ------
    NoTraceError
        None came: workers have another ``HEADRACE_TRACE_SHARE``, or it was too large.
    NoTopicError
        There is no `traces`.
    """
    key, found = name.encode(), list[Trace]()
    partition = right_partition(key, settings.partitions)
    async with open_reader(settings, [topic], [partition]) as reader:
        if not reader.partitions:
            raise NoTopicError(f"topic {topic} has no partition {partition}")
        (tp,) = reader.partitions
        _, ends = await reader.bounds()
        reply, loop = await ask(), asyncio.get_running_loop()
        until, at = loop.time() + within_s, ends[tp]
        while not found:
            if loop.time() > until:
                raise NoTraceError(
                    f"the list has no trace within {within_s:g} s; is HEADRACE_TRACE_SHARE of the workers "
                    f"the same as here ({settings.trace_share:g})?"
                )
            await asyncio.sleep(_LOOK_S)
            _, ends = await reader.bounds()
            async for batch in read_to(reader, {tp: at}, ends):
                found += [decode(bytes(r.value)) for r in batch.records if r.key == key and r.value]
            at = ends[tp]
    return reply, found[0]


async def traces_of(settings: Settings, request_id: str) -> list[Trace]:
    """Return the newest traces of a request, one for each of its lists, in their order.

    Raises
    ------
    NoTraceError
        There is none, or not of all its lists.
    """
    names = {request_id, request_id.rpartition("/")[0]} - {""}
    found: dict[bytes, dict[int, Trace]] = {}
    for name in sorted(names):
        for trace in await _read(settings, name):
            # A request that was delivered again was answered again: that reply is another one.
            found.setdefault(trace.digest, {})[trace.part] = trace
    complete = [by_part for by_part in found.values() if len(by_part) == next(iter(by_part.values())).parts]
    if not complete:
        raise NoTraceError(
            f"there is no trace of request {request_id}: HEADRACE_TRACE_SHARE ({settings.trace_share:g}) of "
            f"the requests have one, for {settings.trace_hours:g} hours"
        )
    newest = max(complete, key=lambda by_part: by_part[0].ts)
    return [newest[part] for part in sorted(newest)]


async def _read(settings: Settings, name: str) -> list[Trace]:
    key, out = name.encode(), list[Trace]()

    def take(batch: RecordBatch) -> None:
        for record in batch.records:
            if record.key == key and record.value is not None:
                out.append(decode(bytes(record.value)))

    topic = Topics(settings).traces
    await read_partition(settings, topic, right_partition(key, settings.partitions), take)
    return out


class Rankers:
    """The rankers that are kept: those on `models`, and in the registry.

    Parameters
    ----------
    texts
        Those on `models`, by version.
    """

    def __init__(self, settings: Settings, texts: Mapping[str, bytes]) -> None:
        self._registry, self._texts = Registry(folder_of(settings)), texts
        self._known: dict[str, Ranker] = {}

    @classmethod
    async def of(cls, settings: Settings) -> Self:
        """Read `models`."""
        known = Follower()
        await read_partition(settings, Topics(settings).models, 0, known.take)
        return cls(settings, dict(known.shelf.texts))

    def get(self, version: str) -> Ranker:
        """Return a ranker; raise ``ArtefactError`` when there is no such version, or it does not fit."""
        if version not in self._known:
            value = self._texts.get(version)
            self._known[version] = ranker.decode(self._registry.record(version) if value is None else value)
        return self._known[version]

    def own(self, trace: Trace) -> Ranker | None:
        """Return the ranker that made a list; None when it is not kept any more."""
        version = trace.reply.model.ranker if trace.reply.model is not None else ""
        try:
            return self.get(version) if version else None
        except ArtefactError:
            return None
