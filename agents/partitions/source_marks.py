"""Which item events of a source were counted: the high-water mark of the source. Pure.

The numbers of a source only grow. An event alone is new when its number is above the mark. Events that were
put together in one record batch are new or known together: they are known when the mark has reached the first
of them. Then the next owner of the source has begun to send them again, one by one, and sends all of them::

    numbers      1  2  3  4  5  6  7
    put together       [-----------]        comes late, from a worker that lost the partition
    one by one   x  x  x  x                 the mark is 4: those put together are known, 5 to 7 will come
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]


@dataclass(slots=True)
class SourceMark:
    """The high-water mark of one source.

    Attributes
    ----------
    mark
        The largest number counted; -1 without any.
    first
        First number of the events put together that were counted last; -1 without any. The rest of them may
        come in the next batch.
    """

    mark: int = -1
    first: int = -1

    @classmethod
    def of(cls, value: bytes) -> Self:
        """Return the mark in a meta record."""
        return cls(
            int.from_bytes(value[:8], "little", signed=True), int.from_bytes(value[8:], "little", signed=True)
        )

    def value(self) -> bytes:
        """Return the value of the meta record."""
        return self.mark.to_bytes(8, "little", signed=True) + self.first.to_bytes(8, "little", signed=True)

    def fresh(self, numbers: I64, reach: U32) -> npt.NDArray[np.bool_]:
        """Return which events were not counted before, bool ``(n,)``, and count them.

        Parameters
        ----------
        numbers, reach
            ``source_seq`` and ``reach`` of item events of this source, in their order, ``(n,)``.
        """
        firsts = np.where(reach > 0, numbers - reach.astype(np.int64) + 1, -1)
        ends = np.append(np.flatnonzero(np.diff(firsts)) + 1, len(firsts))
        out = np.zeros(len(numbers), bool)
        start = 0
        for end in ends.tolist():
            first = int(firsts[start])
            if first < 0 or first > self.mark or first == self.first:
                out[start:end] = self._rise(numbers[start:end])
                self.first = first if first >= 0 else self.first
            start = end
        return out

    def _rise(self, numbers: I64) -> npt.NDArray[np.bool_]:
        before = np.maximum.accumulate(np.r_[self.mark, numbers[:-1]])
        self.mark = max(self.mark, int(numbers.max()))
        return np.asarray(numbers > before)
