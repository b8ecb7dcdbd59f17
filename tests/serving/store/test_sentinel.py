"""Redis by Sentinel: the master dies, its replica takes over, and no row stays wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from certificates import Authority
from installation import now_ms, producer, publish, until, worker

from headrace.demo.embedded import free_port
from headrace.models.state import users as user_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows, unpack
from headrace.streams.topics.lag_evidence import redis_wrong
from headrace.streams.topics.names import Topics
from ops.kafka.run import RedisServer

pytestmark = pytest.mark.broker

SECRET = "open-sesame"  # noqa: S105 - of the tests
#: Capitals count in the name of a master, and not in that of a host.
MASTER = "ShopMaster"


class Replicated(RedisServer):
    """A Redis with a password; a replica of another one, if that is named."""

    def __init__(self, of: RedisServer | None = None) -> None:
        super().__init__()
        self._of = of

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line."""
        more = ["--requirepass", SECRET, "--masterauth", SECRET, "--repl-diskless-sync-delay", "0"]
        if self._of is not None:
            more += ["--replicaof", f"127.0.0.1 {self._of.port}"]
        return [*super().command(port, folder), *more]

    def answers(self, sock: socket.socket) -> bool:
        """Return whether it wants the password."""
        sock.sendall(b"PING\r\n")
        return sock.recv(16).startswith((b"-NOAUTH", b"+PONG"))


class SentinelServer(Replicated):
    """One Sentinel, which decides alone; it has a password of its own."""

    name = "sentinel"

    def __init__(self, master_port: int, more: Sequence[str] = ()) -> None:
        super().__init__()
        self._master_port, self._more = master_port, more

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line; Sentinel keeps what it knows in its configuration."""
        binary = super().command(port, folder)[0]
        lines = [
            f"port {port}", "bind 127.0.0.1", f"dir {folder}", f"requirepass {SECRET}-2",
            f"sentinel monitor {MASTER} 127.0.0.1 {self._master_port} 1",
            f"sentinel auth-pass {MASTER} {SECRET}",
            f"sentinel down-after-milliseconds {MASTER} 2000",
            f"sentinel failover-timeout {MASTER} 6000", *self._more,
        ]  # fmt: skip
        (folder / "sentinel.conf").write_text("\n".join(lines))
        return [binary, str(folder / "sentinel.conf"), "--sentinel"]


class Group:
    """A master, its replica and their Sentinel."""

    def __init__(self) -> None:
        self.master = Replicated()
        self.replica = Replicated(of=self.master)
        self.sentinel = SentinelServer(self.master.port)
        self.access: dict[str, Any] = {
            "redis_url": f"redis://{MASTER}/0", "redis_password": SECRET, "redis_read_ms": 5000,
            "redis_sentinels": f"127.0.0.1:1,{self.sentinel.address}",  # the first one is down
            "redis_sentinel_password": f"{SECRET}-2",
        }  # fmt: skip

    def admin(self, server: RedisServer) -> Any:
        return redis.from_url(server.url, password=SECRET)


@pytest.fixture
def group() -> Iterator[Group]:
    made = Group()
    try:
        with made.master, made.replica, made.sentinel:
            yield made
    except UnavailableError as exc:
        pytest.skip(str(exc))


async def ready(group: Group) -> None:
    """Wait until the replica has the rows of the master, and Sentinel knows the replica."""

    async def state() -> tuple[str, int]:
        with (
            group.admin(group.replica) as client,
            redis.from_url(group.sentinel.url, password=f"{SECRET}-2") as sentinel,
        ):
            found = sentinel.execute_command("SENTINEL", "replicas", MASTER)
            return client.info("replication")["master_link_status"], len(found)

    await until(state, lambda told: told == ("up", 1), 30)


async def test_the_store_follows_the_master(group: Group) -> None:
    await ready(group)
    settings = Settings(**group.access, topic_prefix="t-")
    assert SECRET not in repr(settings)
    assert await redis_wrong(settings) == ""
    store = RedisStore(settings, timeout_s=5.0)
    try:
        await store.put("u", PackedRows.of([1], [b"before"]))
        await store.read_marks("u", [])
        await store.set_marks("u", {0: 5})
        assert await store.read_marks("u", [0]) == {0: 5}
        with group.admin(group.replica) as client:
            await until(lambda: _value(client, f"t-u:{1:016x}"), lambda value: value == b"before")
        group.master.kill()

        said: list[str] = []

        async def write() -> bool:
            try:
                await store.put("u", PackedRows.of([2], [b"after"]))
            except UnavailableError as exc:
                said.append(str(exc))
                return False
            return True

        await until(write, bool, 60)
        assert [text for text in said if SECRET in text] == []
        assert await until(lambda: _got(store), bool, 30) == [b"before", b"after"]
        assert await store.read_marks("u", [0]) == {0: None}, "a server that took over may lack rows"
        assert await redis_wrong(settings) == ""
        with group.admin(group.replica) as client:
            assert client.get(f"t-u:{2:016x}") == b"after"
    finally:
        await store.close()


async def _value(client: Any, key: str) -> Any:
    return client.get(key)


async def _got(store: RedisStore) -> list[bytes | None]:
    try:
        return await store.get("u", [1, 2])
    except UnavailableError:  # until the probe has seen the new master
        return []


async def test_all_rows_are_right_after_a_failover(group: Group, topics_made: Settings) -> None:
    await ready(group)
    settings = Settings(**(topics_made.model_dump() | group.access))
    topic, users = Topics(settings).events, [f"user-{n}" for n in range(50)]

    def clicks(first: int) -> list[tuple[str, Event]]:
        return [
            (user, Event(f"{user}-{first + n}", "click", user, f"item-{n}", now_ms()))
            for n in range(3)
            for user in users
        ]

    async with producer(settings) as sender, worker(settings, ["ingest"]):
        await publish(sender, topic, clicks(0))
        await until(lambda: _clicks(settings, users), lambda found: found == [3] * 50, 30)
        group.master.kill()
        await publish(sender, topic, clicks(3))
        await until(lambda: _clicks(settings, users), lambda found: found == [6] * 50, 60)
    with group.admin(group.replica) as client:
        assert client.info("replication")["role"] == "master"


async def _clicks(settings: Settings, users: list[str]) -> list[int]:
    """Return how many clicks the row of each user has; an empty list when Redis does not answer."""
    store = RedisStore(settings, timeout_s=5.0)
    try:
        found = await store.get("u", [hash64(user) for user in users])
    except UnavailableError:
        return []
    finally:
        await store.close()
    rows, there = unpack(found, user_state.ROW)
    return [int(row["n_clicks"]) if known else 0 for row, known in zip(rows, there, strict=True)]


class OverTls(Replicated):
    """A Redis with a second port, over TLS."""

    def __init__(self, options: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.tls_port, self._options = free_port(), options

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line."""
        more = [word for name, value in self._options for word in (f"--{name}", value)]
        return [*super().command(port, folder), "--tls-port", str(self.tls_port), *more]


