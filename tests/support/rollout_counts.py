"""A rollout at some stage, counts of it, and examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from logged_examples import example

from headrace.models.learning.arm_counts import ArmCounts
from headrace.models.learning.pointers import Pointers
from headrace.models.learning.rollout import Rules
from headrace.models.learning.sequential import CLUSTERS
from headrace.streams.messages.schemas import Example

RULES = Rules(min_ms=1000, max_ms=100_000, min_examples=1000, max_examples=10**9)


def at(share: int, stage_ts: int = 0) -> Pointers:
    return Pointers(5, "live", "", "new", share, "new-1", 0, stage_ts)


def counts(share: int, live: float, candidate: float, each: int = 1000, watch: float = 1.0) -> ArmCounts:
    """Return counts of arms with these click rates; ``watch`` is the candidate's watch time against ours."""
    rng, out = np.random.default_rng(1), ArmCounts(at(share), {0: 0})
    for arm, rate in enumerate((live, candidate)):
        n = rng.poisson(each, CLUSTERS)
        clicks = rng.binomial(n, rate)
        out.totals[arm] = n, clicks, clicks * (10_000 * (watch if arm else 1.0))
    return out


def shown(n: int, ranker: str, ts: int, **fields: Any) -> Example:
    one = example(n, np.random.default_rng(n), user=f"u{n % 40}")
    one.ranker, one.ts = ranker, ts
    for name, value in fields.items():
        setattr(one, name, value)
    return one
