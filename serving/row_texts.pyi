"""The texts of the rows of a table, compiled: bytes, and no Python objects."""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

class RowTexts:
    """Id and title of each row: their bytes, 9 more, 8 for the row, and what the allocator adds.

    Nothing is ever copied: a longer table has more parts.

    Attributes
    ----------
    nbytes
        Bytes in use, without those of the allocator.
    """

    @property
    def nbytes(self) -> int:
        """See ``Attributes``."""

    def put(self, rows: I64, ids: list[str], titles: list[str]) -> None:
        """Set id and title of rows, int64 ``(n,)``, as many as texts."""

    def drop(self, rows: I64) -> None:
        """Forget the texts of rows; one without texts is fine."""

    def id_of(self, row: int) -> str:
        """Return the id of a row. Raises ``KeyError`` when it has none."""

    def ids_of(self, rows: I64) -> list[str]:
        """Return the id of each row, int64 ``(n,)``. Raises ``KeyError`` when one has none."""

    def title_of(self, row: int) -> str:
        """Return the title of a row. Raises ``KeyError`` when it has none."""

    def other(self, rows: I64, ids: list[str]) -> int:
        """Return the first place where a row has another id than the one given, -1 when there is none.

        Rows without texts, and row -1, have no other id.
        """
