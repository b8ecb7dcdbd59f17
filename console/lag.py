"""``headrace lag``: how far behind every agent is, once or again and again, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.topics.lag_verdict import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from headrace.streams.settings import Settings
    from headrace.streams.topics.lag import LagReader, LagRow, Look
    from headrace.streams.topics.lag_watch import LagWatch

#: Without --watch: how often it looks, and how long at most by default.
SAMPLE_EVERY_S = 1.0
SAMPLE_S = 12.0


def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Look again every second until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --watch one a line.")
    ] = False,
    group: Annotated[str | None, typer.Option(help="Only this group or role.")] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="A row per partition.")] = False,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Exit code 1 also when any lag is older than this, or not known; bulk requests may wait.",
        ),
    ] = None,
    sample: Annotated[
        float,
        typer.Option(min=0, max=600, help="Look for at most so many seconds, while a verdict is open."),
    ] = SAMPLE_S,
    now: Annotated[bool, typer.Option("--now", help="Look only once: no trend, few verdicts.")] = False,
    brokers: options.Brokers = None,
) -> None:
    """Show how far behind every agent is, in records and seconds, and what is to be said of it.

    From the broker alone, so it works when every worker is down. When nothing waits it answers at once.

    Verdicts: OK; WARN, the lag grows; REWIND, commits went back; STALL, a worker has the partition and
    commits nothing; STOP, no worker has it; ?, not enough was seen. A group is as bad as its worst partition.

    Exit codes: 0 OK, WARN or ?; 1 worse, or there is no such group; 2 wrong use or no broker.

    Example, a health check: [bold]headrace lag --now --group serve --max-seconds 5[/]
    """
    if now and watch:
        raise ConfigError("--now looks once and --watch again and again: give one of them")
    settings = options.read_settings(brokers)
    sample_s = 0.0 if now else sample
    code = options.run(look(settings, watch, as_json, group, partitions, max_seconds, sample_s=sample_s))
    raise typer.Exit(code)


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


def exit_code(
    rows: Sequence[LagRow], group: str | None, max_seconds: float | None, may_wait: str = ""
) -> int:
    """Return 1 when somebody has to act: a bad verdict, a lag over the bound, a group that does not exist.

    ``may_wait`` is the topic of bulk requests: it stands still while a worker is busy with others.
    """
    failed = [r for r in rows if r.verdict.is_failure]
    if group is not None and not rows:
        return 1
    if any(r.topic != may_wait or r.verdict is not Verdict.STALL for r in failed):
        return 1
    return 1 if max_seconds is not None and exceeds(rows, max_seconds, may_wait) else 0


async def look(
    settings: Settings,
    watch: bool,
    as_json: bool,
    group: str | None,
    partitions: bool,
    max_seconds: float | None,
    *,
    sample_s: float = 0.0,
) -> int:
    """Look and print; return the exit code. With ``watch`` look until cancelled.

    Parameters
    ----------
    sample_s
        Without ``watch``: longest time for looking, while a verdict is open. 0: look once.

    Raises
    ------
    UnavailableError
        When no broker answers. A watch that has begun says so, and goes on.
    """
    import asyncio
    import logging
    import time

    from headrace.streams.topics.lag import PEEK_S as ONCE_S
    from headrace.streams.topics.lag import LagReader
    from headrace.streams.topics.lag_watch import EVERY_S, PEEK_S, LagWatch
    from headrace.streams.topics.names import Topics

    if watch:
        # Its errors are raised, too; a line of it would spoil the page.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    seen = LagWatch.of(settings)
    with _page(redraw=watch and not as_json) as show:
        async with LagReader(settings, peek_s=PEEK_S if watch else ONCE_S) as reader:
            began = time.monotonic()
            found = await (
                judged_look(reader, seen, group) if watch else _sampled(reader, seen, group, sample_s)
            )
            _print(found, show, settings, as_json, group, partitions)
            while watch:
                await asyncio.sleep(max(0.05, began + EVERY_S - time.monotonic()))
                began = time.monotonic()
                try:
                    found = await judged_look(reader, seen, group)
                except UnavailableError as exc:
                    _print_error(exc, show, as_json)
                else:
                    _print(found, show, settings, as_json, group, partitions)
            return exit_code(found.rows, group, max_seconds, Topics(settings).bulk_requests)


async def judged_look(
    reader: LagReader, seen: LagWatch, group: str | None, now_ms: float | None = None
) -> Look:
    """Look once; return the rows of one group with their verdicts. ``now_ms``: see ``LagReader.look``."""
    found = await reader.look(now_ms=now_ms, known=seen.known())
    found = replace(found, rows=chosen(found.rows, group))
    return replace(found, rows=seen.add(found))


async def _sampled(reader: LagReader, seen: LagWatch, group: str | None, sample_s: float) -> Look:
    """Look until more looks would say no more, at most for some seconds; twice at least where is lag."""
    import asyncio
    import time

    until = time.monotonic() + sample_s
    found = await judged_look(reader, seen, group)
    settled = all(r.records == 0 for r in found.rows)
    while not settled and time.monotonic() + SAMPLE_EVERY_S <= until:
        await asyncio.sleep(SAMPLE_EVERY_S)
        found = await judged_look(reader, seen, group)
        settled = seen.is_settled()
    return found


def _print(
    found: Look,
    show: Callable[[RenderableType], None],
    settings: Settings,
    as_json: bool,
    group: str | None,
    partitions: bool,
) -> None:
    from rich.text import Text

    from headrace.console import lag_page

    missing = [
        pair for pair in found.missing if group in (None, pair[0], settings.name(f"headrace-{pair[0]}"))
    ]
    if as_json:
        typer.echo(json.dumps(lag_page.lag_object(found.rows, missing, found.at_s)))
    elif found.rows or missing:
        show(lag_page.lag_page(found.rows, missing, partitions=partitions))
    else:
        show(Text(nothing(settings, group)))


def _print_error(error: UnavailableError, show: Callable[[RenderableType], None], as_json: bool) -> None:
    from rich.text import Text

    if as_json:
        typer.echo(json.dumps({"error": str(error)}))
    else:
        show(Text(f"{error}; trying again", style="red"))


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
    from headrace.streams.topics.refusal import or_hidden

    hidden = or_hidden(settings)
    if group is None:
        return f"no worker has run on {settings.brokers} yet{hidden}"
    return f"there is no group {group} on {settings.brokers}: no such worker has run yet{hidden}"
