"""What ``headrace lag`` shows: a table with notes for people, one object for programs. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.console.screen import seconds_text, tone
from headrace.streams.topics.lag_groups import AgentLag, by_agent
from headrace.streams.topics.lag_verdict import Verdict, worst

if TYPE_CHECKING:
    from headrace.streams.topics.lag import LagRow

#: What a verdict means, for the notes under the table.
MEANING = {
    Verdict.WARN: "it falls behind: commits come, and the lag grows",
    Verdict.REWIND: "its committed offset went back: it reads records again",
    Verdict.STALL: "records wait; a worker has them, and commits nothing",
    Verdict.STOP: "records wait, and no worker has them",
}
STYLES = {Verdict.WARN: "yellow", Verdict.UNKNOWN: "dim"}
NOT_KNOWN = "-"
#: Most partitions that a note names.
MOST_NUMBERS = 8
#: A broker makes the id of a member of its client's name and a UUID.
UUID = re.compile(r"^.*-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-([0-9a-f]{12})$")


def lag_page(
    rows: Sequence[LagRow], missing: Sequence[tuple[str, str]] = (), *, partitions: bool = False
) -> RenderableType:
    """Return lag as a table, with a note for everything that somebody should know.

    Parameters
    ----------
    missing
        (role, topic) of the topics that do not exist.
    """
    said = [Text(note, style=style) for note, style in notes(rows, missing)]
    return Group(lag_table(rows, partitions=partitions), *said)


def lag_table(rows: Sequence[LagRow], *, partitions: bool = False) -> Table:
    """Return lag as a table: a row per agent and topic, or per partition.

    There is one more column when the broker deleted records that a group had not read.
    """
    table = Table(box=SIMPLE, pad_edge=False)
    lost = any(r.deleted for r in rows)
    table.add_column("agent")
    table.add_column("topic")
    for name in ("partition" if partitions else "partitions", "records", "oldest"):
        table.add_column(name, justify="right")
    if lost:
        table.add_column("deleted unread", justify="right")
    table.add_column("trend", justify="right")
    table.add_column("member")
    table.add_column("verdict")
    for a in rows if partitions else by_agent(rows):
        number = a.partitions if isinstance(a, AgentLag) else a.partition
        oldest = NOT_KNOWN if a.seconds is None else seconds_text(a.seconds)
        cells = [a.agent, a.topic, str(number), f"{a.records:,}", oldest]
        cells += [f"{a.deleted:,}"] if lost else []
        cells += [trend_text(a.trend), member_text(a.member), a.verdict.value]
        bad = a.deleted or a.verdict.is_failure
        table.add_row(*map(Text, cells), style="red" if bad else tone(a.records, a.seconds))
    return table


def notes(rows: Sequence[LagRow], missing: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Return sentences with their styles: what the verdicts mean, what was lost, what does not exist."""
    out = []
    for a in by_agent(rows):
        part = [r for r in rows if (r.agent, r.topic) == (a.agent, a.topic)]
        for verdict, meaning in MEANING.items():
            where = [r.partition for r in part if r.verdict is verdict]
            if where:
                text = f"{verdict.value}: {a.agent} on {a.topic}, {_numbers(where, len(part))}: {meaning}"
                out.append((text, STYLES.get(verdict, "red")))
        if a.deleted:
            text = f"{a.agent} on {a.topic}: {a.deleted:,} records were deleted before it read them"
            out.append((text, "red"))
    out += [
        (f"{role} reads {topic}, which does not exist: headrace topics create", "red")
        for role, topic in missing
    ]
    return out


def _numbers(partitions: Sequence[int], of: int) -> str:
    """Return partitions for people: all, their numbers, or the first ones and how many more."""
    if len(partitions) == of:
        return "all partitions"
    told = ", ".join(map(str, partitions[:MOST_NUMBERS]))
    more = f" and {len(partitions) - MOST_NUMBERS} more" if len(partitions) > MOST_NUMBERS else ""
    return f"partition{'s' if len(partitions) > 1 else ''} {told}{more}"


def trend_text(trend: float | None) -> str:
    """Return records a second for people, with a sign."""
    if trend is None:
        return NOT_KNOWN
    if abs(trend) < 0.05:
        return "0/s"
    return f"{trend:+,.1f}/s" if abs(trend) < 10 else f"{trend:+,.0f}/s"


def member_text(member: str | None) -> str:
    """Return the id of a member, without the name of its program and all but the end of its UUID."""
    return NOT_KNOWN if member is None else UUID.sub(r"\1", member)


def lag_object(rows: Sequence[LagRow], missing: Sequence[tuple[str, str]], at_s: float) -> dict[str, Any]:
    """Return what was seen as one object of JSON; what is not known is null."""
    return {
        "at_s": round(at_s, 3),
        "verdict": overall(rows).value,
        "agents": [{**asdict(a), "verdict": a.verdict.value} for a in by_agent(rows)],
        "partitions": [asdict(r) for r in rows],
        "missing": [{"agent": role, "topic": topic} for role, topic in missing],
    }


def overall(rows: Sequence[LagRow]) -> Verdict:
    """Return the worst verdict of all partitions."""
    return worst(r.verdict for r in rows)
