"""Names the cause of the lag of an agent in a topic, from what was seen. Pure.

In this order; what stands higher explains what stands lower, so the lower ones are then left out:

================= ========================================================================================
cause             when
================= ========================================================================================
broker            partitions have no leader
dead dependency   the agent stands still, and what it needs does not answer; or calls of it fail in workers.
                  Redis is named beside other causes: agents go on without it
poison record     the offset does not move, and workers die again and again at it; or the same worker
                  moves often in other partitions meanwhile
rebalance         the broker does not tell who has the partitions; or tables are restored; or members come
                  and go
too few workers   no worker has the partition
stuck worker      a worker has the partition and commits nothing, and none of the above
hot key           one partition has far more than the others, and one key has a large share of it
hot partition     the same, without such a key
slow stage        workers work on batches nearly all the time, on little CPU: they wait for something; or a
                  part of the pipeline takes too long again and again
too few workers   the lag grows, in all partitions alike
backlog           the lag shrinks: it catches up
================= ========================================================================================

The causes from ``hot key`` on are of partitions whose offset moves, so they may be named beside the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from headrace.streams.topics.lag import LagRow
from headrace.streams.topics.lag_busy import Busy, busiest, failures, restoring, slow_parts
from headrace.streams.topics.lag_track import Track
from headrace.streams.topics.lag_verdict import Pace, Point, is_late
from headrace.streams.topics.worker_metrics import Worker

#: One partition has so many times what the others have on average: it is hot.
HOT_FACTOR = 4.0
#: A key with such a share of the records that wait is hot; of at least so many records.
HOT_SHARE, ENOUGH_RECORDS = 0.25, 50
#: So often a partition lost its worker in the window: workers die, one after the other.
MANY_DEATHS = 2
#: A worker takes its partitions in turns: one is left out when another one was committed so often meanwhile.
MANY_MOVES = 3
#: Members came and went so often.
MANY_CHANGES = 3


class Cause(StrEnum):
    """Why an agent lags, in the order in which causes are named."""

    BROKER = "broker"
    DEPENDENCY = "dead dependency"
    POISON = "poison record"
    REBALANCE = "rebalance"
    STUCK = "stuck worker"
    HOT_KEY = "hot key"
    HOT_PARTITION = "hot partition"
    SLOW_STAGE = "slow stage"
    TOO_FEW = "too few workers"
    BACKLOG = "backlog"
    UNKNOWN = "unknown"


#: What to do about it.
ADVICE: Mapping[Cause, str] = {
    Cause.BROKER: "bring the brokers of these partitions back",
    Cause.DEPENDENCY: "bring it back: workers notice it by themselves",
    Cause.POISON: "look at this record, and at the log of the worker that reads it",
    Cause.REBALANCE: "wait until it is over; when it never is, look for members that come and go",
    Cause.STUCK: "look at its log; restart it: nothing is lost, its batches are read again",
    Cause.HOT_KEY: "more workers do not help: find out who writes this key so often",
    Cause.HOT_PARTITION: "more workers do not help: look at the keys with `headrace producers`",
    Cause.SLOW_STAGE: "more CPU does not help: make what is waited for faster",
    Cause.TOO_FEW: "start another worker of this role",
    Cause.BACKLOG: "nothing: wait",
    Cause.UNKNOWN: "look for longer (--sample 60), and ask the workers too (--metrics)",
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sample of the records that wait in a partition, from the first one on.

    Attributes
    ----------
    records
        How many were read.
    top_key, top_count
        The most frequent key and its number; None without keys.
    misplaced
        How many have no key, or are not in the partition of their key.
    first
        What the first one is: offset, time, size, key.
    """

    records: int
    top_key: str | None
    top_count: int
    misplaced: int
    first: str


@dataclass(frozen=True, slots=True)
class Dependency:
    """What an agent needs besides Kafka.

    Attributes
    ----------
    name
        What it is.
    wrong
        What is wrong with it; empty: it answers.
    holds
        Whether the agent stands still without it. Without Redis agents go on: it never explains a lag alone.
    """

    name: str
    wrong: str = ""
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one agent in one topic.

    Attributes
    ----------
    looks
        (time, rows of all partitions), oldest first, at least one.
    pace
        How the agent commits when it is healthy.
    waiting
        Partition -> what waits there.
    leaderless
        Partitions without a leader.
    dependencies
        What the agent needs.
    workers
        Those of its role that were asked. None: nobody was asked.
    """

    agent: str
    topic: str
    looks: Sequence[tuple[float, Sequence[LagRow]]]
    pace: Pace
    waiting: Mapping[int, Waiting] = field(default_factory=dict)
    leaderless: frozenset[int] = frozenset()
    dependencies: Sequence[Dependency] = ()
    workers: Sequence[Worker] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause, where, and what shows it."""

    cause: Cause
    partitions: tuple[int, ...]
    evidence: tuple[str, ...]
    advice: str


