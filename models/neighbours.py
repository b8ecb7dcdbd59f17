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


class Neighbours:
    """Neighbour rows of one partition: the ``SLOTS`` strongest neighbours of an item, decayed.

    A new neighbour of a full row takes the weakest place (Metwally et al. 2005, "space-saving", without the
    inherited count, so that a weight never overstates).
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
        for part in rounds(r):
            _add(data, r[part], o[part], seq[part], co[part], ts[part])
        return np.unique(r)


def _add(
    data: npt.NDArray[Any], rows: I64, other: npt.NDArray[np.uint64], seq: F32, co: F32, ts: I64
) -> None:
    """Add one neighbour to each of ``rows``, which do not repeat."""
    when = data["ts"][rows]
    now = np.maximum(when, ts)
    fade = np.exp2(-(now - when) / HALF_LIFE_MS).astype(np.float32)
    own = np.exp2(-(now - ts) / HALF_LIFE_MS).astype(np.float32)
    seq, co = seq * own, co * own
    slots, seqs, cos = data["other"][rows], data["seq"][rows], data["co"][rows]
    seqs *= fade[:, None]
    cos *= fade[:, None]
    found = slots == other[:, None]
    known = found.any(1)
    place = np.where(known, found.argmax(1), (seqs + cos).argmin(1))
    i = np.arange(len(rows))
    seqs[i, place] = np.where(known, seqs[i, place], 0) + seq
    cos[i, place] = np.where(known, cos[i, place], 0) + co
    slots[i, place] = other
    data["other"][rows], data["seq"][rows], data["co"][rows], data["ts"][rows] = slots, seqs, cos, now
    data["seq_total"][rows] = data["seq_total"][rows] * fade + seq
    data["co_total"][rows] = data["co_total"][rows] * fade + co


def both_ways(pairs: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return the records one pair becomes: *next* at the earlier item, *together* at both."""
    back = pairs.copy()
    back["item"], back["other"] = pairs["other"], pairs["item"]
    back["seq_weight"] = 0
    back["source_seq"] += PAIRS
    return np.concatenate([pairs, back])