async def test_sentinel_and_master_over_tls(tmp_path: Path) -> None:
    authority, port = Authority(tmp_path), free_port()
    cert, key = authority.sign("redis", host="localhost")
    options = [("tls-cert-file", str(cert)), ("tls-key-file", str(key)), ("tls-auth-clients", "no")]
    options += [("tls-ca-cert-file", str(authority.ca)), ("tls-replication", "yes")]
    master = OverTls(options)
    sentinel = SentinelServer(master.tls_port, [f"tls-port {port}", *(f"{n} {v}" for n, v in options)])
    settings = Settings(
        redis_url=f"rediss://{MASTER}/0", redis_password=SECRET, redis_sentinels=f"localhost:{port}",
        redis_sentinel_password=f"{SECRET}-2", redis_ca_file=str(authority.ca), redis_read_ms=5000,
        redis_check_hostname=False,  # Sentinel names an address
    )  # fmt: skip
    other = settings.model_copy(update={"redis_url": "rediss://Other/0"})
    with ExitStack() as stack:
        try:
            stack.enter_context(master)
            stack.enter_context(sentinel)
        except UnavailableError as exc:
            pytest.skip(str(exc))
        store = RedisStore(settings, timeout_s=5.0)
        try:
            await store.put("u", PackedRows.of([1], [b"row"]))
            assert await store.get("u", [1]) == [b"row"]
        finally:
            await store.close()
        assert await redis_wrong(settings) == ""
        assert await redis_wrong(other) == (
            f"it does not answer: no Sentinel of localhost:{port} knows a master Other"
        )
