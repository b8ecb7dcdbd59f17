"""Hypothesis strategies and small builders shared by the unit tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from headrace.models.embeddings import DIM, unit
from headrace.streams.messages.columns import ITEM_EVENT, KIND, EventColumns
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS

#: A time that is on no boundary of a bucket.
T0 = 1_700_000_000_123
GAP_MS = 30 * MINUTE_MS


@dataclass(frozen=True)
class Act:
    """One event of one user, before it becomes a column; whole seconds of dwell."""

    user: int
    item: int
    kind: str
    ts: int
    dwell_s: float = 0.0
    country: int = 0
    category: int = 0
    creator: int = 0
    of_creator: bool = False
    age_group: int = 0


def columns(acts: Sequence[Act], offsets: Sequence[int] | None = None) -> EventColumns:
    """Return ``acts`` as columns; offsets count from 0 unless given."""
    return EventColumns(
        user=np.array([a.user for a in acts], np.uint64),
        item=np.array([a.item for a in acts], np.uint64),
        kind=np.array([KIND[a.kind] for a in acts], np.int8),
        ts=np.array([a.ts for a in acts], np.int64),
        dwell_s=np.array([a.dwell_s for a in acts], np.float32),
        country=np.array([a.country for a in acts], np.uint64),
        offset=np.array(range(len(acts)) if offsets is None else offsets, np.int64),
        category=np.array([a.category for a in acts], np.uint64),
        creator=np.array([a.creator for a in acts], np.uint64),
        of_creator=np.array([a.of_creator for a in acts], np.bool_),
        age_group=np.array([a.age_group for a in acts], np.uint8),
    )


def pieces(total: int, cuts: Sequence[int]) -> list[slice]:
    """Return slices that cover ``range(total)``, cut at ``cuts``."""
    edges = [0, *sorted({c % (total + 1) for c in cuts}), total]
    return [slice(a, b) for a, b in pairwise(edges) if b > a]


#: Milliseconds after ``T0``: around bucket edges, close together and far apart.
offsets_ms = st.one_of(
    st.integers(0, 10 * MINUTE_MS),
    st.integers(0, 3 * HOUR_MS),
    st.integers(0, 4 * DAY_MS),
    st.builds(lambda b, d: max(0, b * MINUTE_MS + d), st.integers(0, 2000), st.integers(-2, 2)),
)
#: Lengths of drawn histories: events of ten minutes test other tiers than events of days.
spans_ms = st.sampled_from([10 * MINUTE_MS, 15 * MINUTE_MS, 2 * HOUR_MS, 30 * HOUR_MS, 9 * DAY_MS])


def dense_times(rng: np.random.Generator, n: int, span: int) -> list[int]:
    """Return ``n`` times in the ``span`` after ``T0``: some rounded, so that there are ties."""
    step = int(rng.choice([1, 1000, MINUTE_MS // 2]))
    times: list[int] = (T0 + rng.integers(0, span + 1, n) // step * step).tolist()
    return times


acts = st.builds(
    Act,
    user=st.integers(1, 4),
    item=st.integers(1, 9),
    kind=st.sampled_from(["click", "click", "click", "skip", "dwell", "like", "save", "follow", "hide"]),
    ts=st.builds(
        lambda o: T0 + o, st.one_of(st.integers(0, 2 * HOUR_MS), st.integers(0, 20 * MINUTE_MS), offsets_ms)
    ),
    dwell_s=st.integers(0, 240),
    country=st.integers(0, 3),
    category=st.integers(0, 5),
    creator=st.integers(0, 7),
)


def _dense_acts(seed: int, n: int, span: int) -> list[Act]:
    rng = np.random.default_rng(seed)
    kinds = ["click", "click", "click", "click", "skip", "dwell", "like", "save", "follow", "hide"]
    return [
        Act(
            user=int(rng.integers(1, 4)),
            item=int(rng.integers(1, 10)),
            kind=str(rng.choice(kinds)),
            ts=ts,
            dwell_s=float(rng.integers(0, 240)),
            country=int(rng.integers(0, 4)),
            category=int(rng.integers(0, 6)),
            creator=int(rng.integers(0, 8)),
        )
        for ts in dense_times(rng, n, span)
    ]


#: Histories: short ones that shrink well, and long dense ones.
histories = st.one_of(
    st.lists(acts, max_size=60),
    st.builds(_dense_acts, st.integers(0, 2**32), st.integers(30, 80), spans_ms),
)


def _dense_item_events(seed: int, n: int, span: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    out = np.zeros(n, ITEM_EVENT)
    out["item"], out["country"] = rng.integers(1, 4, n), rng.integers(0, 4, n)
    out["kind"] = rng.choice([KIND[k] for k in ("shown", "click", "click", "skip", "dwell", "like")], n)
    out["ts"], out["amount"] = dense_times(rng, n, span), 1
    dwell = out["kind"] == KIND["dwell"]
    out["amount"][dwell] = rng.integers(1, 20, int(dwell.sum()))
    return out


def item_events(max_size: int = 60) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Draw an ``ITEM_EVENT`` array without pairs."""
    dense = st.builds(_dense_item_events, st.integers(0, 2**32), st.integers(0, 2 * max_size), spans_ms)
    return _item_events(max_size) | dense


@st.composite
def _item_events(draw: st.DrawFn, max_size: int) -> np.ndarray[Any, Any]:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(1, 4),
                st.integers(0, 3),
                st.sampled_from(["shown", "click", "skip", "dwell", "like", "save", "hide"]),
                offsets_ms,
                st.integers(1, 20),
            ),
            max_size=max_size,
        )
    )
    out = np.zeros(len(rows), ITEM_EVENT)
    for i, (item, country, kind, offset, amount) in enumerate(rows):
        out[i]["item"], out[i]["country"], out[i]["kind"] = item, country, KIND[kind]
        out[i]["ts"], out[i]["amount"] = T0 + offset, amount if kind == "dwell" else 1
        out[i]["age_group"] = amount % 4
    return out


def record(value: bytes | None, *, key: bytes | None = b"k", offset: int = 0, timestamp: int = T0) -> Any:
    """Return a Kafka record with the fields that we use."""
    return SimpleNamespace(value=value, key=key, offset=offset, timestamp=timestamp, headers=())


def unit_vectors(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray[Any, Any]:
    """Return random unit vectors, float32 ``(n, dim)``."""
    raw = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return np.stack([unit(v) for v in raw]) if n else raw
