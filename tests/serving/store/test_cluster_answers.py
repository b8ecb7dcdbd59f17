"""What the nodes of a Redis Cluster answer is understood: slots, commands to send again, runs. Pure."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from headrace.serving.store.cluster import Cluster, commands, read_slots
from headrace.serving.store.cluster_store import _told, replication_of
from headrace.serving.store.marks import run_of
from headrace.serving.store.resp import command, delete_rows, set_rows
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows


def test_packed_commands_come_apart() -> None:
    row = b"*3\r\n$1\r\n\r\n"
    packed = bytes(set_rows(b"u:{14}:", 60, PackedRows.of([1, 255], [row, b""])))
    more = delete_rows(b"u:{14}:", [7]) + command("GET", "k")
    parts = commands(packed + more)
    assert b"".join(parts) == packed + more
    assert [part.split(b"\r\n")[2] for part in parts] == [b"SET", b"SET", b"DEL", b"GET"]
    assert row in parts[0]
    assert commands(b"") == []


def test_slots_have_masters_and_nodes_have_names() -> None:
    told = [
        [0, 99, [b"a", 1, b"id", []], [b"b", 2, b"id", []]],
        [100, 16_383, [None, 3, b"id", []], [b"", 4, b"id", []]],
    ]
    owners, nodes = read_slots(told, ("asked", 9))
    assert (owners[0], owners[99], owners[100], owners[-1]) == (
        ("a", 1),
        ("a", 1),
        ("asked", 3),
        ("asked", 3),
    )
    assert nodes == {("a", 1), ("b", 2), ("asked", 3), ("asked", 4)}
    assert read_slots(told[:1], ("asked", 9))[0][100] is None


MASTER = b"# Replication\r\nrole:master\r\nmaster_replid:abc\r\n"


@pytest.mark.parametrize(
    ("replication", "stats", "run"),
    [
        (MASTER, b"evicted_keys:0\r\n", "abc"),
        (MASTER, b"evicted_keys:7\r\n", "abc-7"),
        (MASTER, ResponseError("NOPERM"), "abc"),
        (MASTER.replace(b"master\r", b"slave\r"), b"evicted_keys:0\r\n", None),
        (ResponseError("NOPERM"), ResponseError("NOPERM"), ""),
    ],
)
def test_the_run_of_a_master(replication: object, stats: object, run: str | None) -> None:
    assert replication_of(_told(replication), _told(stats)) == run


def test_a_server_that_has_evicted_keys_is_another_one() -> None:
    assert run_of("r", {}) == run_of("r", {"evicted_keys": 0}) == "r"
    assert run_of("r", {"evicted_keys": 2}) == "r-2"


def test_a_node_that_joins_later_is_reached_as_the_others_though_a_secret_is_being_written_anew(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "password"
    secret.write_text("first")
    cluster = Cluster(Settings(redis_cluster="a:1", redis_password_file=str(secret)), 1.0)
    secret.unlink()
    kwargs = cluster._client(("b", 2)).connection_pool.connection_kwargs
    assert (kwargs["host"], kwargs["port"], kwargs["password"]) == ("b", 2, "first")
