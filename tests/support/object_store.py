"""An S3 server (moto's) in a thread of this process; a test sees, refuses or follows each change of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class ObjectStore:
    """A server with one bucket.

    Attributes
    ----------
    changes
        Method and path of each request that changes something.
    before
        Called with the number of a change; False: the change is refused.
    after
        Called with the number of a change that was made.
    """

    def __init__(self, port: int = 0) -> None:
        self.changes: list[str] = []
        self.before: Callable[[int], bool] = lambda _: True
        self.after: Callable[[int], None] = lambda _: None
        self._real = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", port, self._answer, threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1"
        )
        self.client.create_bucket(Bucket="lake")
        self.changes.clear()

    @property
    def url(self) -> str:
        return f"s3://lake/some/where?endpoint_override=http://127.0.0.1:{self.port}&region=us-east-1"

    def names(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket="lake").get("Contents", [])
        return sorted(one["Key"] for one in found if not one["Key"].endswith("/"))

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
            return self._real(environ, start)
        number = len(self.changes)
        self.changes.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if not self.before(number):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>the test says so</Message></Error>"]
        out = list(self._real(environ, start))
        self.after(number)
        return out

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def object_store(port: int = 0) -> Iterator[ObjectStore]:
    """Start a server, with keys for it in the environment."""
    from moto.s3.models import s3_backends

    kept = {name: os.environ.get(name) for name in KEYS}
    os.environ.update(KEYS)
    for account in s3_backends.values():
        for backend in account.values():
            backend.reset()
    store = ObjectStore(port)
    try:
        yield store
    finally:
        store.stop()
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
