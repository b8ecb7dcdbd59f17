"""Redis commands for many rows, packed in one pass. Pure: returns bytes, sends nothing.

A client library spends several times more time on a command than Redis does. There is one command for each
key, so that the keys may live on different servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import numpy as np

from headrace.serving.store.protocol import Keys
from headrace.serving.store.resp_commands import set_commands
from headrace.streams.tables.rows import PackedRows

#: Bytes of the answer to one ``SET`` (``+OK``) and one ``DEL`` (``:0`` or ``:1``); an error is longer.
SET_REPLY, DEL_REPLY = 5, 4


def set_rows(start: bytes, ttl_s: int, rows: PackedRows) -> memoryview:
    """Return ``SET <start><key as 16 hex digits> <row> EX <ttl_s>`` for every row."""
    before = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b" % (len(start) + 16, start)
    after = b"\r\n$2\r\nEX\r\n$%d\r\n%d\r\n" % (len(str(ttl_s)), ttl_s)
    return set_commands(before, after, np.ascontiguousarray(rows.keys), rows.blob, rows.bounds)


def command(*words: str | int | bytes) -> bytes:
    """Return any one command."""
    pack: Any = hiredis.pack_command  # its type allows one word only
    return bytes(pack(words))


def delete_rows(start: bytes, keys: Keys) -> bytes:
    """Return ``DEL <start><key as 16 hex digits>`` for every key."""
    before = b"*2\r\n$3\r\nDEL\r\n$%d\r\n%b" % (len(start) + 16, start)
    return b"".join(map((before.replace(b"%", b"%%") + b"%016x\r\n").__mod__, _ints(keys)))


def _ints(keys: Keys) -> Sequence[int]:
    if isinstance(keys, np.ndarray):
        whole: list[int] = keys.tolist()  # formatting numpy's own integers takes ten times longer
        return whole
    return keys
