"""A schema registry with Confluent's HTTP API, in memory: subjects, versions, ids, references, errors, auth.

It answers as the real one: https://docs.confluent.io/platform/current/schema-registry/develop/api.html. A
Protobuf schema is registered as its descriptor in base64, which the real one takes, too, and is returned so
with ``format=serialized`` alone.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class SchemaRegistry:
    """The registry; ``url`` while it runs.

    Attributes
    ----------
    asked
        Paths of all requests, with their queries.
    credentials
        The header Authorization that it demands; None: none.
    broken
        The status of its answers while it does not work, with a page of a proxy as their body; 0: it works.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.credentials: str | None = None
        self.broken = 0
        self._schemas: dict[int, dict[str, Any]] = {}
        self._subjects: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self._port}"

    def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Start to answer; after a stop, on the same port."""
        self._tls = tls or self._tls
        self._server = _Server(("127.0.0.1", self._port), self._handler())
        self._port = self._server.server_address[1]
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Close the port: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def register(self, subject: str, schema: str, kind: str = "AVRO", references: Any = ()) -> int:
        """Register a schema as a producer does; return its id."""
        body = {"schema": schema, "schemaType": kind, "references": list(references)}
        status, answer = self.answer("POST", f"/subjects/{subject}/versions", body)
        assert status == 200, answer
        return int(answer["id"])

    def answer(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and body of an answer."""
        parts = urlsplit(path)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        form = parse_qs(parts.query).get("format", [""])[0]
        with self._lock:
            match (method, *words):
                case ("GET", "subjects"):
                    return 200, sorted(self._subjects)
                case ("GET", "schemas", "ids", number):
                    return self._by_id(number, form)
                case ("GET", "subjects", subject, "versions"):
                    return (200, list(range(1, 1 + len(found)))) if (found := self._of(subject)) else _none(1)
                case ("GET", "subjects", subject, "versions", version):
                    return self._by_version(subject, version, form)
                case ("POST", "subjects", subject, "versions"):
                    return self._add(subject, body)
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _of(self, subject: str) -> list[int]:
        return self._subjects.get(subject, [])

    def _add(self, subject: str, body: Any) -> tuple[int, Any]:
        stored = {name: body[name] for name in ("schema", "schemaType", "references") if body.get(name)}
        if not stored.get("schema"):
            return 422, {"error_code": 42201, "message": "Invalid schema"}
        number = next((n for n, known in self._schemas.items() if known == stored), 1 + len(self._schemas))
        self._schemas[number] = stored
        if number not in self._subjects.setdefault(subject, []):
            self._subjects[subject].append(number)
        return 200, {"id": number}

    def _by_id(self, number: str, form: str) -> tuple[int, Any]:
        if int(number) >= 1 << 31:  # no number of its language: it knows no such path
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        found = self._schemas.get(int(number))
        return (200, _shown(found, form)) if found else _none(3)

    def _by_version(self, subject: str, version: str, form: str) -> tuple[int, Any]:
        numbers = self._of(subject)
        at = len(numbers) if version == "latest" else int(version)
        if not 1 <= at <= len(numbers):
            return _none(2 if numbers else 1)
        number = numbers[at - 1]
        return 200, {
            "subject": subject, "version": at, "id": number, **_shown(self._schemas[number], form)
        }  # fmt: skip

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                registry.asked.append(self.path)
                size = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(size)) if size else None
                if registry.broken:
                    self._send(registry.broken, "text/html", b"<html>it does not work</html>")
                elif registry.credentials not in (None, self.headers.get("Authorization")):
                    self._send(401, CONTENT_TYPE, b'{"error_code": 401, "message": "Unauthorized"}')
                else:
                    status, answer = registry.answer(self.command, self.path, body)
                    self._send(status, CONTENT_TYPE, json.dumps(answer).encode())

            do_GET = do_POST = _serve  # noqa: N815 - the names that the server calls

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
                """Write nothing."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: Any) -> None:
        """Write nothing: a client without the right certificate is meant."""


def _shown(found: dict[str, Any], form: str) -> dict[str, Any]:
    if found.get("schemaType") != "PROTOBUF":
        return {name: part for name, part in found.items() if (name, part) != ("schemaType", "AVRO")}
    return found if form == "serialized" else found | {"schema": 'syntax = "proto3";\n...\n'}


def _none(kind: int) -> tuple[int, Any]:
    names = {1: "Subject", 2: "Version", 3: "Schema"}
    return 404, {"error_code": 40400 + kind, "message": f"{names[kind]} not found"}


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[SchemaRegistry]:
    """Run a registry."""
    registry = SchemaRegistry()
    registry.start(tls)
    try:
        yield registry
    finally:
        registry.stop()
