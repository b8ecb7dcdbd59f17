"""Finds the traces of a request on `traces`, and the rankers that are needed; makes the reply again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from aiokafka.errors import KafkaError

from headrace.agents.rollout import Follower
from headrace.models.learning import ranker
from headrace.models.learning.ranker import Ranker
from headrace.models.learning.registry import Registry, folder_of
from headrace.serving.traces.explained import Figures, explained, instead
from headrace.serving.traces.record import Trace, decode
from headrace.serving.traces.replay import again, whole
from headrace.streams.errors import ArtefactError, NoTraceError, UnavailableError
from headrace.streams.messages.ids import use_key
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.partitioners import right_partition
from headrace.streams.topics.reader import read_partition
from headrace.streams.transport.batches import RecordBatch


async def explain(settings: Settings, request_id: str, model: str = "") -> Figures:
    """Return what made a reply, and whether it is the same when it is made again.

    Parameters
    ----------
    request_id
        Of a request, or of one list of a page.
    model
        Another version of the ranker; empty: none.

    Raises
    ------
    NoTraceError
        There is no trace of the request.
    TraceError
        It cannot be read here, or no list can be made from it.
    ArtefactError
        There is no such ranker.
    UnavailableError
        No broker answers.
    """
    use_key(settings.id_key)
    try:
        traces = await traces_of(settings, request_id)
        rankers = await Rankers.of(settings)
    except KafkaError as exc:
        raise UnavailableError(f"no Kafka broker answers at {settings.brokers}: {exc}") from exc
    other = rankers.get(model) if model else None
    lists = [again(trace, rankers.own(trace)) for trace in traces]
    body, same = whole(traces, lists)
    told = []
    for trace, found in zip(traces, lists, strict=True):
        if request_id not in (trace.whole, trace.request.request_id):
            continue
        figures = explained(trace, found)
        if other is not None and trace.ranked is not None:
            figures["instead"] = instead(trace, found, again(trace, other, instead=True), model)
        told.append(figures)
    differs = [
        *([] if same else ["the bytes of the reply are others"]),
        *(d for one in told for d in one["differs"]),
    ]
    return {"request_id": traces[0].whole, "same": not differs, "reply": body.decode(), "lists": told}


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
