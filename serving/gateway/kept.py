"""What is kept of a user or an item, readable: rows of the online store as messages. Pure.

Rows have 64-bit hashes of ids. Names are found by hashing those that are known: ``Names`` says which hashes
are wanted and takes what was found. What no name was found for is shown by its hash, 16 hex digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from string import ascii_lowercase, ascii_uppercase
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.state import items as item_state
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Item, UserProfile

#: A row of ``users.ROW``, ``shown.ROW`` or ``items.ROW``.
Row: TypeAlias = Any
_WINDOWS = ("1h", "24h", "7d")


class Named(msgspec.Struct, omit_defaults=True):
    """An item, a category or a creator: its id, or the hash of its id when that was not found."""

    id: str = ""
    hash: str = ""
    title: str = ""


class Taste(msgspec.Struct):
    """An affinity and its weight now; negative for what is skipped and hidden."""

    of: Named
    weight: float


class Clicked(msgspec.Struct):
    """A click; ``ts`` in ms."""

    item: Named
    ts: int


class ShownOften(msgspec.Struct):
    """An item that was shown: when last (ms, to the second), how often, and whether it rests now."""

    item: Named
    ts: int
    times: int
    rests: bool


class KeptUser(msgspec.Struct):
    """What is kept of a user. ``names_complete``: whether all items could be looked through for names."""

    user_id: str
    profile: UserProfile | None
    last_seen_ts: int
    country: Named | None
    session_clicks: int
    totals: dict[str, int]
    windows: dict[str, dict[str, int]]
    recent_clicks: list[Clicked]
    categories: list[Taste]
    creators: list[Taste]
    hidden_items: list[Named]
    hidden_creators: list[Named]
    shown: list[ShownOften]
    names_complete: bool


class KeptItem(msgspec.Struct):
    """What is kept of an item: its record in `items`, and counts of all users."""

    item_id: str
    item: Item | None
    last_event_ts: int
    totals: dict[str, int]
    windows: dict[str, dict[str, int]]


class ItemNames(msgspec.Struct):
    """What names are read from of an item."""

    item_id: str
    title: str = ""
    category: str = ""
    creator_id: str = ""
    language: str = ""


class Names:
    """Finds the names behind hashes.

    Parameters
    ----------
    wanted
        Hashes; 0 is none.
    """

    def __init__(self, wanted: Iterable[int]) -> None:
        self._left = {int(key) for key in wanted} - {0}
        self._wanted = np.array(sorted(self._left), np.uint64)
        self._found: dict[int, str] = {}
        self._titles: dict[str, str] = {}
        self.offer(_codes())

    @property
    def complete(self) -> bool:
        """Whether every name was found."""
        return not self._left

    def offer(self, texts: list[str]) -> npt.NDArray[np.int64]:
        """Take the names that are wanted; return the places in ``texts`` of these."""
        if not texts:
            return np.zeros(0, np.int64)
        keys = hash_many(texts)
        places = np.flatnonzero(np.isin(keys, self._wanted))
        for place in places.tolist():
            key = int(keys[place])
            self._found[key] = texts[place]
            self._left.discard(key)
        return places

    def items(self, items: Sequence[ItemNames]) -> None:
        """Take the names of items, their categories, creators and languages; and their titles."""
        for place in self.offer([item.item_id for item in items]).tolist():
            self._titles[items[place].item_id] = items[place].title
        for field in ("category", "creator_id", "language"):
            self.offer(list({getattr(item, field) for item in items}))

    def of(self, key: int) -> Named:
        """Return the name of a hash, or the hash."""
        key = int(key)
        if key in self._found:
            return Named(id=self._found[key], title=self._titles.get(self._found[key], ""))
        return Named(hash=f"{key:016x}")


def _codes() -> list[str]:
    """Return all codes of two letters: countries and languages."""
    return [
        "".join(pair) for letters in (ascii_uppercase, ascii_lowercase) for pair in product(letters, repeat=2)
    ]


def hashes_of(user: Row | None, shown: Row | None) -> set[int]:
    """Return the hashes in the rows of a user that have names."""
    found = set[int]()
    if user is not None:
        found |= {*user_state.recent_items(user)[0], int(user["country"]), int(user["home"])}
        for field in ("hidden", "hidden_creators", "cat", "creator"):
            found |= set(user[field].tolist())
    if shown is not None:
        found |= set(shown["items"][: int(shown["count"])].tolist())
    return found - {0}


def kept_user(
    user_id: str,
    user: Row | None,
    shown: Row | None,
    profile: UserProfile | None,
    names: Names,
    *,
    complete: bool,
    now: int,
    rest_ms: int,
    most_shown: int,
) -> KeptUser:
    """Return the rows of a user as a message.

    Parameters
    ----------
    user, shown
        A row of ``users.ROW`` and one of ``shown.ROW``; None where there is none.
    complete
        Whether all names could be looked for.
    now
        Time of windows and weights, ms.
    rest_ms, most_shown
        When an item rests, as in ``shown.shown_lately``.
    """
    row = user_state.BLANK[()] if user is None else user
    recent, times = user_state.recent_items(row)
    country = int(user_state.country_of(np.array([row]))[0])
    hidden, hidden_creators = shown_state.hidden(row)
    return KeptUser(
        user_id=user_id,
        profile=profile,
        last_seen_ts=int(row["updated"]),
        country=names.of(country) if country else None,
        session_clicks=int(row["session_len"]),
        totals=_totals(user_state.COUNTS, row),
        windows=_windows(user_state.WINDOWS, row, now),
        recent_clicks=[Clicked(names.of(key), ts) for key, ts in zip(recent, times, strict=True)],
        categories=_tastes(row, "cat", names, now),
        creators=_tastes(row, "creator", names, now),
        hidden_items=[names.of(key) for key in hidden.tolist()],
        hidden_creators=[names.of(key) for key in hidden_creators.tolist()],
        shown=[] if shown is None else _shown(shown, names, now, rest_ms, most_shown),
        names_complete=complete,
    )


def kept_item(item_id: str, item: Item | None, row: Row | None, now: int) -> KeptItem:
    """Return the record and the row (``items.ROW``) of an item as a message; ``now`` in ms."""
    row = item_state.BLANK[()] if row is None else row
    return KeptItem(
        item_id=item_id,
        item=item,
        last_event_ts=int(row["updated"]),
        totals=_totals(item_state.COUNTS, row),
        windows=_windows(item_state.WINDOWS, row, now),
    )


def _totals(counts: Any, row: Row) -> dict[str, int]:
    data = np.array([row])
    return {metric: int(counts.totals(data, metric)[0]) for metric in counts.metrics}


def _windows(windows: Any, row: Row, now: int) -> dict[str, dict[str, int]]:
    (found,) = windows.read(np.array([row]), now, names=_WINDOWS)
    return {
        name: {metric: int(n) for metric, n in zip(windows.metrics, counts.tolist(), strict=True)}
        for name, counts in zip(_WINDOWS, found, strict=True)
    }


def _tastes(row: Row, field: str, names: Names, now: int) -> list[Taste]:
    """Return the affinities of a kind with their weights at ``now``, the largest first."""
    age = max(0, now - int(row[f"{field}_ts"]))
    fade = 2.0 ** (-age / user_state.AFFINITY_HALF_LIFE_MS)
    pairs = zip(row[field].tolist(), row[f"{field}_w"].tolist(), strict=True)
    found = [Taste(names.of(key), round(weight * fade, 4)) for key, weight in pairs if key]
    return sorted(found, key=lambda taste: -taste.weight)


def _shown(row: Row, names: Names, now: int, rest_ms: int, most: int) -> list[ShownOften]:
    """Return what a user was shown, the newest first."""
    n = int(row["count"])
    rests = set(shown_state.shown_lately(row, now, rest_ms, most).tolist())
    columns = zip(
        row["items"][:n].tolist(), row["times"][:n].tolist(), row["counts"][:n].tolist(), strict=True
    )
    return [ShownOften(names.of(key), ts * 1000, times, key in rests) for key, ts, times in columns][::-1]
