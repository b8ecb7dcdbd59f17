import numpy as np
import numpy.typing as npt

def partitions_of_keys(keys: list[bytes | None], partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each key, int64 ``(n,)``; -1 for None and for an empty key."""
