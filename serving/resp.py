"""Redis commands for many rows, packed in one go. Pure: bytes out, nothing is sent.

A client library spends several times more on a command than Redis does. One command per key, so that no two
keys need to live on one server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Keys: TypeAlias = Sequence[int] | npt.NDArray[np.uint64]
#: Packed rows, or a one-dimensional structured array of them, which is cheaper: no object per row.
Rows: TypeAlias = Sequence[bytes] | npt.NDArray[np.void]

#: Bytes of the answer to one ``SET`` (``+OK``) and one ``DEL`` (``:0`` or ``:1``); an error is longer.
SET_REPLY, DEL_REPLY = 5, 4

_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), np.uint16)


def set_rows(start: bytes, ttl_s: int, keys: Keys, rows: Rows) -> bytes | memoryview:
    """Return ``SET <start><key as 16 hex digits> <row> EX <ttl_s>`` for every row.

    Raises
    ------
    ValueError
        When there are not as many rows as keys.
    """
    before = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b" % (len(start) + 16, start)
    after = b"\r\n$2\r\nEX\r\n$%d\r\n%d\r\n" % (len(str(ttl_s)), ttl_s)
    if len(keys) != len(rows):
        raise ValueError(f"{len(keys)} keys, {len(rows)} rows")
    if isinstance(rows, np.ndarray):
        return _set_array(before, after, keys, rows)
    between = (after + before).replace(b"%", b"%%") + b"%016x\r\n$%d\r\n"
    parts = [b""] * (2 * len(keys) + 1)
    parts[:-1:2] = list(map(between.__mod__, zip(_ints(keys), map(len, rows), strict=False)))
    parts[1::2] = rows
    parts[0] = parts[0][len(after) :]
    parts[-1] = after
    return b"".join(parts)


def _set_array(before: bytes, after: bytes, keys: Keys, rows: npt.NDArray[np.void]) -> memoryview:
    middle = b"\r\n$%d\r\n" % rows.itemsize
    command = np.dtype(
        [
            ("before", f"V{len(before)}"),
            ("key", "u2", 8),
            ("middle", f"V{len(middle)}"),
            ("row", f"V{rows.itemsize}"),
            ("after", f"V{len(after)}"),
        ]
    )
    out = np.empty(len(keys), command)
    out["before"], out["middle"], out["after"] = np.void(before), np.void(middle), np.void(after)
    out["key"] = _HEX[np.asarray(keys, ">u8").view(np.uint8).reshape(-1, 8)]
    out["row"] = np.ascontiguousarray(rows).view(command["row"])
    return out.view(np.uint8).data


def delete_rows(start: bytes, keys: Keys) -> bytes:
    """Return ``DEL <start><key as 16 hex digits>`` for every key."""
    before = b"*2\r\n$3\r\nDEL\r\n$%d\r\n%b" % (len(start) + 16, start)
    return b"".join(map((before.replace(b"%", b"%%") + b"%016x\r\n").__mod__, _ints(keys)))


def _ints(keys: Keys) -> Sequence[int]:
    if isinstance(keys, np.ndarray):
        whole: list[int] = keys.tolist()  # formatting numpy's own integers takes ten times longer
        return whole
    return keys
