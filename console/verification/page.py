"""What ``headrace verify`` prints."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.console.verification.run import VerifyResult


def when(ts_ms: int) -> str:
    """Return a time for people."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def show(out: Console, outcome: VerifyResult) -> None:
    """Print what was found."""
    if outcome.first:
        table = Table(box=SIMPLE, pad_edge=False)
        for name in ("row", "feature", "at", "expected", "found"):
            table.add_column(
                name, justify="right" if name in ("expected", "found") else "left", overflow="fold"
            )
        for d in outcome.first:
            at = "" if d["at"] is None else when(d["at"])
            table.add_row(
                *map(Text, (d["row"], d["feature"], at, _number(d["expected"]), _number(d["found"])))
            )
        out.print(table)
        if outcome.differences > len(outcome.first):
            out.print(f"... and {outcome.differences - len(outcome.first):,} more", markup=False)
    why = ", ".join(f"{n:,} {reason}" for reason, n in outcome.rejected_by.items())
    out.print(
        f"{outcome.events:,} events: {outcome.accepted:,} count, {outcome.duplicates:,} duplicates, "
        f"{outcome.rejected:,} rejected{f' ({why})' if why else ''}; {outcome.impressions:,} impressions",
        markup=False,
    )
    out.print(
        f"{outcome.users:,} users, {outcome.items:,} items, {outcome.countries:,} items in countries, "
        f"{outcome.redis_rows:,} rows in Redis; {outcome.forgotten:,} users were forgotten and left out, "
        f"affinities of {outcome.not_compared:,} cannot be told",
        markup=False,
    )
    for note in outcome.notes:
        out.print(f"note: {note}", markup=False)
    verdict = f"{outcome.differences:,} differences in {outcome.rows_that_differ:,} rows"
    if not outcome.differences:
        verdict = "no differences" if outcome.values_compared else "nothing to compare"
    out.print(
        f"{outcome.values_compared:,} values compared in {outcome.seconds:.1f} s: {verdict}",
        style="bold red" if outcome.differences else "bold",
        markup=False,
    )


def _number(value: float | int | str | None) -> str:
    return (
        f"{value:,.6g}"
        if isinstance(value, float) and value % 1
        else f"{value:,.0f}"
        if isinstance(value, float | int)
        else str(value)
    )
