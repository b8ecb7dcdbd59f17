"""A reference for updates of user rows, without compiled code: recent clicks, sessions, pairs, tastes, views.

Tests compare the compiled code with it. One vectorised step applies the next event of every user.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state.users import (
    AFFINITIES,
    AFFINITY_HALF_LIFE_MS,
    LONGEST_VIEW_S,
    PAIRS,
    RECENT,
    SEQ_STEP,
)
from headrace.streams.messages.columns import ITEM_EVENT, KIND, KINDS, EventColumns
from headrace.streams.tables.rows import RowTable

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


def both_ways(pairs: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return the records of each pair: *next* and *together* at the earlier item, *together* at the later."""
    back = pairs.copy()
    back["item"], back["other"] = pairs["other"], pairs["item"]
    back["seq_weight"] = 0
    back["source_seq"] += PAIRS
    return np.concatenate([pairs, back])


def rounds(rows: I64) -> list[I64]:
    """Split positions so that no row repeats within a round and each row's order is kept.

    ``rows = [7, 3, 7, 7]`` gives ``[[0, 1], [2], [3]]``. Sequential updates (recent items, decayed
    affinities) become one vectorised step per round.
    """
    n = len(rows)
    if n == 0:
        return []
    if n == 1:
        return [np.zeros(1, np.int64)]
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rank = np.arange(n) - np.repeat(starts, np.diff(np.r_[starts, n]))
    last = int(rank.max())
    if last == 0:
        return [np.sort(order)]
    by_rank = np.argsort(rank, kind="stable")
    cuts = np.searchsorted(rank[by_rank], np.arange(1, last + 1))
    return [np.sort(order[part]) for part in np.split(by_rank, cuts)]


ROW = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<i8"),
        ("country", "<u8"),
        ("n_clicks", "<i8"),
        ("session_len", "<i4"),
        ("pad", "u1", (4,)),
        ("recent", "<u8", (RECENT,)),
        ("recent_ts", "<i8", (RECENT,)),
        ("cat", "<u8", (AFFINITIES,)),
        ("cat_w", "<f4", (AFFINITIES,)),
        ("cat_dwell", "<f4", (AFFINITIES,)),
        ("cat_views", "<f4", (AFFINITIES,)),
        ("cat_ts", "<i8"),
        ("creator", "<u8", (AFFINITIES,)),
        ("creator_w", "<f4", (AFFINITIES,)),
        ("creator_ts", "<i8"),
    ]
)
BLANK = np.zeros((), ROW)
BLANK["offset"] = -1

_TASTE = np.zeros(len(KINDS), np.float32)
for _kind, _weight in {
    "click": 1.0,
    "skip": -0.2,
    "like": 2.0,
    "save": 2.0,
    "follow": 3.0,
    "hide": -2.0,
}.items():
    _TASTE[KIND[_kind]] = _weight


