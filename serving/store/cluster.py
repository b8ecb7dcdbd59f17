"""The nodes of a Redis Cluster: which has which slots, and commands that follow their slots.

A command goes to the master that has the slot of its key. When slots move, that node says where to (MOVED),
or that this one key may be there already (ASK); the command is sent again there. When a node does not answer,
or says MOVED, the nodes are asked for their slots before the next commands.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import RedisError, ResponseError

from headrace.serving.store.clients import node_options, open_node
from headrace.serving.store.exchange import exchange
from headrace.serving.store.groups import HASH_SLOTS
from headrace.serving.store.resp import command
from headrace.streams.errors import ConfigError
from headrace.streams.secured import cluster_of
from headrace.streams.settings import Settings

Address: TypeAlias = tuple[str, int]

#: A command is sent to another node so often; the first times without a pause.
MOST_REDIRECTIONS, AT_ONCE = 16, 3
PAUSE_S = 0.005
_MOVED: Final = ("MOVED", "ASK")
#: Answers of a node that is not, or not yet, what it was taken for.
_DOUBT: Final = ("MOVED", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY")


@dataclass(slots=True)
class Batch:
    """Commands for keys of one slot, and what was answered.

    Attributes
    ----------
    slot
        The slot of all keys.
    packed, count
        The commands, and their number.
    node
        In: the node to ask, whatever its slots; None: the one with the slot. Out: who gave the last answer.
    replies
        One for each command; errors are among them.
    """

    slot: int
    packed: bytes | memoryview
    count: int = 1
    node: Address | None = None
    replies: list[Any] = field(default_factory=list)


class Cluster:
    """Sends commands to the nodes of a cluster.

    Parameters
    ----------
    settings
        Addresses of some nodes, and how to get in.
    timeout_s
        Longest time of connecting, and of finding out who has which slots.

    Raises
    ------
    ConfigError
        When an option in ``settings.redis_url`` is wrong.
    """

    def __init__(self, settings: Settings, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._seeds = cluster_of(settings)
        self._clients: dict[Address, Any] = {}
        self._owners: list[Address | None] = []
        self._nodes: set[Address] = set(self._seeds)
        self._doubtful = True
        self._finding: asyncio.Task[None] | None = None
        try:
            self._options = node_options(settings, timeout_s)
            self._client(self._seeds[0]).connection_pool.make_connection()  # refuses unknown options
        except (ValueError, TypeError):
            # Neither the URL nor what is wrong with it: that may have a part of the password.
            raise ConfigError("HEADRACE_REDIS_URL is wrong, redis:// or rediss:// is expected") from None

    def _client(self, node: Address) -> Any:
        if node not in self._clients:
            self._clients[node] = open_node(self._options, *node)
        return self._clients[node]

    async def owners(self, slots: Sequence[int]) -> list[Address]:
        """Return the masters of some slots.

        Raises
        ------
        RedisError
            When no node answers, or a slot has no master.
        """
        if self._doubtful:
            await self._find()
        return [self._owner(slot) for slot in slots]

    def _owner(self, slot: int) -> Address:
        owner = self._owners[slot]
        if owner is None:
            self._doubtful = True
            raise NoConnectionError(f"no node of the cluster has slot {slot}")
        return owner

    async def run(self, batches: Sequence[Batch]) -> None:
        """Send all commands and note their answers.

        All nodes are asked at the same time; each gets its commands in order. When one fails, the others have
        done theirs.

        Raises
        ------
        RedisError, OSError, EOFError
            When a node did not answer, or is not able to.
        """
        nodes = await self.owners([batch.slot for batch in batches])
        batches_of: defaultdict[Address, list[Batch]] = defaultdict(list)
        for batch, node in zip(batches, nodes, strict=True):
            batch.node = batch.node or node
            batches_of[batch.node].append(batch)
        await self._all(self._send(node, some) for node, some in batches_of.items())
        for sent in range(MOST_REDIRECTIONS):
            again = [
                (batch, k, reply)
                for batch in batches
                for k, reply in enumerate(batch.replies)
                if isinstance(reply, ResponseError) and str(reply).split(" ", 1)[0] in (*_MOVED, "TRYAGAIN")
            ]
            if not again:
                break
            if sent >= AT_ONCE:
                await asyncio.sleep(PAUSE_S)
            await self._redirect(again)
        for batch in batches:
            for reply in batch.replies:
                if isinstance(reply, ResponseError) and str(reply).split(" ", 1)[0] in _DOUBT:
                    self._doubtful = True
                    raise reply

    async def _send(self, node: Address, batches: Sequence[Batch]) -> None:
        packed = b"".join([batch.packed for batch in batches])
        replies = iter(await self._exchange(node, packed, sum(batch.count for batch in batches)))
        for batch in batches:
            batch.replies = [next(replies) for _ in range(batch.count)]

    async def _redirect(self, again: Iterable[tuple[Batch, int, ResponseError]]) -> None:
        """Send single commands to the nodes that the answers name."""
        wanted: defaultdict[Address, list[tuple[Batch, int, bool]]] = defaultdict(list)
        for batch, k, reply in again:
            kind, _, rest = str(reply).partition(" ")
            if kind == "TRYAGAIN":
                wanted[self._owner(batch.slot)].append((batch, k, False))
                continue
            host, _, port = rest.rpartition(" ")[2].rpartition(":")
            if not host and batch.node is not None:  # the node does not know the name of that one
                host = batch.node[0]
            if kind == "MOVED":
                self._doubtful = True
                self._owners[batch.slot] = (host, int(port))
            wanted[host, int(port)].append((batch, k, kind == "ASK"))
        await self._all(self._send_singly(node, some) for node, some in wanted.items())

    async def _send_singly(self, node: Address, some: Sequence[tuple[Batch, int, bool]]) -> None:
        asking = command("ASKING")
        parsed = {id(batch): commands(batch.packed) for batch in {id(b): b for b, *_ in some}.values()}
        words = [asking * ask + parsed[id(batch)][k] for batch, k, ask in some]
        replies = await self._exchange(node, b"".join(words), len(some) + sum(ask for *_, ask in some))
        at = 0
        for batch, k, ask in some:
            at += ask
            batch.replies[k], batch.node = replies[at], node
            at += 1

    async def _all(self, calls: Iterable[Any]) -> None:
        """Wait for all calls, then raise the first error."""
        try:
            ended = await asyncio.gather(*calls, return_exceptions=True)
        except asyncio.CancelledError:  # it took too long
            self._doubtful = True
            raise
        if failed := [error for error in ended if error is not None]:
            self._doubtful = True
            raise failed[0]

    async def _exchange(self, node: Address, packed: bytes, count: int) -> list[Any]:
        return await exchange(self._client(node).connection_pool, packed, count)

    # -- who has which slots

    async def _find(self) -> None:
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._ask_all())
            # Who asked may have waited long enough before it fails.
            self._finding.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._finding)

    async def _ask_all(self) -> None:
        """Ask all known nodes for the slots; the first good answer counts."""
        asked = [asyncio.create_task(self._ask(node)) for node in self._nodes | set(self._seeds)]
        failed = None
        try:
            for one in asyncio.as_completed(asked):
                try:
                    self._owners, self._nodes = await one
                except (RedisError, OSError, EOFError, RuntimeError, ValueError) as exc:
                    failed = failed or exc
                else:
                    self._doubtful = False
                    return
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise NoConnectionError(f"no node of the cluster says who has which slots: {failed}") from failed

    async def _ask(self, node: Address) -> tuple[list[Address | None], set[Address]]:
        async with asyncio.timeout(self._timeout_s):
            (told,) = await self._exchange(node, command("CLUSTER", "SLOTS"), 1)
        if isinstance(told, ResponseError):
            raise told
        owners, nodes = read_slots(told, node)
        if not any(owners):
            raise NoConnectionError(f"{node[0]}:{node[1]} knows no slots")
        return owners, nodes

    async def close(self) -> None:
        """Close all connections."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()


def read_slots(told: Any, asked: Address) -> tuple[list[Address | None], set[Address]]:
    """Return the master of every slot, and all nodes, from the answer to ``CLUSTER SLOTS``.

    A node that does not know its own name is called as it was asked.
    """
    owners: list[Address | None] = [None] * HASH_SLOTS
    nodes: set[Address] = set()
    for first, last, *here in told:
        found = [((host or b"").decode() or asked[0], int(port)) for host, port, *_ in here]
        nodes.update(found)
        owners[first : last + 1] = [found[0]] * (last + 1 - first)
    return owners, nodes


def commands(packed: bytes | memoryview) -> list[bytes]:
    """Return packed commands one by one."""
    data, out, at = bytes(packed), [], 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        first, words, at = at, int(data[at + 1 : end]), end + 2
        for _ in range(words):
            end = data.index(b"\r\n", at)
            at = end + 2 + int(data[at + 1 : end]) + 2
        out.append(data[first:at])
    return out
