"""The online store in a Redis Cluster. The layout of its keys: ``protocol.py``; its groups: ``groups.py``.

Each master can lose its data, or its last writes, by itself: a replica that takes over may lack writes that
its master has acknowledged. So there is a mark for each group of rows, in the slot of the rows, and the run
in it is that of all masters: it changes when one of them fails over, starts again, comes or goes. A slot that
moves between masters that stay takes its marks along. A mark of a partition is as good as the worst one of
its groups.

A beat is written to every master, after the rows: what has a beat there has the rows, also after a failover,
because a replica gets all writes of its master in order; and one that has taken over gets no beat before its
marks were read. A partition counts when all masters have its beat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from redis.exceptions import ResponseError

from headrace.serving.store.applied import decode
from headrace.serving.store.buckets import TAKE, take_arguments
from headrace.serving.store.calls import CHUNK_BYTES, CHUNK_KEYS, RedisCalls
from headrace.serving.store.cluster import Address, Batch, Cluster
from headrace.serving.store.connections import within
from headrace.serving.store.groups import GROUPS, SLOTS, TAGS, by_group, lowest, slot_of
from headrace.serving.store.marks import (
    SET_BEATS,
    SET_MARKS,
    position_in,
    run_of,
    set_beats_arguments,
    set_marks_arguments,
)
from headrace.serving.store.protocol import BEAT_S, Keys, Kind
from headrace.serving.store.resp import command, delete_rows, set_rows
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows

#: Section and field of ``INFO`` that tell a master from others, and from itself before a failover.
REPLICATION = ("replication", "master_replid")
#: The run of each master; None of one that is none any more.
Servers: TypeAlias = dict[Address, str | None]


class ClusterStore(RedisCalls):
    """The store in a Redis Cluster.

    Parameters
    ----------
    settings, timeout_s, read_timeout_s
        As of ``RedisStore``.

    Raises
    ------
    ConfigError
        When an option in ``settings.redis_url`` is wrong.
    """

    def __init__(
        self, settings: Settings, timeout_s: float = 1.0, read_timeout_s: float | None = None
    ) -> None:
        super().__init__(settings, timeout_s, read_timeout_s, self._read_everywhere)
        self._cluster = Cluster(settings, timeout_s)
        #: By kind: the run of the cluster at the last ``read_marks``, None when it was changing; and by
        #: partition, the position of each group then, or the one it was given since.
        self._runs: dict[Kind, str | None] = {}
        #: The run of each master then.
        self._servers: dict[Kind, dict[Address, str]] = {}
        self._positions: dict[Kind, dict[int, list[int | None]]] = {}

    def _start(self, kind: str, group: int) -> str:
        return f"{self.prefix}{kind}:{{{TAGS[group]}}}:"

    def _marks(self, kind: Kind, group: int) -> str:
        return f"{self.prefix}m:{kind}:{{{TAGS[group]}}}"

    async def _run(self, name: str, batches: Sequence[Batch]) -> None:
        """Send commands of a worker; raise the first error that was answered."""
        with self.call(name):
            await within(self._cluster.run(batches), self.timeout_s)
            _raise_first(batches)

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        """Write packed rows, about ``CHUNK_BYTES`` in one round trip to all nodes."""
        for chunk in rows.chunks(CHUNK_BYTES, CHUNK_KEYS):
            batches = []
            for group, at in by_group(chunk.keys).items():
                some = PackedRows.of(chunk.keys[at], [chunk[i] for i in at.tolist()])
                packed = set_rows(self._start(kind, group).encode(), self.ttl[kind], some)
                batches.append(Batch(SLOTS[group], packed, len(some)))
            await self._run("write", batches)

    async def drop(self, kind: Kind, keys: Keys) -> None:
        """Remove rows."""
        for first in range(0, len(keys), CHUNK_KEYS):
            chunk = np.asarray(keys[first : first + CHUNK_KEYS], np.uint64)
            batches = [
                Batch(SLOTS[group], delete_rows(self._start(kind, group).encode(), chunk[at]), len(at))
                for group, at in by_group(chunk).items()
            ]
            await self._run("write", batches)

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows in one round trip to all nodes."""
        (rows,) = await self.get_several([(kind, keys)])
        return rows

    async def get_several(self, wanted: Sequence[tuple[Kind, Sequence[int]]]) -> list[list[bytes | None]]:
        """Read packed rows of several kinds in one round trip to all nodes."""
        found: list[list[bytes | None]] = [[None] * len(keys) for _, keys in wanted]
        places, batches = [], []
        for (kind, keys), rows in zip(wanted, found, strict=True):
            for group, at in by_group(keys).items():
                start = self._start(kind, group)
                # One command for each row: those for several keys are refused while their slot moves.
                words = [command("GET", f"{start}{keys[i]:016x}") for i in at.tolist()]
                places.append((rows, at.tolist()))
                batches.append(Batch(SLOTS[group], b"".join(words), len(words)))
        if not batches:
            return found

        async def read() -> None:
            await self._cluster.run(batches)
            _raise_first(batches)

        await self.for_request("read", read)
        for (rows, at), batch in zip(places, batches, strict=True):
            for i, row in zip(at, batch.replies, strict=True):
                rows[i] = row
        return found

    async def _each(self) -> list[int]:
        """Return a group of every master."""
        first: dict[Address, int] = {}
        for group, owner in enumerate(await self._cluster.owners(SLOTS)):
            first.setdefault(owner, group)
        return list(first.values())

    async def _read_everywhere(self) -> None:
        """Read a row from every master, for the probe; a node that hangs must not keep it."""
        await within(self._read_each(), self.timeout_s)

    async def _read_each(self) -> None:
        batches = [
            Batch(SLOTS[group], command("GET", self._start("u", group))) for group in await self._each()
        ]
        await self._cluster.run(batches)
        _raise_first(batches)

    async def take_tokens(
        self, callers: Sequence[int], tokens: Sequence[int], rate: float, burst: int
    ) -> list[int]:
        """Take tokens for many requests in one round trip; all buckets are in one slot."""
        if not callers:
            return []
        buckets, args = take_arguments(callers, tokens, rate, burst)
        keys = [f"{self.prefix}l:{{callers}}:{bucket:016x}" for bucket in buckets]
        batch = Batch(slot_of("callers"), command("EVAL", TAKE, len(keys), *keys, *args))

        async def take() -> None:
            await self._cluster.run([batch])
            _raise_first([batch])

        await self.for_request("take_tokens", take)
        return [int(wait) for wait in batch.replies[0]]

    # -- marks

    async def read_marks(self, kind: Kind, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return the lowest position of the groups of every partition; None where one is missing or void."""
        names = [str(p) for p in partitions] or ["none"]
        with self.call("read_marks"):
            marks, servers = await within(self._read_marks(kind, names), self.timeout_s)
        run = run_of_all(servers.values())
        found = [
            [None if run is None else position_in(mark, run) for mark in batch.replies[0]] for batch in marks
        ]
        self._runs[kind] = run
        self._servers[kind] = {node: server for node, server in servers.items() if server is not None}
        positions = self._positions.setdefault(kind, {})
        positions.update({p: [of[i] for of in found] for i, p in enumerate(partitions)})
        return {p: lowest(positions[p]) for p in partitions}

    async def _read_marks(self, kind: Kind, names: list[str]) -> tuple[list[Batch], Servers]:
        """Read the marks of all groups, and the runs of those who gave them."""
        owners = await self._cluster.owners(SLOTS)
        masters = _masters(owners)
        marks = [
            Batch(SLOTS[g], command("HMGET", self._marks(kind, g), *names), node=owners[g])
            for g in range(GROUPS)
        ]
        await self._cluster.run([*masters, *marks])
        _raise_first(marks)
        servers = servers_of(masters)
        for batch in marks:
            if batch.node is not None:
                servers.setdefault(batch.node, None)  # one that has just taken over
        return marks, servers

    async def set_marks(
        self, kind: Kind, marks: Mapping[int, int], seen: Mapping[int, int | None] | None = None
    ) -> set[int]:
        """Write marks to all groups; those of a partition are written when all of them are."""
        if kind not in self._runs:
            await self.read_marks(kind, [])
        run, known = self._runs[kind], self._positions.setdefault(kind, {})
        of = {p: known.get(p) or [None if seen is None else seen[p]] * GROUPS for p in marks}
        # What was seen is the lowest position; a group may have another one.
        wanted = [p for p in marks if seen is None or lowest(of[p]) == seen[p]]
        if not wanted or run is None:
            return set()
        batches = []
        for group in range(GROUPS):
            expected = None if seen is None else {p: of[p][group] for p in wanted}
            args = set_marks_arguments(run, {p: marks[p] for p in wanted}, expected)
            packed = command("EVAL", SET_MARKS, 1, self._marks(kind, group), *args)
            batches.append(Batch(SLOTS[group], packed))
        with self.call("set_marks"):
            unchanged = await within(self._set_marks(batches), self.timeout_s) == run
        done = [{int(p) for p in batch.replies[0]} for batch in batches]
        for p in wanted:
            known[p] = [marks[p] if p in done[g] else of[p][g] for g in range(GROUPS)]
        return set.intersection(*done) if unchanged else set()

    async def _set_marks(self, batches: Sequence[Batch]) -> str | None:
        """Write marks; return the run of the cluster afterwards."""
        masters = _masters(await self._cluster.owners(SLOTS))
        await self._cluster.run(batches)
        _raise_first(batches)
        await self._cluster.run(masters)
        return run_of_all(servers_of(masters).values())

    # -- beats

    async def beat(
        self, kind: Kind, partitions: Sequence[int], texts: Mapping[int, bytes] | None = None
    ) -> None:
        """Write beats to every master. One that has taken over since the marks were read takes none."""
        if not partitions:
            return
        if kind not in self._runs:
            await self.read_marks(kind, [])
        with self.call("write"):
            await within(self._beat(kind, partitions, texts or {}), self.timeout_s)

    async def _beat(self, kind: Kind, partitions: Sequence[int], texts: Mapping[int, bytes]) -> None:
        run, servers = self._runs[kind], self._servers[kind]
        groups = await self._each()
        owners = await self._cluster.owners([SLOTS[group] for group in groups])
        if run is None or not servers.keys() >= set(owners):
            return
        batches = []
        for group, owner in zip(groups, owners, strict=True):
            start = self._start(f"w:{kind}", group)
            keys = [self._marks(kind, group), *(f"{start}{partition}" for partition in partitions)]
            args = set_beats_arguments(REPLICATION, servers[owner], run, BEAT_S, partitions, texts)
            batches.append(Batch(SLOTS[group], command("EVAL", SET_BEATS, len(keys), *keys, *args)))
        await self._cluster.run(batches)
        _raise_first(batches)

    async def silence(self, kind: Kind, partitions: Sequence[int]) -> None:
        """Delete beats at every master."""
        if partitions:
            with self.call("write"):
                await within(self._silence(kind, partitions), self.timeout_s)

    async def _silence(self, kind: Kind, partitions: Sequence[int]) -> None:
        batches = []
        for group in await self._each():
            start = self._start(f"w:{kind}", group)
            words = [command("DEL", f"{start}{partition}") for partition in partitions]
            batches.append(Batch(SLOTS[group], b"".join(words), len(words)))
        await self._cluster.run(batches)
        _raise_first(batches)

    async def beating(self, kind: Kind, partitions: Sequence[int]) -> set[int]:
        """Read which partitions have a beat at every master."""
        return set(await self.beats(kind, partitions))

    async def beats(self, kind: Kind, partitions: Sequence[int]) -> dict[int, bytes]:
        """Read the beats at all masters; of those of a partition, the one that says least."""
        with self.call("read_beats"):
            found = await within(self._beats(kind, partitions), self.timeout_s) if partitions else []
        return {
            p: min(beats, key=_reach)
            for p, beats in zip(partitions, zip(*found, strict=True), strict=False)
            if None not in beats
        }

    async def _beats(self, kind: Kind, partitions: Sequence[int]) -> list[list[bytes | None]]:
        batches = []
        for group in await self._each():
            start = self._start(f"w:{kind}", group)
            words = [command("GET", f"{start}{partition}") for partition in partitions]
            batches.append(Batch(SLOTS[group], b"".join(words), len(words)))
        await self._cluster.run(batches)
        _raise_first(batches)
        return [batch.replies for batch in batches]

    async def same_ids(self, sample: str) -> bool:
        """Return whether the ids in the store are hashed as those of this process; see ``RedisStore``."""
        key = f"{self.prefix}ids"
        packed = command("SET", key, sample, "NX") + command("GET", key)
        batch = Batch(slot_of(key), packed, 2)
        await self._run("same_ids", [batch])
        found = batch.replies[1]
        return found is None or bytes(found) == sample.encode()

    async def close(self) -> None:
        """Close the connections."""
        await self.stop_probing()
        await self._cluster.close()


def _masters(owners: Sequence[Address]) -> list[Batch]:
    """Return what is asked of each master, to know its run."""
    info = command("INFO", "replication") + command("INFO", "stats")
    return [Batch(SLOTS[owners.index(node)], info, 2, node=node) for node in dict.fromkeys(owners)]


def servers_of(masters: Sequence[Batch]) -> Servers:
    """Return the run of each master from what it told."""
    return {
        batch.node: replication_of(*map(_told, batch.replies)) for batch in masters if batch.node is not None
    }


def run_of_all(servers: Collection[str | None]) -> str | None:
    """Return the run of the cluster from those of its masters; None when one is not a master any more."""
    known = sorted(run for run in servers if run is not None)
    if len(known) < len(servers):
        return None
    return hashlib.blake2b(" ".join(known).encode(), digest_size=10).hexdigest()


def _told(info: Any) -> dict[str, str]:
    """Return what ``INFO`` tells: nothing when it is refused."""
    if isinstance(info, ResponseError):
        return {}
    return dict(line.split(":", 1) for line in bytes(info).decode().splitlines() if ":" in line)


def replication_of(replication: Mapping[str, str], stats: Mapping[str, str]) -> str | None:
    """Return the run of a master by its replication id; None when it is no master.

    Empty when ``INFO`` is refused: then only a missing mark shows a loss.
    """
    if replication.get("role", "master") != "master":
        return None
    return run_of(replication.get(REPLICATION[1], ""), stats)


def _reach(beat: bytes) -> tuple[int, int, int]:
    """Return up to where a beat reaches: of the beats of a partition, an older one reaches less far."""
    applied = decode(beat)
    if applied is None:
        return (-1, -1, -1)
    elsewhere = sum(applied.events.elsewhere.values()) + sum(applied.users.elsewhere.values())
    return applied.events.last, applied.users.last, elsewhere


def _raise_first(batches: Sequence[Batch]) -> None:
    """Raise the first error in the answers."""
    for batch in batches:
        for reply in batch.replies:
            if isinstance(reply, ResponseError):
                raise reply