def causes(seen: Evidence) -> list[Finding]:
    """Return the causes of the lag; nothing when no partition waits for longer than it lawfully does."""
    span = seen.looks[-1][0] - seen.looks[0][0]
    parts: dict[int, list[LagRow]] = {}
    for _, rows in seen.looks:
        for row in rows:
            parts.setdefault(row.partition, []).append(row)
    tracks = [Track(tuple(rows), span) for _, rows in sorted(parts.items())]
    late = [track for track in tracks if _is_late(track.newest, seen.pace)]
    if not late:
        return []
    found = _outages(seen, late)
    alone = not any(d.wrong and d.holds for d in seen.dependencies)
    outages = [f for f in found if not (f.cause is Cause.DEPENDENCY and alone)]
    explained = {n for finding in outages for n in finding.partitions}
    stuck = [t for t in late if t.is_stuck and t.partition not in explained]
    found += _stuck(seen, tracks, stuck, explained=bool(outages))
    if not any(finding.cause in (Cause.DEPENDENCY, Cause.REBALANCE) for finding in outages):
        poisoned = {n for f in found if f.cause is Cause.POISON for n in f.partitions}
        turns = [t for t in stuck if t.partition not in poisoned and _beside(t, tracks)]
        found += _load(seen, tracks, [t for t in late if not t.is_stuck] + turns)
    order = list(Cause)
    found.sort(key=lambda finding: order.index(finding.cause))
    everywhere = [t.partition for t in late]
    return found or [_finding(Cause.UNKNOWN, everywhere, "what was seen fits no cause that is known")]


def _is_late(row: LagRow, pace: Pace) -> bool:
    return row.verdict.is_failure or is_late(
        Point(0.0, row.committed, row.end, row.records, row.seconds), pace
    )


def _finding(cause: Cause, partitions: Sequence[int], *evidence: str, advice: str = "") -> Finding:
    said = tuple(line for line in evidence if line)
    return Finding(cause, tuple(sorted(partitions)), said, advice or ADVICE[cause])


def _outages(seen: Evidence, late: Sequence[Track]) -> list[Finding]:
    out = []
    if lost := [t.partition for t in late if t.partition in seen.leaderless]:
        out.append(_finding(Cause.BROKER, lost, f"no broker leads {_numbers(lost)}"))
    every = [t.partition for t in late if t.partition not in seen.leaderless]
    # Seen from this machine, which may have another network. An agent that moves has what it needs.
    moves = any(t.moved for t in late)
    dead = [f"{d.name}, from this machine: {d.wrong}" for d in seen.dependencies if d.wrong and not moves]
    dead += failures(seen.workers or ())
    if dead and every:
        out.append(_finding(Cause.DEPENDENCY, every, *dead))
    poisoned = {t.partition for t in late if _kills(t, seen.workers or ())}
    untold = [
        t.partition
        for t in late
        if t.partition not in poisoned and len(t.rows) > 1 and all(row.held is None for row in t.rows[-2:])
    ]
    if untold:
        out.append(
            _finding(
                Cause.REBALANCE,
                untold,
                "the broker does not tell who has the partitions: the group rebalances",
            )
        )
    elif left := restoring(seen.workers or (), seen.agent):
        waits = [t.partition for t in late if not t.moved]
        if waits:
            out.append(
                _finding(Cause.REBALANCE, waits, f"tables are restored: {left:,.0f} records are left to read")
            )
    elif moving := [t for t in late if t.moved and len(t.members) > MANY_CHANGES]:
        changes = max(len(t.members) for t in moving) - 1
        numbers = [t.partition for t in moving]
        out.append(
            _finding(
                Cause.REBALANCE, numbers, f"members came and went {changes} times in {late[0].seconds:.0f} s"
            )
        )
    return out


def _kills(track: Track, workers: Sequence[Worker]) -> bool:
    """Return whether workers die at the record at which a partition stands."""
    if track.moved:
        return False
    return track.deaths >= MANY_DEATHS or (track.deaths >= 1 and any(w.restarted for w in workers))


def _stuck(
    seen: Evidence, tracks: Sequence[Track], stuck: Sequence[Track], *, explained: bool
) -> list[Finding]:
    out, left = [], []
    for track in stuck:
        place = f"{seen.topic}-{track.partition} stands at {_position(track.newest)}"
        at = f"{place} for {track.seconds:.0f} s and more"
        first = seen.waiting.get(track.partition)
        record = f"the record there: {first.first}" if first else ""
        beside = [t for t in _beside(track, tracks) if t.moves >= MANY_MOVES]
        if _kills(track, seen.workers or ()):
            lost = f"it lost its worker {track.deaths} times meanwhile"
            out.append(_finding(Cause.POISON, [track.partition], at, lost, record))
        elif beside and not explained and track.deaths == 0:
            others = f"the same worker commits in {_numbers([t.partition for t in beside])}"
            out.append(_finding(Cause.POISON, [track.partition], at, others, record))
        elif not _beside(track, tracks):
            left.append(track)
    if explained or not left:
        return out
    gone = [t for t in left if not t.newest.held]
    held = [t for t in left if t.newest.held]
    if gone:
        out.append(
            _finding(
                Cause.TOO_FEW,
                [t.partition for t in gone],
                "no worker has the partitions",
                _first(seen, gone),
                advice="start a worker of this role; when it dies at this record, the record is the cause",
            )
        )
    if held:
        members = sorted({str(t.newest.member) for t in held})
        line = f"{', '.join(members)} has committed nothing for {held[0].seconds:.0f} s and more"
        out.append(
            _finding(Cause.STUCK, [t.partition for t in held], line, *_silent(seen), _first(seen, held))
        )
    return out


