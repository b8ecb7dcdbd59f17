"""Open lists of one partition and the events about them, in columns; and when they close. Pure.

An open list of 20 slots takes a few hundred bytes: keys and times. Its impression is read again when it
closes. Lists close in the order of their offsets. Some of their slots close earlier
(``models/slot_labels.py``): a list is looked at when the grace after an event, or a newer list, is over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.agents.partitions.keyed_rows import KeyedRows
from headrace.agents.partitions.looks import Looks
from headrace.agents.partitions.progress import Progress
from headrace.agents.partitions.row_queue import RowQueue
from headrace.agents.partitions.written import Written
from headrace.models.outcomes import (
    OUTCOME,
    ShownList,
    SlotOutcome,
    deed_rows,
    item_key,
    list_before,
    list_of,
    outcome_rows,
    request_key,
    unshown_items,
    user_key,
)
from headrace.models.slot_labels import RULES, Deed, Ended, Rules, Span, ended
from headrace.streams.messages.schemas import Event, Impression

I64 = npt.NDArray[np.int64]

#: An open list: offset of its impression; first offset that was read without a gap before it; when it closes;
#: its time; keys of request and user, and of user and surface; number of the item after its last one; time of
#: the next list of its user and surface, or 0; how many items were not shown; whether its request id was used
#: again.
OPEN = np.dtype(
    [
        ("offset", "i8"),
        ("since", "i8"),
        ("closes", "i8"),
        ("ts", "i8"),
        ("key", "u8"),
        ("user", "u8"),
        ("place", "u8"),
        ("items_end", "i8"),
        ("next_at", "i8"),
        ("unshown", "i4"),
        ("reused", "?"),
    ]
)
_NUMBER = np.dtype([("number", "i8")])


class Closing(NamedTuple):
    """A list that closes, or slots of it: see ``OPEN``; its number of examples, its outcomes by position.

    The candidates that were not shown are counted after its slots. ``early``: the positions that close while
    the list stays open; None: the whole list closes. ``late``: touches of slots that had closed early.
    """

    offset: int
    since: int
    key: int
    slots: int
    outcomes: dict[int, SlotOutcome]
    early: tuple[int, ...] | None = None
    late: int = 0


class JoinPartition:
    """Open lists of one partition, and the events they wait for. The time is an argument.

    Parameters
    ----------
    wait_ms
        How long a list stays open, ms.
    clocks_differ_ms
        How far the clocks that date events and lists may differ, ms.
    now
        Present time, ms since the epoch.
    unshown
        Whether lists come with candidates that were not shown. For their labels what users did without a
        request id is kept for as long as a list may wait, too.
    rules
        When slots close early.

    Attributes
    ----------
    events, shown
        Progress of the two topics.
    newest
        Time of the newest list, ms.
    written
        What is in `examples`; None as long as nobody has looked.
    late
        Touches that came when their slot had closed early.
    """

    def __init__(
        self, wait_ms: int, clocks_differ_ms: int, now: int, *, unshown: bool = False, rules: Rules = RULES
    ) -> None:
        self._wait_ms, self._clocks_differ_ms = wait_ms, clocks_differ_ms
        self._unshown, self._rules, self._now, self.late = unshown, rules, now, 0
        self.events, self.shown = Progress(now), Progress(now)
        self.newest = 0
        self.written: Written | None = None
        self._open = RowQueue(OPEN)
        self._items = RowQueue(np.uint64)  # of each list: keys of its items, then of those not shown
        self._lists = KeyedRows(_NUMBER, "number")  # request key -> numbers of open lists
        self._outcomes = KeyedRows(OUTCOME, "until")
        self._deeds = KeyedRows(OUTCOME, "until")
        self._of_users = KeyedRows(_NUMBER, "number")  # user key -> numbers of open lists
        self._last: dict[int, int] = {}  # key of user and surface -> number of the last open list
        self._looks = Looks()
        self._since = self._next = -1

    def __len__(self) -> int:
        """Return the number of open lists."""
        return len(self._open)

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated for lists and events."""
        return sum(part.nbytes for part in self._parts())

    def _parts(self) -> tuple[RowQueue | KeyedRows, ...]:
        of_lists = self._open, self._items, self._lists, self._of_users
        return *of_lists, self._outcomes, self._deeds, self._looks

    @property
    def read_to(self) -> int:
        """Time (ms) up to which both topics were read."""
        return min(self.events.read_to, self.shown.read_to)

    @property
    def closed_to(self) -> int:
        """Time (ms) up to which every list has closed."""
        head = self._open.rows()
        return min(self.read_to, int(head["closes"][0]) - 1) if len(head) else self.read_to

    # -- reading

    def arrive(self, first: int, end: int) -> None:
        """Note that the impressions from offset ``first`` up to ``end`` are read now.

        When the consumer went back, the lists from there on are read again: the first reading is forgotten.
        """
        if first > self._next or (first < self._next and self._cut(first) > first):
            self._since = first
        self._next = end

    def _cut(self, offset: int) -> int:
        """Forget the lists from an offset on; return from where on everything up to there was read."""
        self.written = None  # the topic may be another one now
        end = self._open.first + int(self._open.rows()["offset"].searchsorted(offset))
        if end < self._open.end:
            self._since = int(self._open.rows(end, end + 1)["since"][0])
            self._items.cut(self._begins(end))
            self._open.cut(end)
            self._lists.cut(end)
            self._of_users.cut(end)
            places = self._open.rows()["place"].tolist()
            self._last = dict(zip(places, range(self._open.first, end), strict=True))
        return self._since

    def show(
        self, lists: Sequence[Impression], offsets: Sequence[int], times: Sequence[int], now: int
    ) -> None:
        """Open lists.

        Parameters
        ----------
        lists
            Impressions that are valid.
        offsets, times
            Offset and timestamp (ms) of their records.
        now
            Present time, ms since the epoch.
        """
        if not lists:
            return
        ts = np.fromiter((shown.ts for shown in lists), np.int64, len(lists))
        at = self._times(ts, np.asarray(times, np.int64), now)
        rows = np.zeros(len(lists), OPEN)
        rows["offset"], rows["since"], rows["ts"], rows["closes"] = (
            offsets,
            self._since,
            ts,
            at + self._wait_ms,
        )
        keys = np.fromiter(
            (request_key(shown.user_id, shown.request_id) for shown in lists), np.uint64, len(lists)
        )
        rows["key"] = keys
        rows["place"] = [request_key(shown.user_id, shown.surface) for shown in lists]
        rows["user"] = [user_key(shown.user_id) for shown in lists]
        rows["unshown"] = [len(unshown_items(shown)) for shown in lists]
        items = [key for shown in lists for key in _keys(shown)]
        counts = np.array([len(shown.item_ids) for shown in lists]) + rows["unshown"]
        rows["items_end"] = self._items.end + np.cumsum(counts)
        numbers = np.zeros(len(lists), _NUMBER)
        numbers["number"] = np.arange(self._open.end, self._open.end + len(lists))
        self._open.push(rows)
        self._items.push(np.array(items, np.uint64))
        self._lists.add(keys, numbers)
        self._note_reused(keys)
        if self._unshown:
            self._of_users.add(rows["user"], numbers)
        self._note_next(rows["place"].tolist())

    def _times(self, ts: I64, times: I64, now: int) -> I64:
        """Return the times of lists, from what they and their records say; never falling."""
        # Neither a list dated ahead nor one dated back may close early. What is far ahead does not count.
        credible = now + self._clocks_differ_ms
        told = np.maximum(np.where(ts <= credible, ts, 0), np.where(times <= credible, times, 0))
        at = np.minimum(np.maximum(told, max(self.shown.floor, self.newest)), now)
        at = np.maximum(np.maximum.accumulate(at), self.newest)
        self.newest = int(at[-1])
        return at

    def _note_reused(self, keys: npt.NDArray[np.uint64]) -> None:
        found, rows = self._lists.find(keys)
        _, where, count = np.unique(found, return_inverse=True, return_counts=True)
        self._open.set("reused", rows["number"][count[where] > 1], True)

    def _note_next(self, places: list[int]) -> None:
        """Note in lists when the next one of their user and surface came; not one of the same request."""
        pairs = []
        for number, place in enumerate(places, self._open.end - len(places)):
            pairs += [(self._last[place], number)] if place in self._last else []
            self._last[place] = number
        before, after = np.array(pairs, np.int64).reshape(-1, 2).T
        keys, following = self._open.at(before)["key"], self._open.at(after)
        other, asked_at = keys != following["key"], following["closes"] - self._wait_ms
        self._open.set("next_at", before[other], asked_at[other])
        self._looks.put(asked_at[other] + self._rules.grace_ms, keys[other])

    def happen(self, events: Sequence[tuple[Event, int]], now: int) -> int:
        """Note events and the timestamps (ms) of their records; return how many of them matter."""
        # Kept until every list that was written up to now has closed.
        self._now = now
        keys, rows = outcome_rows(events, 2 * self._wait_ms, now)
        self._outcomes.add(keys, rows)
        self._looks.put(np.minimum(rows["at"], now) + self._rules.grace_ms, keys)
        if not self._unshown:
            return len(keys)
        deeds, rows = deed_rows(events, 2 * self._wait_ms, now)
        self._deeds.add(deeds, rows)
        return len(keys) + len(deeds)

    # -- closing

    def due(self, slots: int) -> int:
        """Return how many lists have waited long enough in both topics: one, or as ``slots`` allows."""
        rows = self._open.rows()[: slots + 1]
        n = int(rows["closes"].searchsorted(self.read_to, "right"))
        most = int(rows["items_end"].searchsorted(self._items.first + slots, "right"))
        return min(n, max(1, most))

    def closing(self, n: int) -> list[Closing]:
        """Return the first ``n`` open lists with their outcomes; they stay open until ``close``."""
        head, first = self._open.rows()[:n], self._open.first
        outcomes: list[dict[int, SlotOutcome]] = [defaultdict(SlotOutcome) for _ in range(n)]
        late = [0] * n
        for number, deeds in self._deeds_of(head["key"]).items():
            if number < first + n:
                end = self._ended(number, deeds)
                outcomes[number - first].update(end.outcomes)
                late[number - first] = end.late
        slots = np.diff(head["items_end"], prepend=self._items.first).tolist()
        if head["unshown"].any():
            self._add_unshown(head, slots, outcomes)
        columns = head[["offset", "since", "key"]].tolist()
        return [
            Closing(offset, since, key, count, of, None, n_late)
            for (offset, since, key), count, of, n_late in zip(columns, slots, outcomes, late, strict=True)
        ]

    def early(self, requests: int, slots: int) -> list[Closing]:
        """Return open lists that have slots which close early, those included that were returned before.

        In a backlog there are none: the lists close as soon.

        Parameters
        ----------
        requests, slots
            Look at so many requests at most, until there are so many slots.
        """
        keys, out = self._looks.take(self.read_to, requests), []
        if self.read_to < self._now - self._wait_ms:
            return []
        for number, deeds in sorted(self._deeds_of(keys).items()):
            row, end = self._open.rows(number, number + 1)[0], self._ended(number, deeds)
            closed = tuple(p for p, at in enumerate(end.closes) if at <= self.read_to)
            later = [at for at in end.closes if self.read_to < at < row["closes"]]
            if slots <= 0 or later:
                again = min(*later, self.read_to + self._rules.grace_ms) if slots > 0 else self.read_to
                self._looks.put(np.array([again]), row["key"].reshape(1))
            if closed and slots > 0 and row["closes"] > self.read_to:
                slots -= len(closed)
                count = self._ends(number) - self._begins(number)
                columns = int(row["offset"]), int(row["since"]), int(row["key"]), count
                out.append(Closing(*columns, end.outcomes, closed))
        return out

    def _ended(self, number: int, deeds: list[Deed]) -> Ended:
        row = self._open.rows(number, number + 1)[0]
        at, closes, next_at = int(row["closes"]) - self._wait_ms, int(row["closes"]), int(row["next_at"])
        return ended(deeds, len(self._items_of(number)), Span(at, closes, next_at), self._rules)

    def _deeds_of(self, requests: npt.NDArray[np.uint64]) -> dict[int, list[Deed]]:
        """Return what users did with the slots of the open lists of requests, by number of the list."""
        keys, events = self._outcomes.find(requests)
        lists = self._lists_of(keys)
        out: dict[int, list[Deed]] = defaultdict(list)
        for key, (item, ts, at, _, dwell_ms, what) in zip(keys.tolist(), events.tolist(), strict=True):
            found = list_of(item, ts, at, lists[key], self._clocks_differ_ms)
            if found is not None:
                positions = np.flatnonzero(self._items_of(found.number) == item).tolist()
                out[found.number] += [Deed(p, positions[0], at, what, dwell_ms) for p in positions]
        return out

    def _add_unshown(
        self, head: npt.NDArray[Any], slots: list[int], outcomes: list[dict[int, SlotOutcome]]
    ) -> None:
        """Note in ``outcomes`` what users did with the candidates that the first lists have not shown."""
        places: dict[tuple[int, int], int] = {}  # number of the list, item -> position
        for k in np.flatnonzero(head["unshown"]).tolist():
            left_out, end = int(head["unshown"][k]), int(head["items_end"][k])
            keys = self._items.rows(end - left_out, end).tolist()
            places |= {(self._open.first + k, key): p for p, key in enumerate(keys, slots[k] - left_out)}
        users, deeds = self._deeds.find(head["user"][head["unshown"] > 0])
        lists = self._lists_of_users(users)
        for user, (item, ts, at, _, dwell_ms, what) in zip(users.tolist(), deeds.tolist(), strict=True):
            owner = list_before(ts, at, lists[user])
            if owner is not None and (position := places.get((owner.number, item))) is not None:
                outcomes[owner.number - self._open.first][position].add(what, dwell_ms)

    def _lists_of_users(self, users: npt.NDArray[np.uint64]) -> dict[int, list[ShownList]]:
        """Return the open lists of users, by user key."""
        out: dict[int, list[ShownList]] = defaultdict(list)
        found, rows = self._of_users.find(users)
        columns = self._open.at(rows["number"])[["ts", "closes"]].tolist()
        for user, number, (ts, closes) in zip(found.tolist(), rows["number"].tolist(), columns, strict=True):
            out[user].append(ShownList(ts, number, closes - self._wait_ms, closes, True, frozenset()))
        return out

    def _lists_of(self, keys: npt.NDArray[np.uint64]) -> dict[int, list[ShownList]]:
        """Return the open lists of requests, by key."""
        out: dict[int, list[ShownList]] = defaultdict(list)
        found, rows = self._lists.find(keys)
        numbers = rows["number"]
        columns = self._open.at(numbers)[["ts", "closes", "reused"]].tolist()
        for key, number, (ts, closes, reused) in zip(found.tolist(), numbers.tolist(), columns, strict=True):
            items = frozenset(self._items_of(number).tolist())
            out[key].append(ShownList(ts, number, closes - self._wait_ms, closes, reused, items))
        return out

    def _items_of(self, number: int) -> npt.NDArray[np.uint64]:
        """Return the keys of the items that a list has shown."""
        unshown = int(self._open.rows(number, number + 1)["unshown"][0])
        return self._items.rows(self._begins(number), self._ends(number) - unshown)

    def _begins(self, number: int) -> int:
        return self._items.first if number == self._open.first else self._ends(number - 1)

    def _ends(self, number: int) -> int:
        return int(self._open.rows(number, number + 1)["items_end"][0])

    def close(self, closed: Sequence[Closing]) -> None:
        """Forget lists that ``closing`` returned, and the events that no list waits for any more."""
        # The consumer may have gone back since `closing`: then fewer of them are open.
        last = closed[-1].offset if closed else -1
        n = int((self._open.rows()[: len(closed)]["offset"] <= last).sum())
        self.late += sum(c.late for c in closed)
        if n:
            end = self._open.first + n
            for number, place in enumerate(self._open.rows()[:n]["place"].tolist(), self._open.first):
                if self._last.get(place) == number:
                    del self._last[place]
            self._items.forget(self._ends(end - 1))
            self._open.forget(end)
            self._lists.forget(end)
            self._of_users.forget(end)
        self._outcomes.forget(self.closed_to)
        self._deeds.forget(self.closed_to)


def _keys(shown: Impression) -> list[int]:
    """Return the keys of the items of a list, then of those that were not shown."""
    return [*map(item_key, shown.item_ids), *map(item_key, unshown_items(shown))]
