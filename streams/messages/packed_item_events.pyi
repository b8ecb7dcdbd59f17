"""The compact form of item events in the topic `item-events`; compiled.

A record holds a few hundred item events, in order. It begins with the version of the format (1 byte) and the
number of events (2 bytes). Then every event has, little-endian:

=========  ============  ==================================================================================
bytes      field         when it is not there
=========  ============  ==================================================================================
2          head          always there: the kind (4 bits), and which of the following fields are there
1 2 4 8    ts            always there: the distance to the event before
1 2 4 8    source_seq    always there: the distance to the event before
8          item          the item of the event before
8          other         0, or that of the last event that had one
4          seq_weight    0
1 or 8     country       that of the event before; 8 bytes when it is new, later its number in the record
1          age_group     0
1          more          the following fields are not there
1 2 4      amount        1
4          reach         it reaches back to the same number as the event before, or both are alone
2          span          0
2          source        that of the event before
=========  ============  ==================================================================================

Distances are zigzag-coded: 0, -1, 1, -2 are 0, 1, 2, 3. Before the first event of a record everything is 0.
On ordinary traffic an event has 17 bytes, most of them ids.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Records = npt.NDArray[Any]  # headrace.streams.messages.columns.ITEM_EVENT

#: Most bytes of one event, and bytes of a record before its first event.
MOST_BYTES: int
HEADER_BYTES: int

def pack_item_events(events: Records, per_record: int = ...) -> tuple[U8, I64]:
    """Pack item events, in order.

    Parameters
    ----------
    events
        Dtype ``ITEM_EVENT``, ``(n,)``.
    per_record
        Most events in a record.

    Returns
    -------
    blob, bounds
        The values of the records, one after the other, uint8, and where they begin and end, int64
        ``(records + 1,)``.

    Raises
    ------
    ValueError
        When an event is of an unknown kind.
    """

def unpack_item_events(values: Sequence[bytes | None], offsets: Sequence[int]) -> tuple[Records, I64, Bool]:
    """Unpack records of `item-events`; one that is malformed, or has an impossible value in a field, is bad.

    Parameters
    ----------
    values, offsets
        Value and offset of each record.

    Returns
    -------
    events, offsets, sound
        Item events of the sound records, dtype ``ITEM_EVENT``, and the offset of the record of each, int64,
        both ``(n,)``. And which records are sound, bool ``(len(values),)``.
    """
