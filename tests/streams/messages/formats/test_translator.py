"""Every record of `events` is told for what it is, and becomes one of ours: in a list and in a batch."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from foreign_forms import KINDS, Forms, fields_of
from project import ROOT
from schema_registry import SchemaRegistry, running

from headrace.streams.errors import ConfigError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.formats.chosen import Chosen, chosen
from headrace.streams.messages.formats.translated import Translated
from headrace.streams.messages.schemas import Context, Event
from headrace.streams.settings import Settings
from headrace.streams.topics.placement import FORWARDED
from headrace.streams.transport.gathering import RawRecords
from headrace.streams.transport.record_list import RecordList

NOW = 1_767_225_600_250
EVENT = Event("e-1", "click", "user-42", "item-1", NOW, context=Context(country="DE"))
MAX_BYTES = 4096
CLOUD = [("content-type", b"application/cloudevents+json")]
BINARY = [("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_source", b"/s"), ("ce_type", b"t")]


@pytest.fixture(scope="module")
def registry() -> Iterator[SchemaRegistry]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def forms(registry: SchemaRegistry) -> Forms:
    return Forms(registry)


@pytest.fixture
def reads(registry: SchemaRegistry, tmp_path: Path) -> Any:
    """Return a function that reads records ``(key, value, headers)`` with these settings, in both ways."""

    def read(records: list[Any], *, plain: bool = True, **given: Any) -> Translated:
        told = {"events_format": "detect", "max_event_bytes": MAX_BYTES, "data_dir": tmp_path, **given}
        if told["events_format"] == "detect":
            told["registry_url"] = registry.url
        found = chosen(Settings(**told), plain=plain)
        batch = fetched(records)
        if found is None:
            return Translated(batch)
        return both(found, batch)

    return read


def segment() -> str:
    return str(ROOT / "ops" / "mappings" / "segment.toml")


def fetched(records: list[Any]) -> RecordList:
    """Return records as they are fetched."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for n, (key, value, headers) in enumerate(records):
        builder.append(3 * n, NOW, key, value, headers)
    source = RawRecords(bytes(builder.build()))
    gathering = source.gathering(())
    gathering.add(source.next_batch(), 0)
    found = gathering.records()
    assert isinstance(found, RecordList)
    return found


def both(found: Chosen, batch: RecordList) -> Translated:
    """Translate a batch and a list of the same records: both say the same."""
    missing = found.missing(batch, 0.0)
    assert missing == found.missing(list(batch), 0.0)
    if missing:
        assert found.schemas is not None
        found.schemas.load(missing, 0.0)
    one, other = found.translator.read(batch), found.translator.read(list(batch))
    for mine, theirs in zip(one.records, other.records, strict=True):
        for name in ("key", "value", "offset", "timestamp"):
            assert getattr(mine, name) == getattr(theirs, name), name
        assert list(mine.headers) == list(theirs.headers)
    assert {o: e.detail for o, e in one.refused.items()} == {o: e.detail for o, e in other.refused.items()}
    assert (one.ignored, one.sources.keys()) == (other.ignored, other.sources.keys())
    return one


def told(records: Translated) -> list[Any]:
    """Return key and event of every record."""
    decoder = Decoder(Event, MAX_BYTES)
    return [(r.key, decoder.one(r)) for r in records.records]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_says_the_same(kind: str, plain: bool, forms: Forms, reads: Any) -> None:
    form = forms.write(kind, EVENT)
    (key, event), (_, ours) = told(reads([form, forms.json(EVENT)], plain=plain, events_mapping=segment()))
    assert key == (form[0] if form[0] == b"user-42" else None)
    assert ours == EVENT
    changed = {"dwell_ms": 0} if kind == "segment" else {}
    if kind in ("structured", "binary"):
        changed = {"event_id": event.event_id} if kind == "binary" else {}
    assert event == msgspec.structs.replace(EVENT, **changed)


def test_what_was_sent_on_stays_as_it_is(forms: Forms, reads: Any) -> None:
    """A record that was sent on is ours, with the headers of the original: in every form."""
    records = [forms.write(kind, EVENT) for kind in KINDS]
    first = reads(records, events_mapping=segment())
    forwarded = [(b"user-42", r.value, [*r.headers, (FORWARDED, b"events/1/5")]) for r in first.records]
    again = reads(forwarded, events_mapping=segment())
    assert [r.value for r in again.records] == [r.value for r in first.records]
    assert {r.key for r in again.records} == {b"user-42"}
    assert not again.sources


def test_without_settings_nothing_is_looked_at(forms: Forms, reads: Any) -> None:
    assert chosen(Settings()) is None
    records = [forms.write(kind, EVENT) for kind in KINDS]
    mapped = reads(records, events_format="json", events_mapping=segment())
    kept = [r.value for r in mapped.records]
    assert kept[:3] != [value for _, value, _ in records[:3]]  # a CloudEvent is JSON that nobody knows
    assert kept[0] == records[0][1]
    assert sorted(e.reason for e in mapped.refused.values()) == ["undecodable"] * 2 or mapped.ignored


