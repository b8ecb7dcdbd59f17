"""What Redis holds."""

from __future__ import annotations

from headrace.console.sizing.figures import Figure, Reader
from headrace.console.sizing.load import Load
from headrace.console.sizing.traffic import busy_events, busy_lists, events_of_item


def redis(load: Load, read: Reader) -> list[Figure]:
    """Return the memory of each kind of rows in Redis, with keys and expiry, and of all."""
    active, others = load.active_users, load.users - load.active_users
    out = []
    for kind, curve, busy, quiet in (
        ("user rows", "redis_user_bytes", busy_events(load), load.quiet_events),
        ("shown rows", "redis_shown_bytes", busy_lists(load), load.quiet_lists),
    ):
        size = active * read.at(curve, busy) + others * read.at(curve, quiet)
        how = "active users x bytes of a busy row + other users x bytes of a quiet row"
        out.append(read.figure("redis", kind, size, "bytes", how))
    for kind, curve in (("item rows", "redis_item_bytes"), ("neighbour rows", "redis_neighbour_bytes")):
        size = load.items * read.at(curve, events_of_item(load))
        out.append(read.figure("redis", kind, size, "bytes", "items x bytes at the events of a week"))
    read.also(out)
    out.append(read.figure("redis", "memory", sum(f.value for f in out), "bytes", "all rows"))
    return out
