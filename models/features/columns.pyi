"""The feature matrix while compiled loops fill it."""

import numpy as np
import numpy.typing as npt

class Columns:
    """The feature matrix of the candidates, and their categories.

    Parameters
    ----------
    category
        Of each candidate, uint64 ``(n,)``; 0: none.

    Attributes
    ----------
    array
        float32 ``(len(SPEC), n)``: zeros, until a column is filled.
    """

    array: npt.NDArray[np.float32]

    def __init__(self, category: npt.NDArray[np.uint64]) -> None: ...
    def fill_logs(self) -> None:
        """Fill the columns that are logs: until then, their arguments are collected."""

    def fill_all(self, column: int, value: float) -> None:
        """Fill a column with one number."""
