"""Records made from columns: JSON that decodes to the values, frames that Kafka's reader reads."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.topics.column_records import CLOSE, OPEN, PLAIN, TEXT, json_rows, keyed_frame
from headrace.streams.topics.record_batch import record_batch

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


def piece(kind: int, name: str, values: list[Any]) -> tuple[int, bytes, Any, Any, Any]:
    array = pa.array(values, pa.string())
    _, bounds, data = array.buffers()
    there = np.array([value is not None for value in values], np.uint8)
    raw = b"" if data is None else np.frombuffer(data, np.uint8)
    return kind, f'"{name}":'.encode(), raw, np.frombuffer(bounds, np.int32)[: len(values) + 1], there


@given(
    st.lists(
        st.tuples(TEXTS, st.none() | TEXTS, st.none() | st.integers(0, 2**62), st.none() | TEXTS), min_size=1
    )
)
def test_every_row_decodes_to_its_values(rows: list[tuple[str, str | None, int | None, str | None]]) -> None:
    a, b, n, c = (list(column) for column in zip(*rows, strict=True))
    pieces = [
        piece(TEXT, "a", a),
        piece(PLAIN, "n", [None if value is None else str(value) for value in n]),
        (OPEN, b'"o":', None, None, None),
        piece(TEXT, "b", b),
        piece(TEXT, "c", c),
        (CLOSE, b"", None, None, None),
    ]
    blob, bounds = json_rows(pieces, len(rows))
    assert (bounds[0], bounds[-1]) == (0, len(blob))
    for i, (at, end) in enumerate(pairwise(bounds.tolist())):
        inner = {name: values[i] for name, values in (("b", b), ("c", c)) if values[i] is not None}
        want = {"a": a[i], "n": n[i], "o": inner}
        told = msgspec.json.decode(blob[at:end])
        assert told == {name: value for name, value in want.items() if value is not None}


def test_a_row_with_nothing_is_an_empty_object() -> None:
    assert json_rows([piece(TEXT, "a", [None, "x"])], 2)[0] == b'{}{"a":"x"}'
    assert json_rows([], 1)[0] == b"{}"


@given(
    st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=300), st.integers(0, 10**12)), min_size=1),
    st.data(),
)
def test_a_frame_is_read_as_the_records_it_was_made_of(
    records: list[tuple[bytes, bytes, int]], data: st.DataObject
) -> None:
    order = data.draw(st.lists(st.integers(0, len(records) - 1), min_size=1, max_size=300))
    keys, values, ts = zip(*records, strict=True)
    key_bounds = np.cumsum([0, *map(len, keys)]).astype(np.int32)
    bounds = np.cumsum([0, *map(len, values)]).astype(np.int64)
    payload, count, first, newest = keyed_frame(
        b"".join(keys),
        key_bounds,
        b"".join(values),
        bounds,
        np.array(ts, np.int64),
        np.array(order),
        b"h",
        b"job/1/2",
    )
    assert (count, first, newest) == (len(order), ts[order[0]], max(ts[i] for i in order))
    batch = DefaultRecordBatch(bytearray(record_batch(payload, count, first, "none", newest_ms=newest)))
    assert batch.validate_crc()
    read = list(batch)
    assert [(r.key, r.value, r.timestamp) for r in read] == [records[i] for i in order]
    assert [r.headers for r in read] == [[("h", b"job/1/2")], *([] for _ in order[1:])]


def test_what_does_not_fit_is_refused() -> None:
    one, bounds = np.array([0, 1], np.int32), np.array([0, 1], np.int64)
    ts, rows = np.array([5]), np.array([0])
    assert keyed_frame(b"k", one, b"v", bounds, ts, rows, b"h", b"")[1] == 1
    with pytest.raises(ValueError, match="no row 1"):
        keyed_frame(b"k", one, b"v", bounds, ts, np.array([1]), b"h", b"")
    with pytest.raises(ValueError, match="inside the data"):
        keyed_frame(b"k", one, b"", bounds, ts, rows, b"h", b"")
    with pytest.raises(ValueError, match="0 rows"):
        keyed_frame(b"k", one, b"v", bounds, ts, np.zeros(0, np.int64), b"h", b"")
    with pytest.raises(ValueError, match="inside the data"):
        json_rows([(TEXT, b"", b"", one, None)], 1)
    with pytest.raises(ValueError, match="1 values for 2 rows"):
        json_rows([(TEXT, b"", b"x", one, None)], 2)
    with pytest.raises(ValueError, match="bounds rise"):
        json_rows([(TEXT, b"", b"x", np.array([1, 0], np.int32), None)], 1)
