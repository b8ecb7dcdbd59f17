"""A real Redis with TLS, users and a unix socket: the store works there with the documented rights."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from certificates import Authority
from installation import ITEMS, now_ms, producer, publish, until, worker
from pages import redis_rights

from headrace.demo.embedded import free_port
from headrace.models.state import users as user_state
from headrace.serving.requests.client import RecClient
from headrace.serving.store.connections import abort
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event, RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows, unpack
from headrace.streams.topics.lag_evidence import redis_wrong
from headrace.streams.topics.names import Topics
from ops.kafka.run import RedisServer

pytestmark = pytest.mark.broker

SECRET = "open-sesame"  # noqa: S105 - of the tests
PREFIX = "shop-"


class SecuredRedis(RedisServer):
    """Redis with a port for everybody, one with TLS, one with TLS for who has a certificate, and a socket."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.tls_port = free_port()
        self.authority = Authority(folder)
        self.cert, self.key = self.authority.sign("redis", host="localhost")
        self.socket = self.data / "redis.sock"

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line."""
        files = ("cert", self.cert), ("key", self.key), ("ca-cert", self.authority.ca)
        more = [word for name, file in files for word in (f"--tls-{name}-file", str(file))]
        more += ["--tls-port", str(self.tls_port), "--tls-auth-clients", "optional"]
        more += ["--unixsocket", str(self.socket)]
        return [*super().command(port, folder), *more]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredRedis]:
    try:
        with SecuredRedis(tmp_path_factory.mktemp("certificates")) as server:
            with redis.from_url(server.url) as admin:
                for user, rights in (("headrace", redis_rights()), ("reader", ["+mget", "+ping"])):
                    admin.acl_setuser(
                        user, enabled=True, passwords=[f"+{SECRET}"], keys=[f"{PREFIX}*"], commands=rights,
                    )  # fmt: skip
            yield server
    except UnavailableError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def ways(server: SecuredRedis, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Settings for each way into the server."""
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    cert, key = server.authority.sign("client")
    tcp = {"redis_url": server.url}
    tls = {"redis_url": f"rediss://localhost:{server.tls_port}/0", "redis_ca_file": str(server.authority.ca)}
    user = {"redis_user": "headrace", "redis_password": SECRET}
    return {
        "user": {**tcp, **user},
        "user in the URL": {"redis_url": f"redis://headrace:{SECRET}@{server.address}/0"},
        "password in a file": {**tcp, "redis_user": "headrace", "redis_password_file": str(file)},
        "TLS": {**tls, **user},
        "TLS, any host name": {
            **tls, **user, "redis_url": f"rediss://127.0.0.1:{server.tls_port}/0",
            "redis_check_hostname": False,
        },
        "TLS, certificate": {**tls, **user, "redis_cert_file": str(cert), "redis_key_file": str(key)},
        "socket": {"redis_url": f"unix://{server.socket}?db=0", **user},
        "socket, user in the URL": {"redis_url": f"unix://headrace:{SECRET}@{server.socket}?db=0"},
    }  # fmt: skip


WAYS = (
    "user", "user in the URL", "password in a file", "TLS", "TLS, any host name", "TLS, certificate",
    "socket", "socket, user in the URL",
)  # fmt: skip


def settings_of(given: dict[str, Any]) -> Settings:
    return Settings(**given, topic_prefix=f"{PREFIX}{secrets.token_hex(4)}-", redis_read_ms=5000)


@pytest.mark.parametrize("way", WAYS)
async def test_every_call_works_in_every_way(way: str, ways: dict[str, dict[str, Any]]) -> None:
    settings = settings_of(ways[way])
    store = RedisStore(settings, timeout_s=5.0)
    big = bytes(range(256)) * 20_000  # more than a socket takes at once
    try:
        await store.put("u", PackedRows.of([1, 2], [b"row", big]))
        assert await store.get("u", [1, 2, 3]) == [b"row", big, None]
        await store.drop("u", [2])
        assert await store.get("u", [1, 2]) == [b"row", None]
        assert await store.set_marks("u", {0: 5}) == {0}
        assert await store.read_marks("u", [0, 1]) == {0: 5, 1: None}
        await store.beat("u", [0])
        assert await store.beating("u", [0, 1]) == {0}
        assert await store.same_ids("abc")
        assert not await store.same_ids("xyz")
        assert await store.take_tokens([7], [1], 1.0, 1) == [0]
    finally:
        await store.close()
    assert await redis_wrong(settings) == ""


