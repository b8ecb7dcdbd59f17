"""Event files for replay and evaluation: Globo's click CSV and our own events as JSON lines, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from streams.codec import rejection
from streams.errors import ConfigError
from streams.schemas import Context, Event

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
        """Return the click as our event; the region stands where our country does (all of Globo is Brazil)."""
        return Event(
            event_id=f"globo-{number}",
            type="click",
            user_id=self.user,
            item_id=self.item,
            ts=self.ts,
            surface="home",
            context=Context(country=self.region, device=self.device),
        )


def _open(path: Path) -> io.TextIOBase:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), "utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


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
        The file is missing, lacks a column, or has a line that is not a click.
    """
    n = 0
    for file in globo_files(path):
        with _open(file) as handle:
            rows = csv.reader(handle)
            header = next(rows, [])
            missing = [c for c in _GLOBO if c not in header]
            if missing:
                raise ConfigError(f"{file}: not a Globo click file, lacks {missing}")
            user, session, item, ts, device, region = (header.index(c) for c in _GLOBO)
            for row in rows:
                if limit is not None and n >= limit:
                    return
                n += 1
                try:
                    yield Click(row[user], row[session], row[item], int(row[ts]), row[device], row[region])
                except (IndexError, ValueError) as exc:
                    raise ConfigError(f"{file}, line {rows.line_num}: {exc}") from exc


def read_jsonl(path: Path) -> Iterator[Event]:
    """Yield the events of a JSON-lines file; raise ``ConfigError`` naming the line of the first bad one."""
    decoder = msgspec.json.Decoder(Event)
    with _open(path) as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                try:
                    yield decoder.decode(line)
                except msgspec.MsgspecError as exc:
                    bad = rejection(exc)
                    raise ConfigError(f"{path}, line {number}: {bad.field or 'line'}: {bad.detail}") from exc
