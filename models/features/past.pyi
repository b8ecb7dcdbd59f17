"""What a user clicked lately, and was shown and did not click, read from rows; compiled."""

from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

def past_of(
    user: npt.NDArray[Any] | None,
    shown: npt.NDArray[Any] | None,
    click: F32,
    left: F32,
    before: float,
    share: float,
) -> tuple[U64, F32]:
    """Return the items of a user's past, uint64 ``(n,)``, and their evidence, float32 ``(2, n)``.

    See ``history.evidence``. The clicks come first, then what was shown and not clicked, the newest first.

    Parameters
    ----------
    user, shown
        Rows ``(1,)``; None where unknown.
    click
        What each click adds, the newest first, float32 ``(2, RECENT)``.
    left
        What is left of a showing after so many others, float32 ``(2, any number)``; the last place stands for
        all that are older.
    before
        A user's click rate begins as one click in so many showings.
    share
        What a showing takes away, as a share of the click rate.

    Raises
    ------
    ValueError
        The rows or weights have another layout.
    """
