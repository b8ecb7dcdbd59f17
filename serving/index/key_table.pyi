"""Rows of keys in a sorted file of slots, compiled: a table over the top bits says where to look.

Arrays are C-contiguous, of exactly these dtypes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

class KeyTable:
    """Finds keys in sorted slots. Keys are hashes: about as many begin with any bits as with any others.

    Parameters
    ----------
    slots
        ``key`` uint64 and ``row`` uint32, packed, in ascending order of the key, ``(n,)``.
    table
        Number of slots whose key begins with fewer than each value of the top bits, uint32
        ``(2**bits + 1,)``.
    bits
        How many top bits.

    Raises
    ------
    ValueError
        When the table has another size.
    """

    def __init__(self, slots: npt.NDArray[Any], table: npt.NDArray[np.uint32], bits: int) -> None: ...
    def find(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the row of each key, int64 ``(n,)``, -1 where there is none."""

    def find_others(
        self,
        keys: npt.NDArray[np.uint64],
        rows: npt.NDArray[np.int64],
        shift: int,
        hidden: npt.NDArray[np.uint8],
    ) -> None:
        """Replace -1 in ``rows``, ``(n,)``, by the row of the key, and add ``shift`` to the others.

        A row whose bit in ``hidden`` is set (the lowest bit of a byte comes first) is not found: -1 stays.

        Raises
        ------
        ValueError
            There are not as many rows as keys, or fewer bits than slots.
        """
