"""The newest row of every key of a changelog."""

from __future__ import annotations

import numpy as np
from strategies import record

from headrace.console.verification.live_rows import Latest
from headrace.models.state import users as user_state
from headrace.streams.tables.rows import RowTable


def packed(key: int, **fields: int) -> bytes:
    table = RowTable(user_state.ROW, user_state.BLANK[()])
    row = table.take(np.array([key], np.uint64))
    for name, value in fields.items():
        table.data[name][row] = value
    return table.pack(row)[0]


def test_the_newest_row_of_a_key_is_the_one_furthest_ahead() -> None:
    latest = Latest(user_state.ROW, ("offset", "shown_offset"))
    one, two = (k.to_bytes(8, "little") for k in (1, 2))
    latest.apply(
        [
            record(packed(1, offset=5, shown_offset=1), key=one),
            record(packed(1, offset=5, shown_offset=0), key=one),  # of a worker that lost the partition
            record(packed(1, offset=4, shown_offset=9), key=one),
            record(packed(1, offset=5, shown_offset=1, age=30), key=one),
            record(packed(2, offset=1), key=two),
            record(None, key=two),
            record(b"12345678", key=b"m:7"),
            record(packed(3), key=one),
            record(b"short", key=two),
            record(packed(2, layout=1), key=two),
            record(b"x", key=None),
        ]
    )
    assert list(latest.rows) == [1]
    assert latest.table()["age"].tolist() == [30]
    assert latest.refused == 3
    assert len(Latest(user_state.ROW, ("offset",)).table()) == 0
