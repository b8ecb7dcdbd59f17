"""Row numbers of keys: a hash table, compiled.

Arrays of numbers are C-contiguous, of exactly these dtypes.
"""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

class KeyIndex:
    """Row number of each 64-bit key: open addressing; the rows of dropped keys are used again."""

    used: int
    """Upper bound of the row numbers: the number of rows that were ever in use."""

    def __init__(self, capacity: int = 0, at_once: int = 131072) -> None:
        """Make room for so many keys. A full table of more slots than ``at_once`` is moved bit by bit."""

    def __len__(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""

    def get(self, key: int) -> int:
        """Return the row of one key, -1 where there is none."""

    def find(self, keys: U64) -> I64:
        """Return the row of each key, int64 ``(n,)``, -1 where there is none."""

    def take(self, keys: U64) -> tuple[I64, I64]:
        """Return the row of each key, new rows included, and the positions of the new ones, both int64."""

    def drop(self, keys: U64) -> I64:
        """Forget keys; return the rows they had, int64."""

    def items(self) -> tuple[U64, I64]:
        """Return all keys and their rows, in the order of rows."""
