"""Base of ``StateStore``: the methods Faust calls on a table, without Faust's own storage and recovery."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faust
from faust.tables.base import Collection
from faust.types import TP

from headrace.streams.tables.partition import StatePartition


class FaustCollection(Collection):  # type: ignore[misc]
    """A Faust collection without Faust's storage. Faust assigns and lists it as any other table.

    Parameters
    ----------
    app, name
        As for every Faust table.
    changelog
        Full name of the changelog topic. It must exist: workers create no topics.

    Attributes
    ----------
    active
        Partitions that this worker owns, by number.
    standby
        Standby partitions of this worker, by number.
    """

    def __init__(self, app: faust.App, name: str, changelog: str, **options: Any) -> None:
        self.changelog = changelog
        self.active: dict[int, StatePartition] = {}
        self.standby: dict[int, StatePartition] = {}
        topic = app.topic(
            changelog,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            internal=True,
            compacting=True,
            allow_empty=True,
            acks=False,
        )
        super().__init__(app, name=name, key_type=bytes, value_type=bytes, changelog_topic=topic, **options)
        app.tables.add(self)

    async def on_start(self) -> None:
        """Do nothing: there is no Faust storage to open, and workers create no topics."""

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Do nothing: ``StateStore.assign`` sets the partitions."""

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Call the callbacks registered for the end of recovery."""
        await self.call_recover_callbacks()

    def persisted_offset(self, tp: TP) -> int | None:
        """Return None: Faust's recovery does not read this table."""
        return None

    async def need_active_standby_for(self, tp: TP) -> bool:
        """Return True, as for every table whose rows are in memory."""
        return True

    def reset_state(self) -> None:
        """Nothing: no files but snapshots, and these are checked."""

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Faust's recovery never reads this table's changelog."""
        if list(batch):
            raise NotImplementedError("a columnar table is recovered in bulk")

    def as_ansitable(self, title: str = "", **kwargs: Any) -> str:
        """Return one line: a table of millions of rows is not for the terminal."""
        rows = sum(len(part.rows) for part in self.active.values())
        return f"{title or self.name}: {rows} rows in {len(self.active)} partitions"

    def __getitem__(self, key: int | str) -> dict[str, Any]:
        """Return one row as a dict (Faust's web server asks so); slow, ``get`` is for work."""
        number = int(key)
        for part in self.active.values():
            row = part.rows.row(number)
            if row >= 0:
                data = part.rows.data[row]
                return {name: data[name].tolist() for name in data.dtype.names}
        raise KeyError(key)

    def _has_key(self, key: Any) -> bool:
        return any(int(key) in part.rows for part in self.active.values())

    def _get_key(self, key: Any) -> Any:
        return self[key]

    def _set_key(self, key: Any, value: Any) -> None:
        raise NotImplementedError("use update")

    def _del_key(self, key: Any) -> None:
        raise NotImplementedError("use StatePartition.delete")

    def _no_windows(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("windows are columns here: headrace.streams.windows")

    using_window = hopping = tumbling = _no_windows
