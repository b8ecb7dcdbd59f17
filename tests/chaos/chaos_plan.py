"""The plan of a chaos run: a pure function of a seed and a shape. No clock, no process, no broker."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chaos_shape import Kind, Shape

#: Length of an outage of the broker, and of a long one of Redis.
BROKER_AWAY_S = 10.0
REDIS_AWAY_S = 20.0
#: Time between two outages of the broker: effects of the first one must be visible before the second.
BROKER_APART_S = 45.0
#: No action on a worker in its first second: it would only be importing.
UP_FOR_S = 1.0
#: Kinds of action that need a worker that is running.
ON_WORKERS = ("kill", "freeze", "leave")
#: By how many records, in each partition, committed offsets are moved back.
BACK_BY = (1000, 5000)


@dataclass(frozen=True, slots=True)
class Action:
    """Something done to a worker, a role, the broker, Redis, the disk or the catalogue.

    It is undone after ``for_s`` seconds: a killed worker, or one that has left, starts again; a frozen one
    continues; a server starts again or continues; a clock is right again; the disk has room. A worker that
    leaves with ``for_s`` 0 does not start again. When a group is moved, all workers of the role are stopped.
    """

    at_s: float  # since the first event
    kind: Kind
    target: str
    for_s: float = 0.0
    amount: int = 0  # s by which a clock is wrong; records by which committed offsets are moved back


def make_plan(seed: int, shape: Shape) -> list[Action]:
    """Return the actions in order of time; the same seed and shape give the same plan."""
    rng = random.Random(seed)
    actions = [*_broker(rng, shape), *_redis(rng, shape), *_crew(rng, shape)]
    actions += [*_clocks(rng, shape), *_groups(rng, shape), *_disk(rng, shape), *_catalogues(rng, shape)]
    return sorted(actions, key=lambda a: (a.at_s, a.target))


def worker_names(workers: Mapping[str, int]) -> list[str]:
    """Return the names of the workers at the start: ``ingest-0``, ``ingest-1``, ..."""
    return [f"{role}-{i}" for role, count in workers.items() for i in range(count)]


def role_of(name: str) -> str:
    """Return the role of a worker."""
    return name.rpartition("-")[0]


def _broker(rng: random.Random, shape: Shape) -> list[Action]:
    """Plan every outage in its own stretch of time, so that outages do not overlap."""
    n = len(shape.broker)
    length = shape.seconds / max(1, n)
    room = min(length * 0.6, max(0.0, length - BROKER_APART_S / 2))
    kinds = rng.sample(list(shape.broker), n)
    return [
        Action(
            _round(i * length + length * 0.15 + rng.random() * room),
            kind,
            "broker",
            BROKER_AWAY_S if kind != "broker-freeze" else _round(shape.session_s + rng.uniform(-3.0, 3.0)),
        )
        for i, kind in enumerate(kinds)
    ]


def _redis(rng: random.Random, shape: Shape) -> list[Action]:
    kinds = rng.sample(list(shape.redis), len(shape.redis))
    length = shape.seconds / max(1, len(kinds))
    return [
        Action(at, kind, "redis", _redis_away(rng, kind, length))
        for kind, at in zip(kinds, _moments(rng, shape, len(kinds)), strict=True)
    ]


def _redis_away(rng: random.Random, kind: Kind, length: float) -> float:
    if kind == "redis-flush":
        return 0.0
    return _round(min(REDIS_AWAY_S, 0.2 * length) if kind == "redis-away" else rng.uniform(0.5, 6.0))


def _moments(rng: random.Random, shape: Shape, n: int) -> Iterator[float]:
    """Yield ``n`` moments, each in its own stretch of the run and with at least 30 % of it left."""
    length = shape.seconds / max(1, n)
    for i in range(n):
        yield _round(length * (i + 0.1 + 0.6 * rng.random()))


def _clocks(rng: random.Random, shape: Shape) -> list[Action]:
    """Plan every wrong clock in its own stretch of time: never are two wrong at once."""
    wrong = rng.sample(list(shape.clocks), len(shape.clocks))
    longest = 0.28 * shape.seconds / max(1, len(wrong))
    return [
        Action(at, "clock", f"{role}-0", _round(min(longest, rng.uniform(8.0, 14.0))), seconds)
        for (role, seconds), at in zip(wrong, _moments(rng, shape, len(wrong)), strict=True)
    ]


def _groups(rng: random.Random, shape: Shape) -> list[Action]:
    moves = rng.sample(list(shape.groups), len(shape.groups))
    return [
        Action(at, kind, role, _round(rng.uniform(0.0, 2.0)), rng.randint(*BACK_BY))
        for (kind, role), at in zip(moves, _moments(rng, shape, len(moves)), strict=True)
    ]


def _disk(rng: random.Random, shape: Shape) -> list[Action]:
    """Plan full disks, for longer than the interval of flushes of the Parquet log and of snapshots."""
    moments = _moments(rng, shape, shape.disk)
    return [Action(at, "disk-full", "disk", _round(rng.uniform(8.0, 14.0))) for at in moments]


def _catalogues(rng: random.Random, shape: Shape) -> list[Action]:
    return [Action(at, "catalogue", "items") for at in _moments(rng, shape, shape.catalogues)]


def _crew(rng: random.Random, shape: Shape) -> list[Action]:
    """Spread the actions on workers at random; each is for a worker of its role that is running then."""
    wanted: list[tuple[Kind, str]] = [("kill", role) for role, n in shape.kills.items() for _ in range(n)]
    wanted += [("freeze", role) for role in shape.freezes]
    wanted += [("join", role) for role in shape.joins]
    wanted += [("leave", role) for role in shape.leaves]
    moments = [(rng.uniform(2.0, shape.seconds - 2.0), i, *what) for i, what in enumerate(wanted)]
    heapq.heapify(moments)
    up_from = dict.fromkeys(worker_names(shape.workers), -UP_FOR_S)
    lasting = set(up_from)  # workers that start again after they have left
    out = []
    while moments:
        at, tie, kind, role = heapq.heappop(moments)
        if kind == "join":
            name = f"{role}-{1 + max(int(n.rpartition('-')[2]) for n in up_from if role_of(n) == role)}"
            up_from[name] = at
            out.append(Action(_round(at), kind, name))
            continue
        of_role = {n: since for n, since in up_from.items() if role_of(n) == role}
        up = [n for n, since in of_role.items() if since + UP_FOR_S <= at]
        if not up:  # all are down: wait until one is up again
            again = min(of_role.values()) + UP_FOR_S + rng.uniform(0.0, 3.0)
            heapq.heappush(moments, (again, tie, kind, role))
            continue
        name = rng.choice(sorted(up))
        for_s = _round(_duration(rng, kind, shape.session_s))
        if kind == "leave" and name not in lasting:
            for_s = 0.0
        up_from[name] = at + for_s if for_s else float("inf")
        out.append(Action(_round(at), kind, name, for_s))
    return out


def _duration(rng: random.Random, kind: Kind, session_s: float) -> float:
    if kind == "freeze":  # the group must have given its partitions to others
        return session_s + rng.uniform(2.0, 8.0)
    if kind == "leave":
        return rng.uniform(2.0, 10.0)
    # A killed worker is back before the group knows, while it waits, or after it has moved the partitions.
    return rng.choice((rng.uniform(0.1, 2.0), rng.uniform(2.0, session_s), rng.uniform(session_s, 12.0)))


def _round(seconds: float) -> float:
    return round(seconds, 2)