class ReferenceUsers:
    """Rows of users with the fields whose new value depends on the old one."""

    def __init__(self, session_gap_ms: int) -> None:
        self.table = RowTable(ROW, BLANK[()])
        self._gap = session_gap_ms

    def apply(self, events: EventColumns) -> npt.NDArray[np.void]:
        """Apply a batch whose offsets grow; return its pairs by ``source_seq``."""
        rows = self.table.take(events.user)
        fresh = events.offset > self.table.data["offset"][rows]
        rows, events = rows[fresh], events.where(fresh)
        data = self.table.data
        np.maximum.at(data["offset"], rows, events.offset)
        known = events.country != 0
        data["country"][rows[known]] = events.country[known]
        parts = [self._step(rows[part], events.where(part)) for part in rounds(rows)]
        pairs = np.concatenate([np.zeros(0, ITEM_EVENT), *parts])
        return pairs[np.argsort(pairs["source_seq"])]

    def _step(self, rows: I64, events: EventColumns) -> npt.NDArray[np.void]:
        """Apply the order-dependent part to rows that do not repeat."""
        data = self.table.data
        taste = _TASTE[events.kind]
        dwell = events.kind == KIND["dwell"]
        if dwell.any():
            taste = np.where(dwell, np.minimum(events.dwell_s / 30, 2), taste).astype(np.float32)
        seconds = np.minimum(events.dwell_s, LONGEST_VIEW_S).astype(np.int64)
        views = {"cat_dwell": dwell * np.log1p(seconds), "cat_views": dwell * 1.0}
        for name, keys, more in (("cat", events.category, views), ("creator", events.creator, {})):
            told = (keys != 0) & (taste != 0)
            if told.any():
                amounts = {field: amount[told] for field, amount in {f"{name}_w": taste, **more}.items()}
                _affinity(data, name, rows[told], keys[told], amounts, events.ts[told])
        clicks = events.kind == KIND["click"]
        if not clicks.all():
            rows, events = rows[clicks], events.where(clicks)
        n = self.table.data["n_clicks"][rows]
        last = self.table.data["recent_ts"][rows, (n - 1) % RECENT]
        late = (n > 0) & (events.ts < last)
        if not late.any():
            return self._append(rows, events, n, last)
        on_time = ~late
        return np.concatenate(
            [
                self._append(rows[on_time], events.where(on_time), n[on_time], last[on_time]),
                self._insert(rows[late], events.where(late), n[late]),
            ]
        )

    def _append(self, rows: I64, events: EventColumns, n: I64, last: I64) -> npt.NDArray[np.void]:
        """Put clicks not older than their users' last ones (at ``last``) on the rings; return their pairs."""
        data = self.table.data
        going = (n > 0) & (events.ts - last <= self._gap)
        length = np.where(going, data["session_len"][rows], 0)
        back = np.arange(1, PAIRS + 1)
        previous = data["recent"][rows[:, None], (n[:, None] - back[None, :]) % RECENT]
        data["recent"][rows, n % RECENT] = events.item
        data["recent_ts"][rows, n % RECENT] = events.ts
        data["n_clicks"][rows] = n + 1
        data["session_len"][rows] = np.minimum(length + 1, RECENT)
        return _pairs(events, previous, back[None, :] <= length[:, None])

    def _insert(self, rows: I64, events: EventColumns, n: I64) -> npt.NDArray[np.void]:
        """Insert late clicks at their times; the last click does not change.

        A late click makes pairs with the clicks before it only.
        """
        data = self.table.data
        k = np.arange(RECENT + 1)[None, :]  # newest first
        old = (n[:, None] - 1 - k[:, :-1]) % RECENT
        times = np.where(k[:, :-1] < n[:, None], data["recent_ts"][rows[:, None], old], -1)
        place = (times > events.ts[:, None]).sum(1)[:, None]
        source = np.where(k <= place, k, k - 1) - (k == RECENT) * (place == RECENT)
        i = np.arange(len(rows))[:, None]
        items = np.where(k == place, events.item[:, None], data["recent"][rows[:, None], old][i, source])
        times = np.where(k == place, events.ts[:, None], times[i, source])
        close = (times[:, 1:] >= 0) & (times[:, :-1] - times[:, 1:] <= self._gap)
        new = (n[:, None] - k[:, :-1]) % RECENT
        data["recent"][rows[:, None], new] = items[:, :-1]
        data["recent_ts"][rows[:, None], new] = np.maximum(times[:, :-1], 0)
        data["n_clicks"][rows] = n + 1
        data["session_len"][rows] = 1 + np.cumprod(close[:, :-1], 1).sum(1)
        before = place + np.arange(1, PAIRS + 1)[None, :]
        there = before <= RECENT
        before = np.minimum(before, RECENT)
        tied = np.cumprod(there & close[i, before - 1], 1).astype(bool)
        return _pairs(events, items[i, before], tied)


def _pairs(events: EventColumns, previous: npt.NDArray[np.uint64], tied: Bool) -> npt.NDArray[np.void]:
    """Return the pairs of clicks with the ``tied`` ones of ``previous``, nearest first ``(n, PAIRS)``."""
    who, k = np.nonzero(tied & (previous != events.item[:, None]))
    pairs = np.zeros(len(who), ITEM_EVENT)
    pairs["item"] = previous[who, k]
    pairs["other"] = events.item[who]
    pairs["ts"] = events.ts[who]
    pairs["seq_weight"] = 1.0 / (k + 1)
    pairs["amount"] = 1
    pairs["kind"] = KIND["pair"]
    pairs["source_seq"] = events.offset[who] * SEQ_STEP + 1 + k
    return pairs


def _affinity(
    data: npt.NDArray[Any],
    name: str,
    rows: I64,
    keys: npt.NDArray[np.uint64],
    amounts: dict[str, npt.NDArray[Any]],
    ts: I64,
) -> None:
    """Add to decayed weights, one key for each row; an unknown key replaces the weakest one.

    Weights are those at the row's time ``<name>_ts``. A later event decays them to its time; the amount of an
    earlier event is decayed by its own age instead, so the order of arrival does not matter. ``amounts`` has
    what each field gets.
    """
    slots, weights, when = data[name][rows], data[f"{name}_w"][rows], data[f"{name}_ts"][rows]
    now = np.maximum(when, ts)
    fade = np.exp2(-(now - when) / AFFINITY_HALF_LIFE_MS)[:, None].astype(np.float32)
    size = np.where(slots == 0, -1, np.abs(weights * fade))  # a free place first
    found = slots == keys[:, None]
    place = np.where(found.any(1), found.argmax(1), size.argmin(1))
    i = np.arange(len(rows))
    slots[i, place] = keys
    for field, amount in amounts.items():
        values = data[field][rows] * fade
        added = amount * np.exp2(-(now - ts) / AFFINITY_HALF_LIFE_MS).astype(np.float32)
        values[i, place] = np.where(found.any(1), values[i, place], 0) + added
        data[field][rows] = values
    data[name][rows], data[f"{name}_ts"][rows] = slots, now
