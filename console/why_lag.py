"""``headrace why-lag``: why an agent is behind, what shows it, and when it will have caught up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.console import options
from headrace.console.lag import exit_code, judged_look, nothing
from headrace.streams.errors import UnavailableError

if TYPE_CHECKING:
    from headrace.console.why_lag_page import Explained
    from headrace.streams.settings import Settings
    from headrace.streams.topics.lag import LagReader, LagRow, Look
    from headrace.streams.topics.lag_watch import LagWatch
    from headrace.streams.topics.worker_metrics import Worker

#: How often it looks, for how long at most, and for how long at least when something is late.
EVERY_S, SAMPLE_S, SHORTEST_S = 1.0, 30.0, 8.0


def why_lag(
    agent: Annotated[str | None, typer.Argument(help="A role or its group; else all of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics", help="Metrics of a worker, host:port or URL; repeat it for each (else of this host)."
        ),
    ] = None,
    sample: Annotated[
        float, typer.Option(min=0, max=600, help="Look for at most so many seconds.")
    ] = SAMPLE_S,
    brokers: options.Brokers = None,
    redis: options.Redis = None,
) -> None:
    """Name the cause of lag, with its evidence and the time to drain.

    Causes: broker, dead dependency, poison record, rebalance, stuck worker, hot key, hot partition, slow
    stage, too few workers, backlog (it catches up). Several may be named.

    It asks the broker, Redis and the log's store, and reads some of the records that wait. Workers are asked
    for their metrics when it knows where: [bold]--metrics[/], or HEADRACE_METRICS_PORT on this host. Without
    them it cannot see a slow stage. Nothing is written.

    Exit codes, as of [bold]headrace lag[/]: 0 OK, WARN or ?; 1 worse, or there is no such group; 2 wrong use
    or no broker.
    """
    settings = options.read_settings(brokers, redis)
    from headrace.streams.topics.worker_metrics import checked_url

    urls = [checked_url(text) for text in metrics or ()]
    if not urls and settings.metrics_port:
        urls = [checked_url(f"{settings.metrics_host}:{settings.metrics_port}")]
    try:
        code = options.run(explain(settings, agent, as_json, urls, sample))
    except UnavailableError as exc:
        from headrace.console.why_lag_page import no_broker

        if as_json:
            typer.echo(json.dumps(no_broker(str(exc))))
        raise
    raise typer.Exit(code)


async def explain(
    settings: Settings, group: str | None, as_json: bool, urls: Sequence[str], sample_s: float
) -> int:
    """Look, ask, judge and print; return the exit code.

    Raises
    ------
    UnavailableError
        When no broker answers.
    """
    from headrace.console import screen, why_lag_page
    from headrace.streams.topics.lag import LagReader
    from headrace.streams.topics.lag_watch import LagWatch
    from headrace.streams.topics.names import Topics
    from headrace.streams.topics.worker_metrics import Worker, scrape

    seen = LagWatch.of(settings)
    async with LagReader(settings) as reader:
        found = await judged_look(reader, seen, group)
        first = await scrape(urls, found.at_s)
        looks = await _looks(reader, seen, group, found, sample_s)
    last = await scrape(urls, looks[-1].at_s)
    workers = [Worker(url, first[url], last[url]) for url in urls]
    explained = await explained_of(settings, looks, workers if urls else None)
    newest = looks[-1]
    if as_json:
        typer.echo(json.dumps(why_lag_page.why_object(newest, explained, workers)))
    elif newest.rows:
        screen.console().print(why_lag_page.why_page(newest.rows, explained, workers))
    else:
        typer.echo(nothing(settings, group))
    return exit_code(newest.rows, group, None, Topics(settings).bulk_requests)


async def _looks(
    reader: LagReader, seen: LagWatch, group: str | None, found: Look, sample_s: float
) -> list[Look]:
    """Look until more looks would say no more; when something waits, for some seconds at least."""
    import asyncio
    import time

    began, looks = time.monotonic(), [found]
    while any(row.records for row in looks[-1].rows):
        took = time.monotonic() - began
        if took + EVERY_S > sample_s or (took >= SHORTEST_S and seen.is_settled()):
            break
        await asyncio.sleep(EVERY_S)
        looks.append(await judged_look(reader, seen, group))
    return looks


async def explained_of(
    settings: Settings, looks: Sequence[Look], workers: Sequence[Worker] | None
) -> list[Explained]:
    """Judge every agent and topic; records are read, and dependencies asked, only of those that are late."""
    from headrace.console.why_lag_page import Explained
    from headrace.streams.topics import lag_evidence
    from headrace.streams.topics.lag_cause import Evidence, causes
    from headrace.streams.topics.lag_pace import pace
    from headrace.streams.topics.lag_track import drain_s

    kinds = sorted({(row.agent, row.topic) for row in looks[-1].rows})
    judged = {kind: Evidence(kind[0], kind[1], _of(looks, *kind), pace(settings, *kind)) for kind in kinds}
    late = [kind for kind, evidence in judged.items() if causes(evidence)]
    if not late:
        return []
    rows = [row for row in looks[-1].rows if (row.agent, row.topic) in late]
    waiting = await lag_evidence.sample(settings, rows)
    lost = await lag_evidence.leaderless(settings, {topic for _, topic in late})
    needs = {role: await lag_evidence.dependencies(settings, role) for role in {role for role, _ in late}}
    out = []
    for role, topic in late:
        mine = [r for r in rows if (r.agent, r.topic) == (role, topic)]
        told = None
        if workers is not None:
            told = [w for w in workers if w.last is None or role in w.last.roles]
        evidence = Evidence(
            role,
            topic,
            judged[role, topic].looks,
            judged[role, topic].pace,
            {r.partition: waiting[key] for r in mine if (key := (r.group, topic, r.partition)) in waiting},
            frozenset(tp.partition for tp in lost if tp.topic == topic),
            needs[role],
            told,
        )
        out.append(Explained(role, topic, tuple(mine), drain_s(mine), tuple(causes(evidence))))
    return out


def _of(looks: Sequence[Look], agent: str, topic: str) -> list[tuple[float, list[LagRow]]]:
    return [(look.at_s, [r for r in look.rows if (r.agent, r.topic) == (agent, topic)]) for look in looks]