@pytest.mark.parametrize(
    ("value", "headers", "reason", "field"),
    [
        (b"{", CLOUD, "undecodable", ""),
        (b"[]", CLOUD, "invalid_field", ""),
        (b'{"id":"1","source":"s","type":"t"}', CLOUD, "missing_field", "specversion"),
        (b'{"specversion":"0.3","id":"1","source":"s","type":"t"}', CLOUD, "invalid_field", "specversion"),
        (b'{"specversion":"1.0","id":1,"source":"s","type":"t"}', CLOUD, "invalid_field", "id"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"t"}', CLOUD, "invalid_field", "data"),
        (
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"?"}',
            CLOUD, "invalid_field", "data_base64",
        ),
        (
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","time":"noon","data":{}}',
            CLOUD, "invalid_field", "time",
        ),
        (b"{}", BINARY[:3], "missing_field", "type"),
        (b"<a/>", BINARY, "undecodable", ""),
        (b"5", BINARY, "invalid_field", "data"),
        (b"\0", [], "undecodable", ""),
        (b"\0\0\0\0", [], "undecodable", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_the_reason(
    value: bytes, headers: Any, reason: str, field: str, reads: Any
) -> None:
    got = reads([(b"k", value, headers)])
    why = got.refused[0]
    assert (why.reason, why.field) == (reason, field)
    decoder = Decoder(Event, MAX_BYTES)
    rejects = decoder.batch(list(got.records)).rejects
    ((source, letter),) = got.letters(rejects)
    assert (source.key, source.value, list(source.headers)) == (b"k", value, headers)
    assert letter is why


def test_what_is_too_large_or_empty_is_left_to_the_reader(reads: Any) -> None:
    large = b"\0" + b"x" * MAX_BYTES
    got = reads([(b"k", None, CLOUD), (b"k", large, CLOUD), (b"k", b"", [])], events_mapping=segment())
    assert [r.value for r in got.records[:2]] == [None, large]
    reasons = [
        why.reason for _, why in got.letters(Decoder(Event, MAX_BYTES).batch(list(got.records)).rejects)
    ]
    assert reasons == ["empty", "too_large", "undecodable"]


def test_two_sources_of_cloud_events_may_count_alike(reads: Any) -> None:
    def of(source: str, id_: str, **more: Any) -> Any:
        data = fields_of(EVENT) | more
        event = {"specversion": "1.0", "id": id_, "source": source, "type": "t"}
        encoded = base64.b64encode(json.dumps(data).encode()).decode()
        return b"k", json.dumps(event | {"data_base64": encoded}).encode(), CLOUD

    nothing = {"event_id": None}
    found = told(
        reads([of("/a", "1", **nothing), of("/b", "1", **nothing), of("/a", "1"), of("/a", "1", **nothing)])
    )
    ids = [event.event_id for _, event in found]
    assert ids[0] == ids[3] != ids[1]
    assert ids[2] == "e-1"


def test_a_cloud_event_of_others_is_mapped_as_a_whole(reads: Any, tmp_path: Path) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text(
        """
[only]
"$.type" = ["com.acme.opened"]
[event]
event_id = { join = ["$.source", "$.id"] }
type = { const = "click" }
user_id = "$.subject"
item_id = "$.data.article"
ts = "$.time"
[[example]]
event = '{"type": "com.acme.closed"}'
becomes = "ignored"
"""
    )
    attributes = {
        "specversion": "1.0", "id": "9", "source": "/s", "type": "com.acme.opened", "subject": "user-42",
        "time": "2026-01-01T00:00:00.25Z",
    }  # fmt: skip
    whole = json.dumps(attributes | {"data": {"article": "item-1"}}).encode()
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    closed = [(name, b"com.acme.closed" if name == "ce_type" else value) for name, value in headers]
    records = [(None, whole, CLOUD), (b"user-42", b'{"article":"item-1"}', headers), (b"k", b"{}", closed)]
    got = reads(records, events_mapping=str(file))
    expected = Event("/s:9", "click", "user-42", "item-1", NOW)
    assert told(got) == [(None, expected), (b"user-42", expected)]
    assert (got.ignored, [r.offset for r in got.records]) == (1, [0, 3])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"events_mapping": "/nowhere.toml"}, "HEADRACE_EVENTS_MAPPING: /nowhere.toml cannot be read"),
        ({"registry_url": "http://r:1"}, "HEADRACE_EVENTS_FORMAT=detect"),
        ({"events_format": "detect", "registry_url": "r:1"}, "http://host:port"),
        ({"events_format": "detect", "registry_url": "http://u:secret@r:1"}, "HEADRACE_REGISTRY_USER"),
        ({"events_format": "detect", "registry_url": "http://r:1", "registry_user": "u"}, "belong together"),
        ({"events_format": "detect", "registry_url": "http://r:1", "registry_ca_file": "/a"}, "not https://"),
        ({"events_format": "detect", "registry_url": "https://r", "registry_ca_file": "/a"}, "be read"),
        ({"registry_token_file": "/nowhere"}, "cannot be read"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(Settings(**given))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
