"""The items that a caller wants ranked: also those that the catalogue does not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.ids import hash_many

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Given:
    """The items of a request, each once, in its order.

    Attributes
    ----------
    keys
        uint64 ``(n,)``.
    ids
        Their ids, by key.
    """

    keys: U64
    ids: dict[int, str]

    @classmethod
    def of(cls, ids: Sequence[str]) -> Given | None:
        """Return the items with these ids; None for no ids. Of an id given twice, the first place counts."""
        if not ids:
            return None
        once = list(dict.fromkeys(ids))
        keys = hash_many(once)
        return cls(keys, dict(zip(keys.tolist(), once, strict=True)))

    def places_of(self, keys: U64) -> I64:
        """Return the place of items in the order of the request, from 0 on, int64 ``(n,)``."""
        order = np.argsort(self.keys)
        out: I64 = order[np.searchsorted(self.keys, keys, sorter=order)]
        return out


def or_blank(read: Callable[[I64], Any], rows: I64, blank: float = 0) -> Any:
    """Return what ``read`` says of rows of the catalogue, ``(n, ...)``; ``blank`` for those that are -1."""
    known = rows >= 0
    if known.all():
        return read(rows)
    there = read(rows[known])
    out = np.full((len(rows), *there.shape[1:]), blank, there.dtype)
    out[known] = there
    return out
