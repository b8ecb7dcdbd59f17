"""The registry is asked once for a schema; without it, what was asked before still serves."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from foreign_forms import Forms, wire
from schema_registry import SchemaRegistry, running

from headrace.streams.errors import RejectedError, UnavailableError
from headrace.streams.messages.formats import protobuf, published
from headrace.streams.messages.formats.registry import (
    MOST_BYTES,
    MOST_REFERENCES,
    Registry,
    UnknownSchemaError,
)
from headrace.streams.messages.formats.schemas import Schemas
from headrace.streams.settings import Settings


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with running() as registry:
        yield registry


def of(url: str, folder: Path, **more: Any) -> Registry:
    return Registry(Settings(events_format="detect", registry_url=url, **more), folder)


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


def test_a_schema_that_cannot_be_used_refuses_its_records(server: SchemaRegistry, tmp_path: Path) -> None:
    schemas = Schemas(of(server.url, tmp_path))
    for kind in ("AVRO", "PROTOBUF", "THRIFT"):
        number = server.register(f"of-{kind}", "neither", kind)
        schemas.load({number}, 0.0)
        with pytest.raises(RejectedError) as caught:
            schemas.read(b"\0" + number.to_bytes(4, "big"))
        assert caught.value.reason == "unusable_schema"


def test_json_with_a_schema_is_json(server: SchemaRegistry, tmp_path: Path) -> None:
    schemas, number = Schemas(of(server.url, tmp_path)), server.register("j", '{"type": "object"}', "JSON")
    schemas.load({number}, 0.0)
    assert schemas.read(b"\0" + number.to_bytes(4, "big") + b'{"a": 1}') == ({"a": 1}, False)
    with pytest.raises(RejectedError):
        schemas.read(b"\0" + number.to_bytes(4, "big") + b"{")


def why(schemas: Schemas, number: int) -> tuple[str, str]:
    """Load a schema; return why its records are refused."""
    schemas.load({number}, 0.0)
    with pytest.raises(RejectedError) as caught:
        schemas.read(wire(number, b""))
    return caught.value.reason, caught.value.detail


def test_more_references_than_are_followed_make_a_schema_unusable(
    server: SchemaRegistry, tmp_path: Path
) -> None:
    references = []
    for n in range(MOST_REFERENCES + 1):
        server.register(f"s{n}", json.dumps({"type": "enum", "name": f"e{n}", "symbols": ["A"]}))
        references.append({"name": f"e{n}", "subject": f"s{n}", "version": 1})
    text = '{"type": "record", "name": "r", "fields": []}'
    number = server.register("all", text, references=references)
    said = "it refers to more than 100 others"
    assert why(Schemas(of(server.url, tmp_path)), number) == ("unusable_schema", said)
    fewer = server.register("few", text, references=references[1:])
    assert of(server.url, tmp_path).schema(fewer).references[-1].name == "e100"


def test_a_schema_that_is_too_large_is_unusable(server: SchemaRegistry, tmp_path: Path) -> None:
    number = server.register("large", '{"type": "string", "doc": "' + "x" * MOST_BYTES + '"}')
    reason, said = why(Schemas(of(server.url, tmp_path)), number)
    assert (reason, "bytes" in said) == ("unusable_schema", True)


def test_files_that_are_away_for_a_moment_are_an_outage(server: SchemaRegistry, tmp_path: Path) -> None:
    """Secrets and certificates are files that are replaced while a worker runs."""
    number = server.register("events-value", published.avsc())
    token = tmp_path / "token"
    token.write_text("let-me-in")
    registry = of(server.url, tmp_path, registry_token_file=str(token))
    for text in (None, "", "two\nlines"):
        token.unlink()
        if text is not None:
            token.write_text(text)
        with pytest.raises(UnavailableError, match="cannot be asked") as caught:
            registry.schema(number)
        assert "two" not in str(caught.value)
        token.write_text("let-me-in")
    assert registry.schema(number).kind == "AVRO"
    authority = Authority(tmp_path)
    secure = of("https://localhost:1", tmp_path, registry_ca_file=str(authority.ca))
    authority.ca.unlink()
    with pytest.raises(UnavailableError, match="REGISTRY_CA_FILE"):
        secure.schema(number)


def test_an_error_that_never_ends_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body of a 404 is read, too, and the connection may break in it."""
    monkeypatch.setattr("headrace.streams.messages.formats.registry.ANSWER_S", 0.3)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 60\r\n\r\n")
                done.wait()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with pytest.raises(UnavailableError, match="timed out"):
                of(f"http://127.0.0.1:{listening.getsockname()[1]}", tmp_path).schema(1)
        finally:
            done.set()
            thread.join()
