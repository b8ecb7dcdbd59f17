"""How many different items, or users, a number of events is on."""

from __future__ import annotations

import math

#: Items are as popular as ``1 / (rank + HEAD)``: the audience of the benchmarks (bench/ingest/events.py).
HEAD = 10.0
_STEPS = 400


def different_items(events: float, items: float) -> float:
    """Return how many different items so many events are on, expected.

    The sum over ranks r of ``1 - exp(-events p(r))`` with ``p(r)`` proportional to ``1 / (r + HEAD)``, as an
    integral over the logarithm of the rank.
    """
    if events <= 0 or items <= 0:
        return 0.0
    whole = math.log((items + HEAD) / HEAD)
    step, found = whole / _STEPS, 0.0
    for k in range(_STEPS):
        at = HEAD * math.exp((k + 0.5) * step)  # rank + HEAD
        found += -math.expm1(-events / (at * whole)) * at * step
    return min(found, items, events)


def different_users(events: float, users: float) -> float:
    """Return how many different users so many events are of, when all are equally active."""
    return -math.expm1(-events / users) * users if events > 0 and users > 0 else 0.0
