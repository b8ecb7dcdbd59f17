"""When the lists of requests are looked at: slots of them may close early then. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.agents.partitions.row_queue import RowQueue

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
_LOOK = np.dtype([("at", "i8"), ("key", "u8")])


class Looks(RowQueue):
    """Request keys and times, in the order of the times."""

    def __init__(self) -> None:
        super().__init__(_LOOK)

    def put(self, at: I64, keys: U64) -> None:
        """Look at requests at these times (ms), ``(n,)`` each; not before those that are there already."""
        order = np.argsort(at, kind="stable")
        rows = np.empty(len(at), _LOOK)
        rows["at"], rows["key"] = np.maximum(at[order], self.rows()[-1:]["at"].max(initial=0)), keys[order]
        self.push(rows)

    def take(self, to: int, most: int) -> U64:
        """Remove those up to a time (ms), at most so many; return their keys, each once."""
        due = self.rows()[:most]
        n = int(due["at"].searchsorted(to, "right"))
        keys = np.unique(due["key"][:n])
        self.forget(self.first + n)
        return keys
