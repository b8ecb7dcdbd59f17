"""The registry is asked once for a schema; without it, what was asked before still serves."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from foreign_forms import Forms
from schema_registry import SchemaRegistry, running

from headrace.streams.errors import RejectedError, UnavailableError
from headrace.streams.messages.formats import protobuf, published
from headrace.streams.messages.formats.registry import Registry, UnknownSchemaError
from headrace.streams.messages.formats.schemas import PATIENCE_S, UNKNOWN_S, Schemas
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings

EVENT = Event("e-1", "click", "user-42", "item-1", 1_767_225_600_250)


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with running() as registry:
        yield registry


def of(url: str, folder: Path, **more: Any) -> Registry:
    return Registry(Settings(events_format="detect", registry_url=url, **more), folder)


def record(value: bytes) -> Any:
    class One:
        pass

    one: Any = One()
    one.value = value
    return one


def test_a_schema_is_asked_for_once_and_kept(server: SchemaRegistry, tmp_path: Path) -> None:
    number = server.register("events-value", published.avsc())
    first = of(server.url, tmp_path).schema(number)
    assert (first.kind, first.schema, first.references) == ("AVRO", published.avsc(), [])
    assert server.asked == [f"/schemas/ids/{number}"]
    server.stop()
    assert of(server.url, tmp_path).schema(number) == first  # a new process, without the registry
    with pytest.raises(UnavailableError, match="does not answer"):
        of(server.url, tmp_path).schema(number + 1)
    with pytest.raises(UnavailableError):
        of("http://localhost:1", tmp_path).schema(number)  # another registry has other ids


@pytest.mark.parametrize("body", [b"", b"{", b'{"kind": 5}', b"\xff"])
def test_a_broken_copy_is_asked_for_again(body: bytes, server: SchemaRegistry, tmp_path: Path) -> None:
    number = server.register("events-value", published.avsc())
    first = of(server.url, tmp_path).schema(number)
    (file,) = tmp_path.glob("*/*.json")
    file.write_bytes(body)
    assert of(server.url, tmp_path).schema(number) == first
    assert len(server.asked) == 2
    assert of(server.url, tmp_path).schema(number) == first
    assert len(server.asked) == 2
    assert list(tmp_path.glob("*/*")) == [file]


def test_a_folder_that_cannot_be_written_stops_nothing(server: SchemaRegistry, tmp_path: Path) -> None:
    number = server.register("events-value", published.avsc())
    (tmp_path / "file").write_text("")
    assert of(server.url, tmp_path / "file").schema(number).kind == "AVRO"


def test_references_come_before_what_needs_them(server: SchemaRegistry, tmp_path: Path) -> None:
    def registered(name: str, *others: str) -> int:
        fields = ", ".join(f'{{"name": "f_{o}", "type": "s.{o}"}}' for o in others)
        text = f'{{"type": "record", "name": "s.{name}", "fields": [{fields}]}}'
        references = [{"name": f"s.{o}", "subject": f"sub/{o}", "version": 1} for o in others]
        return server.register(f"sub%2F{name}", text, references=references)

    registered("a")
    registered("b", "a")
    number = registered("c", "b", "a")
    got = of(server.url, tmp_path).schema(number)
    assert [one.name for one in got.references] == ["s.a", "s.b"]


def test_protobuf_is_asked_for_as_a_descriptor(server: SchemaRegistry, tmp_path: Path) -> None:
    forms = Forms(server)
    got = of(server.url, tmp_path).schema(forms.proto_id)
    assert got.kind == "PROTOBUF"
    assert base64.b64decode(got.schema) == protobuf.event_file().SerializeToString()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_an_answer_that_is_not_the_registrys_is_an_outage(
    status: int, server: SchemaRegistry, tmp_path: Path
) -> None:
    number, server.broken = server.register("events-value", published.avsc()), status
    with pytest.raises(UnavailableError, match=str(status)):
        of(server.url, tmp_path).schema(number)
    server.broken = 200
    with pytest.raises(UnavailableError, match="not answer as a schema registry"):
        of(server.url, tmp_path).schema(number)
    server.broken = 0
    assert of(server.url, tmp_path).schema(number).kind == "AVRO"
    with pytest.raises(UnknownSchemaError):
        of(server.url, tmp_path).schema(number + 1)


def test_secrets_let_us_in_and_are_in_no_message(server: SchemaRegistry, tmp_path: Path) -> None:
    number = server.register("events-value", published.avsc())
    secret = tmp_path / "secret"
    secret.write_text("hush-hush\n")
    user = {"registry_user": "me", "registry_password_file": str(secret)}
    server.credentials = "Basic " + base64.b64encode(b"me:hush-hush").decode()
    assert of(server.url, tmp_path / "a", **user).schema(number).kind == "AVRO"
    server.credentials = "Bearer other"
    token = of(server.url, tmp_path / "b", registry_token_file=str(secret))
    with pytest.raises(UnavailableError, match="401") as caught:
        token.schema(number)
    assert "hush" not in str(caught.value)
    secret.write_text("other")  # a secret that is changed counts at once
    assert token.schema(number).kind == "AVRO"


def test_tls_with_a_ca_of_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*authority.sign("registry", "localhost"))
    with running(server_side) as server:
        number = server.register("events-value", published.avsc())
        with pytest.raises(UnavailableError, match="certificate"):
            of(server.url, tmp_path).schema(number)
        trusted = of(server.url, tmp_path, registry_ca_file=str(authority.ca))
        assert trusted.schema(number).kind == "AVRO"


def test_a_schema_that_is_not_there_yet_is_waited_for_and_then_given_up(
    server: SchemaRegistry, tmp_path: Path
) -> None:
    """With a clock of the test: the registry may hear of a new schema a moment after its record came."""
    schemas, forms = Schemas(of(server.url, tmp_path)), Forms(server)
    good = record(forms.avro(EVENT)[1])
    bad = [record(b"\0\0\0\0" + bytes([n]) + b"x") for n in (200, 201)]
    assert schemas.missing([good, *bad, record(b"{}"), record(b"\0x")], 100, 0.0) == {forms.avro_id, 200, 201}
    with pytest.raises(UnavailableError, match="no schema 200 yet"):
        schemas.load([forms.avro_id, 200, 201], 0.0)
    assert schemas.missing([good, *bad], 100, 0.0) == {200, 201}
    assert schemas.missing([good, *bad], 5, 0.0) == set()  # too large: not read
    with pytest.raises(UnavailableError):
        schemas.load([200, 201], PATIENCE_S - 0.01)
    schemas.load([200, 201], PATIENCE_S)
    assert schemas.missing(bad, 100, PATIENCE_S) == set()
    with pytest.raises(RejectedError) as caught:
        schemas.read(bad[0].value)
    assert caught.value.reason == "unknown_schema"
    schemas.load([202], PATIENCE_S + 1)  # garbage has any id: no second wait within a minute
    late = PATIENCE_S + UNKNOWN_S + 1
    assert schemas.missing(bad, 100, late) == {200, 201}
    assert schemas.read(good.value)[1]


def test_a_schema_that_cannot_be_used_refuses_its_records(server: SchemaRegistry, tmp_path: Path) -> None:
    schemas = Schemas(of(server.url, tmp_path))
    for kind in ("AVRO", "PROTOBUF", "THRIFT"):
        number = server.register(f"of-{kind}", "neither", kind)
        schemas.load([number], 0.0)
        with pytest.raises(RejectedError) as caught:
            schemas.read(b"\0" + number.to_bytes(4, "big"))
        assert caught.value.reason == "unusable_schema"


def test_json_with_a_schema_is_json(server: SchemaRegistry, tmp_path: Path) -> None:
    schemas, number = Schemas(of(server.url, tmp_path)), server.register("j", '{"type": "object"}', "JSON")
    schemas.load([number], 0.0)
    assert schemas.read(b"\0" + number.to_bytes(4, "big") + b'{"a": 1}') == ({"a": 1}, False)
    with pytest.raises(RejectedError):
        schemas.read(b"\0" + number.to_bytes(4, "big") + b"{")
