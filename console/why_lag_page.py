"""What ``headrace why-lag`` shows: causes with evidence for people, one object for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from headrace.console.lag_page import overall, trend_text
from headrace.console.screen import seconds_text
from headrace.streams.topics.lag import LagRow
from headrace.streams.topics.lag_cause import Cause, Finding
from headrace.streams.topics.lag_groups import by_agent

if TYPE_CHECKING:
    from headrace.streams.topics.lag import Look
    from headrace.streams.topics.worker_metrics import Worker

#: Causes that need nobody.
CALM = (Cause.BACKLOG, Cause.REBALANCE, Cause.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Explained:
    """Why an agent lags in a topic.

    Attributes
    ----------
    agent, topic
        Which.
    rows
        Its partitions, as last seen.
    drain_s
        Time until nothing waits, at the rate that was seen; None: never at this rate, or not known.
    findings
        The causes.
    """

    agent: str
    topic: str
    rows: tuple[LagRow, ...]
    drain_s: float | None
    findings: tuple[Finding, ...]


def why_page(
    rows: Sequence[LagRow], explained: Sequence[Explained], workers: Sequence[Worker] = ()
) -> RenderableType:
    """Return the causes for people, an agent after the other."""
    lines: list[Text] = []
    for one in explained:
        lines += [Text(_head(one), style="bold")]
        for finding in one.findings:
            style = "yellow" if finding.cause in CALM else "red"
            where = partitions_text(finding.partitions, len(one.rows))
            lines += [Text(f"  {finding.cause.value}, {where}", style=style)]
            lines += [Text(f"    {line}") for line in finding.evidence]
            lines += [Text(f"    -> {finding.advice}", style="dim")]
    if not explained:
        lines += [
            Text(f"nothing waits for longer than it lawfully does ({len(rows)} partitions)", style="green")
        ]
    silent = [w.url for w in workers if not w.answers]
    if silent:
        lines += [Text(f"no metrics from {', '.join(silent)}", style="yellow")]
    return Group(*lines)


def _head(one: Explained) -> str:
    (sum_,) = by_agent(one.rows)
    oldest = "of unknown age" if sum_.seconds is None else f"the oldest {seconds_text(sum_.seconds)} old"
    return (
        f"{one.agent} on {one.topic}: {sum_.verdict.value}, {sum_.records:,} records wait, {oldest}, "
        f"{trend_text(sum_.trend)}; {drain_text(one.drain_s)}"
    )


def drain_text(seconds: float | None) -> str:
    """Return the time to drain for people."""
    return "not drained at this rate" if seconds is None else f"drained in {seconds_text(seconds)}"


def partitions_text(partitions: Sequence[int], of: int) -> str:
    """Return partitions for people."""
    if len(partitions) == of and of > 1:
        return "all partitions"
    return f"partition{'s' if len(partitions) != 1 else ''} {', '.join(map(str, partitions))}"


def why_object(look: Look, explained: Sequence[Explained], workers: Sequence[Worker]) -> dict[str, Any]:
    """Return the same as one object of JSON; what is not known is null."""
    out = []
    for one in explained:
        (sum_,) = by_agent(one.rows)
        out.append(
            {
                "agent": one.agent,
                "topic": one.topic,
                "records": sum_.records,
                "seconds": sum_.seconds,
                "trend": sum_.trend,
                "verdict": sum_.verdict.value,
                "drain_s": one.drain_s,
                "causes": [{**asdict(found), "cause": found.cause.value} for found in one.findings],
            }
        )
    return {
        "at_s": round(look.at_s, 3),
        "verdict": overall(look.rows).value,
        "agents": out,
        "workers": [{"url": worker.url, "answers": worker.answers} for worker in workers],
    }


def no_broker(error: str) -> dict[str, Any]:
    """Return the object for a broker that does not answer: it is the cause."""
    return {"error": error, "causes": [{"cause": Cause.BROKER.value, "evidence": [error]}]}
