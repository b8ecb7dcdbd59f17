"""State of neighbours: for every item, the items clicked next, and those clicked in the same session."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.earlier_rows import NEIGHBOURS_0
from headrace.models.state.item_events import choose_item_events
from headrace.models.state.neighbour_updates import NeighbourUpdates
from headrace.streams.messages.columns import KINDS
from headrace.streams.settings import DAY_MS, MINUTE_MS
from headrace.streams.tables.layouts import Earlier, declare, fingerprint
from headrace.streams.tables.rows import RowTable

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]

#: With 96, the hit rate on news clicks is 0.0004 higher (of 0.755) than with 64, but rows are written often
#: while their item is in use.
SLOTS = 48
HALF_LIFE_MS = 7 * DAY_MS
#: The same of the weights that say what was clicked together lately: the best of 10 minutes to 7 days on news
#: clicks, see docs/architecture.md.
RECENT_HALF_LIFE_MS = 30 * MINUTE_MS
#: Weights decay in steps of whole minutes. The decay of a few milliseconds is lost in the rounding of
#: float32, so the weights of an item that is never idle would never decay.
STEP_MS = MINUTE_MS

ROW = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<i8"),
        ("updated", "<i8"),  # time of the newest pair
        ("co_total", "<f4"),
        ("seq_total", "<f4"),
        ("layout", "<u4"),
        ("pad", "u1", (4,)),
        ("other", "<u8", (SLOTS,)),  # places are filled in order and never emptied
        ("seq", "<f4", (SLOTS,)),
        ("co", "<f4", (SLOTS,)),
        ("seq_recent", "<f4", (SLOTS,)),
        ("co_recent", "<f4", (SLOTS,)),
    ]
)
BLANK = np.zeros((), ROW)
BLANK["offset"] = -1

declare(
    "item-neighbours",
    2,
    ROW,
    [Earlier(1, ROW, np.copy, fingerprint(ROW)), Earlier(0, NEIGHBOURS_0, None, fingerprint(NEIGHBOURS_0))],
)

_PAIRS = [kind == "pair" for kind in KINDS]
_UPDATES = NeighbourUpdates(
    ROW, slots=SLOTS, step_ms=STEP_MS, half_life_ms=HALF_LIFE_MS, recent_ms=RECENT_HALF_LIFE_MS
)


def new_table() -> RowTable:
    """Return a table for neighbour rows."""
    return RowTable(ROW, BLANK[()])


class Neighbours:
    """Neighbour rows of one partition: the ``SLOTS`` strongest neighbours of an item, decayed.

    Each pair adds to the weight of a known neighbour, or a new neighbour replaces the weakest one (Metwally
    et al. 2005, "space-saving", but the new one does not inherit the count, so no weight is too large). The
    result does not depend on how the pairs are divided into batches.

    Parameters
    ----------
    table
        The table of the rows, of dtype ``ROW``; a new table when None.
    """

    def __init__(self, table: RowTable | None = None) -> None:
        self.table = new_table() if table is None else table

    def apply(self, events: npt.NDArray[np.void], offsets: I64, wanted: Bool | None = None) -> I64:
        """Add ``ITEM_EVENT`` records of kind pair (others are left out); return the rows changed.

        ``offsets`` and ``wanted`` as in ``ItemState.apply``.
        """
        at, keys = choose_item_events(events, wanted, _PAIRS, 0)
        rows = self.table.take(keys)
        return _UPDATES.apply(self.table.data, rows, events, at, offsets)
