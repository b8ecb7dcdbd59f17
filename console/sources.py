"""``headrace sources``: what came of the items that each candidate source proposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options
from headrace.console.extras import require

if TYPE_CHECKING:
    from rich.console import RenderableType

    from headrace.models.learning.source_outcomes import SourceCounts

_HOUR_MS = 3_600_000


def sources(
    hours: Annotated[
        float, typer.Option(min=0, help="Of lists shown in so many hours; 0: of the whole log.")
    ] = 24,
    json_path: options.JsonPath = None,
) -> None:
    """Show how often the items of each candidate source were shown and clicked.

    From the Parquet log (`HEADRACE_DATA_DIR`): a slot is in it when its outcome is known. An item that
    several sources proposed counts for each; [bold]alone[/] are those that only this one proposed.
    """
    settings = options.read_settings(None)
    require("worker")
    from headrace.console import screen
    from headrace.models.learning.log_files import folder_of
    from headrace.models.learning.source_counts import source_counts
    from headrace.streams.clock import now_ms

    since = int(now_ms() - hours * _HOUR_MS) if hours else 0
    found, shown, clicked = source_counts(folder_of(settings), since)
    figures = {"shown": shown, "clicked": clicked, "sources": [asdict(counts) for counts in found]}
    options.write_json(json_path, figures)
    if not shown:
        typer.echo(f"{folder_of(settings)} has no slots of that time")
        raise typer.Exit(1)
    screen.console().print(table(found, shown, clicked))


def table(found: Sequence[SourceCounts], shown: int, clicked: int) -> RenderableType:
    """Return a row for each source, and one for all slots."""
    from rich.box import SIMPLE
    from rich.table import Table

    out = Table(box=SIMPLE, pad_edge=False)
    out.add_column("source")
    for name in ("shown", "clicked", "click rate", "alone", "click rate alone"):
        out.add_column(name, justify="right")
    for c in found:
        rates = _percent(c.clicked, c.shown), _percent(c.clicked_alone, c.alone)
        out.add_row(c.source, f"{c.shown:,}", f"{c.clicked:,}", rates[0], f"{c.alone:,}", rates[1])
    out.add_section()
    out.add_row("all slots", f"{shown:,}", f"{clicked:,}", _percent(clicked, shown), "", "")
    return out


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""
