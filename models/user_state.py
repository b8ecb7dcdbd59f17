"""What we know of a user: windows of what they did, recent items, affinities, profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.columns import ITEM_EVENT, KIND, EventColumns
from streams.ids import hash64, hash_many
from streams.schemas import UserProfile
from streams.settings import DAY_MS
from streams.table import Table
from streams.windows import Windows, rounds

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

METRICS = ("shown", "click", "skip", "dwell_s", "like")
WINDOWS = Windows(METRICS)
RECENT = 20
AFFINITIES = 12
PREFERRED = 8
FOLLOWED = 16
AFFINITY_HALF_LIFE_MS = 30 * DAY_MS
#: One event becomes at most this many item-events records: itself, and two for each pair.
SEQ_STEP = 16
#: A click is tied to at most this many clicks before it in the same session.
PAIRS = 5

ROW = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<i8"),  # of the last record of `events` applied; offset of nothing is -1
        ("shown_offset", "<i8"),  # of the last record of `impressions` applied
        ("updated", "<i8"),
        ("country", "<u8"),  # of the profile, else the last one seen
        ("n_clicks", "<i8"),  # all-time; n_clicks % RECENT is the ring's next place
        ("session_len", "<i4"),
        ("age", "<i2"),  # -1 unknown
        ("has_profile", "?"),
        ("pad", "u1"),
        ("totals", "<f8", (len(METRICS),)),  # a float32 stops counting at 16.8 million
        ("recent", "<u8", (RECENT,)),  # rings of the newest clicks, in order of their time
        ("recent_ts", "<i8", (RECENT,)),
        ("cat", "<u8", (AFFINITIES,)),
        ("cat_w", "<f4", (AFFINITIES,)),
        ("cat_ts", "<i8"),
        ("creator", "<u8", (AFFINITIES,)),
        ("creator_w", "<f4", (AFFINITIES,)),
        ("creator_ts", "<i8"),
        ("preferred", "<u8", (PREFERRED,)),
        ("followed", "<u8", (FOLLOWED,)),
        *WINDOWS.fields(),
        ("pad_2", "<u4"),
    ]
)

BLANK = np.zeros((), ROW)
BLANK["offset"] = BLANK["shown_offset"] = -1
BLANK["age"] = -1

#: How much one event says about the taste for its category and creator (dwell: per 30 s, at most 2).
_TASTE = np.zeros(9, np.float32)
for _kind, _weight in {
    "click": 1.0,
    "skip": -0.2,
    "like": 2.0,
    "save": 2.0,
    "follow": 3.0,
    "hide": -2.0,
}.items():
    _TASTE[KIND[_kind]] = _weight

#: Metric each kind counts in, -1 for none.
_METRIC = np.full(9, -1, np.int64)
for _kind, _metric in {
    "shown": "shown",
    "click": "click",
    "skip": "skip",
    "dwell": "dwell_s",
    "like": "like",
    "save": "like",
    "follow": "like",
}.items():
    _METRIC[KIND[_kind]] = METRICS.index(_metric)


@dataclass(slots=True)
class Applied:
    """What one batch did: the rows touched, the events that counted, the pairs of items they tie together."""

    rows: I64
    events: EventColumns
    pairs: npt.NDArray[np.void]


class UserState:
    """Rows of users of one partition."""

    def __init__(self, session_gap_ms: int) -> None:
        self.table = Table(ROW, BLANK[()])
        self._gap = session_gap_ms

    def apply(self, events: EventColumns) -> Applied:
        """Apply a batch, in order. Records a row already reflects (by offset) are passed over.

        Returns
        -------
        Applied
            ``pairs`` is an ``ITEM_EVENT`` array of kind pair: every click with the session's last clicks, by
            ``source_seq``.
        """
        table = self.table
        rows = table.take(events.user)
        fresh = events.offset > table.data["offset"][rows]
        if not fresh.all():
            events, rows = events.where(fresh), rows[fresh]
        if not len(rows):
            return Applied(rows, events, np.zeros(0, ITEM_EVENT))
        data = table.data
        np.maximum.at(data["offset"], rows, events.offset)
        np.maximum.at(data["updated"], rows, events.ts)
        self._count(rows, events)
        known = (events.country != 0) & ~data["has_profile"][rows]
        data["country"][rows[known]] = events.country[known]
        pairs = np.concatenate([self._step(rows[part], events.where(part)) for part in rounds(rows)])
        return Applied(np.unique(rows), events, pairs[np.argsort(pairs["source_seq"])])

    def _count(self, rows: I64, events: EventColumns) -> None:
        metric = _METRIC[events.kind]
        counted = metric >= 0
        amount = np.where(events.kind == KIND["dwell"], events.dwell_s, np.float32(1))
        rows, metric, amount, ts = rows[counted], metric[counted], amount[counted], events.ts[counted]
        WINDOWS.add(self.table.data, rows, ts, metric, amount)
        np.add.at(self.table.data["totals"], (rows, metric), amount)

    def _step(self, rows: I64, events: EventColumns) -> npt.NDArray[np.void]:
        """Apply the order-dependent part to rows that do not repeat."""
        data = self.table.data
        taste = _TASTE[events.kind]
        dwell = events.kind == KIND["dwell"]
        if dwell.any():
            taste = np.where(dwell, np.minimum(events.dwell_s / 30, 2), taste).astype(np.float32)
        for name, keys in (("cat", events.category), ("creator", events.creator)):
            told = (keys != 0) & (taste != 0)
            if told.any():
                _affinity(data, name, rows[told], keys[told], taste[told], events.ts[told])
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
        """Put late clicks where their time belongs, so that neither "last click" nor session is disturbed.

        A late click is tied to the clicks before it only.
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

    def shown(self, users: npt.NDArray[np.uint64], slots: F32, ts: I64, offsets: I64) -> tuple[I64, Bool]:
        """Count shown slots: ``slots[i]`` of them for ``users[i]`` at ``ts[i]``.

        Returns
        -------
        rows, fresh
            The rows touched, and which impressions no row reflected yet, bool ``(n,)``.
        """
        rows = self.table.take(users)
        data = self.table.data
        fresh = offsets > data["shown_offset"][rows]
        rows, slots, ts, offsets = rows[fresh], slots[fresh], ts[fresh], offsets[fresh]
        np.maximum.at(data["shown_offset"], rows, offsets)
        metric = np.full(len(rows), METRICS.index("shown"), np.int64)
        WINDOWS.add(data, rows, ts, metric, slots)
        np.add.at(data["totals"], (rows, metric), slots)
        return np.unique(rows), fresh

    def profile(self, profile: UserProfile) -> int:
        """Take over what the account service knows; return the row."""
        row = int(self.table.take([hash64(profile.user_id)])[0])
        data = self.table.data
        data["has_profile"][row] = bool(profile.country)
        data["country"][row] = hash64(profile.country) or data["country"][row]
        data["age"][row] = -1 if profile.age is None else profile.age
        data["preferred"][row] = _padded(profile.preferred_categories, PREFERRED)
        data["followed"][row] = _padded(profile.followed_creators, FOLLOWED)
        return row


