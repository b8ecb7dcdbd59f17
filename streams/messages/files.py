"""Event files for replay and evaluation: Globo's click CSV, our events as JSON lines; plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from headrace.streams.errors import ConfigError, RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import MAX_TS, MIN_TS, Context, Event

Format = Literal["globo", "jsonl"]

_GLOBO = ("user_id", "session_id", "click_article_id", "click_timestamp", "click_deviceGroup", "click_region")


@dataclass(frozen=True, slots=True)
class Click:
    """One line of a Globo file."""

    user: str
    session: str
    item: str
    ts: int
    device: str
    region: str

    def event(self, number: int) -> Event:
        """Return the click as an ``Event``; its country is the region (all of Globo is in Brazil)."""
        return Event(
            event_id=f"globo-{number}",
            type="click",
            user_id=self.user,
            item_id=self.item,
            ts=self.ts,
            surface="home",
            context=Context(country=self.region, device=self.device),
        )


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOBase]:
    """Open a text file, plain or gzipped; raise ``ConfigError`` naming the file when it cannot be read."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw:
            # utf-8-sig: spreadsheets write a byte order mark at the beginning.
            yield io.TextIOWrapper(raw, "utf-8-sig", newline="")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from exc


def globo_files(path: Path) -> list[Path]:
    """Return the click files of ``path``: itself, or the CSV files in a folder, by name."""
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.name.endswith((".csv", ".csv.gz")))
        if not found:
            raise ConfigError(f"{path}: no .csv or .csv.gz in it")
        return found
    return [path]


def read_globo(path: Path, limit: int | None = None) -> Iterator[Click]:
    """Yield the clicks of a Globo file or folder, in the order of the file, at most ``limit``.

    Raises
    ------
    ConfigError
        When the file is missing, lacks a column, or has a line that is not a click.
    """
    yield from islice(chain.from_iterable(map(_clicks, globo_files(path))), limit)


def _clicks(file: Path) -> Iterator[Click]:
    with open_text(file) as handle:
        rows = csv.reader(handle)
        header = next(rows, [])
        missing = [c for c in _GLOBO if c not in header]
        if missing:
            raise ConfigError(f"{file}: not a Globo click file, lacks {missing}")
        columns = [header.index(c) for c in _GLOBO]
        try:
            for row in rows:
                if row:  # skips blank lines
                    yield _click(row, columns)
        except UnicodeDecodeError:
            raise  # the file is read in blocks: the number of the bad line is not known
        except (csv.Error, ValueError) as exc:
            raise ConfigError(f"{file}, line {rows.line_num}: {exc}") from exc


def _click(row: list[str], columns: list[int]) -> Click:
    if len(row) <= max(columns):
        raise ValueError(f"{len(row)} fields, at least {max(columns) + 1} are needed")
    user, session, item, ts, device, region = (row[c] for c in columns)
    for name, value in zip(_GLOBO, (user, session, item), strict=False):
        if not value:
            raise ValueError(f"{name} is empty")
    if not ts.isascii() or not ts.isdigit() or not MIN_TS <= int(ts) <= MAX_TS:
        raise ValueError(f"click_timestamp must be milliseconds since 1970, got {ts!r}")
    return Click(user, session, item, int(ts), device, region)


def read_jsonl(path: Path) -> Iterator[Event]:
    """Yield the events of a JSON-lines file; raise ``ConfigError`` naming the line of the first bad one."""
    decoder = Decoder(Event, 0)
    with open_text(path) as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                try:
                    yield decoder.value(line)
                except RejectedError as exc:
                    raise ConfigError(f"{path}, line {number}: {exc.field or 'line'}: {exc.detail}") from exc
