"""The decoders of events of others: whole records in every form, schemas, and mapping files."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable
from typing import Any

import fastavro
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from fuzz_seeds import EVENT
from project import ROOT

from headrace.streams.errors import ConfigError, RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.formats import avro, protobuf, published
from headrace.streams.messages.formats.mapping import read_mapping
from headrace.streams.messages.formats.translator import Translator
from headrace.streams.messages.schemas import Event
from headrace.streams.transport.gathering import RawRecords

MAX_BYTES, NOW = 65_536, 1_800_000_000_000
MAPPINGS = [ROOT / "ops" / "mappings" / f"{name}.toml" for name in ("segment", "snowplow", "ga4")]
FIELDS = json.loads(EVENT)
#: A schema with every type that may grow.
NESTED = """{"type":"record","name":"x.N","fields":[
{"name":"a","type":{"type":"array","items":["null","string"]}},
{"name":"m","type":{"type":"map","values":{"type":"array","items":"bytes"}}},
{"name":"e","type":{"type":"enum","name":"x.E","symbols":["A","B"]}},{"name":"d","type":"double"}]}"""


class _Schemas:
    """Reads with one of three schemas; the last byte of the id says which."""

    def __init__(self) -> None:
        proto = base64.b64encode(protobuf.event_file().SerializeToString()).decode()
        self._readers = [
            avro.reader(published.avsc(), []), avro.reader(NESTED, []), protobuf.reader(proto, {}),
        ]  # fmt: skip

    def read(self, body: bytes) -> tuple[Any, bool]:
        if len(body) < 5:
            raise RejectedError("undecodable")
        return self._readers[body[4] % 3](body)

    def plan(self, number: int) -> Any:
        found = self._readers[number % 256 % 3]
        return found.plan if isinstance(found, avro.Reader) else None


_SCHEMAS, _DECODER = _Schemas(), Decoder(Event, MAX_BYTES)
_TRANSLATORS = [Translator(MAX_BYTES, detect=True, schemas=_SCHEMAS)]
_TRANSLATORS += [
    Translator(MAX_BYTES, detect=True, mapping=read_mapping(file, plain=plain), schemas=_SCHEMAS)
    for file in MAPPINGS
    for plain in (True, False)
]
_CLOUD = [("content-type", b"application/cloudevents+json")]
_BINARY = [("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_source", b"/s"), ("ce_type", b"t")]


def records(data: bytes) -> None:
    """Read a record plain, as a CloudEvent in both modes, and with hostile headers: alone and in a batch."""
    hostile = [("ce_specversion", data[:9]), ("ce_time", data), ("Content-Type", data[:40]), ("ce_", None)]
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for n, headers in enumerate(([], _CLOUD, _BINARY, hostile)):
        builder.append(n, NOW, b"user-42", data, headers)
    source = RawRecords(bytes(builder.build()))
    gathering = source.gathering(())
    gathering.add(source.next_batch(), 0)
    batch = gathering.records()
    seen = []
    for translator in _TRANSLATORS:
        one, other = translator.read(batch), translator.read(list(batch))
        mine, theirs = ([(r.key, r.value) for r in found.records] for found in (one, other))
        assert mine == theirs
        assert one.refused.keys() == other.refused.keys()
        assert len(mine) + one.ignored == len(batch)
        decoded = _DECODER.batch(list(one.records))
        for _, why in one.letters(decoded.rejects):
            assert why.reason
        seen.append((mine, sorted(one.refused)))
    for walked, by_library in zip(seen[1::2], seen[2::2], strict=True):
        assert walked == by_library


def schemas(data: bytes) -> None:
    """Read a schema of Avro, and one of Protobuf; what is one reads a message, or refuses it."""
    text = data.decode("utf-8", "replace")
    encoded = base64.b64encode(data).decode()
    makers: list[Callable[[], Any]] = [
        lambda: avro.reader(text, []),
        lambda: avro.reader(text, [], plain=False),
        lambda: protobuf.reader(encoded, {}),
        lambda: protobuf.reader(text, {"a.proto": encoded}),
    ]
    for make in makers:
        try:
            make()(b"\0\0\0\0\1\0" + data[:40])
        except RejectedError:
            continue


def mapping_file(data: bytes) -> None:
    """Read a mapping file."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        read_mapping(file.name)


def _avro_seed(number: int, schema: str, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), value)
    return b"\0\0\0\0" + bytes([number]) + out.getvalue()


_THEIRS = [
    b'{"type":"track","event":"Product Clicked","messageId":"m-1","userId":"user-42","timestamp":'
    b'"2026-01-01T00:00:00.250Z","properties":{"product_id":"i-1","position":3}}',
    b'{"event_name":"item_action","event_id":"c6","derived_tstamp":"2026-01-01T00:00:01.000Z","domain_userid":"b",'
    b'"unstruct_event_com_acme_item_action_1":{"action":"view","item_id":991,"seconds":12.5}}',
    b'{"event_timestamp":"1767225600250000","event_name":"view_item","user_pseudo_id":"12.3","event_params":'
    b'[{"key":"engagement_time_msec","value":{"int_value":"8100"}}],"items":[{"item_id":"shoe-7"}]}',
    b'{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2026-01-01T00:00:00Z","data":{"type":"click",'
    b'"user_id":"user-42","item_id":"i-1"}}',
]
_AVRO = _avro_seed(0, published.avsc(), FIELDS)
_NESTED = _avro_seed(1, NESTED, {"a": ["x", None], "m": {"k": [b"v"]}, "e": "B", "d": 1.5})
_PROTO = b"\0\0\0\0\2\0" + protobuf.event_type()(**FIELDS).SerializeToString()
_SMALL = b"""[event]
event_id = "$.id"
type = { path = "$.t", map = { a = "click" }, others = "ignore" }
user_id = ["$.u", "$.v"]
item_id = { join = ["$.i", "$.j"], with = "-" }
ts = { path = "$.p[?@.k == 't'].v", unit = "s" }
[[example]]
event = '{"t": "b"}'
becomes = "ignored"
"""

FORMATS: dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...], tuple[type[Exception], ...]]] = {
    "foreign": (records, (EVENT, *_THEIRS, _AVRO, _NESTED, _PROTO), ()),
    "schema": (
        schemas, (published.avsc().encode(), NESTED.encode(), protobuf.event_file().SerializeToString()), ()
    ),
    "mapping": (mapping_file, (_SMALL,), (ConfigError,)),
}  # fmt: skip