def _pairs(events: EventColumns, previous: npt.NDArray[np.uint64], tied: Bool) -> npt.NDArray[np.void]:
    """Return the pairs of clicks with the ``tied`` ones of ``previous``, nearest first ``(n, PAIRS)``."""
    who, k = np.nonzero(tied & (previous != events.item[:, None]))
    pairs = np.zeros(len(who), ITEM_EVENT)
    pairs["item"] = previous[who, k]
    pairs["other"] = events.item[who]
    pairs["country"] = events.country[who]
    pairs["ts"] = events.ts[who]
    pairs["seq_weight"] = 1.0 / (k + 1)
    pairs["co_weight"] = 1.0
    pairs["kind"] = KIND["pair"]
    pairs["source_seq"] = events.offset[who] * SEQ_STEP + 1 + k
    return pairs


def _padded(texts: list[str], size: int) -> npt.NDArray[np.uint64]:
    out = np.zeros(size, np.uint64)
    keys = hash_many(texts[:size])
    out[: len(keys)] = keys
    return out


def _affinity(
    data: npt.NDArray[Any], name: str, rows: I64, keys: npt.NDArray[np.uint64], amount: F32, ts: I64
) -> None:
    """Add to decayed weights, one key a row; an unknown key takes the weakest place.

    Weights stand at the row's time ``<name>_ts``; a later event brings them forward, an earlier one is
    decayed by its own age instead, so the order of arrival does not matter.
    """
    slots, weights, when = data[name][rows], data[f"{name}_w"][rows], data[f"{name}_ts"][rows]
    now = np.maximum(when, ts)
    weights *= np.exp2(-(now - when) / AFFINITY_HALF_LIFE_MS)[:, None].astype(np.float32)
    amount = amount * np.exp2(-(now - ts) / AFFINITY_HALF_LIFE_MS).astype(np.float32)
    found = slots == keys[:, None]
    place = np.where(found.any(1), found.argmax(1), np.abs(weights).argmin(1))
    i = np.arange(len(rows))
    weights[i, place] = np.where(found.any(1), weights[i, place], 0) + amount
    slots[i, place] = keys
    data[name][rows], data[f"{name}_w"][rows], data[f"{name}_ts"][rows] = slots, weights, now


def recent_items(row: npt.NDArray[np.void] | np.void, limit: int = RECENT) -> tuple[list[int], list[int]]:
    """Return a row's recent items and their times (ms), newest first."""
    n = int(row["n_clicks"])
    order = [(n - 1 - k) % RECENT for k in range(min(n, limit, RECENT))]
    return row["recent"][order].tolist(), row["recent_ts"][order].tolist()
