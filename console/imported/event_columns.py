"""Columns of a file -> columns of events that the workers accept; and what is wrong with the others.

The same rules as ``schemas.Event`` has, for whole columns: no Python object is made of an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.console.imported.bad_rows import BadRows, Fault
from headrace.console.imported.mapping import FieldMap, column, texts, time_fault, times, whole_numbers
from headrace.console.imported.tables import Chunk
from headrace.streams.errors import ConfigError
from headrace.streams.messages.columns import KINDS
from headrace.streams.messages.schemas import MAX_TS, MIN_TS

Bool = npt.NDArray[np.bool_]

#: Types of events that producers send.
TYPES = tuple(kind for kind in KINDS if kind not in ("shown", "pair"))


class Text(NamedTuple):
    """A text: whether it is needed, its longest length in characters, what it may be (empty: anything)."""

    needed: bool
    longest: int
    one_of: tuple[str, ...] = ()


class Number(NamedTuple):
    """A field that is a whole number: the largest one; they begin at 0."""

    most: int


#: ``event_id`` may be missing: then it is made from the file and the number of the row.
FIELDS: dict[str, Text | Number] = {
    "event_id": Text(False, 64),
    "type": Text(True, 64, TYPES),
    "user_id": Text(True, 64),
    "item_id": Text(True, 64),
    "ts": Number(MAX_TS),
    "dwell_ms": Number(86_400_000),
    "request_id": Text(False, 64),
    "position": Number(10_000),
    "surface": Text(False, 64, ("home", "related", "digest")),
    "scope": Text(False, 64, ("item", "creator")),
    "country": Text(False, 128),
    "device": Text(False, 128),
    "age": Number(150),
}
SCHEMA = pa.schema(
    [pa.field(name, pa.string() if isinstance(rule, Text) else pa.int64()) for name, rule in FIELDS.items()]
)


class Faults:
    """The first fault of each row of a piece, as columns."""

    def __init__(self, n: int) -> None:
        self.first = np.full(n, -1, np.int32)
        self._kinds: list[Callable[[int], Fault]] = []

    def add(self, wrong: Bool, fault: Callable[[int], Fault]) -> None:
        """Note a fault of the rows of ``wrong``; ``fault`` says of one of them what it is."""
        wrong = wrong & (self.first < 0)
        if wrong.any():
            self.first[wrong] = len(self._kinds)
            self._kinds.append(fault)

    def of(self, row: int) -> Fault:
        """Return the first fault of a row that has one."""
        return self._kinds[int(self.first[row])](row)


def events_of(
    chunk: Chunk, mapping: FieldMap, bad: BadRows, *, made_id: str, newest_ms: int
) -> pa.RecordBatch:
    """Return the good rows of a piece as ``SCHEMA``; the others go to ``bad``.

    Parameters
    ----------
    made_id
        Begins the ids of events that have none; the number of the row follows.
    newest_ms
        A later ``ts`` is in the future.

    Raises
    ------
    ConfigError
        A column that is needed is missing, or a row is bad and those are not skipped.
    """
    table, n = chunk.table, len(chunk.table)
    faults = Faults(n)
    columns: dict[str, pa.Array] = {}
    for name, rule in FIELDS.items():
        found = column(table, mapping, name)
        if found is None:
            if name == "ts" or (isinstance(rule, Text) and rule.needed):
                raise ConfigError(_missing(chunk, name, table))
            columns[name] = pa.nulls(n, SCHEMA.field(name).type)
        elif isinstance(rule, Text):
            columns[name] = _text(found, name, rule, faults)
        elif name == "ts":
            columns[name] = _time(found, mapping.unit, newest_ms, faults)
        else:
            columns[name] = _number(found, name, rule, faults)
    dwell = pc.equal(columns["type"], "dwell").fill_null(False).to_numpy(zero_copy_only=False)
    no_time = columns["dwell_ms"].is_null().to_numpy(zero_copy_only=False)
    faults.add(dwell & no_time, lambda row: Fault("dwell_ms", "a dwell event needs dwell_ms"))
    if columns["event_id"].null_count:
        made = pc.binary_join_element_wise(made_id, pa.array(chunk.rows).cast(pa.string()), "-")
        columns["event_id"] = pc.coalesce(columns["event_id"], made)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=SCHEMA)
    wrong = faults.first >= 0
    if not wrong.any():
        return batch
    for row in np.flatnonzero(wrong).tolist():
        bad.add(chunk.file, int(chunk.rows[row]), faults.of(row), table.slice(row, 1).to_pylist()[0])
    return batch.filter(pa.array(~wrong))


def _missing(chunk: Chunk, name: str, table: pa.Table) -> str:
    there = ", ".join(table.column_names) or "none of ours"
    hint = "--map their_column=" + name + (" or --set type=click" if name == "type" else "")
    return f"{chunk.file}: there is no column {name} ({hint}); of what we know it has {there}"


def _value(array: pa.Array, row: int) -> Any:
    value = array[row].as_py()
    return f"{value[:80]!r}" if isinstance(value, str) else value


def _text(found: pa.Array, name: str, rule: Text, faults: Faults) -> pa.Array:
    array, wrong = texts(found)
    faults.add(wrong, lambda row: Fault(name, f"{_value(found, row)} is no text ({found.type})"))
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        array = _without_torn_texts(array, name, faults)
    size = pc.utf8_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    faults.add(
        size > rule.longest, lambda row: Fault(name, f"{size[row]} characters, at most {rule.longest}")
    )
    if rule.needed:
        faults.add(size == 0, lambda row: Fault(name, "it is missing"))
    elif array.null_count < len(array) and (size == 0).any():  # an empty text says nothing
        array = pc.if_else(pa.array(size == 0), pa.scalar(None, pa.string()), array)
    if rule.one_of:
        known = pc.is_in(array, pa.array(rule.one_of)).to_numpy(zero_copy_only=False)
        known |= array.is_null().to_numpy(zero_copy_only=False)
        faults.add(
            ~known, lambda row: Fault(name, f"{_value(array, row)} is none of {', '.join(rule.one_of)}")
        )
    return array


def _without_torn_texts(array: pa.Array, name: str, faults: Faults) -> pa.Array:
    """Return texts, null where the bytes are no UTF-8."""
    out, torn = list[str | None](), np.zeros(len(array), bool)
    for row, raw in enumerate(array.cast(pa.binary()).to_pylist()):
        try:
            out.append(None if raw is None else raw.decode())
        except UnicodeDecodeError:
            out.append("?")
            torn[row] = True
    faults.add(torn, lambda _: Fault(name, "it is no UTF-8"))
    return pa.array(out, pa.string())


def _number(found: pa.Array, name: str, rule: Number, faults: Faults) -> pa.Array:
    array, wrong = whole_numbers(found)
    faults.add(wrong, lambda row: Fault(name, f"{_value(found, row)} is no whole number"))
    value = array.fill_null(0).to_numpy()
    out_of_range = (value < 0) | (value > rule.most)
    faults.add(out_of_range, lambda row: Fault(name, f"{value[row]} is not between 0 and {rule.most}"))
    return array


def _time(found: pa.Array, unit: str, newest_ms: int, faults: Faults) -> pa.Array:
    array, wrong = times(found, unit)
    faults.add(wrong, lambda row: Fault("ts", f"{_value(found, row)} is no time"))
    absent = array.is_null().to_numpy(zero_copy_only=False)
    faults.add(absent, lambda _: Fault("ts", "it is missing"))
    value = array.fill_null(MIN_TS).to_numpy()
    out_of_range = (value < MIN_TS) | (value > MAX_TS)
    faults.add(out_of_range, lambda row: Fault("ts", time_fault(int(value[row]), unit)))
    faults.add(value > newest_ms, lambda row: Fault("ts", f"{value[row]} ms is in the future"))
    return array
