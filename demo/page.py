"""The running demo on screen: a live page on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from headrace.console.screen import PLAIN_EVERY_S, seconds_text, together, tone
from headrace.streams.topics.lag_groups import AgentLag

BARS = "▁▂▃▄▅▆▇█"
OURS, POPULAR = "green", "yellow"
#: Seconds of one bar of the click rates, and the number of bars that fit on the narrowest terminal.
STEP_S, POINTS = 2, 50
#: From this many columns on, lag is shown by topic.
WIDE = 110
REDRAW_S = 0.5


@dataclass(slots=True)
class DemoView:
    """The figures of the demo at one time. ``ours`` and ``popular`` are click rates, oldest first."""

    phase: str = "starting"
    elapsed_s: float = 0.0
    seconds: float = 60.0
    events: int = 0
    events_per_s: float = 0.0
    requests: int = 0
    replies: int = 0
    replies_per_s: float = 0.0
    errors: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    lag: list[AgentLag] = field(default_factory=list)
    ctr_ours: float = 0.0
    ctr_popularity: float = 0.0
    ours: list[float | None] = field(default_factory=list)
    popular: list[float | None] = field(default_factory=list)
    ranker: str = ""
    rankers: int = 0
    ranked_share: float = 0.0  # of the replies of the last seconds, ranked by LightGBM
    auc: float | None = None
    learned: int = 0
    dead_letters: int = 0
    users: int = 0
    items: int = 0
    dashboard: str = ""
    pace: float = 1.0  # below 1: the audience was slowed down because this machine is too slow


def sparkline(values: Sequence[float | None], top: float) -> str:
    """Return bars of height ``value / top``; a space where there is no value."""
    out = []
    for value in values:
        if value is None:
            out.append(" ")
        else:
            step = round(value / top * (len(BARS) - 1)) if top > 0 else 0
            out.append(BARS[max(0, min(len(BARS) - 1, step))])
    return "".join(out)


def _count(n: int) -> str:
    return f"{n:,}" if n < 1_000_000 else f"{n / 1e6:.1f} M"


def pairs_table(rows: Sequence[tuple[str, str]]) -> Table:
    """Return names and values as a table."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _lag_panel(lags: Sequence[AgentLag], topics: bool, height: int) -> Panel:
    table = Table.grid(padding=(0, 2))
    names = ("agent", "topic", "records", "oldest") if topics else ("agent", "records", "oldest")
    for name in names:
        table.add_column(justify="right" if name in ("records", "oldest") else "left")
    table.add_row(*(Text(name, style="dim") for name in names))
    for lag in lags:
        cells = (lag.agent, *((lag.topic,) if topics else ()), f"{lag.records:,}", seconds_text(lag.seconds))
        table.add_row(*cells, style=tone(lag.records, lag.seconds))
    if not lags:
        table.add_row("none yet", *[""] * (len(names) - 1), style="dim")
    return Panel(table, title="lag", title_align="left", border_style="dim", height=height)


def _clicks_panel(view: DemoView) -> Panel:
    top = max([v for v in (*view.ours, *view.popular) if v is not None], default=0.0)
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    table.add_row(
        Text("our lists", style=OURS), f"{view.ctr_ours:.1%}", Text(sparkline(view.ours, top), style=OURS)
    )
    table.add_row(
        Text("popular list", style=POPULAR),
        f"{view.ctr_popularity:.1%}",
        Text(sparkline(view.popular, top), style=POPULAR),
    )
    return Panel(
        table,
        title=f"click rate, a bar every {STEP_S} s; a control group sees the popular list",
        title_align="left",
        border_style="dim",
    )


def render(view: DemoView, width: int = 120) -> RenderableType:
    """Return the live page for a terminal of ``width`` columns; 80 columns and 24 lines are enough."""
    clock = f"{view.elapsed_s:4.0f} s of {view.seconds:.0f}"
    head = Text.assemble(("Headrace", "bold"), f"   {view.phase}   ", (clock, "dim"))
    if view.dashboard:
        head.append(f"   {view.dashboard}", style="cyan")
    if view.pace < 1:
        head.append(f"   busy machine: visits at {view.pace:.0%}", style="yellow")
    traffic = pairs_table(
        (
            ("events/s", f"{view.events_per_s:,.0f}"),
            ("events", _count(view.events)),
            ("replies/s", f"{view.replies_per_s:,.0f}"),
            ("replies", _count(view.replies)),
            ("open", _count(view.requests - view.replies)),
            ("reply p50", f"{view.p50_ms:.0f} ms"),
            ("reply p99", f"{view.p99_ms:.0f} ms"),
            ("errors", str(view.errors)),
            ("dead letters", str(view.dead_letters)),
        )
    )
    models = pairs_table(
        (
            ("ranker", view.ranker[:8] or "none yet"),
            ("trained", f"{view.rankers} times"),
            ("by ranker", f"{view.ranked_share:.0%}"),
            ("online AUC", "-" if view.auc is None else f"{view.auc:.3f}"),
            ("examples", _count(view.learned)),
            ("users", f"{view.users:,}"),
            ("items", f"{view.items:,}"),
        )
    )
    topics = width >= WIDE
    lags = view.lag if topics else together(view.lag)
    height = max(11, len(lags) + 3)
    row = Table.grid(expand=True)
    row.add_column(width=25)
    row.add_column(width=25)
    row.add_column(ratio=1)
    row.add_row(
        Panel(traffic, title="traffic", title_align="left", border_style="dim", height=height),
        Panel(models, title="models", title_align="left", border_style="dim", height=height),
        _lag_panel(lags, topics, height),
    )
    return Group(head, row, _clicks_panel(view))


def line(view: DemoView) -> str:
    """Return the figures as one plain line."""
    worst = max(view.lag, key=lambda r: r.records, default=None)
    lag = f"{worst.agent} {worst.records} records, {seconds_text(worst.seconds)}" if worst else "-"
    return (
        f"[{view.elapsed_s:3.0f}s] {view.phase}: {view.events_per_s:.0f} events/s, "
        f"{view.replies_per_s:.0f} replies/s (p50 {view.p50_ms:.0f} ms, p99 {view.p99_ms:.0f} ms), "
        f"click rate ours {view.ctr_ours:.1%} popular {view.ctr_popularity:.1%}, "
        f"ranker {view.ranker or '-'}, largest lag {lag}, "
        f"errors {view.errors}, dead letters {view.dead_letters}"
    )


async def show(out: Console, view: Callable[[], DemoView], *, plain: bool) -> None:
    """Show the figures of ``view`` repeatedly until cancelled: as the live page, or as lines."""
    if plain or not out.is_terminal:
        while True:
            await asyncio.sleep(PLAIN_EVERY_S)
            out.print(line(view()), soft_wrap=True, markup=False)
    with Live(render(view(), out.width), console=out, auto_refresh=False) as live:
        try:
            while True:
                live.update(render(view(), out.width), refresh=True)
                await asyncio.sleep(REDRAW_S)
        finally:
            live.update(render(view(), out.width), refresh=True)
