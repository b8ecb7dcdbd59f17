"""What reading an event costs in each format: CPU time of this thread, us an event, in turns.

``json``: ``EventReader`` reads fetched batches, as a worker does without settings of formats. The others are
translated first, with the settings of the format, and read then: the whole way from bytes to columns.
``json_detect``, ``json_mapped``: JSON of ours with these settings.

``..._alone`` is the step of the format alone: ``avro_alone`` and ``protobuf_alone`` make an object of a
message (``avro`` makes none: an event of ours is told without one), ``map_..._alone`` makes an event of
ours of an object that was decoded.
"""

from __future__ import annotations

import base64
import io
import os
import statistics
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import msgspec
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from headrace.streams.messages.columns import Limits
from headrace.streams.messages.event_reader import EventReader
from headrace.streams.messages.formats import avro, protobuf, published
from headrace.streams.messages.formats.mapping import read_mapping
from headrace.streams.messages.formats.translator import Translator
from headrace.streams.transport.gathering import RawRecords

MAPPINGS = Path(__file__).parents[2] / "ops" / "mappings"
NOW = 1_767_225_600_250
BATCH, TIMES = 2000, 5
MAX_BYTES = 65_536
HEAD = b"\0\0\0\0\1"
EVENT = {
    "event_id": "0700000000000a", "type": "dwell", "user_id": "user-0000007", "item_id": "item-000123",
    "ts": NOW, "dwell_ms": 17_600, "request_id": "00c0ffee00", "position": 3, "surface": "home",
    "context": {"country": "DE", "device": "phone", "age": 31}, "scope": "item",
}  # fmt: skip


class _Schemas:
    """The readers of two schemas, without a registry."""

    def __init__(self) -> None:
        proto = base64.b64encode(protobuf.event_file().SerializeToString()).decode()
        self.avro, self.protobuf = avro.reader(published.avsc(), []), protobuf.reader(proto, {})

    def read(self, body: bytes) -> tuple[Any, bool]:
        return (self.avro if body[4] == 1 else self.protobuf)(body)

    def plan(self, number: int) -> Any:
        return self.avro.plan if number == 1 else None


def _batch(value: bytes, headers: Any = ()) -> Any:
    """Return a fetched batch of records with this value."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for n in range(BATCH):
        builder.append(n, NOW, b"user-0000007", value, list(headers))
    source = RawRecords(bytes(builder.build()))
    gathering = source.gathering(())
    gathering.add(source.next_batch(), 0)
    return gathering.records()


def _again(function: Callable[..., object], *arguments: object) -> Callable[[], None]:
    """Return what calls a function ``BATCH`` times; nothing of it is kept."""

    def call() -> None:
        for _ in range(BATCH):
            function(*arguments)

    return call


def _steps() -> dict[str, Callable[[], object]]:
    """Return what is measured: each function handles ``BATCH`` events."""
    schemas, reader = _Schemas(), EventReader(MAX_BYTES, Limits(4, 86_400_000, 300_000))
    plain = msgspec.json.encode(EVENT)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(published.avro()), EVENT)
    in_avro = HEAD + out.getvalue()
    in_proto = b"\0\0\0\0\2\0" + protobuf.event_type()(**EVENT).SerializeToString()
    data = {name: part for name, part in EVENT.items() if name not in ("event_id", "ts")}
    told = {"specversion": "1.0", "id": "a", "source": "/s", "type": "t", "time": "2026-01-01T00:00:00.25Z"}
    binary = [(f"ce_{name}", text.encode()) for name, text in told.items()]
    structured = [("content-type", b"application/cloudevents+json")]
    steps: dict[str, Callable[[], object]] = {}

    def whole(name: str, batch: Any, translator: Translator | None) -> None:
        def read() -> None:
            records = batch if translator is None else translator.read(batch).records
            found, _ = reader.read(records, 0, NOW)
            assert len(found.records) == BATCH

        steps[name] = read

    detect = Translator(MAX_BYTES, detect=True, schemas=schemas)
    ours = _batch(plain)
    whole("json", ours, None)
    whole("json_detect", ours, detect)
    whole("cloudevents_structured", _batch(msgspec.json.encode(told | {"data": data}), structured), detect)
    whole("cloudevents_binary", _batch(msgspec.json.encode(data), binary), detect)
    whole("avro", _batch(in_avro), detect)
    whole("protobuf", _batch(in_proto), detect)
    steps["avro_alone"] = _again(schemas.avro, in_avro)
    steps["protobuf_alone"] = _again(schemas.protobuf, in_proto)
    for name in ("segment", "snowplow", "ga4"):
        file = MAPPINGS / f"{name}.toml"
        mapping = read_mapping(file)
        theirs = tomllib.loads(file.read_text())["example"][0]["event"].encode()
        doc = msgspec.json.decode(theirs)
        mapped = Translator(MAX_BYTES, detect=False, mapping=mapping)
        whole(f"map_{name}", _batch(theirs), mapped)
        if name == "segment":
            whole("json_mapped", ours, mapped)
        steps[f"map_{name}_alone"] = _again(mapping.event, doc, NOW)
    return steps


def costs(runs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the medians of ``runs`` rounds, us an event, and every round and the load before it."""
    steps = _steps()
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    load = []
    for step in steps.values():
        step()
    for _ in range(runs):
        load.append(round(os.getloadavg()[0], 2))
        for name, step in steps.items():
            began = time.thread_time()
            for _ in range(TIMES):
                step()
            rounds[name].append(round((time.thread_time() - began) / (TIMES * BATCH) * 1e6, 3))
    medians = {name: round(statistics.median(each), 2) for name, each in rounds.items()}
    return medians, {"us": rounds, "load_average": load, "events": BATCH * TIMES}
