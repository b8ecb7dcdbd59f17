import numpy as np
import numpy.typing as npt

def partitions_of_keys(keys: list[bytes | None], partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each key, int64 ``(n,)``; -1 for None and for an empty key."""

def partitions_of_parts(
    payload: bytes | bytearray, parts: npt.NDArray[np.int64], partitions: int
) -> npt.NDArray[np.int64]:
    """Return the partition of each key in ``payload``, int64 ``(n,)``; -1 for null and for an empty key.

    Parameters
    ----------
    parts
        In its first rows: where the keys begin, and their sizes (-1: null), int64 ``(2 or more, n)``.

    Raises
    ------
    ValueError
        When a key is not inside of the payload.
    """
