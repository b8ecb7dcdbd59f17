"""A real Redis Cluster on this machine: three masters, a replica of each."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import redis
from certificates import Authority
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.retry import Retry

from headrace.demo.embedded import EmbeddedRedis, free_port
from headrace.streams.errors import UnavailableError
from ops.kafka.run import RedisServer

MASTERS = 3
#: A node that does not answer for so long has failed.
NODE_TIMEOUT_MS = 5000
READY_S = 60.0


class ClusterNode(RedisServer):
    """One node; ``valkey`` is Valkey. With ``tls``, it also listens with TLS, and the nodes speak so, too."""

    def __init__(
        self, more: Sequence[str] = (), *, tls: Authority | None = None, valkey: bool = False
    ) -> None:
        super().__init__()
        self._bus_port, self._more, self._valkey = free_port(), list(more), valkey
        self.tls_port = 0
        if tls is not None:
            self.tls_port = free_port()
            cert, key = tls.sign("redis", host="localhost")
            files = ("cert", cert), ("key", key), ("ca-cert", tls.ca)
            self._more += [word for name, file in files for word in (f"--tls-{name}-file", str(file))]
            self._more += ["--tls-port", str(self.tls_port), "--tls-auth-clients", "no"]
            self._more += ["--tls-cluster", "yes", "--tls-replication", "yes"]
            self._more += ["--cluster-announce-hostname", "localhost"]
            self._more += ["--cluster-preferred-endpoint-type", "hostname"]

    @property
    def peer_port(self) -> int:
        """The port at which the other nodes reach it."""
        return self.tls_port or self.port

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line."""
        words = super().command(port, folder)
        if self._valkey:
            words[0] = EmbeddedRedis().command(port, folder)[0]
        return [
            *words, "--cluster-enabled", "yes", "--cluster-config-file", str(folder / "nodes.conf"),
            "--cluster-port", str(self._bus_port), "--cluster-node-timeout", str(NODE_TIMEOUT_MS),
            "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0", *self._more,
        ]  # fmt: skip

    def answers(self, sock: socket.socket) -> bool:
        """Return whether it answers, and be it that it wants a password."""
        sock.sendall(b"PING\r\n")
        return sock.recv(16).startswith((b"-NOAUTH", b"+PONG"))


