"""The plan of a chaos run: a pure function of a seed and a shape. No clock, no process, no broker."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "kill", "freeze", "leave", "join",
    "broker-stop", "broker-kill", "broker-freeze",
    "redis-kill", "redis-flush", "redis-freeze",
]  # fmt: skip

ROLES = ("ingest", "aggregate", "learn", "log", "serve", "trainer")
#: Length of an outage of the broker.
BROKER_AWAY_S = 10.0
#: Time between two outages of the broker: effects of the first one must be visible before the second.
BROKER_APART_S = 45.0
#: No action on a worker in its first second: it would only be importing.
UP_FOR_S = 1.0


@dataclass(frozen=True, slots=True)
class Action:
    """Something done to a worker, the broker or Redis.

    It is undone after ``for_s`` seconds: a killed worker, or one that has left, starts again; a frozen one
    continues; a server starts again or continues. A worker that leaves with ``for_s`` 0 does not start again.
    """

    at_s: float  # since the first event
    kind: Kind
    target: str
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Length of a run and numbers of its actions."""

    seconds: float
    events: int
    dedup_window_ms: int
    workers: Mapping[str, int]  # role -> processes at the start
    kills: Mapping[str, int]  # role -> kill -9
    freezes: Sequence[str]  # role of each worker that becomes a zombie
    joins: Sequence[str]
    leaves: Sequence[str]
    broker: Sequence[Kind]
    redis: Sequence[Kind]
    session_s: float = 6.0


WORKERS = {"ingest": 2, "aggregate": 2, "learn": 1, "log": 1, "serve": 2, "trainer": 1}
FULL = Shape(
    seconds=440,
    events=310_000,
    dedup_window_ms=60_000,
    workers=WORKERS,
    kills={"ingest": 7, "aggregate": 7, "learn": 3, "log": 2, "serve": 3, "trainer": 2},
    freezes=("ingest", "aggregate", "ingest"),
    joins=("ingest", "aggregate", "serve"),
    leaves=("ingest", "aggregate", "serve"),
    broker=("broker-stop", "broker-kill", "broker-freeze"),
    redis=("redis-kill", "redis-flush", "redis-freeze", "redis-kill"),
)
QUICK = Shape(
    seconds=80,
    events=51_000,
    dedup_window_ms=15_000,
    workers=WORKERS,
    kills={"ingest": 2, "aggregate": 2, "learn": 1, "log": 1, "serve": 1, "trainer": 1},
    freezes=("ingest",),
    joins=("aggregate",),
    leaves=("ingest",),
    broker=("broker-stop", "broker-freeze"),
    redis=("redis-kill",),
)


def make_plan(seed: int, shape: Shape) -> list[Action]:
    """Return the actions in order of time; the same seed and shape give the same plan."""
    rng = random.Random(seed)
    actions = [*_broker(rng, shape), *_redis(rng, shape), *_crew(rng, shape)]
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
    n = len(shape.redis)
    length = shape.seconds / max(1, n)
    kinds = rng.sample(list(shape.redis), n)
    return [
        Action(
            _round(length * (i + 0.1 + 0.6 * rng.random())),
            kind,
            "redis",
            0.0 if kind == "redis-flush" else _round(rng.uniform(0.5, 6.0)),
        )
        for i, kind in enumerate(kinds)
    ]


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
