"""Every decoder of what comes from outside, as a function of bytes: it returns, or raises a clear error.

A target is called with any bytes. Errors that its decoder documents are swallowed; everything else gets out,
and is a finding. ``seeds`` are good inputs, from which others are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from fuzz_files import MANIFEST_ERRORS, MANIFEST_OF_NOTHING, TABLE, manifest, snapshot_of_table
from fuzz_formats import FORMATS
from fuzz_models import MODELS
from fuzz_seeds import EVENT, HEADERS, IMPRESSION, ITEM, PROFILE, REQUEST

from headrace.agents.partitions import written
from headrace.models.state import users as user_state
from headrace.serving.gateway.intake import EventsIn, RowIn, split_json, split_lines
from headrace.serving.gateway.requests import RequestIn
from headrace.serving.requests.address import parse_reply_address
from headrace.serving.requests.read import RequestReader
from headrace.serving.store import applied
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.columns import ITEM_EVENT, Limits
from headrace.streams.messages.event_reader import EventReader
from headrace.streams.messages.packed_item_events import pack_item_events, unpack_item_events
from headrace.streams.messages.schemas import Impression, Item, UserProfile
from headrace.streams.messages.state import marks_of
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.dead_letters import read_dead_letter, redriven_from
from headrace.streams.topics.placement import FORWARDED, origin_of, origins_of
from headrace.streams.transport.gathering import RawRecords
from headrace.streams.transport.places import Place

NOW = 1_800_000_000_000
MAX_BYTES = 65_536
SETTINGS = Settings()
LIMITS = Limits(partitions=3, lateness_ms=86_400_000, future_ms=300_000)


@dataclass(frozen=True)
class Target:
    """A decoder, the inputs to begin with, and the errors that it documents."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = field(default=(RejectedError,))

    def __call__(self, data: bytes) -> None:
        """Decode; an error that is not documented gets out."""
        try:
            self.run(data)
        except self.errors:
            return


def record(value: bytes | None, headers: Any = (), key: bytes | None = None) -> Any:
    """Return a record as the readers see one."""
    return SimpleNamespace(
        key=key, value=value, offset=5, timestamp=NOW, headers=headers, partition=0, topic="events"
    )


# -- events

_READER = EventReader(MAX_BYTES, LIMITS)


def fetched(key: bytes | None, value: bytes | None, headers: Any = ()) -> Any:
    """Return a record, as it is fetched."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    builder.append(0, NOW, key, value, list(headers))
    source = RawRecords(bytes(builder.build()))
    gathering = source.gathering(())
    gathering.add(source.next_batch(), 0)
    return gathering.records()


def events(data: bytes) -> None:
    """Read an event with the compiled scan and without it: both say the same."""
    key = b"user-42" if len(data) % 2 else None
    records = fetched(key, data)
    read, columns = _READER.read(records, 0, NOW)
    other, expected = _READER.read(list(records), 0, NOW)
    assert [str(e) for _, e in read.rejects] == [str(e) for _, e in other.rejects]
    for mine, theirs in zip(columns.arrays(), expected.arrays(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for one in read.records:
        read.event(one)


def headers(data: bytes) -> None:
    """Read the headers that workers give each other: origins, marks of examples, letters, redrives."""
    for name in (FORWARDED, written.HEADER, written.EARLY, "redriven", "origin-offset", "origin-partition"):
        records = fetched(b"k", b"v", [(name, data), (name, None)])
        for one in (records[0], record(b"v", [(name, data)])):
            origin_of(one)
            written.read_mark(one.headers)
            read_dead_letter(one)
            redriven_from(one)
        there = origins_of(records, "events")
        np.testing.assert_array_equal(there, origins_of(list(records), "events"))
    Place.of_text(data.decode("latin-1"))
    Place.decode(data)


# -- requests

_REQUESTS = RequestReader(SETTINGS)
_BODIES = RequestIn(SETTINGS)
_EVENTS_IN = EventsIn(SETTINGS)
_ROWS = (RowIn(Item, "item_id", MAX_BYTES), RowIn(UserProfile, "user_id", MAX_BYTES))


def requests(data: bytes) -> None:
    """Read a request with plain headers, in Faust's envelope, and with any headers."""
    plain = [("reply_to", b"rec-replies"), ("correlation_id", data[:64])]
    hostile = [(name, data) for name in ("reply_to", "kafka_replyTopic", "Faust-Ag-ReplyTo")]
    hostile += [("kafka_replyPartition", data[:4]), ("Faust-Ag-CorrelationId", data)]
    faust = b'{"value":%b,"reply_to":"rec-replies","correlation_id":"x","__faust":{"ns":"@ReqRepRequest"}}'
    for one in (record(data, plain), record(data, hostile), record(faust % data), record(data)):
        jobs, rejects = _REQUESTS.read([one])
        assert len(jobs) + len(rejects) == 1
        for _, _, why in rejects:
            assert why.reason != "internal", why
            msgspec.json.encode(_REQUESTS.error_reply(one, why))
        parse_reply_address(one.headers, data)


