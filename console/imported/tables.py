"""Reads files in pieces, as columns with the names that they have there, each row with its number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from headrace.console.imported.bad_rows import BadRows, Fault
from headrace.console.imported.sources import InputFile, opened
from headrace.models.learning.places import source
from headrace.streams.errors import ConfigError
from headrace.streams.messages.codec import UNDECODABLE

I64 = npt.NDArray[np.int64]

#: Rows of a Parquet file, and bytes of a text file, that are read at once.
ROWS, BLOCK = 131_072, 16 * 1024 * 1024
#: A longer line of JSON, bytes, is no record: it would have to be in memory as a whole. At least ``BLOCK``.
LONGEST_LINE = BLOCK
_DECODER = msgspec.json.Decoder(dict[str, Any])


@dataclass(slots=True)
class Chunk:
    """Some rows of a file.

    Attributes
    ----------
    file
        Its name.
    table
        The columns, at least those that are there of the wanted ones.
    rows
        Number of each row in the file, from 1, int64 ``(n,)``; the header of a CSV file is none.
    """

    file: str
    table: pa.Table
    rows: I64


def read(file: InputFile, wanted: Sequence[str], bad: BadRows) -> Iterator[Chunk]:
    """Yield the rows of a file in pieces, in its order.

    Parameters
    ----------
    wanted
        Names of columns; others may be left out. ``a.b`` is the field ``b`` of a column ``a``.

    Raises
    ------
    ConfigError
        The file cannot be read, or has a bad row.
    """
    readers = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}
    try:
        yield from readers[file.kind](file, wanted, bad)
    except (pa.ArrowException, OSError) as exc:
        raise ConfigError(f"{file}: cannot be read: {exc}") from exc


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    roots = {*wanted, *(name.partition(".")[0] for name in wanted)}
    return [name for name in names if name in roots]


def _parquet(file: InputFile, wanted: Sequence[str], bad: BadRows) -> Iterator[Chunk]:
    del bad  # a row of columns is never torn
    with pq.ParquetFile(source(file.at), pre_buffer=True) as parquet:
        columns, at = _chosen(parquet.schema_arrow.names, wanted), 1
        for batch in parquet.iter_batches(ROWS, columns=columns):
            yield Chunk(str(file), pa.Table.from_batches([batch]), np.arange(at, at + len(batch)))
            at += len(batch)


def _csv(file: InputFile, wanted: Sequence[str], bad: BadRows) -> Iterator[Chunk]:
    torn = list[pa_csv.InvalidRow]()  # not told yet; the reader is some blocks ahead
    skipped, at = np.empty(0, np.int64), 1  # numbers of torn rows from ``at`` on

    def handle(row: pa_csv.InvalidRow) -> str:
        torn.append(row)
        return "skip"

    def tell() -> I64:
        told = torn.copy()
        del torn[: len(told)]
        for row in told:
            detail = f"{row.actual_columns} values, the header has {row.expected_columns}"
            bad.add(str(file), _number(row), Fault("", detail), row.text)
        return np.array([_number(row) for row in told], np.int64)

    with opened(file.at, unpack=True) as stream:
        columns = _chosen(_header(file), wanted)
        reader = pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=BLOCK),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=handle),
            # As text: an id such as 007 is no number, and one such as NA is no null.
            convert_options=pa_csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        for batch in reader:
            skipped = np.concatenate([skipped, tell()])
            rows = np.arange(at, at + len(batch) + len(skipped))
            rows = rows[~np.isin(rows, skipped)][: len(batch)]
            at = int(rows[-1]) + 1 if len(rows) else at
            skipped = skipped[skipped >= at]
            # No good row is among those that are torn one after the other.
            run = int(np.count_nonzero(skipped == at + np.arange(len(skipped))))
            at, skipped = at + run, skipped[run:]
            yield Chunk(str(file), pa.Table.from_batches([batch]), rows)
        tell()


def _number(row: pa_csv.InvalidRow) -> int:
    return int(row.number) - 1  # the header is counted there


def _header(file: InputFile) -> list[str]:
    with opened(file.at, unpack=True) as stream:
        how = pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _: "skip")
        first = pa_csv.ReadOptions(use_threads=False, block_size=1 << 20)
        return list(pa_csv.open_csv(stream, read_options=first, parse_options=how).schema.names)


def _jsonl(file: InputFile, wanted: Sequence[str], bad: BadRows) -> Iterator[Chunk]:
    with opened(file.at, unpack=True) as stream:
        rest, at = b"", 1
        while True:
            block = stream.read(BLOCK)
            text = rest + block
            first = text.find(b"\n")
            if (len(text) if first < 0 else first) > LONGEST_LINE:
                raise ConfigError(
                    f"{file}, row {at}: a line of more than {LONGEST_LINE:,} bytes; "
                    "JSON lines have one record a line (jq -c '.[]' writes an array so)"
                )
            end = text.rfind(b"\n") + 1 if block else len(text)
            lines, rest = text[:end], text[end:]
            if lines:
                chunk, at = _of_lines(file, lines, at, wanted, bad)
                if chunk is not None:
                    yield chunk
            if not block:
                return


def _of_lines(
    file: InputFile, lines: bytes, at: int, wanted: Sequence[str], bad: BadRows
) -> tuple[Chunk | None, int]:
    """Return the rows of some whole lines, the first of which is line ``at``; and the line after them."""
    count = lines.count(b"\n") + (not lines.endswith(b"\n"))
    try:
        table = pa_json.read_json(
            pa.BufferReader(lines), pa_json.ReadOptions(use_threads=False, block_size=len(lines))
        )
    except pa.ArrowException:
        table = None
    if table is None or len(table) != count or _guessed(table, wanted):
        return _one_by_one(file, lines, at, wanted, bad), at + count
    return Chunk(
        str(file), table.select(_chosen(table.column_names, wanted)), np.arange(at, at + count)
    ), at + count


def _guessed(table: pa.Table, wanted: Sequence[str]) -> bool:
    """Return whether Arrow took texts for times: an id may look like a date."""
    fields = [table.schema.field(name) for name in _chosen(table.column_names, wanted)]
    return any(pa.types.is_temporal(part.type) for field in fields for part in _parts(field))


def _parts(field: pa.Field) -> list[pa.Field]:
    return list(field.type) if pa.types.is_struct(field.type) else [field]


def _one_by_one(file: InputFile, lines: bytes, at: int, wanted: Sequence[str], bad: BadRows) -> Chunk | None:
    """Return rows that Arrow does not read as columns, decoded line by line."""
    records, rows = list[dict[str, Any]](), list[int]()
    for number, line in enumerate(lines.split(b"\n"), at):
        if not line.strip():
            continue
        try:
            records.append(_DECODER.decode(line))
        except UNDECODABLE as exc:
            bad.add(str(file), number, Fault("", f"no JSON object: {exc}"), line.decode("utf-8", "replace"))
            continue
        rows.append(number)
    if not records:
        return None
    names = _chosen(list(dict.fromkeys(name for record in records for name in record)), wanted)
    columns = {name: _column([record.get(name) for record in records]) for name in names}
    return Chunk(str(file), pa.table(columns), np.array(rows, np.int64))


def _column(values: list[Any]) -> pa.Array:
    """Return values as a column; of different kinds: as texts, so that the one that is wrong is found."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        texts = [v if v is None or isinstance(v, str) else msgspec.json.encode(v).decode() for v in values]
        return pa.array(texts, pa.string())
