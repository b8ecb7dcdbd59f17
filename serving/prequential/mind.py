"""Reads MIND (Wu et al., ACL 2020): news lists with the items that were clicked, tab-separated."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from headrace.serving.prequential.given import GivenList, Recording
from headrace.streams.errors import ConfigError
from headrace.streams.messages.files import open_text
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import DAY_MS, MINUTE_MS

_TIME = "%m/%d/%Y %I:%M:%S %p"


def read_mind(folder: Path, limit: int | None = None) -> Recording:
    """Return the lists of a folder with ``behaviors.tsv`` and ``news.tsv``, plain or gzipped.

    The clicks before a user's first list have an order, but no times. They are taken to be a minute apart
    and to end a day before the first list of the file: MIND's histories are of the weeks before.

    Parameters
    ----------
    limit
        Only the first so many lists, by time.

    Raises
    ------
    ConfigError
        A file is missing or has a line that is not one of MIND's.
    """
    behaviors, told = [], []
    for where, row in _rows(_file(folder, "behaviors"), 5):
        behaviors.append(_list(where, row))
        told.append((row[1], row[3].split()))
    order = sorted(range(len(behaviors)), key=lambda k: behaviors[k].ts)[:limit]
    if not order:
        raise ConfigError(f"{folder}: no lists in behaviors.tsv")
    end = behaviors[order[0]].ts - DAY_MS
    past: dict[str, list[tuple[str, int]]] = {}
    for user, items in (told[k] for k in order):
        past.setdefault(user, [(i, end - MINUTE_MS * (len(items) - k)) for k, i in enumerate(items)])
    content = {row[0]: _item(row) for _, row in _rows(_file(folder, "news"), 4)}
    return Recording([behaviors[k] for k in order], past, content)


def _file(folder: Path, name: str) -> Path:
    zipped = folder / f"{name}.tsv.gz"
    return zipped if zipped.is_file() else folder / f"{name}.tsv"


def _rows(file: Path, least: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the place of each line, for messages, and its fields: at least ``least`` of them."""
    with open_text(file) as handle:
        for row in (rows := csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)):
            where = f"{file}, line {rows.line_num}"
            if row and (len(row) < least or not all(row[:2])):
                raise ConfigError(
                    f"{where}: {len(row)} fields, at least {least} are needed, the first two filled"
                )
            if row:
                yield where, row


def _list(where: str, row: list[str]) -> GivenList:
    number, user, at, _, shown = row[:5]
    try:
        ts = int(datetime.strptime(at, _TIME).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError as exc:
        raise ConfigError(f"{where}: {exc}") from exc
    items: dict[str, None] = {}
    clicked: set[str] = set()
    for slot in shown.split():
        item, _, label = slot.rpartition("-")
        if not item or label not in {"0", "1"}:
            raise ConfigError(f"{where}: a slot is like N123-0 or N123-1, got {slot!r}")
        items[item] = None
        if label == "1":
            clicked.add(item)
    if not items:
        raise ConfigError(f"{where}: the list is empty")
    return GivenList(number, user, ts, tuple(items), frozenset(clicked))


def _item(row: list[str]) -> Item:
    item, category, subcategory, title = row[:4]
    return Item(item, 0, title, category, [subcategory] if subcategory else [])
