"""What ``headrace models list`` prints of settings that were tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from headrace.console.model_pages import use_of, when
from headrace.models.learning import artefact, tried_settings
from headrace.models.learning.registry import Registry
from headrace.models.learning.shelf import Shelf


def settings_rows(found: Registry, shelf: Shelf) -> list[dict[str, Any]]:
    """Return a row for each version in the registry, newest first, and for those that only `models` has."""
    rows = [
        _row(about.version, found.record(about.version), about.created_ts, about.refused, shelf)
        for about in found.versions()
    ]
    known = {row["version"] for row in rows}
    return rows + [
        _row(version, text, artefact.decode(text)["created_ts"], "not in this registry", shelf)
        for version, text in shelf.texts.items()
        if version not in known and version in shelf.pointers.named()
    ]


def _row(version: str, text: bytes, created_ts: int, note: str, shelf: Shelf) -> dict[str, Any]:
    changes = tried_settings.decode(text)
    use = use_of(version, shelf.pointers)
    return {"version": version, "use": use, "created_ts": created_ts, "changes": changes, "note": note}


def settings_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return settings as a table."""
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("settings", "use", "made (UTC)"):
        table.add_column(name, no_wrap=True)
    table.add_column("changes", overflow="fold")
    table.add_column("note", overflow="fold")
    for row in rows:
        cells = (
            row["version"],
            row["use"],
            when(row["created_ts"]),
            tried_settings.told(row["changes"]),
            row["note"],
        )
        table.add_row(*map(Text, cells))
    return table
