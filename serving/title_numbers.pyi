"""Numbers of titles, compiled."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

def title_numbers(
    titles: list[str], comparable: Callable[[str], str], shortest: int, k0: int, k1: int
) -> npt.NDArray[np.uint32]:
    """Return a number for each title, uint32 ``(n,)``: the hash of what ``comparable`` makes of it.

    Parameters
    ----------
    titles
        The titles, ``n``.
    comparable
        Called for titles that are not ASCII; the others are treated alike here.
    shortest
        A title that is shorter then has number 0.
    k0, k1
        The key of hashes of ids (``ids.words``).
    """
