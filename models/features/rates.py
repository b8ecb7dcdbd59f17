"""How often an item is clicked, by the little that is known of new and rare items: against its category.

Two rates: of clicks among showings; and of clicks among clicks and skips, which say that the slot was looked
at, so that it does not matter how far down a list the item was. Both are smoothed from the general to the
special: all candidates, their category, the item. As logarithms they add up to the item's rate, and linear
models can add a taste to them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.key_sets import numbered

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

#: The rate of all candidates is believed as if it had been seen so often before, and with so many clicks.
_BEFORE, _CLICKS = np.float32(20), np.float32(1)
#: Showings, and clicks or skips, of a category or an item that count as much as what was believed before.
_SHOWN, _SEEN = np.float32(20), np.float32(5)


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
        theirs = (np.bincount(group, clicks) + weight * every) / (np.bincount(group, of) + weight)
        lift = np.where(known, (theirs / every).astype(np.float32)[group], np.float32(1))
        own = (clicks + weight * every * lift) / (of + weight)
        put[f"item_category_{name}_24h"][:] = np.log(lift)
        put[f"item_{name}_lift_24h"][:] = np.log(own / (every * lift))
