"""The proposals of the sources, and the merge of their lists."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.serving.sources.names import SOURCES

F64 = npt.NDArray[np.float64]
U16 = npt.NDArray[np.uint16]
U64 = npt.NDArray[np.uint64]

_BITS = (1 << np.arange(len(SOURCES), dtype=np.uint16))[:, None]
#: 1 / (60 + rank), with the constant of the paper.
_RECIPROCAL = 1 / (61.0 + np.arange(10_000))


@dataclass(slots=True)
class Proposals:
    """Lists of item keys, one for each ``add``, the strongest first."""

    sources: list[int] = field(default_factory=list)
    keys: list[U64] = field(default_factory=list)

    def add(self, source: int, keys: U64) -> None:
        """Append a list of the source with the bit ``source`` (``names.py``)."""
        if len(keys):
            self.sources.append(source)
            self.keys.append(keys)

    def merged(self) -> tuple[U64, U16, F64]:
        """Return the distinct keys in ascending order, their source masks and their strengths, all ``(n,)``.

        Strength is reciprocal rank fusion (Cormack et al. 2009): the sources need no common scale.
        """
        if not self.keys:
            return np.zeros(0, np.uint64), np.zeros(0, np.uint16), np.zeros(0)
        every = np.concatenate(self.keys)
        sizes = [len(k) for k in self.keys]
        keys, where = np.unique(every, return_inverse=True)
        gain = np.concatenate([_RECIPROCAL[:n] for n in sizes])
        strength = np.bincount(where, gain, len(keys)).astype(np.float64)
        bits = np.zeros((len(SOURCES), len(keys)), bool)
        bits[np.repeat(self.sources, sizes), where] = True
        mask: U16 = (bits * _BITS).sum(0, dtype=np.uint16)
        return keys, mask, strength
