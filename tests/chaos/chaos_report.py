"""The plan and the outcome of a chaos run on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaos_actions import Breaker
from chaos_plan import Action
from chaos_shape import Shape
from chaos_traffic import Traffic
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

#: Key of the figures -> its label.
LINES = (
    ("seconds", "seconds"),
    ("events", "events produced"),
    ("sent_again", "of them sent again on purpose"),
    ("duplicates", "of them repetitions within the window"),
    ("kills", "kills (-9)"),
    ("kills_by_role", ""),
    ("rebalances", "rebalances"),
    ("rebalances_by_role", ""),
    ("broker_away_s", "the broker was away for, s"),
    ("redis_failovers", "masters of the Redis Cluster that a replica replaced"),
    ("refused_starts", "starts in vain while the broker was down"),
    ("max_lag_s", "longest lag seen, s"),
    ("catch_up_s", "caught up after, s"),
    ("requests", "requests"),
    ("answered", "of them answered"),
    ("answered_in_2_s", "of them within 2 s"),
    ("reply_p50_ms", "median wait for the reply, ms"),
    ("reply_max_ms", "longest wait for the reply, ms"),
    ("errors", "replies with an error"),
    ("states_demanded", "requests that demanded a state"),
    ("states_reflected", "replies that have it"),
    ("states_from_elsewhere", "of them from a wrong partition"),
    ("states_not_yet", "replies that say they have not"),
    ("http_calls", "calls over HTTP"),
    ("http_answers", ""),
    ("http_cut", "of them cut off"),
    ("http_events", "events over HTTP"),
    ("bulk_requests", "requests in bulk"),
    ("bulk_answered", "of them answered"),
    ("shown", "slots shown"),
    ("labelled", "of them labelled"),
    ("labelled_twice", "of them more than once"),
    ("examples", "examples"),
    ("examples_logged", "of them in the Parquet log"),
    ("bad_records", "bad records"),
    ("dead_letters", "of them dead letters"),
    ("misplaced", "records in a wrong partition"),
    ("sent_on", "of them sent on to the right one"),
    ("evicted_at_least", "rows that had to be evicted, at least"),
    ("afterwards", "afterwards, s"),
    ("shown_rows", "users with a row of what they were shown"),
    ("values_compared", "values compared with the oracle"),
    ("differences", "differences"),
)


#: What is broken -> what it means.
KINDS = {
    "kill": "workers killed with -9",
    "freeze": "workers frozen past their session (zombies)",
    "leave": "workers that left",
    "join": "workers that joined",
    "clock": "wrong clocks of a worker",
    "broker-stop": "the broker was stopped",
    "broker-kill": "the broker was killed with -9",
    "broker-freeze": "the broker was frozen",
    "redis-kill": "Redis was killed and lost its data",
    "redis-away": "the same, and it was away for long",
    "redis-flush": "Redis was emptied",
    "redis-freeze": "Redis was frozen",
    "redis-readonly": "Redis refused writes",
    "disk-full": "the disk of snapshots and log was full",
    "group-back": "committed offsets of a group moved back",
    "group-beyond": "committed offsets of a group moved beyond the end",
    "catalogue": "the whole catalogue was sent again",
    "profiles": "profiles sent",
    "farewells": "users who were to be forgotten",
    "librdkafka": "records by the partitioner of librdkafka",
    "sarama": "records by the partitioner of sarama",
    "kafka-go": "records in any partition, with their key",
    "keyless": "records without a key",
    "aborted": "events in aborted transactions",
    "committed": "events in committed transactions",
}


def broken(breaker: Breaker, traffic: Traffic) -> dict[str, int]:
    """Return what was broken, by kind, in the order of ``KINDS``."""
    counts = breaker.done + traffic.strangers.sent
    counts.update(
        profiles=traffic.profiles,
        farewells=traffic.farewells,
        aborted=traffic.transactions.aborted,
        committed=traffic.transactions.committed,
    )
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def print_plan(out: Console, plan: Sequence[Action], shape: Shape) -> None:
    """Print the actions and their times, and what the load has and comes afterwards."""
    table = Table("at, s", "what", "to", "for, s", "by", box=SIMPLE)
    for action in plan:
        amount = f"{action.amount:+,}" if action.amount else ""
        table.add_row(f"{action.at_s:.1f}", action.kind, action.target, f"{action.for_s:.1f}", amount)
    out.print(table)
    out.print(f"in the load: {', '.join(shape.load) or 'nothing more'}", markup=False)
    out.print(f"afterwards: {', '.join(shape.afterwards) or 'nothing'}", markup=False)


def print_summary(out: Console, figures: dict[str, Any]) -> None:
    """Print the figures and the problems."""
    table = Table(box=SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for key, text in LINES:
        if key in figures:
            table.add_row(text, _text(figures[key]))
    for kind, count in figures.get("broken", {}).items():
        table.add_row(f"broken: {KINDS[kind]}", _text(count))
    out.print(table)
    for kind, why in figures.get("left_out", {}).items():
        out.print(f"left out: {kind}: {why}", style="yellow", markup=False, soft_wrap=True)
    for line in figures.get("crashes", ()):
        out.print(f"  ended: {line}", style="yellow", markup=False, soft_wrap=True)
    for line, count in figures.get("errors_logged", {}).items():
        out.print(f"  logged {count}x: {line}", style="dim", markup=False, soft_wrap=True)
    for line in figures.get("first", ()):
        out.print(f"  difference: {line}", style="red", markup=False, soft_wrap=True)
    for line in figures["problems"]:
        out.print(f"FAILED: {line}", style="bold red", markup=False, soft_wrap=True)
    if figures["ok"]:
        out.print(f"seed {figures['seed']}: nothing lost, nothing counted twice", style="bold green")
    else:
        out.print(f"again with the same plan: make chaos SEED={figures['seed']}", markup=False)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int | float) else str(value)
