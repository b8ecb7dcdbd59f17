"""State of users: counts of events, recent items, session, affinities, views, hidden items, profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.state.counts import HALF_LIFE_MS, Counts
from headrace.models.state.earlier_rows import USERS_0, USERS_1, USERS_2
from headrace.models.state.hidden_updates import HiddenUpdates
from headrace.models.state.item_events import item_events as compiled_item_events
from headrace.models.state.row_access import distinct
from headrace.models.state.user_updates import UserUpdates
from headrace.streams.messages.columns import KINDS, EventColumns
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import UserProfile
from headrace.streams.tables.layouts import Earlier, carried, declare, fingerprint
from headrace.streams.tables.rows import RowTable, unpack

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

#: Every kind of event is counted; for dwell, its seconds too.
METRICS = ("shown", "click", "skip", "dwell", "dwell_s", "like", "save", "follow", "hide")
COUNTS = Counts(METRICS)
WINDOWS = COUNTS.windows
RECENT = 20
AFFINITIES = 12
PREFERRED = 8
FOLLOWED = 16
#: The last items and creators that a user hid.
HIDDEN, HIDDEN_CREATORS = 32, 16
AFFINITY_HALF_LIFE_MS = HALF_LIFE_MS
#: A longer view counts as one of so many seconds.
LONGEST_VIEW_S = 600
#: What a view of so many whole seconds adds to ``cat_dwell``, float32 ``(LONGEST_VIEW_S + 1,)``.
VIEW_LOGS = np.log1p(np.arange(LONGEST_VIEW_S + 1)).astype(np.float32)
#: One event gives at most this many item-events records: its own, and two for each pair.
SEQ_STEP = 16
#: A click makes pairs with at most this many clicks before it in the same session.
PAIRS = 5

#: The fields that every event changes come first, close together: a busy worker waits mostly for memory.
ROW = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<i8"),  # of the last record of `events` applied; -1 before the first
        ("shown_offset", "<i8"),  # of the last record of `impressions` applied
        ("updated", "<i8"),  # time of the newest event or impression, or of a later record of `users`
        ("country", "<u8"),  # the last one seen in an event
        ("n_clicks", "<i8"),  # all-time; n_clicks % RECENT is the ring's next place
        ("session_len", "<i4"),
        ("layout", "<u4"),
        ("cat_ts", "<i8"),  # time of the weights
        ("creator_ts", "<i8"),
        ("cat", "<u8", (AFFINITIES,)),
        ("cat_w", "<f4", (AFFINITIES,)),
        ("cat_dwell", "<f4", (AFFINITIES,)),  # sum of log(1 + seconds) of the views of each ``cat``
        ("cat_views", "<f4", (AFFINITIES,)),  # how many views these are; both fade as the weights do
        ("creator", "<u8", (AFFINITIES,)),
        ("creator_w", "<f4", (AFFINITIES,)),
        *COUNTS.summary(),
        ("age", "<i2"),  # -1 unknown
        ("has_profile", "?"),  # the account service sent a profile: the row never expires
        ("pad", "u1"),
        ("recent_ts", "<i8", (RECENT,)),
        ("recent", "<u8", (RECENT,)),  # rings of the newest clicks, in the order of their time
        ("home", "<u8"),  # country of the profile
        ("language", "<u8"),  # of the profile
        ("preferred", "<u8", (PREFERRED,)),
        ("followed", "<u8", (FOLLOWED,)),
        ("profile_offset", "<i8"),  # of the last record of `users` applied
        ("profile_ts", "<i8"),  # timestamp of that record, ms
        (
            "since",
            "<i8",
        ),  # the row counts events after this offset: the ``offset`` when it was last forgotten
        ("shown_since", "<i8"),  # the same for impressions
        ("views_from", "<i8"),  # ``cat_dwell`` has the views from this offset on
        ("hidden", "<u8", (HIDDEN,)),  # in the order of their events, the oldest first; then zeros
        ("hidden_creators", "<u8", (HIDDEN_CREATORS,)),
        ("place", "<u4"),  # ``PLACED`` and the hash that decides the user's partition; 0: not known yet
        ("pad_2", "u1", (4,)),
        *COUNTS.cells(),
    ]
)

BLANK = np.zeros((), ROW)
for _name in ("offset", "shown_offset", "profile_offset", "profile_ts", "since", "shown_since", "age"):
    BLANK[_name] = -1
#: The fields that only grow: of two states of a row, the one with the larger values is newer.
ORDER = ("offset", "shown_offset", "profile_offset")

#: Set in ``place`` of a row whose place is known. The other bits are the hash of the user id by which Kafka's
#: default partitioner chooses a partition: the remainder, divided by the number of partitions.
PLACED = 1 << 31

#: How much one event adds to the affinity for its category and its creator (dwell: 1 for each
#: 30 s, at most 2).
_TASTE = {"click": 1.0, "skip": -0.2, "like": 2.0, "save": 2.0, "follow": 3.0, "hide": -2.0}
#: Events of these kinds also become item events of the same kind.
_FOR_ITEMS = {"shown", "click", "skip", "dwell", "like", "save"}

#: The row of a forgotten user has only these fields: they say which records count for it.
_GUARD = (
    "key",
    "offset",
    "shown_offset",
    "updated",
    "layout",
    "profile_offset",
    "profile_ts",
    "since",
    "shown_since",
    "views_from",
    "place",
)


def _with_place(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return rows of layout 1 with the field ``place``: it is noted at the user's next record."""
    return carried(rows, np.zeros((), USERS_2)[()], USERS_2)


