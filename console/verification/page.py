"""The output of ``headrace verify``."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.console.verification.result import VerifyResult


def when(ts_ms: int) -> str:
    """Return a time (ms) as text in UTC."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def show(out: Console, result: VerifyResult) -> None:
    """Print the differences kept, the figures and the notes."""
    if result.first:
        out.print(_differences(result))
        if result.differences > len(result.first):
            out.print(f"... and {result.differences - len(result.first):,} more", markup=False)
    why = ", ".join(f"{n:,} {reason}" for reason, n in result.rejected_by.items())
    out.print(
        f"{result.events:,} events: {result.accepted:,} count, {result.duplicates:,} duplicates, "
        f"{result.rejected:,} rejected{f' ({why})' if why else ''}; {result.impressions:,} impressions",
        markup=False,
    )
    out.print(
        f"{result.users:,} users, {result.items:,} items, {result.countries:,} items in countries, "
        f"{result.redis_rows:,} rows in Redis; {result.forgotten:,} users were forgotten; left out: the "
        f"affinities of {result.not_compared:,} users, which the topics do not tell",
        markup=False,
    )
    _show_kinds(out, result)
    for note in result.notes:
        out.print(f"note: {note}", markup=False)
    _show_verdict(out, result)


def _show_kinds(out: Console, result: VerifyResult) -> None:
    """Print how many of each kind were compared, also where it is 0, and how many could not be."""
    kinds = result.compared | {kind: result.compared.get(kind, 0) for kind in result.left_out}
    for kind, n in kinds.items():
        left_out = result.left_out.get(kind, 0)
        out.print(f"{n:,} {kind}" + (f"; {left_out:,} not comparable" if left_out else ""), markup=False)


def _differences(result: VerifyResult) -> Table:
    table = Table(box=SIMPLE, pad_edge=False)
    for name in ("row", "feature", "at", "expected", "found"):
        table.add_column(name, justify="right" if name in ("expected", "found") else "left", overflow="fold")
    for d in result.first:
        at = "" if d["at"] is None else when(d["at"])
        table.add_row(*map(Text, (d["row"], d["feature"], at, _number(d["expected"]), _number(d["found"]))))
    return table


def _show_verdict(out: Console, result: VerifyResult) -> None:
    verdict = f"{result.differences:,} differences in {result.rows_that_differ:,} rows"
    if not result.differences:
        verdict = "no differences" if result.values_compared else "nothing to compare"
    out.print(
        f"{result.values_compared:,} values compared in {result.seconds:.1f} s: {verdict}",
        style="bold red" if result.differences else "bold",
        markup=False,
    )


def _number(value: float | int | str | None) -> str:
    if isinstance(value, float) and value % 1:
        return f"{value:,.6g}"
    return f"{value:,.0f}" if isinstance(value, float | int) else str(value)