def http(data: bytes) -> None:
    """Read bodies of the gateway: requests, events, items, profiles; one, an array, or lines."""
    calls: list[Callable[[], object]] = [
        lambda: _BODIES.from_body(data),
        lambda: [_BODIES.refusal(body, RejectedError("empty", "", "")) for body in split_json(data)],
        lambda: [_BODIES.from_body(body) for body in split_lines(data)],
        lambda: _EVENTS_IN.read(data, True, NOW),
        lambda: _EVENTS_IN.read(data, False, NOW),
        *[lambda row=row: row.read("i", data, NOW) for row in _ROWS],  # type: ignore[misc]
    ]
    for call in calls:
        with refusals():
            call()


def query(data: bytes) -> None:
    """Read a request in a query."""
    pairs = [tuple(part.partition("=")[::2]) for part in data.decode("utf-8", "replace").split("&")]
    _BODIES.from_query(pairs)  # type: ignore[arg-type]


@contextmanager
def refusals() -> Iterator[None]:
    """Let a refusal pass."""
    try:
        yield
    except RejectedError:
        return


# -- the other messages


def messages(type_: type[Any]) -> Callable[[bytes], None]:
    """Return what decodes a message alone and in a batch: both say the same."""
    decoder: Decoder[Any] = Decoder(type_, MAX_BYTES)

    def run(data: bytes) -> None:
        decoded = decoder.batch([record(data), record(None)])
        value = decoder.one(record(data))
        assert list(map(repr, decoded.values)) == [repr(value)]
        msgspec.json.encode(value)

    return run


def item_events(data: bytes) -> None:
    """Unpack packed item events; what is sound can be packed again."""
    found, offsets, sound = unpack_item_events([data, None], [3, 4])
    assert not sound[1]
    assert len(found) == len(offsets)
    if sound[0] and len(found):
        blob, bounds = pack_item_events(found)
        parts = [blob[a:b].tobytes() for a, b in pairwise(bounds.tolist())]
        again, _, fine = unpack_item_events(parts, list(range(len(parts))))
        assert fine.all()
        np.testing.assert_array_equal(again, found)


def states(data: bytes) -> None:
    """Read a token of a state."""
    marks_of(data.decode("utf-8", "replace"))


def rows(data: bytes) -> None:
    """Read a row of Redis."""
    found, sound = unpack([data, None], user_state.ROW)
    assert len(found) == len(sound) == 2
    assert not sound[1]


def beats(data: bytes) -> None:
    """Read a beat of Redis."""
    beat = applied.decode(data)
    if beat is not None:
        applied.encode(beat)


def _sound_item_events() -> bytes:
    some = np.zeros(3, ITEM_EVENT)
    some["item"], some["ts"] = [5, 6, 6], NOW
    return pack_item_events(some)[0].tobytes()


TARGETS: dict[str, Target] = {
    "event": Target(events, (EVENT,)),
    "headers": Target(headers, HEADERS),
    "request": Target(requests, (REQUEST,)),
    "http": Target(http, (REQUEST, EVENT, ITEM, PROFILE, b"[%b,%b]" % (EVENT, EVENT))),
    "query": Target(query, (b"user_id=u&surface=home&n=3&exclude=a&country=DE&explain=true",)),
    "profile": Target(messages(UserProfile), (PROFILE,)),
    "item": Target(messages(Item), (ITEM,)),
    "impression": Target(messages(Impression), (IMPRESSION,)),
    "item-events": Target(item_events, (_sound_item_events(),)),
    "state": Target(states, (b"1.e3-17.u3-2.m9f0c", b"1", b"")),
    "row": Target(rows, (np.ones(1, user_state.ROW).tobytes(),)),
    "beat": Target(beats, (b'{"events":{"last":3,"base":1,"elsewhere":{"1":2}}}',), ()),
    "table": Target(snapshot_of_table, (TABLE,), ()),
    "manifest": Target(manifest, (MANIFEST_OF_NOTHING,), MANIFEST_ERRORS),
    **{name: Target(*parts) for name, parts in MODELS.items()},
    **{name: Target(*parts) for name, parts in FORMATS.items()},
}
