"""Records in another partition than Kafka's default partitioner (murmur2) puts their key into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from aiokafka.partitioner import murmur2

#: Header of a record that was sent on to its right partition: ``<topic>/<partition>/<offset>`` it came from.
FORWARDED = "headrace-from"


def misplaced(records: Sequence[Any], partition: int, partitions: int) -> npt.NDArray[np.bool_]:
    """Return which records are in the wrong partition or have no key, bool ``(n,)``.

    Parameters
    ----------
    partition
        Partition that the records are in.
    partitions
        Number of partitions of their topic.
    """
    keys = (record.key for record in records)
    wrong = (key is None or (murmur2(key) & 0x7FFFFFFF) % partitions != partition for key in keys)
    return np.fromiter(wrong, np.bool_, len(records))
