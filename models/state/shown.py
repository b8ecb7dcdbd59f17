"""State of what users were shown: the last items shown to a user, when and how often.

A row of its own beside the user's row (``users.py``): that one is written at every flush of a click, and what
was shown is several times as large.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.models.state.shown_updates import ShownUpdates
from headrace.streams.settings import MINUTE_MS
from headrace.streams.tables.layouts import Earlier, declare, fingerprint
from headrace.streams.tables.rows import RowTable, unpack

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

#: Items in a row.
SHOWN = 200
#: Counts up to this are exact; a larger one is kept as this.
MOST_COUNTED = 255
#: How long an item rests after it was shown.
REST_MS = 10 * MINUTE_MS

ROW = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<i8"),  # of the last record of `impressions` applied; -1 before the first
        ("updated", "<i8"),  # time of the newest impression, or of a later tombstone
        ("since", "<i8"),  # it has impressions after this offset: ``offset`` when it was last cleared
        ("forgotten", "<i8"),  # offset of the tombstone in `users` that cleared it last
        ("layout", "<u4"),
        ("count", "<u4"),  # places in use: the first ones
        ("items", "<u8", (SHOWN,)),  # in the order of their last showings (by offset), the oldest first
        ("times", "<u4", (SHOWN,)),  # newest time of each item's impressions, s
        ("counts", "u1", (SHOWN,)),  # how often each was shown since it is in the row
    ]
)
BLANK = np.zeros((), ROW)
for _name in ("offset", "since", "forgotten"):
    BLANK[_name] = -1
#: The fields that only grow: of two states of a row, the one with the larger values is newer.
ORDER = ("offset", "forgotten")

declare("shown-state", 2, ROW, [Earlier(1, ROW, np.copy, fingerprint(ROW))])

_UPDATES = ShownUpdates(ROW, items=SHOWN)


def new_table() -> RowTable:
    """Return a table for rows of what users were shown."""
    return RowTable(ROW, BLANK[()])


class ShownState:
    """What the users of one partition were shown.

    The impressions count in the order of their offsets. An item that is shown again keeps the larger of its
    times and counts one more. A new item takes the place of the one whose last showing has the lowest offset.

    Parameters
    ----------
    table
        The table of the rows, of dtype ``ROW``; a new table when None.
    """

    def __init__(self, table: RowTable | None = None) -> None:
        self.table = new_table() if table is None else table

    def apply(self, users: U64, slots: I64, items: U64, ts: I64, offsets: I64) -> I64:
        """Apply impressions, in order; return the rows changed.

        Impressions that a row has already (by its offset) are skipped.

        Parameters
        ----------
        users, ts, offsets
            User, time (ms) and offset of each impression, ``(n,)``.
        slots, items
            How many items each has, ``(n,)``, and all of these one after the other.
        """
        rows = self.table.take(users)
        return _UPDATES.apply(self.table.data, rows, slots, items, ts, offsets)

    def forget(self, key: int, offset: int, ts: int) -> int:
        """Clear the row of a user; return it, -1 when there is none or this tombstone has cleared it before.

        The empty row stays: impressions up to its offset are not applied when they are delivered again.

        Parameters
        ----------
        offset, ts
            Offset and timestamp (ms) of the tombstone in `users`.
        """
        row = int(self.table.find(np.array([key], np.uint64))[0])
        data = self.table.data
        if row < 0 or offset <= data["forgotten"][row]:
            return -1
        applied, layout = data["offset"][row], data["layout"][row]
        data[row] = BLANK
        data["key"][row], data["layout"][row] = key, layout
        data["offset"][row] = data["since"][row] = applied
        data["forgotten"][row], data["updated"][row] = offset, max(0, ts)
        return row


def filled(packed: Sequence[bytes]) -> Bool:
    """Return which packed rows have any item, bool ``(n,)``: rows of forgotten users have none."""
    rows, _ = unpack(packed, ROW)
    there: Bool = rows["count"] > 0
    return there


def shown_lately(
    row: npt.NDArray[np.void] | np.void, now: int, rest_ms: int = REST_MS, most: int = MOST_COUNTED + 1
) -> U64:
    """Return the items that should rest, uint64 ``(n,)``, the one shown longest ago first.

    Parameters
    ----------
    row
        One row.
    now
        The present time, ms.
    rest_ms
        An item rests for this long after it was shown. Times are kept in seconds, so a rest may end up to a
        second sooner.
    most
        An item that was shown so often rests as long as it is in the row; above ``MOST_COUNTED``, none does.
    """
    n = int(row["count"])
    shown_ms = row["times"][:n].astype(np.int64) * 1000
    items: U64 = row["items"][:n][(shown_ms > now - rest_ms) | (row["counts"][:n] >= most)]
    return items


def hidden(user: npt.NDArray[np.void] | np.void) -> tuple[U64, U64]:
    """Return what a user hid: items and creators, uint64 ``(n,)`` and ``(m,)``, the oldest first.

    Parameters
    ----------
    user
        One row of ``users.ROW``.
    """
    items, creators = user["hidden"], user["hidden_creators"]
    return items[items != 0], creators[creators != 0]
