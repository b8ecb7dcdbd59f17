from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

#: The types of events it knows.
TYPES: tuple[str, ...]

def scan_events(
    payload: bytes | bytearray,
    parts: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    timestamps: npt.NDArray[np.int64],
    kinds: Mapping[str, int],
    *,
    max_bytes: int,
    partition: int,
    partitions: int,
    lateness_ms: int,
    future_ms: int,
    newest_ms: int,
    key_words: tuple[int, int],
) -> tuple[tuple[npt.NDArray[Any], ...], npt.NDArray[np.bool_]]:
    """Return the fields of events as arrays ``(n,)``, and which records were read, bool ``(n,)``.

    The arrays are those of ``event_fields``; whether a record was sent on is not looked at. Of a record that
    was not read they say nothing.

    Parameters
    ----------
    parts
        Where the keys of the records begin in ``payload``, their sizes, where their values begin, and their
        sizes (-1: null), int64 ``(4, n)``.
    offsets, timestamps
        Of the records, int64 ``(n,)``.
    max_bytes
        A larger value is not read.

    Raises
    ------
    ValueError
        When a key or a value is not inside of the payload.
    """
