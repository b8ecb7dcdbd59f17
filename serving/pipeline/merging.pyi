import numpy as np
import numpy.typing as npt

def merge_lists(
    lists: list[npt.NDArray[np.uint64]], sources: list[int], gain: npt.NDArray[np.float64], first: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32], npt.NDArray[np.float64]]:
    """Return the distinct keys in ascending order, their source masks, their strengths, all ``(n,)``.

    Parameters
    ----------
    lists, sources
        Keys, uint64 ``(m,)`` each, and the source of each list, from 0 to 31: its bit in the masks.
    gain
        What the place of a key on a list adds to its strength, float64, at least as long as any list.
    first
        A key among the first so many of a list gets 1 more, once.

    Raises
    ------
    ValueError
        A source, or the length of a list, is out of range.
    """

def strongest_of(
    group: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], weight: npt.NDArray[np.float32], k: int
) -> list[npt.NDArray[np.uint64]]:
    """Return for every group up to the last its keys with a positive weight, at most ``k``.

    The largest weight comes first; of equal ones, the one that is given first.

    Parameters
    ----------
    group
        Of each key, int64 ``(n,)``: from 0 on, ascending.
    keys, weight
        uint64 and float32 ``(n,)``.

    Raises
    ------
    ValueError
        The columns differ in length, or the groups do not ascend.
    """
