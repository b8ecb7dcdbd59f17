"""Records of a record batch, framed in bulk, compiled.

Arrays of numbers are C-contiguous, of exactly these dtypes.
"""

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

def frame_records(
    keys: U64 | None, blob: bytes | npt.NDArray[np.uint8], bounds: I64, max_bytes: int
) -> list[tuple[bytes, int]]:
    """Return records in the format of record batches (version 2), in order: for each batch its bytes, not
    compressed, and its number of records.

    Record ``i`` has the value ``blob[bounds[i]:bounds[i + 1]]``, the key ``keys[i]`` (8 bytes, little-endian)
    or none, no headers, and the timestamp of its batch. A batch has at most ``max_bytes`` with its header
    (``record_batch.HEADER_BYTES``, not in the bytes returned), or one record.
    """
