"""Item events: made of user events and their pairs, and split by partition; compiled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.messages.columns import EventColumns

I64 = npt.NDArray[np.int64]
Records = npt.NDArray[Any]  # headrace.streams.messages.columns.ITEM_EVENT

def item_events(
    events: EventColumns,
    pairs: Records,
    source_partition: int,
    seq_step: int,
    n_pairs: int,
    counted: Sequence[bool],
) -> Records:
    """Return the item events of applied events and of their pairs (both ways), by ``source_seq``.

    ``counted`` is true for the kinds that items count. Offsets of ``events`` must rise.
    """

def split_item_events(arrays: list[Records], count: int) -> tuple[Records, I64]:
    """Return all item events by the partition of their item (modulo ``count``), and how many each has, int64
    ``(count,)``. The order within a partition is kept."""

def combine_item_events(events: Records) -> Records:
    """Return fewer item events that say the same; numbers of a source must rise in ``events``.

    Those of the same source, item, other item, country, kind and minute become one: the amounts are added,
    and it has the number of the last of them. Numbers of a source rise in the result, too. Events that are
    ``alone`` stay as they are.
    """
