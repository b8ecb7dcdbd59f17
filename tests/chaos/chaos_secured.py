"""A chaos run in a secured installation: Kafka with TLS, SCRAM and ACLs; a Redis Cluster with TLS and a user.

Every worker comes in as the user of its role, ``headrace verify`` as the operator, with the rights that
``headrace acls`` prints. The rest of the run, which makes and deletes topics, is Kafka's super user. What the
plan does to Redis is done to one of its masters: it dies and its replica takes over, or it dies with its
replica, and a third of the rows is gone.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import redis.asyncio
from certificates import Authority
from chaos_plan import Action
from chaos_servers import Servers, Store
from pages import cluster_rights, redis_rights
from redis_cluster import ClusterNode, RedisCluster
from secured_kafka import ADMIN, SECRET, SecuredKafka, allow, user_of

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.acls import commands, users
from ops.kafka.run import KafkaServer, RedisServer

REDIS_USER = "headrace"


class Shards(RedisCluster):
    """A Redis Cluster whose masters are killed, emptied and frozen one by one."""

    def __init__(self, folder: Path) -> None:
        user = [
            "--user",
            REDIS_USER,
            "on",
            f">{SECRET}",
            "resetkeys",
            "~*",
            *redis_rights(),
            *cluster_rights(),
        ]
        super().__init__(user, password=f"{SECRET}-2", tls=Authority(folder, "redis-ca"))
        self._heir: ClusterNode | None = None
        self._failovers = 0

    @property
    def access(self) -> dict[str, Any]:
        """Settings of who uses it."""
        return {**super().access, "redis_user": REDIS_USER, "redis_password": SECRET}

    def kill(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.kill()

    def pick(self, action: Action) -> RedisServer:
        """Return a master."""
        return self._master(action)

    def _master(self, action: Action) -> ClusterNode:
        return random.Random(action.at_s).choice(self.masters())

    def figures(self) -> dict[str, Any]:
        """Return what the report says of it."""
        return {"redis_failovers": self._failovers}

    def lose(self, action: Action) -> str:
        """Kill a master; in a long outage with its replica. They keep their places in the cluster."""
        with contextlib.suppress(UnavailableError):
            self.settle()  # on a busy machine it may be failing over already
        master = self._master(action)
        self._heir = None if action.kind == "redis-away" else self.replica_of(master)
        if self._heir is None:
            self.replica_of(master).kill()
        master.kill()
        return "a master of redis" if self._heir else "a master of redis and its replica"

    def bring_back(self) -> str:
        """Let the replica take over, start what was killed, and wait until the cluster is whole."""
        if self._heir is not None:
            self._failovers += self.takes_over(self._heir)
        self.revive()
        try:
            self.settle()
        except UnavailableError as exc:
            return f"redis is back: {exc}"
        return "the cluster is whole again"

    def admin(self, server: RedisServer) -> redis.asyncio.Redis[bytes]:
        """Return a client of a node."""
        return redis.asyncio.Redis(port=server.port, password=f"{SECRET}-2")

    def read_only(self, server: RedisServer, yes: bool) -> tuple[str, ...]:
        """Return the command: a master without enough replicas refuses writes."""
        return ("CONFIG", "SET", "min-replicas-to-write", "9" if yes else "0")


class SecuredServers(Servers):
    """A Kafka and a Redis Cluster that let nobody in without TLS and a password.

    Parameters
    ----------
    folder
        Where the certificates are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__()

    def made(self) -> tuple[KafkaServer, Store]:
        """Return the two servers, not started."""
        self._secured = SecuredKafka(self._folder)
        return self._secured, Shards(self._folder)

    @property
    def access(self) -> dict[str, Any]:
        """Settings of the run itself, which may do everything in Kafka."""
        return {**self._secured.as_user(ADMIN), **self.redis.access}

    def of_user(self, settings: Settings, user: str) -> Settings:
        """Return the run's settings as a role, or the operator, has them."""
        return Settings(**(settings.model_dump() | self._secured.as_user(user_of(user))))

    async def prepare(self, settings: Settings) -> None:
        """Give every user the rights that are printed for it."""
        in_plain = {
            "kafka_protocol": "PLAINTEXT",
            "kafka_user": "",
            "kafka_password": "",
            "kafka_ca_file": "",
        }
        plain = Settings(**(settings.model_dump() | in_plain | {"brokers": self._secured.plain}))
        printed = [c for user in users() for c in commands(user, plain, f"User:{user_of(user)}")]
        await allow(plain, printed)
