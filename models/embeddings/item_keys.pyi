"""Keys of the content features of many items, compiled."""

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.schemas import Item

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

def keys_of_items(items: list[Item], k0: int, k1: int) -> tuple[U64, U8, I64, U64, U64]:
    """Return what ``content_features`` returns for each item, one after the other.

    Parameters
    ----------
    items
        The items, ``n``.
    k0, k1
        The key of hashes of ids (``ids.words``).

    Returns
    -------
    keys, kinds, bounds
        Those of item ``i`` are ``bounds[i]`` to ``bounds[i + 1]``; uint64, uint8, int64 ``(n + 1,)``.
    categories, creators
        ``category_key`` and ``creator_key`` of each item, uint64 ``(n,)``.
    """
