"""The demo on screen: a live page on a terminal, a line elsewhere, and what is said at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from headrace.console.screen import AgentLag, model_line, reply_table, seconds_text, together, tone

if TYPE_CHECKING:
    from headrace.demo.run import DemoResult

BARS = "▁▂▃▄▅▆▇█"
OURS, POPULAR = "green", "yellow"
#: Seconds a bar of the click rates stands for, and how many of them fit on the narrowest terminal.
STEP_S, POINTS = 2, 50
#: From so many columns on, lag is told by topic.
WIDE = 110


@dataclass(slots=True)
class DemoView:
    """One moment of the demo, as numbers."""

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
    pace: float = 1.0  # below 1: the audience was slowed down to what this machine carries


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


def _pairs(rows: Sequence[tuple[str, str]]) -> Table:
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
    if view.pace < 1:
        head.append(f"   busy machine: visits at {view.pace:.0%}", style="yellow")
    traffic = _pairs(
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
    models = _pairs(
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
    """Return the moment in one plain line."""
    worst = max(view.lag, key=lambda r: r.records, default=None)
    lag = f"{worst.agent} {worst.records} records, {seconds_text(worst.seconds)}" if worst else "-"
    return (
        f"[{view.elapsed_s:3.0f}s] {view.phase}: {view.events_per_s:.0f} events/s, "
        f"{view.replies_per_s:.0f} replies/s (p50 {view.p50_ms:.0f} ms, p99 {view.p99_ms:.0f} ms), "
        f"click rate ours {view.ctr_ours:.1%} popular {view.ctr_popularity:.1%}, "
        f"ranker {view.ranker or '-'}, largest lag {lag}, "
        f"errors {view.errors}, dead letters {view.dead_letters}"
    )


FIGURES = (
    ("events", "events", "{:,}"),
    ("events/s", "events_per_s", "{:,.0f}"),
    ("requests", "requests", "{:,}"),
    ("replies", "replies", "{:,}"),
    ("reply p50 / p99", ("reply_p50_ms", "reply_p99_ms"), "{:.0f} / {:.0f} ms"),
    ("first reply after", "first_reply_s", "{:.1f} s"),
    ("click rate, our lists", ("ctr_ours", "ctr_ours_last"), "{:.1%}, last third {:.1%}"),
    ("click rate, popular list", ("ctr_popularity", "ctr_popularity_last"), "{:.1%}, last third {:.1%}"),
    ("largest lag", "max_lag_s", "{:.1f} s"),
    (
        "LightGBM",
        ("ranker_version", "rankers", "ranked_replies"),
        "{} (trained {} times, ranked {:,} replies)",
    ),
    ("dead letters", "dead_letters", "{}"),
)


def show_outcome(out: Console, outcome: DemoResult) -> None:
    """Print one user's list with its reasons, the figures, and whether it worked."""
    if outcome.example is not None:
        who, reply, titles = outcome.example
        out.print()
        out.print(reply_table(reply, "", titles), end="")
        out.print(who, style="dim", markup=False)
        out.print(model_line(reply), style="dim", markup=False)
    rows = []
    for name, keys, form in FIGURES:
        values = [outcome.figures.get(k) for k in ((keys,) if isinstance(keys, str) else keys)]
        if all(v is not None for v in values):
            rows.append((name, form.format(*values)))
    out.print()
    out.print(_pairs(rows))
    if outcome.details:
        out.print(outcome.details, style="dim", markup=False)
    if outcome.problem:
        out.print(f"It did not work: {outcome.problem}", style="bold red", markup=False, soft_wrap=True)
    else:
        out.print("The loop works: trained from the log, ranked, every request answered.", style="bold green")
