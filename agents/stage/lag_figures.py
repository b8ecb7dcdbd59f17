"""From rows of lag to the figures of the dashboard. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from headrace.streams.topics.lag import LagRow
from headrace.streams.topics.lag_groups import by_agent
from headrace.streams.topics.lag_verdict import worst


def lag_point(rows: Sequence[LagRow]) -> dict[str, float]:
    """Return the lag of every role: of its worst topic in seconds, of all of them in records."""
    out: dict[str, float] = {}
    for a in by_agent(rows):
        out[f"lag_records:{a.agent}"] = out.get(f"lag_records:{a.agent}", 0.0) + a.records
        if a.seconds is not None:
            out[f"lag:{a.agent}"] = max(out.get(f"lag:{a.agent}", 0.0), a.seconds)
    return out


def lag_table(rows: Sequence[LagRow], missing: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the lag by agent and topic, and the worst verdict."""
    return {
        "verdict": worst(row.verdict for row in rows).value,
        "rows": [{**asdict(a), "verdict": a.verdict.value, "member": a.member} for a in by_agent(rows)],
        "missing": [f"{role} reads {topic}, which does not exist" for role, topic in missing],
    }
