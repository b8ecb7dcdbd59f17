"""Which records are in the partition of their key. Kafka's default partitioner is murmur2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.topics.sender import partition_of

#: Header of a record that was sent on to its partition: where it was met, ``<topic>/<partition>/<offset>``.
FORWARDED = "headrace-from"


def misplaced(records: Sequence[Any], partition: int, partitions: int) -> npt.NDArray[np.bool_]:
    """Return which records are not in the partition of their key, or have no key, bool ``(n,)``."""
    return np.fromiter(
        (not r.key or partition_of(r.key, partitions) != partition for r in records), bool, len(records)
    )
