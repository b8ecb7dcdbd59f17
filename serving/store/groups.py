"""Where the rows of a Redis Cluster live: in groups, each in one hash slot of its own. Pure.

A row belongs to the group of the last bits of its key. All keys of a group have the same hash tag, so they
are in one slot: they move together, and a server that loses some of them loses the marks of the group, too.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from itertools import count, islice
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.serving.store.protocol import Keys

#: Number of slots of every Redis Cluster.
HASH_SLOTS: Final = 16_384
#: Number of groups: a power of two. A cluster spreads the rows well over an eighth as many masters.
GROUPS: Final = 128


def _tags() -> list[str]:
    """Return for each group the smallest number whose slot is in its part of all slots, which are equal."""
    found: dict[int, str] = {}
    numbers = (str(number) for number in count())
    while len(found) < GROUPS:
        for tag in islice(numbers, GROUPS):
            found.setdefault(slot_of(tag) * GROUPS // HASH_SLOTS, tag)
    return [found[group] for group in range(GROUPS)]


def slot_of(key: str) -> int:
    """Return the slot of a key without a hash tag, or of a hash tag."""
    return crc_hqx(key.encode(), 0) % HASH_SLOTS


#: Hash tag of each group, and its slot. They never change: rows are found by them.
TAGS: Final = _tags()
SLOTS: Final = [slot_of(tag) for tag in TAGS]


def by_group(keys: Keys) -> dict[int, npt.NDArray[np.intp]]:
    """Return the groups that keys belong to, and the places of each one's keys, in order."""
    groups = np.asarray(keys, np.uint64) & np.uint64(GROUPS - 1)
    order = np.argsort(groups, kind="stable")
    if not len(order):
        return {}
    found, first = np.unique(groups[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, first[1:]), strict=True))


def lowest(groups: Sequence[int | None]) -> int | None:
    """Return the lowest position of the groups of a partition, None when one of them has none."""
    known = [position for position in groups if position is not None]
    return min(known) if len(known) == len(groups) else None
