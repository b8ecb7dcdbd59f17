"""``headrace lag``: once or again and again, as a table or as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.live import Live
from rich.text import Text

from headrace.console import screen
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import LagRow, lag

WATCH_EVERY_S = 2.0


def chosen(rows: Sequence[LagRow], group: str | None) -> list[LagRow]:
    """Return the rows of one group, named in full or by its role; all of them without a name."""
    return [r for r in rows if group is None or group in (r.group, r.agent)]


def exceeds(rows: Sequence[LagRow], max_seconds: float) -> bool:
    """Return whether any lag is older than allowed; one that cannot be told is, and so is no row at all.

    A group that committed nothing yet has rows: it may be idle, or its first records may be young. A group
    without rows does not exist.
    """
    return not rows or any(r.records > 0 and (r.seconds is None or r.seconds > max_seconds) for r in rows)


async def run(
    settings: Settings,
    watch: bool,
    as_json: bool,
    group: str | None,
    partitions: bool,
    max_seconds: float | None,
) -> int:
    """Look and print; return the exit code. With ``watch`` look until cancelled.

    Raises
    ------
    UnavailableError
        When no broker answers.
    """
    out = screen.console()
    live = Live(console=out, auto_refresh=False) if watch and out.is_terminal and not as_json else None
    if live is not None:
        live.start()
    try:
        while True:
            rows = chosen(await lag(settings), group)
            if as_json:
                out.file.write(json.dumps([asdict(r) for r in rows]) + "\n")
                out.file.flush()
            else:
                page = (
                    screen.lag_table(rows, partitions=partitions) if rows else Text(nothing(settings, group))
                )
                if live is not None:
                    live.update(page, refresh=True)
                else:
                    out.print(page)
            if not watch:
                return 1 if max_seconds is not None and exceeds(rows, max_seconds) else 0
            await asyncio.sleep(WATCH_EVERY_S)
    finally:
        if live is not None:
            live.stop()


def nothing(settings: Settings, group: str | None) -> str:
    """Return what to say when there is no row."""
    if group is None:
        return f"no worker has run on {settings.brokers} yet"
    return f"there is no group {group} on {settings.brokers}: no such worker has run yet"
