"""What people see in a terminal: progress of long work, and tables.

On a terminal: rich, redrawn in place. Elsewhere (a pipe, a CI log): plain lines now and then, no control
codes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.box import SIMPLE
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from headrace.streams.topics.lag_groups import AgentLag

if TYPE_CHECKING:
    from headrace.streams.messages.schemas import RecReply

PLAIN_EVERY_S = 5.0


def console(*, stderr: bool = False) -> Console:
    """Return a console; piped output is 120 columns wide, because its width cannot be detected."""
    out = Console(stderr=stderr, highlight=False)
    return out if out.is_terminal else Console(stderr=stderr, highlight=False, width=120)


# --- progress ---


class Reporter(Protocol):
    """Reports the progress of long work."""

    def __call__(self, done: int, text: str) -> None:
        """Report that ``done`` units are done, and a text."""
        ...


@contextmanager
def progress(out: Console, label: str, total: int | None = None) -> Iterator[Reporter]:
    """Show progress until the block ends: a bar on a terminal, a line every few seconds elsewhere."""
    if out.is_terminal:
        columns = [SpinnerColumn(), TextColumn(label), BarColumn(bar_width=30)]
        columns += [MofNCompleteColumn()] if total else [TextColumn("{task.completed:,}")]
        with Progress(*columns, TextColumn("{task.fields[text]}"), TimeElapsedColumn(), console=out) as bar:
            task = bar.add_task(label, total=total, text="")
            yield lambda done, text: bar.update(task, completed=done, text=text)
        return
    last = time.monotonic()

    def line(done: int, text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            out.print(f"{label}: {done:,}{f' of {total:,}' if total else ''} {text}", soft_wrap=True)

    yield line


# --- tables ---


def seconds_text(seconds: float | None) -> str:
    """Return a duration for people; ``?`` when it is not known."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.0f} d"


def together(lags: Iterable[AgentLag]) -> list[AgentLag]:
    """Sum the topics of each agent up."""
    groups: dict[str, list[AgentLag]] = {}
    for lag in lags:
        groups.setdefault(lag.agent, []).append(lag)
    out = []
    for agent, part in groups.items():
        known = [a.seconds for a in part if a.seconds is not None]
        oldest = max(known) if len(known) == len(part) else None
        topics = ", ".join(a.topic for a in part)
        partitions, records = sum(a.partitions for a in part), sum(a.records for a in part)
        out.append(AgentLag(agent, topics, partitions, records, oldest, sum(a.deleted for a in part)))
    return out


def tone(records: int, seconds: float | None) -> str:
    """Return the style of a lag: dim for none, red for a minute and more."""
    if records == 0:
        return "dim"
    return (
        "" if seconds is not None and seconds < 10 else "yellow" if seconds is None or seconds < 60 else "red"
    )


def reply_table(reply: RecReply, title: str = "", titles: dict[str, str] | None = None) -> RenderableType:
    """Return a list of recommendations as a table.

    Parameters
    ----------
    titles
        Item id -> title, where the caller knows any.
    """
    explained = any(item.why for item in reply.items)
    table = Table(box=SIMPLE, title=title or None, title_justify="left", pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("item", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("propensity", justify="right", no_wrap=True)
    table.add_column("why" if explained else "sources", overflow="fold", min_width=30)
    for place, item in enumerate(reply.items, 1):
        # Text, not markup: ids and titles come from outside.
        about = Text()
        if titles is not None:
            about.append(titles.get(item.item_id, "") + "\n", style="bold")
        about.append("; ".join(item.why or ()) if explained else ", ".join(item.sources))
        cells = (str(place), item.item_id, f"{item.score:.3f}", f"{item.propensity:.3g}")
        table.add_row(*map(Text, cells), about, style="magenta" if item.explored else "")
    return table


def model_line(reply: RecReply) -> str:
    """Return the models used for a reply, and what was missing."""
    model = reply.model
    parts = [
        f"ranker {model.ranker}" if model and model.ranker else "no ranker yet",
        f"online model {model.online}" if model and model.online else "no online model yet",
        f"{reply.took_ms:.0f} ms",
    ]
    if reply.degraded:
        parts.append(f"degraded: {', '.join(dict.fromkeys(reply.degraded))}")
    return " · ".join(parts)
