"""Which column of a file is which field of ours; units of times. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import MAX_TS, MIN_TS

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

#: Unit -> how many of it are a millisecond (a fraction for seconds).
UNITS: Mapping[str, float] = {"s": 0.001, "ms": 1, "us": 1000, "ns": 1_000_000}
#: Fields that are found inside of ``context``, too, as in our messages.
_IN_CONTEXT = ("country", "device", "age")


@dataclass(frozen=True)
class FieldMap:
    """How the columns of files become fields of ours.

    Attributes
    ----------
    names
        Field of ours -> column of theirs.
    given
        Field of ours -> its value in every row, for what files lack.
    unit
        Unit of times that are numbers.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    unit: str = "ms"

    def places(self, ours: str) -> list[str]:
        """Return where a field is looked for, the first that is there counts."""
        if ours in self.names:
            return [self.names[ours]]
        return [ours, *([f"context.{ours}"] if ours in _IN_CONTEXT else [])]

    def wanted(self, fields: Collection[str]) -> list[str]:
        """Return the columns that fields may be in."""
        return [name for ours in fields for name in self.places(ours)]

    def described(self) -> str:
        """Return it as a text that is the same for the same mapping."""
        return repr((sorted(self.names.items()), sorted(self.given.items()), self.unit))


def mapping_of(renamed: Sequence[str], given: Sequence[str], unit: str, fields: Collection[str]) -> FieldMap:
    """Return the mapping that the command line says.

    Parameters
    ----------
    renamed, given
        ``theirs=ours`` and ``ours=value``.
    fields
        The fields of ours that there are.

    Raises
    ------
    ConfigError
        One of them has another form, or names no field of ours.
    """
    names = {
        ours: theirs for theirs, ours in (_pair("--map", text, "their_column=our_field") for text in renamed)
    }
    values = dict(_pair("--set", text, "our_field=value") for text in given)
    for ours in (*names, *values):
        if ours not in fields:
            raise ConfigError(f"{ours} is no field here; there are {', '.join(fields)}")
    if both := names.keys() & values.keys():
        raise ConfigError(f"{min(both)} has both --map and --set")
    if unit not in UNITS:
        raise ConfigError(f"--time-unit {unit}: there are {', '.join(UNITS)}")
    return FieldMap(names, values, unit)


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise ConfigError(f"{option} {text}: write {form}")
    return left, right


def column(table: pa.Table, mapping: FieldMap, ours: str) -> pa.Array | None:
    """Return a field of ours as one array, None when no column has it.

    Raises
    ------
    ConfigError
        ``--map`` names a column that the file lacks.
    """
    if ours in mapping.given:
        return pa.array([mapping.given[ours]] * len(table), pa.string())
    for name in mapping.places(ours):
        if (found := _found(table, name)) is not None:
            return found
    if ours in mapping.names:
        raise ConfigError(f"--map {mapping.names[ours]}={ours}: there is no such column")
    return None


def _found(table: pa.Table, name: str) -> pa.Array | None:
    if name in table.column_names:
        return _whole(table.column(name))
    outer, _, inner = name.partition(".")
    if inner and outer in table.column_names:
        struct = _whole(table.column(outer))
        if pa.types.is_struct(struct.type) and struct.type.get_field_index(inner) >= 0:
            return pc.struct_field(struct, inner)
    return None


def _whole(chunked: pa.ChunkedArray) -> pa.Array:
    array = chunked.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of a table without rows
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


# -- values: each function returns an array of the right type, and which rows have a value that is wrong


def texts(array: pa.Array) -> tuple[pa.Array, Bool]:
    """Return a column as texts; whole numbers are written out, other values are wrong."""
    kind = array.type
    if pa.types.is_string(kind):
        found = array
    elif pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_integer(kind):
        found = array.cast(pa.string())
    elif pa.types.is_null(kind):
        found = pa.nulls(len(array), pa.string())
    else:
        return pa.nulls(len(array), pa.string()), _there(array)
    return found, np.zeros(len(found), bool)


def whole_numbers(array: pa.Array) -> tuple[pa.Array, Bool]:
    """Return a column as int64; texts of digits and floats without a fraction are right."""
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        try:
            return array.cast(pa.int64()), np.zeros(len(array), bool)
        except pa.ArrowInvalid:
            return _one_by_one(array)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        try:
            return array.cast(pa.int64()), np.zeros(len(array), bool)
        except pa.ArrowInvalid:
            return _one_by_one(array)
    return pa.nulls(len(array), pa.int64()), _there(array)


def _one_by_one(array: pa.Array) -> tuple[pa.Array, Bool]:
    out, wrong = list[int | None](), np.zeros(len(array), bool)
    for at, value in enumerate(array.to_pylist()):
        number = None
        if value is not None:
            try:
                number = int(value)
                if not -(2**63) <= number < 2**63 or (isinstance(value, float) and value != number):
                    number = None
            except (ValueError, OverflowError):
                pass
            wrong[at] = number is None
        out.append(number)
    return pa.array(out, pa.int64()), wrong


def times(array: pa.Array, unit: str) -> tuple[pa.Array, Bool]:
    """Return times as ms since the epoch, int64; numbers are in ``unit``, texts are numbers or ISO 8601.

    A time without a zone is UTC.
    """
    kind = array.type
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("ms", kind.tz), safe=False).cast(pa.int64()), np.zeros(
            len(array), bool
        )
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _times_of_texts(array, unit)
    if unit == "s" and pa.types.is_floating(kind):
        return pc.cast(pc.round(pc.multiply(array, 1000.0)), pa.int64(), safe=False), ~np.isfinite(
            array.fill_null(0).to_numpy(zero_copy_only=False)
        )
    numbers, wrong = whole_numbers(array)
    return _in_ms(numbers, unit, wrong)


def _in_ms(numbers: pa.Array, unit: str, wrong: Bool) -> tuple[pa.Array, Bool]:
    if unit == "s":
        value = numbers.fill_null(0).to_numpy()
        far = np.abs(value.astype(np.float64)) > MAX_TS  # times 1000 it may not be a number of 64 bits
        safe = pa.array(np.where(far, 0, value), mask=numbers.is_null().to_numpy(zero_copy_only=False))
        return pc.multiply(safe, 1000), wrong | far
    return (numbers if unit == "ms" else pc.divide(numbers, int(UNITS[unit]))), wrong


def _times_of_texts(array: pa.Array, unit: str) -> tuple[pa.Array, Bool]:
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return times(array.cast(kind), unit)
        except pa.ArrowInvalid:
            continue
    try:
        return times(array.cast(pa.float64() if unit == "s" else pa.int64()), unit)
    except pa.ArrowInvalid:
        pass
    if len(array) == 1:
        return pa.nulls(1, pa.int64()), np.ones(1, bool)
    half = len(array) // 2  # a few are wrong, or of another form: look for them
    parts = [times(part, unit) for part in (array[:half], array[half:])]
    return pa.concat_arrays([found for found, _ in parts]), np.concatenate([wrong for _, wrong in parts])


def time_fault(value: int | None, unit: str) -> str:
    """Return what is wrong with a time of ours (ms) that is out of range."""
    for other, per_ms in UNITS.items():
        raw = 0 if value is None else value * UNITS[unit]
        if other != unit and MIN_TS <= raw / per_ms <= MAX_TS:
            return f"{raw:.0f} is no time in {unit}, but one in {other}: --time-unit {other}"
    return f"{value} ms is not between March 1973 and the year 2100"


def _there(array: pa.Array) -> Bool:
    out: Bool = array.is_valid().to_numpy(zero_copy_only=False)
    return out
