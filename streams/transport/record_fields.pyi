from typing import Any

import numpy as np
import numpy.typing as npt

#: Rows of the array of fields: offset; timestamp (ms); timestamp type (1: the broker's); where key and value
#: begin in the payload, and their sizes (-1: null); where the headers begin, and how many there are.
OFFSET: int
TIMESTAMP: int
KIND: int
KEY: int
KEY_SIZE: int
VALUE: int
VALUE_SIZE: int
HEADERS: int
N_HEADERS: int
#: Number of rows.
FIELDS: int

class Record:
    """A record, with the attributes and values of aiokafka's."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def timestamp_type(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> list[tuple[str, bytes | None]]: ...
    @property
    def checksum(self) -> None: ...

def find_records(
    payload: Any, count: int, base_offset: int, base_timestamp: int, appended_at: int | None, shift: int
) -> npt.NDArray[np.int64] | None:
    """Return the fields of the records of a batch, ``(FIELDS, count)``.

    None: something about them is unusual (headers with names that are not ASCII) or wrong. Then aiokafka
    decides.

    Parameters
    ----------
    payload
        The records, decompressed: bytes-like.
    count, base_offset, base_timestamp
        Of the header of the batch.
    appended_at
        The timestamp of all records when the broker dates them, ms; None: producers date them.
    shift
        Added to positions in the payload.
    """

def make_records(payload: Any, fields: npt.NDArray[np.int64]) -> list[Record]:
    """Return the records with these fields; raise ``ValueError`` when one is not inside of the payload."""

def with_header(payload: Any, fields: npt.NDArray[np.int64], name: bytes) -> npt.NDArray[np.bool_]:
    """Return which records have a header with this ASCII name, bool ``(n,)``; errors as ``make_records``."""
