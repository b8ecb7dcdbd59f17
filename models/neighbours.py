"""Items seen together: for every item, what users clicked next and what they clicked in the same session."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.user_state import PAIRS
from streams.settings import DAY_MS
from streams.table import Table
from streams.windows import rounds

I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

SLOTS = 96
HALF_LIFE_MS = 7 * DAY_MS

ROW = np.dtype(
    [
        ("key", "<u8"),
        ("offset", "<i8"),
        ("ts", "<i8"),  # the time the weights stand at
        ("co_total", "<f4"),
        ("seq_total", "<f4"),
        ("other", "<u8", (SLOTS,)),
        ("seq", "<f4", (SLOTS,)),
        ("co", "<f4", (SLOTS,)),
    ]
)
BLANK = np.zeros((), ROW)
BLANK["offset"] = -1

#: Pairs looked up at once: what bounds the memory of a large batch.
_CHUNK = 4096


class Neighbours:
    """Neighbour rows of one partition: the ``SLOTS`` strongest neighbours of an item, decayed.

    What a batch adds to known neighbours comes first; then each new neighbour takes the weakest place
    (Metwally et al. 2005, "space-saving", without the inherited count: a weight never overstates).
    """

    def __init__(self) -> None:
        self.table = Table(ROW, BLANK[()])

    def apply(self, pairs: npt.NDArray[np.void], offsets: I64) -> I64:
        """Add ``ITEM_EVENT`` records of kind pair; return the rows touched."""
        if not len(pairs):
            return np.zeros(0, np.int64)
        rows = self.table.take(pairs["item"])
        data = self.table.data
        fresh = offsets > data["offset"][rows]
        rows, pairs, offsets = rows[fresh], pairs[fresh], offsets[fresh]
        if not len(rows):
            return rows
        np.maximum.at(data["offset"], rows, offsets)
        order = np.lexsort((pairs["other"], rows))
        r, o = rows[order], pairs["other"][order]
        starts = np.flatnonzero(np.r_[True, (r[1:] != r[:-1]) | (o[1:] != o[:-1])])
        ts = np.maximum.reduceat(pairs["ts"][order], starts)
        age = np.exp2(-(np.repeat(ts, np.diff(np.r_[starts, len(r)])) - pairs["ts"][order]) / HALF_LIFE_MS)
        seq = np.add.reduceat(pairs["seq_weight"][order] * age, starts).astype(np.float32)
        co = np.add.reduceat(pairs["co_weight"][order] * age, starts).astype(np.float32)
        r, o = r[starts], o[starts]
        touched, where = np.unique(r, return_inverse=True)
        now = _bring_forward(data, touched, np.maximum.reduceat(ts, np.searchsorted(r, touched)))
        own = np.exp2(-(now[where] - ts) / HALF_LIFE_MS).astype(np.float32)
        seq, co = seq * own, co * own
        for name, amount in (("seq", seq), ("co", co)):
            np.add.at(data[f"{name}_total"], r, amount)
        new = _strengthen(data, r, o, seq, co)
        for part in rounds(r[new]):
            at = new[part]
            _replace_weakest(data, r[at], o[at], seq[at], co[at])
        return touched


def _bring_forward(data: npt.NDArray[Any], rows: I64, ts: I64) -> I64:
    """Let the weights of ``rows`` fade up to ``ts`` where that is later; return when they stand at."""
    when = data["ts"][rows]
    late = ts > when
    if late.any():
        moved = rows[late]
        fade = np.exp2(-(ts[late] - when[late]) / HALF_LIFE_MS).astype(np.float32)
        for name in ("seq", "co"):
            data[name][moved] *= fade[:, None]
            data[f"{name}_total"][moved] *= fade
        data["ts"][moved] = ts[late]
    out: I64 = np.maximum(when, ts)
    return out


def _strengthen(data: npt.NDArray[Any], rows: I64, other: U64, seq: F32, co: F32) -> I64:
    """Add to the neighbours the rows know already; return the positions of those they do not."""
    new = []
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        found = data["other"][rows[part]] == other[part, None]
        i, place = np.nonzero(found)  # a row holds a neighbour once, and no (row, neighbour) repeats
        r = rows[part][i]
        data["seq"][r, place] += seq[part][i]
        data["co"][r, place] += co[part][i]
        new.append(start + np.flatnonzero(~found.any(1)))
    return np.concatenate(new)


def _replace_weakest(data: npt.NDArray[Any], rows: I64, other: U64, seq: F32, co: F32) -> None:
    """Give a new neighbour the weakest place of each of ``rows``, which do not repeat."""
    place = (data["seq"][rows] + data["co"][rows]).argmin(1)
    data["other"][rows, place] = other
    data["seq"][rows, place] = seq
    data["co"][rows, place] = co


def both_ways(pairs: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return the records one pair becomes: *next* at the earlier item, *together* at both."""
    back = pairs.copy()
    back["item"], back["other"] = pairs["other"], pairs["item"]
    back["seq_weight"] = 0
    back["source_seq"] += PAIRS
    return np.concatenate([pairs, back])
