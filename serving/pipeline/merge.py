"""Merges the lists of the sources."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.merging import merge_lists

F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

#: Keys of a longer list than this are left out at its end.
_LONGEST = 10_000
#: 1 / (60 + rank), with the constant of the paper.
_RECIPROCAL = 1 / (61.0 + np.arange(_LONGEST))


@dataclass(slots=True)
class Proposals:
    """Lists of item keys, the strongest first."""

    sources: list[int] = field(default_factory=list)
    keys: list[U64] = field(default_factory=list)

    def add(self, source: int, *lists: U64) -> int:
        """Append lists of the source with this number (0 to 31); return how many keys they have."""
        count = 0
        for keys in lists:
            if n := len(keys):
                self.sources.append(source)
                self.keys.append(keys if n <= _LONGEST else keys[:_LONGEST])
                count += n
        return count

    def merged(self, limit: int) -> tuple[U64, U32, F64]:
        """Return the distinct keys in ascending order, their source masks and their strengths, all ``(n,)``.

        Bit i of a mask is set when source i proposed the item. Strength is reciprocal rank fusion (Cormack
        et al. 2009): the sources need no common scale. The first items of every list, half of ``limit`` in
        all, get 1 more: many agreeing lists do not crowd out a source that is alone with its items.
        """
        return merge_lists(self.keys, self.sources, _RECIPROCAL, limit // (2 * max(1, len(self.keys))))