@pytest.mark.parametrize(
    ("way", "change", "says"),
    [
        ("user", {"redis_password": f"{SECRET}-not"}, "(?i)invalid username-password|WRONGPASS"),
        ("user", {"redis_user": "nobody"}, "(?i)invalid username-password|WRONGPASS"),
        ("TLS", {"redis_ca_file": "other"}, "(?i)certificate verify failed"),
        ("TLS", {"redis_url": "127"}, "(?i)certificate verify failed: IP address mismatch"),
        ("socket", {"redis_url": "unix:///nowhere/redis.sock"}, "(?i)no such file"),
    ],
)
async def test_what_is_wrong_is_said_without_secrets(
    way: str, change: dict[str, Any], says: str, server: SecuredRedis, ways: dict[str, Any], tmp_path: Path
) -> None:
    given = ways[way] | change
    if given.get("redis_ca_file") == "other":
        given["redis_ca_file"] = str(Authority(tmp_path, "other").ca)
    if given["redis_url"] == "127":
        given["redis_url"] = f"rediss://127.0.0.1:{server.tls_port}/0"
    settings = settings_of(given)
    store = RedisStore(settings, timeout_s=5.0)
    try:
        with pytest.raises(UnavailableError) as failed:
            await store.get("u", [1])
    finally:
        await store.close()
    for text in (str(failed.value), await redis_wrong(settings)):
        assert re.search(says, text), text
        assert SECRET not in text


@pytest.mark.parametrize("way", ["TLS", "user", "socket"])
async def test_a_connection_that_is_lost_can_be_aborted(way: str, ways: dict[str, dict[str, Any]]) -> None:
    store = RedisStore(settings_of(ways[way]), timeout_s=5.0)
    connection = await store._redis.connection_pool.get_connection()
    connection._writer.transport.abort()
    for _ in range(10):  # turns of the event loop, in which it is closed
        await asyncio.sleep(0)
    await abort(connection)
    assert not connection.is_connected
    await store.close()


async def test_a_server_that_wants_certificates_takes_no_others(
    server: SecuredRedis, ways: dict[str, dict[str, Any]]
) -> None:
    with redis.from_url(server.url) as admin:
        admin.config_set("tls-auth-clients", "yes")
        try:
            for way, wrong in (("TLS", True), ("TLS, certificate", False)):
                assert bool(await redis_wrong(settings_of(ways[way]))) is wrong
                store = RedisStore(settings_of(ways[way]), timeout_s=5.0)
                try:
                    if wrong:
                        with pytest.raises(UnavailableError):
                            await store.put("u", PackedRows.of([1], [b"row"]))
                    else:
                        await store.put("u", PackedRows.of([1], [b"row"]))
                finally:
                    await store.close()
        finally:
            admin.config_set("tls-auth-clients", "optional")


async def test_a_user_who_may_only_read(ways: dict[str, dict[str, Any]]) -> None:
    store = RedisStore(settings_of(ways["user"] | {"redis_user": "reader"}), timeout_s=5.0)
    try:
        assert await store.get("u", [1]) == [None]
        with pytest.raises(UnavailableError, match="NOPERM"):
            await store.put("u", PackedRows.of([1], [b"row"]))
    finally:
        await store.close()


@pytest.mark.parametrize("way", ["TLS, certificate", "socket"])
async def test_events_become_features_and_a_list(
    way: str, topics_made: Settings, ways: dict[str, dict[str, Any]], server: SecuredRedis
) -> None:
    settings = Settings(**(topics_made.model_dump() | ways[way]))
    with redis.from_url(server.url) as admin:
        admin.acl_setuser("headrace", enabled=True, keys=[f"{settings.topic_prefix}*"], reset_keys=False)
    topics = Topics(settings)
    click = Event("e1", "click", "user-1", "item-1", now_ms())
    async with producer(settings) as sender, worker(settings, ["ingest", "serve"]):
        await publish(sender, topics.items, [(item.item_id, item) for item in ITEMS])
        await publish(sender, topics.events, [("user-1", click)])
        store = RedisStore(settings)
        await until(
            lambda: store.get("u", [hash64("user-1")]),
            lambda rows: rows[0] is not None and unpack(rows, user_state.ROW)[0]["n_clicks"][0] == 1,
        )
        await store.close()
        async with RecClient(settings, "shop") as client:

            async def ask() -> RecReply:
                asked = RecRequest(secrets.token_hex(4), "user-1", "home", n=5, deadline_ms=9000)
                return await client.recommend(asked, 20)

            # Until the workers have told readers that all rows are there.
            reply = await until(ask, lambda reply: not {"user", "shown"} & set(reply.degraded), 30)
        assert (reply.error, len(reply.items)) == (None, 5)
