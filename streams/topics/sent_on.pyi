"""Records that are sent on, in columns, compiled."""

from typing import Any

import numpy as np
import numpy.typing as npt

class SentOn:
    """Encoded records to be sent on to one partition, in the order they were added.

    Parameters
    ----------
    max_bytes
        Largest record batch, with its header. A record that is larger is a batch of its own.
    """

    def __init__(self, max_bytes: int) -> None: ...
    def add(self, payload: bytes | bytearray, fields: npt.NDArray[np.int64], place: str, base: int) -> None:
        """Add records with the parts, timestamp and headers they have, and one header more: where they were.

        Parameters
        ----------
        payload, fields
            Of a ``RecordList``.
        place
            Topic and partition they are in, with a slash between.
        base
            Added to their offsets.

        Raises
        ------
        ValueError
            When a record is not inside of the payload.
        """

    def add_one(
        self, key: bytes | None, value: bytes | None, timestamp: int, headers: list[tuple[str, bytes | None]]
    ) -> None:
        """Add a record with just these headers."""

    def take(self) -> list[tuple[bytes, int, int, int]]:
        """Return the records added since the last call: for each batch its bytes, not compressed, its number
        of records, and its first and its largest timestamp (ms)."""

def read_origins(payload: Any, fields: npt.NDArray[np.int64], topic: str) -> npt.NDArray[np.int64]:
    """Return the partition and the offset in ``topic`` that records were sent on from, int64 ``(2, n)``.

    -1: a record was not sent on, or from another topic, or its header is not ours. It is the same as
    ``placement.origin_of`` says. Errors as ``SentOn.add``.
    """
