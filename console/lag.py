"""``headrace lag``: how far behind every agent is, once or again and again, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from headrace.streams.settings import Settings
    from headrace.streams.topics.lag import LagRow

WATCH_EVERY_S = 2.0


def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a row per partition.")] = False,
    group: Annotated[str | None, typer.Option(help="Only this group or role.")] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="A row per partition.")] = False,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=0, help="Exit code 1 when any lag is older than this, or not known; bulk requests may wait."
        ),
    ] = None,
    brokers: options.Brokers = None,
) -> None:
    """Show how far behind every agent is, in records and seconds.

    From the broker alone, so it works when every worker is down.

    Example, a health check: [bold]headrace lag --group serve --max-seconds 5[/]
    """
    settings = options.read_settings(brokers)
    raise typer.Exit(options.run(look(settings, watch, as_json, group, partitions, max_seconds)))


def chosen(rows: Sequence[LagRow], group: str | None) -> list[LagRow]:
    """Return the rows of one group, named in full or by its role; all of them without a name."""
    return [r for r in rows if group is None or group in (r.group, r.agent)]


def exceeds(rows: Sequence[LagRow], max_seconds: float, may_wait: str = "") -> bool:
    """Return True when a lag is too old or not known, or when there are no rows.

    A lag of the topic ``may_wait`` may have any age. A group without rows does not exist. A group that has
    committed nothing yet has rows: it may be idle, or its first records may be young.
    """
    late = (r for r in rows if r.topic != may_wait and r.records > 0)
    return not rows or any(r.seconds is None or r.seconds > max_seconds for r in late)


async def look(
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
    import asyncio

    from rich.text import Text

    from headrace.console import screen
    from headrace.streams.topics import lag as topics_lag
    from headrace.streams.topics.names import Topics

    may_wait = Topics(settings).bulk_requests

    with _page(redraw=watch and not as_json) as show:
        while True:
            rows = chosen(await topics_lag.lag(settings), group)
            if as_json:
                typer.echo(json.dumps([asdict(r) for r in rows]))
            elif rows:
                show(screen.lag_table(rows, partitions=partitions))
            else:
                show(Text(nothing(settings, group)))
            if not watch:
                return 1 if max_seconds is not None and exceeds(rows, max_seconds, may_wait) else 0
            await asyncio.sleep(WATCH_EVERY_S)


@contextmanager
def _page(*, redraw: bool) -> Iterator[Callable[[RenderableType], None]]:
    """Yield a function that prints a page; with ``redraw``, on a terminal, in the place of the last one."""
    from rich.live import Live

    from headrace.console import screen

    out = screen.console()
    if not (redraw and out.is_terminal):
        yield out.print
        return
    with Live(console=out, auto_refresh=False) as live:
        yield lambda page: live.update(page, refresh=True)


def nothing(settings: Settings, group: str | None) -> str:
    """Return the message for an empty table."""
    if group is None:
        return f"no worker has run on {settings.brokers} yet"
    return f"there is no group {group} on {settings.brokers}: no such worker has run yet"