def _beside(track: Track, tracks: Sequence[Track]) -> list[Track]:
    """Return the partitions in which the worker of a partition moves."""
    member = track.newest.member
    return [t for t in tracks if t.moved and member is not None and t.newest.member == member]


def _silent(seen: Evidence) -> list[str]:
    """Return what workers tell of an agent that commits nothing."""
    out = []
    for worker in seen.workers or ():
        if not worker.answers:
            out.append(f"{worker.url} does not answer")
        elif worker.grown("headrace_records_total", role=seen.agent, topic=seen.topic) == 0:
            out.append(f"{worker.url}: no batch ended in {worker.seconds:.0f} s")
    return out


def _first(seen: Evidence, tracks: Sequence[Track]) -> str:
    found = next((seen.waiting[t.partition] for t in tracks if t.partition in seen.waiting), None)
    return "" if found is None else f"the first record that waits: {found.first}"


def _load(seen: Evidence, tracks: Sequence[Track], moving: Sequence[Track]) -> list[Finding]:
    if not moving:
        return []
    out = []
    worst = max(moving, key=lambda t: t.newest.records)
    others = [t.newest.records for t in tracks if t is not worst and not t.is_stuck]
    if others and worst.newest.records > HOT_FACTOR * (sum(others) / len(others)) + ENOUGH_RECORDS:
        out.append(_hot(seen, worst, sum(others) / len(others)))
    numbers = [t.partition for t in moving]
    came, went = sum(t.came for t in moving), sum(t.went for t in moving)
    rates = f"{came:,.1f} records come each second, {went:,.1f} are committed"
    workers = [w for w in seen.workers or () if w.answers and w.seconds]
    busy = busiest(workers, seen.agent)
    slow = slow_parts(workers) if seen.agent == "serve" else []
    if slow or (busy is not None and busy.waits):
        told = [busy.told()] if busy is not None and busy.waits else []
        out.append(_finding(Cause.SLOW_STAGE, numbers, rates, *told, *slow))
    trend = sum(t.newest.trend or 0.0 for t in moving)
    if out:
        return out
    if trend < 0:
        return [_finding(Cause.BACKLOG, numbers, rates)]
    if trend > 0 or came > went:
        return [_too_few(seen, tracks, numbers, rates, busy)]
    return []


def _hot(seen: Evidence, worst: Track, mean: float) -> Finding:
    waits = (
        f"{worst.newest.records:,} records wait in partition {worst.partition}, {mean:,.0f} in each other one"
    )
    sample = seen.waiting.get(worst.partition)
    lines = [waits]
    if sample is not None and sample.misplaced:
        lines.append(f"{sample.misplaced:,} of {sample.records:,} have no key or are not in its partition")
    if sample is not None and sample.top_key is not None:
        lines.append(f"of the first {sample.records:,}, {sample.top_count:,} have the key {sample.top_key}")
        if sample.records >= ENOUGH_RECORDS and sample.top_count >= HOT_SHARE * sample.records:
            return _finding(Cause.HOT_KEY, [worst.partition], *lines)
    return _finding(Cause.HOT_PARTITION, [worst.partition], *lines)


def _too_few(
    seen: Evidence, tracks: Sequence[Track], numbers: Sequence[int], rates: str, busy: Busy | None
) -> Finding:
    members = {t.newest.member for t in tracks} - {None}
    count = f"{len(members)} worker{'s' if len(members) != 1 else ''} for {len(tracks)} partitions"
    told = (
        busy.told()
        if busy is not None
        else "the workers were not asked: --metrics host:port tells how busy they are"
    )
    advice = ""
    if len(members) >= len(tracks):
        advice = "every partition has a worker of its own: faster machines, or more partitions from the start"
    return _finding(Cause.TOO_FEW, numbers, rates, count, told, advice=advice)


def _position(row: LagRow) -> str:
    return "its beginning" if row.committed < 0 else f"offset {row.committed}"


def _numbers(partitions: Sequence[int]) -> str:
    return f"partition{'s' if len(partitions) > 1 else ''} {', '.join(map(str, partitions))}"
