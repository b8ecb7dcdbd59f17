from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

#: Verdicts, in the order in which they are checked.
RIGHT: int
WRONG_KEY: int
MISPLACED: int
MISSING: int
TOO_LATE: int
FUTURE: int
CLOCK: int
#: Set later: the event is sent on to another partition.
ELSEWHERE: int
#: Set later: the event came a second time from where it was sent on. It is a retry.
AGAIN: int

def event_fields(
    events: list[Any],
    records: list[Any],
    kinds: Mapping[str, int],
    *,
    partition: int,
    partitions: int,
    lateness_ms: int,
    future_ms: int,
    newest_ms: int,
    key_words: tuple[int, int],
    sent_on_header: str,
) -> tuple[npt.NDArray[Any], ...]:
    """Return the fields of decoded events as arrays ``(n,)``.

    They are user, item (uint64 ids), kind (int8), ts (int64, ms), dwell_s (float32, whole seconds), country
    (uint64), offset (int64), whether a hide is of the creator (bool), age group (uint8), event_id (uint64),
    record timestamp (int64, ms), verdict (uint8), whether the record is in the partition of its key, and
    whether it has the header ``sent_on_header`` (bool).
    """
