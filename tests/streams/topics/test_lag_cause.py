"""Which cause is named for what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from headrace.streams.topics.lag import LagRow
from headrace.streams.topics.lag_cause import Cause, Dependency, Evidence, Finding, Waiting, causes
from headrace.streams.topics.lag_track import drain_s
from headrace.streams.topics.lag_verdict import Pace, Verdict
from headrace.streams.topics.worker_metrics import Scrape, Worker, parse

PACE = Pace(2.0, 5.0)
TOPIC, LOOKS, STEP_S = "events", 6, 2.0
SPAN_S = (LOOKS - 1) * STEP_S


def rows(
    partition: int,
    *,
    left: int = 100,
    came: int = 10,
    went: int = 0,
    members: Sequence[str | None] = ("m1",),
    verdict: Verdict = Verdict.STALL,
    told: bool = True,
) -> list[LagRow]:
    """Return the looks at one partition: so many records come and go between two of them."""
    out = []
    for n in range(LOOKS):
        member = members[min(n, len(members) - 1)]
        records = left + n * (came - went)
        out.append(
            LagRow(
                "headrace-ingest", "ingest", TOPIC, partition, 1000 + n * went, 1000 + n * went + records,
                records, 60.0, held=member is not None if told else None, member=member if told else None,
                trend=(came - went) / STEP_S, verdict=verdict,
            )
        )  # fmt: skip
    return out


def evidence(*parts: list[LagRow], agent: str = "ingest", **more: Any) -> Evidence:
    looks = [(n * STEP_S, [part[n] for part in parts]) for n in range(LOOKS)]
    return Evidence(agent, TOPIC, looks, PACE, **more)


def named(*parts: list[LagRow], **more: Any) -> list[tuple[Cause, tuple[int, ...]]]:
    return [(f.cause, f.partitions) for f in causes(evidence(*parts, **more))]


def only(*parts: list[LagRow], **more: Any) -> Finding:
    (found,) = causes(evidence(*parts, **more))
    return found


def flows(partition: int, **more: Any) -> list[LagRow]:
    return rows(partition, **{"went": 8, "verdict": Verdict.WARN, **more})


def sample(top: int, of: int = 200, key: str | None = "user-1", misplaced: int = 0) -> Waiting:
    return Waiting(of, key, top, misplaced, "offset 1000, key user-1, 80 bytes, 60 s old")


BEFORE = """
headrace_role_info{role="ingest",version="1"} 1.0
process_start_time_seconds 50.0
process_cpu_seconds_total 3.0
headrace_batch_seconds_sum{agent="track_users",topic="events"} 1.0
headrace_redis_seconds_sum{call="write"} 1.0
headrace_records_total{role="ingest",agent="track_users",topic="events"} 70.0
headrace_redis_errors_total{call="write"} 1.0
"""


def worker(batch_s: float = 0.0, cpu_s: float = 0.0, redis_s: float = 0.0, more: str = "") -> Worker:
    """Return a worker that did so much in the window; its other counters stand still."""
    after = (
        BEFORE.replace("cpu_seconds_total 3.0", f"cpu_seconds_total {3 + cpu_s}")
        .replace('topic="events"} 1.0', f'topic="events"}} {1 + batch_s}')
        .replace('seconds_sum{call="write"} 1.0', f'seconds_sum{{call="write"}} {1 + redis_s}')
    )
    return Worker("http://w/metrics", Scrape(0.0, parse(BEFORE)), Scrape(SPAN_S, parse(more + after)))


def test_nothing_is_named_when_nothing_is_late() -> None:
    young = [replace(row, seconds=0.5, verdict=Verdict.OK) for row in rows(0)]
    assert named(young, rows(1, left=0, came=0, verdict=Verdict.OK)) == []


def test_a_partition_without_a_leader_is_the_brokers_fault_and_no_other_is_blamed_for_it() -> None:
    found = only(rows(0), rows(1, left=0, came=0, verdict=Verdict.OK), leaderless=frozenset({0}))
    assert (found.cause, found.partitions) == (Cause.BROKER, (0,))
    assert named(rows(0), rows(1), leaderless=frozenset({0})) == [(Cause.BROKER, (0,))]


AWAY = Dependency("a store", "it does not answer", holds=True)
REDIS = Dependency("Redis", "it does not answer")


def test_a_dependency_without_which_the_agent_stands_still() -> None:
    found = only(rows(0), rows(1), dependencies=[AWAY, Dependency("a disk", holds=True)])
    assert (found.cause, found.partitions) == (Cause.DEPENDENCY, (0, 1))
    assert found.evidence == ("a store, from this machine: it does not answer",)
    assert only(rows(0), dependencies=[replace(AWAY, wrong="")]).cause is Cause.STUCK
    moves = only(flows(0), dependencies=[AWAY, REDIS])
    assert moves.cause is Cause.TOO_FEW, "it is away for this machine, not for the workers"


def test_redis_is_named_beside_the_other_causes() -> None:
    assert named(rows(0), dependencies=[REDIS]) == [(Cause.DEPENDENCY, (0,)), (Cause.STUCK, (0,))]


def test_calls_of_redis_that_fail_in_workers_though_it_answers_here() -> None:
    after = 'process_start_time_seconds 50.0\nheadrace_redis_errors_total{call="write"} 41.0\n'
    fails = replace(worker(), last=Scrape(SPAN_S, parse(after)))
    found = causes(evidence(flows(0), dependencies=[Dependency("Redis")], workers=[fails]))
    assert [f.cause for f in found] == [Cause.DEPENDENCY, Cause.TOO_FEW]
    assert found[0].evidence == ("http://w/metrics: 40 calls of Redis (write) failed in 10 s",)
    blip = replace(fails, last=Scrape(SPAN_S, parse(after.replace("41.0", "3.0"))))
    assert only(flows(0), workers=[blip]).cause is Cause.TOO_FEW


def test_workers_that_die_at_the_same_record() -> None:
    crashing = rows(0, members=["m1", None, "m2", None, "m3", None], verdict=Verdict.STOP)
    found = only(crashing, rows(1, left=0, came=0, verdict=Verdict.OK), waiting={0: sample(1)})
    assert (found.cause, found.partitions) == (Cause.POISON, (0,))
    assert found.evidence == (
        "events-0 stands at offset 1000 for 10 s and more",
        "it lost its worker 3 times meanwhile",
        "the record there: offset 1000, key user-1, 80 bytes, 60 s old",
    )
    untold = [replace(row, held=None, member=None) if n > 3 else row for n, row in enumerate(crashing)]
    assert named(untold) == [(Cause.POISON, (0,))], "the rebalances are of the crashes"


def test_one_restart_is_no_poison() -> None:
    assert named(rows(0, members=["m1", None, "m2"])) == [(Cause.STUCK, (0,))]
    began_anew = replace(worker(), last=Scrape(SPAN_S, parse("process_start_time_seconds 70.0")))
    assert named(rows(0, members=["m1", "m2"]), workers=[began_anew]) == [(Cause.POISON, (0,))]


def test_a_record_at_which_one_partition_stands_while_its_worker_moves_in_others() -> None:
    found = causes(evidence(rows(0), flows(1, came=4), rows(2, members=["m2"])))
    assert [(f.cause, f.partitions) for f in found] == [
        (Cause.POISON, (0,)), (Cause.STUCK, (2,)), (Cause.BACKLOG, (1,)),
    ]  # fmt: skip
    assert found[0].evidence[1] == "the same worker commits in partition 1"


def test_partitions_that_a_slow_worker_takes_in_turns_are_no_poison() -> None:
    once = [replace(row, committed=1000 if n < 5 else 1400) for n, row in enumerate(flows(1))]
    assert named(rows(0), once) == [(Cause.TOO_FEW, (0, 1))]
    waits = worker(batch_s=9.9, cpu_s=0.1)
    assert named(rows(0), once, workers=[waits]) == [(Cause.SLOW_STAGE, (0, 1))]


def test_a_rebalance_that_goes_on() -> None:
    assert named(rows(0, told=False), rows(1, told=False)) == [(Cause.REBALANCE, (0, 1))]
    restoring = worker(more='headrace_restore_records{table="user_state",partition="0"} 900.0\n')
    found = only(rows(0), rows(1), workers=[restoring])
    assert found.cause is Cause.REBALANCE
    assert found.evidence == ("tables are restored: 900 records are left to read",)
    again = flows(0, members=["m1", "m2", "m1", "m2", "m1", "m2"])
    assert named(again) == [(Cause.REBALANCE, (0,))]


def test_no_worker_and_a_worker_that_does_nothing() -> None:
    none = only(rows(0, members=[None], verdict=Verdict.STOP), rows(1, members=[None], verdict=Verdict.STOP))
    assert (none.cause, none.partitions) == (Cause.TOO_FEW, (0, 1))
    assert none.evidence == ("no worker has the partitions",)
    stuck = only(rows(0), rows(1), workers=[worker(), Worker("http://x/metrics", None, None)])
    assert (stuck.cause, stuck.partitions) == (Cause.STUCK, (0, 1))
    assert stuck.evidence[1:] == (
        "http://w/metrics: no batch ended in 10 s", "http://x/metrics does not answer",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (sample(150), Cause.HOT_KEY),
        (sample(50), Cause.HOT_KEY),
        (sample(49), Cause.HOT_PARTITION),
        (sample(9, of=10), Cause.HOT_PARTITION),
        (sample(0, key=None, misplaced=200), Cause.HOT_PARTITION),
        (None, Cause.HOT_PARTITION),
    ],
)
def test_one_partition_has_far_more_than_the_others(found: Waiting | None, cause: Cause) -> None:
    hot = flows(2, left=5000)
    seen = only(flows(0), flows(1), hot, waiting={} if found is None else {2: found})
    assert (seen.cause, seen.partitions) == (cause, (2,))
    if found is not None and found.misplaced:
        assert "200 of 200 have no key or are not in its partition" in seen.evidence


def test_partitions_alike_are_not_hot() -> None:
    assert named(flows(0, left=300), flows(1)) == [(Cause.TOO_FEW, (0, 1))]
    assert named(flows(0, left=5000)) == [(Cause.TOO_FEW, (0,))], "one partition alone is not hot"


def test_workers_that_wait_all_the_time_have_a_slow_stage() -> None:
    found = only(flows(0), flows(1), workers=[worker(batch_s=9.5, cpu_s=1.0, redis_s=8.0)])
    assert found.cause is Cause.SLOW_STAGE
    assert found.evidence[1] == (
        "http://w/metrics: track_users works on batches 95% of the time, on 0.10 cores; "
        "80% of the time it waits for Redis"
    )
    assert only(flows(0), workers=[worker(batch_s=9.5, cpu_s=9.0)]).cause is Cause.TOO_FEW
    assert only(flows(0), workers=[worker(batch_s=2.0, cpu_s=1.0)]).cause is Cause.TOO_FEW


def test_a_part_of_the_pipeline_that_is_slow_again_and_again() -> None:
    slow = worker(more='headrace_part_slow_total{kind="source",part="hot"} 12.0\n')
    found = only(flows(0), agent="serve", workers=[slow])
    assert found.cause is Cause.SLOW_STAGE
    assert found.evidence[1] == "the part hot took too long in 12 requests"


def test_too_few_workers_and_what_more_of_them_would_help() -> None:
    found = only(flows(0), flows(1))
    assert (found.cause, found.partitions) == (Cause.TOO_FEW, (0, 1))
    assert found.evidence[:2] == (
        "10.0 records come each second, 8.0 are committed", "1 worker for 2 partitions",
    )  # fmt: skip
    assert "another worker" in found.advice
    full = only(flows(0, members=["m1"]), flows(1, members=["m2"]))
    assert "faster machines" in full.advice


def test_a_backlog_needs_nobody_and_says_when_it_is_over() -> None:
    parts = flows(0, came=2, verdict=Verdict.OK), flows(1, came=4, verdict=Verdict.OK)
    assert named(*parts) == [(Cause.BACKLOG, (0, 1))]
    newest = [part[-1] for part in parts]
    assert drain_s(newest) == max(70 / 3.0, 80 / 2.0)
    assert drain_s([*newest, flows(2)[-1]]) is None
    assert drain_s([replace(newest[0], trend=None)]) is None
    assert drain_s([replace(newest[0], records=0, trend=0.0)]) == 0.0


def test_what_fits_nothing_is_unknown() -> None:
    assert named(rows(0, came=0, verdict=Verdict.UNKNOWN)) == [(Cause.UNKNOWN, (0,))]
