"""Reads EB-NeRD (Kruse et al., RecSys Challenge 2024): lists of news, and the clicks; Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.serving.prequential.given import GivenList, Recording
from headrace.streams.errors import ConfigError
from headrace.streams.messages.schemas import Item

_LISTS = (
    "impression_id",
    "article_id",
    "impression_time",
    "device_type",
    "article_ids_inview",
    "article_ids_clicked",
    "user_id",
)
_PAST = ("user_id", "impression_time_fixed", "article_id_fixed")
_ARTICLES = ("article_id", "title", "category_str", "topics", "published_time")


def read_ebnerd(folder: Path, limit: int | None = None) -> Recording:
    """Return the lists of a folder with ``behaviors.parquet`` and ``history.parquet``.

    With an ``articles.parquet`` beside them or one folder above, articles have title, category, topics and
    time of publication. Reading times and scroll depths are not read: they are of the time after a list.

    Parameters
    ----------
    limit
        Only the first so many lists, by time.

    Raises
    ------
    ConfigError
        A file is missing, lacks a column, or has a row that cannot be.
    """
    rows = _rows(folder / "behaviors.parquet", _LISTS)
    lists = sorted((_list(folder, k, row) for k, row in enumerate(rows)), key=lambda one: one.ts)[:limit]
    if not lists:
        raise ConfigError(f"{folder}: no lists in behaviors.parquet")
    first: dict[str, int] = {}
    for one in lists:
        first.setdefault(one.user, one.ts)
    past = {}
    for row in _rows(folder / "history.parquet", _PAST):
        if (user := str(row["user_id"])) in first:
            past[user] = _past(row, first[user])
    return Recording(lists, past, _content(folder))


def _rows(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    try:
        missing = [c for c in columns if c not in pq.read_schema(file).names]
        if missing:
            raise ConfigError(f"{file}: not a file of EB-NeRD, lacks {missing}")
        rows: list[dict[str, Any]] = pq.read_table(file, columns=list(columns)).to_pylist()
    except (OSError, pa.ArrowException) as exc:
        raise ConfigError(f"{file}: cannot be read: {exc}") from exc
    return rows


def _ms(at: datetime) -> int:
    """Return a time without a zone, of EB-NeRD, as if it were UTC, ms."""
    return int((at - datetime(1970, 1, 1)).total_seconds() * 1000)


def _list(folder: Path, number: int, row: dict[str, Any]) -> GivenList:
    needed = ("impression_id", "impression_time", "article_ids_inview", "article_ids_clicked", "user_id")
    empty = [name for name in needed if row[name] is None]
    items = dict.fromkeys(map(str, row["article_ids_inview"] or ()))
    clicked = frozenset(map(str, row["article_ids_clicked"] or ()))
    wrong = f"{', '.join(empty)} is empty" if empty else ""
    if not wrong and not items:
        wrong = "article_ids_inview has no article"
    if not wrong and not clicked <= items.keys():
        wrong = "an article was clicked that is not in view"
    if wrong:
        raise ConfigError(f"{folder / 'behaviors.parquet'}, row {number}: {wrong}")
    reading = "" if row["article_id"] is None else str(row["article_id"])
    device = "" if row["device_type"] is None else str(row["device_type"])
    ids = (str(row["impression_id"]), str(row["user_id"]), _ms(row["impression_time"]))
    return GivenList(*ids, tuple(items), clicked, device, reading)


def _past(row: dict[str, Any], before: int) -> list[tuple[str, int]]:
    """Return the clicks of a user before a time, oldest first."""
    pairs = zip(row["article_id_fixed"] or (), row["impression_time_fixed"] or (), strict=False)
    told = [(str(item), _ms(at)) for item, at in pairs if item is not None and at is not None]
    return sorted((one for one in told if one[1] < before), key=lambda one: one[1])


def _content(folder: Path) -> dict[str, Item]:
    file = folder / "articles.parquet"
    file = file if file.is_file() else folder.parent / "articles.parquet"
    if not file.is_file():
        return {}
    out = {}
    for row in _rows(file, _ARTICLES):
        name, published = str(row["article_id"]), row["published_time"]
        topics = [t[:64] for t in row["topics"] or () if t]
        title, category = (row["title"] or "")[:1000], (row["category_str"] or "")[:64]
        out[name] = Item(name, _ms(published) if published else 0, title, category, topics)
    return out
