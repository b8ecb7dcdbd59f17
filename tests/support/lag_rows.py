"""Rows of lag, as read from a broker."""

from __future__ import annotations

from headrace.streams.topics.lag import LagRow, Look
from headrace.streams.topics.lag_verdict import Verdict


def row(
    agent: str,
    partition: int,
    records: int,
    seconds: float | None,
    *,
    verdict: Verdict = Verdict.UNKNOWN,
    trend: float | None = None,
    member: str | None = None,
    deleted: int = 0,
) -> LagRow:
    return LagRow(
        f"headrace-{agent}", agent, "events", partition, 0, records, records, seconds, deleted,
        None if member is None else True, member, None, trend, verdict,
    )  # fmt: skip


ROWS = [row("ingest", 0, 5, 2.0), row("ingest", 1, 7, 9.0), row("serve", 0, 0, 0.0)]


def look(at_s: float, *rows: LagRow) -> Look:
    return Look(at_s, list(rows), {}, [], at_s)
