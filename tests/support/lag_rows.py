"""Rows of lag, as read from a broker."""

from __future__ import annotations

from headrace.streams.topics.lag import LagRow


def row(agent: str, partition: int, records: int, seconds: float | None) -> LagRow:
    return LagRow(f"headrace-{agent}", agent, "events", partition, 0, records, records, seconds)


ROWS = [row("ingest", 0, 5, 2.0), row("ingest", 1, 7, 9.0), row("serve", 0, 0, 0.0)]