class RedisCluster:
    """Six nodes, of which three are masters at first.

    Parameters
    ----------
    valkey
        Whether the nodes are Valkey, not Redis.
    options
        More options of every node.
    password
        Of the user ``default``.
    tls
        Signs the certificate of the nodes, which is for ``localhost``; None: there is no TLS.
    """

    def __init__(
        self,
        options: Sequence[str] = (),
        *,
        valkey: bool = False,
        password: str = "",
        tls: Authority | None = None,
    ) -> None:
        self._password, self._tls = password, tls
        more = ["--requirepass", password, "--masterauth", password] if password else []
        self.nodes = [ClusterNode([*options, *more], tls=tls, valkey=valkey) for _ in range(2 * MASTERS)]

    @property
    def access(self) -> dict[str, Any]:
        """Settings of a client: two of the nodes are named."""
        named = self.nodes[:: MASTERS + 1]
        given: dict[str, Any] = {"redis_password": self._password}
        if self._tls is None:
            return {**given, "redis_url": "redis://", "redis_cluster": ",".join(n.address for n in named)}
        given |= {"redis_url": "rediss://", "redis_ca_file": str(self._tls.ca)}
        return {**given, "redis_cluster": ",".join(f"localhost:{n.tls_port}" for n in named)}

    def client(self, node: ClusterNode) -> Any:
        """Return a client of one node."""
        return redis.Redis(port=node.port, password=self._password or None, socket_timeout=10)

    def _asking_once(self, node: ClusterNode) -> Any:
        """Return a client of what is refused the second time.

        A node writes its configuration to the disk before it answers. On a busy machine that may take longer
        than other clients wait before they ask again.
        """
        return redis.Redis(
            port=node.port,
            password=self._password or None,
            socket_timeout=READY_S,
            retry=Retry(NoBackoff(), 0),
        )

    def __enter__(self) -> Self:
        return self.start()

    def start(self) -> Self:
        """Start all nodes and make them a cluster; raise ``UnavailableError`` when that is not possible."""
        try:
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.close()

    def _join(self) -> None:
        first = self.nodes[0]
        for i, node in enumerate(self.nodes[:MASTERS]):
            with self._asking_once(node) as client:
                begin, end = (SLOTS * n // MASTERS for n in (i, i + 1))
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            with self._asking_once(node) as client:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.peer_port, first._bus_port)
        _until(lambda: all(len(self._seen_by(node)) == len(self.nodes) for node in self.nodes))
        for master, replica in zip(self.nodes[:MASTERS], self.nodes[MASTERS:], strict=True):
            with self.client(replica) as client:
                client.execute_command("CLUSTER", "REPLICATE", self.id_of(master))
        _until(self.whole)

    def _seen_by(self, node: ClusterNode) -> list[list[str]]:
        with self.client(node) as client:
            told = client.execute_command("CLUSTER", "NODES").decode()
        return [line.split() for line in told.splitlines() if "handshake" not in line]

    def id_of(self, node: ClusterNode) -> str:
        """Return the id of a node."""
        with self.client(node) as client:
            return str(client.execute_command("CLUSTER", "MYID").decode())

    def is_master(self, node: ClusterNode) -> bool:
        """Return whether a node runs, and is a master."""
        with contextlib.suppress(redis.RedisError), self.client(node) as client:
            return bool(client.info("replication")["role"] == "master")
        return False

    def masters(self) -> list[ClusterNode]:
        """Return the masters that run."""
        return [node for node in self.nodes if self.is_master(node)]

    def whole(self) -> bool:
        """Return whether every node that runs says that all slots are served, and replicas are in step."""
        for node in self.nodes:
            if node.pid is None:
                continue
            try:
                with self.client(node) as client:
                    told = client.execute_command("CLUSTER", "INFO")
                    copied = client.info("replication")
            except redis.RedisError:
                return False
            if b"cluster_state:ok" not in told or copied.get("master_link_status", "up") != "up":
                return False
        return True

    def master_of(self, slot: int) -> ClusterNode:
        """Return the master of a slot."""
        for node in self.masters():
            with self.client(node) as client:
                for first, last, owner, *_ in client.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == owner[1])
        raise UnavailableError(f"slot {slot} has no master")

    def replica_of(self, master: ClusterNode) -> ClusterNode:
        """Return a replica of a master."""
        for node in self.nodes:
            with contextlib.suppress(redis.RedisError), self.client(node) as client:
                if client.info("replication").get("master_port") == master.peer_port:
                    return node
        raise UnavailableError(f"{master.address} has no replica")

    def cut_off(self, master: ClusterNode) -> ClusterNode:
        """Let the replica of a master get no more of its writes; return the replica."""
        replica = self.replica_of(master)
        with self.client(replica) as client:
            client.config_set("masterauth", "wrong")
        with self.client(master) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        _until(lambda: not self.whole())
        return replica

    def takes_over(self, replica: ClusterNode) -> bool:
        """Wait until a replica is a master; return whether it became one."""
        with contextlib.suppress(UnavailableError):
            _until(lambda: self.is_master(replica))
            return True
        return False

    def repair(self) -> None:
        """Start what is down, and wait until all is well."""
        self.revive()
        self.settle()

    def settle(self) -> None:
        """Wait until all is well."""
        _until(self.whole)

    def revive(self) -> None:
        """Start what is down. Linux kills a process with the thread that started it: use one that stays."""
        for node in self.nodes:
            if node.pid is None or node._process is None:
                node.start()
            with self.client(node) as client:
                client.config_set("masterauth", self._password)

    def move(self, slots: Iterable[int], to: ClusterNode) -> None:
        """Move slots to a master, as ``redis-cli --cluster reshard`` does."""
        for slot in slots:
            source = self.master_of(slot)
            if source is to:
                continue
            with self.client(source) as a, self.client(to) as b:
                b.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
                a.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
                self.move_keys(slot, source, to)
                for client in (b, a):
                    client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))

    def move_keys(self, slot: int, source: ClusterNode, to: ClusterNode, most: int = 1 << 30) -> None:
        """Move at most so many keys of a slot that is being moved."""
        with self.client(source) as client:
            access = ["AUTH", self._password] if self._password else []
            while keys := client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, min(most, 50)):
                client.execute_command(
                    "MIGRATE", "127.0.0.1", to.peer_port, "", 0, 10_000, *access, "KEYS", *keys
                )
                most -= len(keys)


def _until(good: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not good():
        if time.monotonic() > deadline:
            raise UnavailableError(f"the cluster is not ready after {READY_S:.0f} s")
        time.sleep(0.05)
