"""Compiled inner loops. Arrays of numbers are C-contiguous, of exactly these dtypes; rows may be strided."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Rows = npt.NDArray[Any]  # a structured array, one row a key

class KeyIndex:
    """Row number of each 64-bit key: open addressing; rows given up are given out again."""

    used: int
    """How many row numbers were ever given out: rows are below it."""

    def __init__(self, capacity: int = 0) -> None: ...
    def __len__(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""

    def get(self, key: int) -> int:
        """Return the row of one key, -1 where there is none."""

    def find(self, keys: U64) -> I64:
        """Return the row of each key, int64 ``(n,)``, -1 where there is none."""

    def take(self, keys: U64) -> tuple[I64, I64]:
        """Return the row of each key, and the positions in ``keys`` that made a new row, both int64."""

    def drop(self, keys: U64) -> I64:
        """Forget keys; return the rows they had, int64."""

    def items(self) -> tuple[U64, I64]:
        """Return all keys and their rows, in the order of rows."""

def pack_rows(data: Rows, rows: I64) -> tuple[bytes, I64]:
    """Return packed rows one after the other, and where each begins and the last ends, int64 ``(n + 1,)``."""

def unpack_rows(given: Sequence[bytes | None], data: Rows) -> Bool:
    """Unpack ``given[i]`` to ``data[i]``; return which were rows of that size, bool ``(n,)``. The others, and
    None, are left out."""

class GivenRows:
    """Rows of one size and layout and with a key, packed or not, of whatever was given."""

    keys: U64
    """Their keys, ``(n,)``."""
    refused: int
    """How many of those given they are not."""

    def __init__(
        self, given: Sequence[bytes] | Rows, size: int, key_at: int, layout_at: int, layout: int
    ) -> None:
        """Look at rows: packed ones, or an array; ``layout_at`` is -1 where rows carry no layout."""

    def put(self, data: Rows, rows: I64, new: I64, order_at: I64) -> int:
        """Copy them to ``rows`` unless the row there is newer; return how many were copied.

        ``new`` are the positions (rising) whose row holds nothing yet; ``order_at`` the places of the int64
        fields that tell which row is newer.
        """

def frame_records(
    keys: U64 | None, blob: bytes | npt.NDArray[np.uint8], bounds: I64, max_bytes: int
) -> list[tuple[bytes, int]]:
    """Return records as they stand in record batches (version 2), in order: of each batch the bytes, not
    compressed, and the number of records.

    Record ``i`` has the value ``blob[bounds[i]:bounds[i + 1]]``, the key ``keys[i]`` (8 bytes, little-endian)
    or none, no headers, and the timestamp of its batch. A batch is as large as one record, or at most
    ``max_bytes``.
    """

def blank_rows(data: Rows, blank: Rows, rows: I64, key_at: int, keys: U64) -> None:
    """Copy the one row ``blank`` to ``rows``, and put their keys in."""

class WindowPlan:
    """Where the windows of a row lie.

    ``tiers``, int64 ``(n, 6)``: of each tier the offset of its low parts (uint16), of its high parts, of its
    head (int32); milliseconds of a bucket; bytes of a high part (0: none, 1, 2); buckets of the ring.
    """

    def __init__(self, tiers: I64, n_metrics: int, size: int) -> None: ...
    def add(self, data: Rows, rows: I64, ts: I64, metric: I64, amount: I64) -> None:
        """Add amounts to one bucket of every tier; see ``headrace.streams.windows.Windows.add``."""

    def read(self, data: Rows, asked: I64, now: int, rows: I64 | None = None) -> F32:
        """Return the windows ``asked`` (tier, buckets), float32 ``(n, len(asked), metrics)``."""

    def read_one(
        self, data: Rows, tier: int, metric: int, buckets: int, now: int, rows: I64 | None = None
    ) -> F32:
        """Return the newest ``buckets`` of one tier, of one metric, float32 ``(n,)``."""

class LastSeen:
    """When each 64-bit id was last seen; what is longer ago than the window is forgotten."""

    def __init__(self, window_ms: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""

    def fresh(self, ids: U64, times: I64) -> Bool:
        """Return which ids were not seen within the window before their time; remember all of them."""
