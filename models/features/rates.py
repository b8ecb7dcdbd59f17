"""How often an item is clicked, and how long viewed, by the little that is known of new and rare items.

It is given against the item's category. Two rates: of clicks among showings; and of clicks among clicks and
skips, which say that the slot was looked at, so that it does not matter how far down a list the item was.
Both are smoothed from the general to the special: all candidates, their category, the item. As logarithms
they add up to the item's rate, and linear models can add a taste to them. How long views of it take is
smoothed in the same way: a click says that somebody wanted to see the item, its view says how much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state.key_sets import numbered

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: The rate of all candidates is believed as if it had been seen so often before, and with so many clicks.
_BEFORE, _CLICKS = np.float32(20), np.float32(1)
#: Showings, and clicks or skips, of a category or an item that count as much as what was believed before.
_SHOWN, _SEEN = np.float32(20), np.float32(5)
#: Clicks of a category or an item that count as much, for the mean time of a view.
_VIEWS = np.float32(4)


def fill_lifts_of_items(put: dict[str, F32], clicks: F32, shown: F32, skips: F32, category: U64) -> None:
    """Fill the log of each item's rates against its category's, and of these against all candidates'.

    Parameters
    ----------
    clicks, shown, skips
        Of the last day, ``(n,)``.
    category
        Hashes, ``(n,)``; 0: none.
    """
    group, known = numbered(category), category != 0
    shown = np.maximum(shown, clicks)  # items are clicked outside of lists, too
    for name, of, weight in (("ctr", shown, _SHOWN), ("seen", clicks + skips, _SEEN)):
        every = (clicks.sum() + _CLICKS) / (of.sum() + _BEFORE)
        _fill(put, name, clicks, of, weight, every, group, known)


def fill_lifts_of_views(put: dict[str, F32], clicks: F32, dwell_s: F32, category: U64) -> None:
    """Fill the log of the mean time of an item's views against its category's, and of this against all.

    0 where no candidate was viewed.

    Parameters
    ----------
    clicks, dwell_s
        Of the last day, and the seconds of their views, ``(n,)``.
    category
        Hashes, ``(n,)``; 0: none.
    """
    if dwell_s.any():
        every = dwell_s.sum() / max(clicks.sum(), np.float32(1))
        _fill(put, "dwell", dwell_s, clicks, _VIEWS, every, numbered(category), category != 0)


def _fill(
    put: dict[str, F32],
    name: str,
    what: F32,
    of: F32,
    weight: np.float32,
    every: Any,
    group: I64,
    known: Bool,
) -> None:
    """Fill the lifts of a rate: ``what`` divided by ``of``; ``every``: that of all candidates."""
    theirs = (np.bincount(group, what) + weight * every) / (np.bincount(group, of) + weight)
    lift = np.where(known, (theirs / every).astype(np.float32)[group], np.float32(1))
    own = (what + weight * every * lift) / (of + weight)
    put[f"item_category_{name}_24h"][:] = np.log(lift)
    put[f"item_{name}_lift_24h"][:] = np.log(own / (every * lift))
