"""``headrace export users`` and ``items``: their rows as of now, from the changelogs.

A row is known by the hash of its id (``streams/messages/ids.py``); the id is there where somebody names it:
the topic `items` or `users`, or a file of ids.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from aiokafka.errors import KafkaError

from headrace.console.exported import files
from headrace.console.screen import Reporter
from headrace.console.verification.live_rows import latest_rows
from headrace.models.learning.places import Place
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.models.state.counts import Counts
from headrace.streams.messages.ids import hash_many
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_to
from headrace.streams.topics.refusal import unavailable

Rows = npt.NDArray[np.void]

#: Number of the layout, as in ``examples``.
LAYOUT = 1
#: Rows that become columns together.
_TOGETHER = 50_000


@dataclass(frozen=True)
class Table:
    """Rows that can be exported.

    Attributes
    ----------
    kind
        users or items.
    id_name
        Name of the column with ids.
    dtype, order
        Of the rows, and which fields say which of two is newer.
    changelog, named
        The topic with the rows, and the one with ids, as in ``Topics``.
    counts
        What is counted.
    scalars
        Fields that are one number, with their types.
    lists
        Fields with several values, with their types; what is 0 at their ends is left out.
    """

    kind: str
    id_name: str
    dtype: np.dtype[Any]
    order: tuple[str, ...]
    changelog: str
    named: str
    counts: Counts
    scalars: dict[str, pa.DataType]
    lists: dict[str, pa.DataType]

    @property
    def schema(self) -> pa.Schema:
        """Columns of the files; counts are named ``w.<window>.<metric>``, ``total.`` and ``decayed.``."""
        metrics = self.counts.metrics
        fields = [
            pa.field("key", pa.uint64()),
            pa.field(self.id_name, pa.string()),
            *(pa.field(name, kind) for name, kind in self.scalars.items()),
            *(
                pa.field(f"w.{window}.{metric}", pa.int64())
                for window in self.counts.windows.names
                for metric in metrics
            ),
            *(pa.field(f"total.{metric}", pa.uint64()) for metric in metrics),
            *(pa.field(f"decayed.{metric}", pa.float64()) for metric in metrics),
            *(pa.field(name, pa.list_(kind)) for name, kind in self.lists.items()),
        ]
        return pa.schema(fields)


USERS = Table(
    "users",
    "user_id",
    user_state.ROW,
    user_state.ORDER,
    "user_state",
    "users",
    user_state.COUNTS,
    {
        "updated": pa.int64(),
        "country": pa.uint64(),
        "n_clicks": pa.int64(),
        "session_len": pa.int32(),
        "has_profile": pa.bool_(),
        "age": pa.int16(),
        "home": pa.uint64(),
        "language": pa.uint64(),
    },
    {
        "recent": pa.uint64(),
        "recent_ts": pa.int64(),
        "cat": pa.uint64(),
        "cat_w": pa.float32(),
        "cat_dwell": pa.float32(),
        "cat_views": pa.float32(),
        "creator": pa.uint64(),
        "creator_w": pa.float32(),
        "preferred": pa.uint64(),
        "followed": pa.uint64(),
        "hidden": pa.uint64(),
        "hidden_creators": pa.uint64(),
    },
)
ITEMS = Table(
    "items",
    "item_id",
    item_state.ROW,
    ("offset",),
    "item_features",
    "items",
    item_state.COUNTS,
    {"updated": pa.int64(), "first_ts": pa.int64(), "last_click": pa.int64()},
    {},
)
#: A list -> the one that says how long it is, where that is another one.
_LENGTH_OF = {
    "recent_ts": "recent",
    "cat_w": "cat",
    "cat_dwell": "cat",
    "cat_views": "cat",
    "creator_w": "creator",
}


def columns_of(table: Table, rows: Rows, ids: dict[int, str], now: int) -> pa.Table:
    """Return rows as columns: windows and decayed counts at ``now`` (ms). Pure."""
    columns: dict[str, pa.Array] = {
        "key": pa.array(rows["key"]),
        table.id_name: pa.array([ids.get(key) for key in rows["key"].tolist()], pa.string()),
    }
    for name, kind in table.scalars.items():
        columns[name] = pa.array(np.ascontiguousarray(rows[name]), kind)
    windows = table.counts.windows.read(rows, now)
    for i, window in enumerate(table.counts.windows.names):
        for j, metric in enumerate(table.counts.metrics):
            columns[f"w.{window}.{metric}"] = pa.array(windows[:, i, j].astype(np.int64))
    decayed = table.counts.decayed(rows, now)
    for j, metric in enumerate(table.counts.metrics):
        columns[f"total.{metric}"] = pa.array(table.counts.totals(rows, metric))
        columns[f"decayed.{metric}"] = pa.array(np.ascontiguousarray(decayed[:, j]))
    if "recent" in table.lists:
        rows = _newest_first(rows)
    for name, kind in table.lists.items():
        there = rows[_LENGTH_OF.get(name, name)] != 0
        bounds = np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32)
        columns[name] = pa.ListArray.from_arrays(pa.array(bounds), pa.array(rows[name][there], kind))
    return pa.table([columns[name] for name in table.schema.names], names=table.schema.names)


def _newest_first(rows: Rows) -> Rows:
    """Return copies of user rows whose rings of clicks begin with the newest one."""
    rows = rows.copy()
    at = (rows["n_clicks"][:, None] - 1 - np.arange(user_state.RECENT)) % user_state.RECENT
    for name in ("recent", "recent_ts"):
        rows[name] = np.take_along_axis(rows[name], at, axis=1)
    return rows


async def export(
    settings: Settings, table: Table, folder: Place, named: Sequence[str], now: int, report: Reporter
) -> tuple[int, int]:
    """Write the rows that the changelog has now; return the numbers of rows and files.

    The rows of one partition are in memory at a time, and the ids.

    Parameters
    ----------
    named
        More ids than those of the topic.
    now
        Time of the windows, ms.

    Raises
    ------
    ConfigError
        There is an export already.
    UnavailableError
        The broker does not answer.
    """
    files.free(folder, table.kind)
    schema = files.layout(table.schema, table.kind, LAYOUT, {"read_at_ms": str(now)})
    rows = number = 0
    try:
        ids = await _ids(settings, str(getattr(Topics(settings), table.named)))
        ids |= _named(named)
        async for part in _parts(settings, table):
            pieces = (
                columns_of(table, part[at : at + _TOGETHER], ids, now)
                for at in range(0, len(part), _TOGETHER)
            )
            more, number = files.write(folder, table.kind, schema, pieces, number)
            rows += more
            report(rows, "rows")
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    return rows, number


async def _parts(settings: Settings, table: Table) -> AsyncIterator[Rows]:
    """Yield the rows of each partition that count something: not those of forgotten users."""
    topic = str(getattr(Topics(settings), table.changelog))
    for partition in range(settings.partitions):
        latest = await latest_rows(settings, topic, partition, table.dtype, table.order)
        rows = latest.table()
        yield rows[user_state.known(list(latest.rows.values()))] if table is USERS and len(rows) else rows


async def _ids(settings: Settings, topic: str) -> dict[int, str]:
    found = set[str]()
    async with open_reader(settings, [topic]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            found.update(r.key.decode("utf-8", "replace") for r in part.records if r.key is not None)
    return _named(sorted(found))


def _named(ids: Sequence[str]) -> dict[int, str]:
    return dict(zip(hash_many(list(ids)).tolist(), ids, strict=True))
