"""What people see in a terminal: progress of long work, tables, and the live page of the demo.

On a terminal: rich, redrawn in place. Elsewhere (a pipe, a CI log): plain lines now and then, no control
codes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
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

if TYPE_CHECKING:
    from agents.demo import Outcome
    from streams.lag import LagRow
    from streams.schemas import RecReply

BARS = "▁▂▃▄▅▆▇█"
PLAIN_EVERY_S = 5.0
#: Seconds a bar of the click rates stands for.
STEP_S = 2
OURS, POPULAR = "green", "yellow"


def console(*, stderr: bool = False) -> Console:
    """Return a console; piped output is 120 columns wide, so that nothing is cut to a guess."""
    out = Console(stderr=stderr, highlight=False)
    return out if out.is_terminal else Console(stderr=stderr, highlight=False, width=120)


# --- progress ---


class Reporter(Protocol):
    """Tells how far some long work is."""

    def __call__(self, done: int, text: str) -> None:
        """Report ``done`` units and what else there is to say."""
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


@dataclass(frozen=True, slots=True)
class AgentLag:
    """Lag of one agent on one topic: all its partitions together, and the oldest record of any."""

    agent: str
    topic: str
    partitions: int
    records: int
    seconds: float | None


def by_agent(rows: Iterable[LagRow]) -> list[AgentLag]:
    """Sum partitions up; unknown seconds of any partition make the sum unknown."""
    groups: dict[tuple[str, str], list[LagRow]] = {}
    for row in rows:
        groups.setdefault((row.agent, row.topic), []).append(row)
    out = []
    for (agent, topic), part in sorted(groups.items()):
        known = [r.seconds for r in part if r.seconds is not None]
        worst = max(known) if len(known) == len(part) else None
        out.append(AgentLag(agent, topic, len(part), sum(r.records for r in part), worst))
    return out


def lag_table(rows: Sequence[LagRow], *, partitions: bool = False) -> RenderableType:
    """Return lag as a table: a row per agent and topic, or per partition."""
    table = Table(box=SIMPLE, pad_edge=False)
    for name, right in (
        ("agent", False),
        ("topic", False),
        ("partitions", True),
        ("records", True),
        ("oldest", True),
    ):
        table.add_column(
            "partition" if partitions and name == "partitions" else name, justify="right" if right else "left"
        )
    if partitions:
        for r in rows:
            table.add_row(
                r.agent,
                r.topic,
                str(r.partition),
                f"{r.records:,}",
                seconds_text(r.seconds),
                style=_tone(r.records, r.seconds),
            )
    else:
        for a in by_agent(rows):
            table.add_row(
                a.agent,
                a.topic,
                str(a.partitions),
                f"{a.records:,}",
                seconds_text(a.seconds),
                style=_tone(a.records, a.seconds),
            )
    return table


def _tone(records: int, seconds: float | None) -> str:
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
    table.add_column("item", no_wrap=True)
    if titles:
        table.add_column("title", max_width=44, no_wrap=True, overflow="ellipsis")
    table.add_column("score", justify="right")
    table.add_column("propensity", justify="right")
    table.add_column("why" if explained else "sources", overflow="fold")
    for place, item in enumerate(reply.items, 1):
        cells = [str(place), item.item_id]
        if titles:
            cells.append(titles.get(item.item_id, ""))
        cells += [f"{item.score:.3f}", f"{item.propensity:.3g}"]
        cells.append("; ".join(item.why or ()) if explained else ", ".join(item.sources))
        table.add_row(*map(_plain, cells), style="magenta" if item.explored else "")
    return table


def _plain(text: str) -> Text:
    return Text(text)  # ids and titles come from outside: no markup in them


def model_line(reply: RecReply) -> str:
    """Return which models stood behind a reply, and what it had to do without."""
    model = reply.model
    parts = [
        f"ranker {model.ranker}" if model and model.ranker else "no ranker yet",
        f"online model {model.online}" if model and model.online else "no online model yet",
        f"{reply.took_ms:.0f} ms",
    ]
    if reply.degraded:
        parts.append(f"degraded: {', '.join(dict.fromkeys(reply.degraded))}")
    return " · ".join(parts)


# --- the demo ---


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


def _pairs(rows: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _lag_panel(view: DemoView, height: int) -> Panel:
    table = Table.grid(padding=(0, 2))
    for right in (False, False, True, True):
        table.add_column(justify="right" if right else "left")
    table.add_row(*(Text(t, style="dim") for t in ("agent", "topic", "records", "oldest")))
    for row in view.lag:
        table.add_row(
            row.agent,
            row.topic,
            f"{row.records:,}",
            seconds_text(row.seconds),
            style=_tone(row.records, row.seconds),
        )
    if not view.lag:
        table.add_row("", Text("waiting for the first commits", style="dim"), "", "")
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
        title=f"click rate, a bar every {STEP_S} s (the popular list is shown to a control group)",
        title_align="left",
        border_style="dim",
    )


def render(view: DemoView) -> RenderableType:
    """Return the live page."""
    clock = f"{view.elapsed_s:4.0f} s of {view.seconds:.0f}"
    head = Text.assemble(("Headrace", "bold"), f"   {view.phase}   ", (clock, "dim"))
    if view.pace < 1:
        head.append(f"   busy machine: the audience comes at {view.pace:.0%} of its pace", style="yellow")
    traffic = _pairs(
        (
            ("events/s", f"{view.events_per_s:,.0f}"),
            ("events", f"{view.events:,}"),
            ("replies/s", f"{view.replies_per_s:,.0f}"),
            ("replies", f"{view.replies:,} of {view.requests:,}"),
            ("reply p50", f"{view.p50_ms:.0f} ms"),
            ("reply p99", f"{view.p99_ms:.0f} ms"),
            ("errors", str(view.errors)),
            ("dead letters", str(view.dead_letters)),
        )
    )
    models = _pairs(
        (
            ("ranker", view.ranker or "not trained yet"),
            ("trained", f"{view.rankers} times"),
            ("ranked by it", f"{view.ranked_share:.0%}"),
            ("online AUC", "-" if view.auc is None else f"{view.auc:.3f}"),
            ("examples", f"{view.learned:,}"),
            ("users", f"{view.users:,}"),
            ("items", f"{view.items:,}"),
        )
    )
    height = max(10, len(view.lag) + 3)
    row = Table.grid(expand=True)
    row.add_column(ratio=5)
    row.add_column(ratio=5)
    row.add_column(ratio=9)
    row.add_row(
        Panel(traffic, title="traffic", title_align="left", border_style="dim", height=height),
        Panel(models, title="models", title_align="left", border_style="dim", height=height),
        _lag_panel(view, height),
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


def show_outcome(out: Console, outcome: Outcome) -> None:
    """Print one user's list with its reasons, the figures, and whether it worked."""
    if outcome.example is not None:
        who, reply, titles = outcome.example
        out.print()
        out.print(reply_table(reply, "", titles))
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