def _with_views(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return rows of layout 2 with the time of views: of those after the last record applied."""
    out = carried(rows, BLANK[()], ROW)
    out["views_from"] = rows["offset"] + 1
    return out


declare(
    "user-state",
    3,
    ROW,
    [
        Earlier(2, USERS_2, _with_views),
        Earlier(1, USERS_1, _with_place, fingerprint(USERS_1)),
        Earlier(0, USERS_0, None, fingerprint(USERS_0)),
    ],
)

_COUNTER = COUNTS.counter(ROW)
_HIDDEN = HiddenUpdates(ROW, items=HIDDEN, creators=HIDDEN_CREATORS)


@dataclass(slots=True)
class Applied:
    """The result of a batch: the rows changed, the events that counted, the pairs of items they make."""

    rows: I64
    events: EventColumns
    pairs: npt.NDArray[np.void]


def new_table() -> RowTable:
    """Return a table for rows of users."""
    return RowTable(ROW, BLANK[()])


class UserState:
    """The rows of the users of one partition.

    Parameters
    ----------
    table
        The table of the rows, of dtype ``ROW``.
    session_gap_ms
        A longer silence between two clicks starts a new session.
    """

    def __init__(self, table: RowTable, session_gap_ms: int) -> None:
        self.table = table
        self._updates = UserUpdates(
            _COUNTER,
            ROW,
            session_gap_ms,
            recent=RECENT,
            affinities=AFFINITIES,
            pairs=PAIRS,
            seq_step=SEQ_STEP,
            half_life_ms=AFFINITY_HALF_LIFE_MS,
            metric=[METRICS.index(kind) if kind in METRICS else -1 for kind in KINDS],
            taste=[_TASTE.get(kind, 0.0) for kind in KINDS],
            dwell_s=METRICS.index("dwell_s"),
            view_logs=VIEW_LOGS,
        )

    def apply(self, events: EventColumns) -> Applied:
        """Apply a batch, in order. Records that a row has already counted (by its offset) are skipped.

        Returns
        -------
        Applied
            ``pairs`` is an ``ITEM_EVENT`` array of kind pair: each click with the last clicks before it in
            the session, in the order of the events, the newest click first.
        """
        rows = self.table.take(events.user)
        fresh, pairs = self._updates.apply(self.table.data, rows, events)
        if not fresh.all():
            events, rows = events.where(fresh), rows[fresh]
        _HIDDEN.apply(self.table.data, rows, events)
        return Applied(distinct(rows, len(self.table.data)), events, pairs)

    def shown(self, users: U64, slots: I64, ts: I64, offsets: I64) -> tuple[I64, Bool]:
        """Count shown slots: ``slots[i]`` of them for ``users[i]`` at ``ts[i]``.

        Returns
        -------
        rows, fresh
            The rows changed, and which impressions no row had counted yet, bool ``(n,)``.
        """
        rows = self.table.take(users)
        data = self.table.data
        fresh = offsets > data["shown_offset"][rows]
        if not fresh.all():
            rows, slots, ts, offsets = rows[fresh], slots[fresh], ts[fresh], offsets[fresh]
        np.maximum.at(data["shown_offset"], rows, offsets)
        metric = np.full(len(rows), METRICS.index("shown"), np.int64)
        _COUNTER.add(data, rows, ts, metric, slots.astype(np.int64))
        return distinct(rows, len(data)), fresh

    def profile(self, profile: UserProfile, offset: int, ts: int) -> int:
        """Put a profile of the account service into its row; return the row, -1 when it is not newer.

        Parameters
        ----------
        offset, ts
            Offset and timestamp (ms) of its record in `users`.
        """
        row = self._newer(hash64(profile.user_id), offset, ts)
        if row < 0:
            return row
        data = self.table.data
        data["has_profile"][row] = True
        data["home"][row] = hash64(profile.country)
        data["language"][row] = hash64(profile.language)
        data["age"][row] = -1 if profile.age is None else profile.age
        data["preferred"][row] = _padded(profile.preferred_categories, PREFERRED)
        data["followed"][row] = _padded(profile.followed_creators, FOLLOWED)
        _COUNTER.add(data, *(np.array([value], np.int64) for value in (row, max(0, ts), 0, 0)))
        return row

    def forget(self, key: int, offset: int, ts: int) -> int:
        """Clear a user's row; return the row, -1 when it was cleared at this record before.

        A row without data stays: records up to its offsets are not counted when they are delivered again.

        Parameters
        ----------
        offset, ts
            Offset and timestamp (ms) of the tombstone in `users`.
        """
        row = self._newer(key, offset, ts)
        if row < 0:
            return row
        data = self.table.data
        kept = {name: data[name][row] for name in _GUARD}
        data[row] = BLANK
        for name, value in kept.items():
            data[name][row] = value
        data["since"][row], data["shown_since"][row] = kept["offset"], kept["shown_offset"]
        data["updated"][row] = max(0, ts)
        return row

    def _newer(self, key: int, offset: int, ts: int) -> int:
        """Note a record of `users` in the row of ``key``; return the row, -1 when it has a newer record."""
        row = int(self.table.take([key])[0])
        data = self.table.data
        if offset <= data["profile_offset"][row]:
            return -1
        data["profile_offset"][row], data["profile_ts"][row] = offset, ts
        return row


def country_of(rows: npt.NDArray[np.void]) -> U64:
    """Return the countries of users, uint64 ``(n,)``: that of the profile, else the last one seen."""
    home: U64 = rows["home"]
    return np.where(home != 0, home, rows["country"])


def known(packed: Sequence[bytes]) -> npt.NDArray[np.bool_]:
    """Return which packed rows have any data, bool ``(n,)``: rows of forgotten users have none."""
    rows, _ = unpack(packed, ROW)
    for name in _GUARD:
        rows[name] = BLANK[name]
    words = rows.view(np.uint64).reshape(len(rows), ROW.itemsize // 8)
    differs: npt.NDArray[np.bool_] = np.any(words != BLANK.reshape(1).view(np.uint64), axis=1)
    return differs


def item_events(applied: Applied, number: int) -> npt.NDArray[np.void]:
    """Return the item events of a batch of partition ``number``, ``ITEM_EVENT`` in order of ``source_seq``.

    These are every event of a kind that items count, and two records for each pair: *next* and *together* at
    the earlier item, *together* at the later one.
    """
    return compiled_item_events(
        applied.events, applied.pairs, number, SEQ_STEP, PAIRS, [kind in _FOR_ITEMS for kind in KINDS]
    )


def _padded(texts: list[str], size: int) -> U64:
    out = np.zeros(size, np.uint64)
    keys = hash_many(texts[:size])
    out[: len(keys)] = keys
    return out


def recent_items(row: npt.NDArray[np.void] | np.void, limit: int = RECENT) -> tuple[list[int], list[int]]:
    """Return a row's recent items and their times (ms), newest first."""
    n = int(row["n_clicks"])
    at, count = n % RECENT, min(n, limit, RECENT)

    def newest(ring: list[int]) -> list[int]:
        return (ring[:at][::-1] + ring[at:][::-1])[:count]

    return newest(row["recent"].tolist()), newest(row["recent_ts"].tolist())
