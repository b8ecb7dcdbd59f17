"""How long and how hard a chaos run is: lengths, numbers and kinds of its actions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Kind = Literal[
    "kill", "freeze", "leave", "join", "clock",
    "broker-stop", "broker-kill", "broker-freeze",
    "redis-kill", "redis-flush", "redis-freeze", "redis-away", "redis-readonly",
    "disk-full", "group-back", "group-beyond", "catalogue",
]  # fmt: skip
#: What part of the load does besides sending good and bad records with Kafka's own partitioner. ``greedy``:
#: a caller asks for more than it may. ``gateway``: callers and producers that speak HTTP.
Extra = Literal["strangers", "transactions", "greedy", "gateway"]
#: What happens after the run, each with traffic and checks of its own: a topic is deleted and made again, or
#: the broker loses the last records of a topic, as after a power cut.
After = Literal[
    "events-again", "impressions-again", "item-events-again", "examples-again",
    "events-tail", "impressions-tail", "user-state-tail",
]  # fmt: skip

ROLES = ("ingest", "aggregate", "learn", "log", "serve", "trainer", "index", "gateway")


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
    disk: int = 0  # how often the disk of the snapshots and the Parquet log is full
    groups: Sequence[tuple[Kind, str]] = ()  # how the committed offsets of a role are moved
    clocks: Sequence[tuple[str, int]] = ()  # role, s by which the clock of a worker is wrong for a while
    catalogues: int = 0  # how often the whole catalogue is sent again
    load: Sequence[Extra] = ()
    afterwards: Sequence[After] = ()
    session_s: float = 6.0
    first_reply_s: float = 90.0  # the workers must have started, and answer, within this time
    evicts: bool = True  # there must be more rows than fit into memory


WORKERS = {
    "ingest": 2, "aggregate": 2, "learn": 2, "log": 1, "serve": 2, "trainer": 1, "index": 1, "gateway": 1
}  # fmt: skip
#: A clock that is wrong by this much, s, makes no record look as if it came from the future, even when the
#: clock of another worker is wrong by as much in the other direction: half of ``future_ms``, and a margin.
SMALL_STEP_S = 140
#: A clock that is far ahead.
AHEAD_S = 7200
#: Time between two things that happen to a Redis Cluster, on average, s: it must be whole again.
APART_S = 30.0

FULL = Shape(
    seconds=440,
    events=310_000,
    dedup_window_ms=60_000,
    workers=WORKERS,
    kills={
        "ingest": 7, "aggregate": 7, "learn": 5, "log": 2, "serve": 3, "trainer": 2, "index": 3, "gateway": 3
    },
    freezes=("ingest", "aggregate", "ingest"),
    joins=("ingest", "aggregate", "serve"),
    leaves=("ingest", "aggregate", "serve"),
    broker=("broker-stop", "broker-kill", "broker-freeze"),
    redis=("redis-kill", "redis-flush", "redis-freeze", "redis-kill", "redis-away", "redis-readonly"),
    disk=2,
    groups=(
        ("group-back", "ingest"), ("group-back", "aggregate"), ("group-back", "learn"), ("group-back", "log"),
        ("group-beyond", "ingest"), ("group-beyond", "aggregate"), ("group-beyond", "learn"),
    ),
    clocks=(
        *((role, SMALL_STEP_S) for role in ("ingest", "aggregate", "learn", "serve")),
        *((role, -SMALL_STEP_S) for role in ("ingest", "aggregate", "learn", "serve")),
        *((role, AHEAD_S) for role in ("ingest", "aggregate", "learn", "serve", "trainer")),
        ("aggregate", -AHEAD_S),
    ),
    catalogues=2,
    load=get_args(Extra),
    afterwards=get_args(After),
)  # fmt: skip
QUICK = Shape(
    seconds=64,
    events=42_000,
    dedup_window_ms=15_000,
    workers=WORKERS,
    kills={
        "ingest": 2,
        "aggregate": 2,
        "learn": 2,
        "log": 1,
        "serve": 1,
        "trainer": 1,
        "index": 1,
        "gateway": 1,
    },
    freezes=("ingest",),
    joins=("aggregate",),
    leaves=("ingest",),
    broker=("broker-stop", "broker-freeze"),
    redis=("redis-kill", "redis-readonly"),
    disk=1,
    groups=(("group-back", "ingest"), ("group-beyond", "aggregate")),
    clocks=(("ingest", AHEAD_S), ("serve", -SMALL_STEP_S)),
    catalogues=1,
    load=get_args(Extra),
    afterwards=("events-again",),
)


#: Many partitions and many workers, and nothing is broken: that they share the work is the test.
WIDE = Shape(
    seconds=60,
    events=60_000,
    dedup_window_ms=60_000,
    workers={"ingest": 8, "aggregate": 8, "learn": 8, "serve": 8, "log": 1, "trainer": 1, "index": 1},
    kills={},
    freezes=(),
    joins=(),
    leaves=(),
    broker=(),
    redis=(),
    load=("strangers",),
    session_s=30.0,
    first_reply_s=300.0,  # 35 processes start at once
    evicts=False,
)
WIDE_PARTITIONS = 64


def names_of(shape: Shape) -> set[str]:
    """Return the names of what a shape has and can be left out: kinds of actions, extras, afterwards."""
    found: set[str] = {*shape.broker, *shape.redis, *shape.load, *shape.afterwards}
    found |= {kind for kind, _ in shape.groups}
    found |= {name for name, (field, _) in _PLAIN.items() if getattr(shape, field)}
    return found


def without(shape: Shape, names: Collection[str]) -> Shape:
    """Return the shape without what ``names`` names; a name that it does not have changes nothing."""
    changes: dict[str, Any] = {
        field: tuple(name for name in getattr(shape, field) if name not in names)
        for field in ("broker", "redis", "load", "afterwards")
    }
    changes["groups"] = tuple(pair for pair in shape.groups if pair[0] not in names)
    for name, (field, nothing) in _PLAIN.items():
        if name in names:
            changes[field] = nothing
    if "gateway" in names:
        for field in ("workers", "kills"):
            there = changes.get(field, getattr(shape, field))
            changes[field] = {role: n for role, n in there.items() if role != "gateway"}
    return replace(shape, **changes)


def with_shards(shape: Shape) -> Shape:
    """Return the shape for a Redis Cluster: its masters die more often, in a longer run."""
    actions = (*shape.redis, "redis-kill", "redis-kill")
    seconds = max(shape.seconds, APART_S * len(actions))
    return replace(
        shape, redis=actions, seconds=seconds, events=round(shape.events * seconds / shape.seconds)
    )


#: Kind of action -> the field with the number of them, and its value for none.
_PLAIN: dict[str, tuple[str, Any]] = {
    "kill": ("kills", {}),
    "freeze": ("freezes", ()),
    "join": ("joins", ()),
    "leave": ("leaves", ()),
    "clock": ("clocks", ()),
    "disk-full": ("disk", 0),
    "catalogue": ("catalogues", 0),
}
