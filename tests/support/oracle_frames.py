"""Decoded records for the oracle, and every feature by brute force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import polars as pl
from hypothesis import strategies as st
from strategies import T0

from headrace.oracle.records.frames import EVENTS, ITEMS, SHOWN
from headrace.streams.settings import DAY_MS, HOUR_MS, MINUTE_MS

KINDS = ("click", "skip", "dwell", "like", "save", "follow", "hide")
DID = st.tuples(
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from(KINDS),
    st.one_of(st.integers(0, 20 * MINUTE_MS), st.integers(0, 9 * DAY_MS)).map(lambda n: T0 + n),
    st.sampled_from([0, 1, 30, 40_000]),
    st.integers(0, 2),
)
SAW = st.tuples(
    st.integers(1, 3),
    st.lists(st.integers(1, 4), max_size=4),
    st.integers(0, 9 * DAY_MS).map(lambda n: T0 + n),
    st.integers(0, 2),
)


def group_of(ts: int) -> int:
    """Return the age group of who did something at this time."""
    return ts // 1000 % 4


def event_frame(rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (
                0,
                i,
                T0 + 10 * DAY_MS,
                "",
                f"e{i}",
                u,
                f"user-{u}",
                item,
                f"item-{item}",
                kind,
                ts,
                s,
                c,
                f"c{c}",
                0,
                1000 * s,
                False,
                group_of(ts),
                True,
            )
            for i, (u, item, kind, ts, s, c) in enumerate(rows)
        ],
        EVENTS,
        orient="row",
    )


def shown_frame(rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (
                0,
                i,
                ts,
                "",
                u,
                f"user-{u}",
                ts,
                c,
                f"c{c}",
                items,
                [f"item-{k}" for k in items],
                group_of(ts),
                *[None] * 7,
            )
            for i, (u, items, ts, c) in enumerate(rows)
        ],
        SHOWN,
        orient="row",
    )


WIDTH = {"5m": (MINUTE_MS, 5), "30m": (5 * MINUTE_MS, 6), "1h": (5 * MINUTE_MS, 12), "24h": (HOUR_MS, 24),
         "7d": (DAY_MS, 7)}  # fmt: skip


class Brute:
    """One list of (metric, ts, amount) for each row, and every feature by a loop over it."""

    def __init__(self) -> None:
        self.acts: dict[Any, list[tuple[str, int, int]]] = defaultdict(list)

    def window(self, row: Any, name: str, metric: str, at: int, cell: int) -> int:
        width, n = WIDTH[name]
        buckets = [0] * n
        for m, ts, amount in self.acts[row]:
            back = at // width - ts // width
            if m == metric and 0 <= back < n:
                buckets[back] += amount
        return sum(min(b, cell) for b in buckets)


def item_frame(rows: Sequence[tuple[int, int | None, int | None, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            (0, i, ts, "", item, cat, creator, f"item-{item}", None if cat is None else ts, False)
            for i, (item, cat, creator, ts) in enumerate(rows)
        ],
        ITEMS,
        orient="row",
    )
