"""What the metrics of workers tell about a lag: what fails, what is restored, how busy they are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.streams.topics.flow import agent, roles
from headrace.streams.topics.worker_metrics import Worker

#: A worker is busy when its agents work on batches for such a share of the time.
BUSY_SHARE = 0.7
#: It waits for something when it is busy and takes no more than such a share of a core.
WAITING_CORES = 0.5
#: What happens so often in the window is told: a call that failed, a part of the pipeline that took too long.
MANY = 3


@dataclass(frozen=True, slots=True)
class Busy:
    """How busy the busiest worker of a role is.

    Attributes
    ----------
    url
        Which one.
    share
        Share of the time that its agents of the role work on batches; of several agents the busiest.
    cores
        CPU that the process takes.
    agent
        The busiest agent.
    redis_s, commit_s
        Share of the time that it waits for Redis, and for commits.
    """

    url: str
    share: float
    cores: float
    agent: str
    redis_s: float
    commit_s: float

    @property
    def waits(self) -> bool:
        """Whether it works nearly all the time, on little CPU."""
        return self.share >= BUSY_SHARE and self.cores <= WAITING_CORES

    def told(self) -> str:
        """Return it for people."""
        waits = [
            f"{share:.0%} of the time it waits for {what}"
            for what, share in (("Redis", self.redis_s), ("commits", self.commit_s))
            if self.waits and share >= 0.1
        ]
        works = f"works on batches {min(self.share, 1):.0%} of the time, on {self.cores:.2f} cores"
        line = f"{self.url}: {self.agent} {works}"
        return "; ".join([line, *waits])


def busiest(workers: Sequence[Worker], role: str) -> Busy | None:
    """Return the busiest worker of a role, None when nobody tells."""
    found = []
    for worker in workers:
        shares = {
            flow.name: (worker.grown("headrace_batch_seconds_sum", agent=flow.name) or 0.0) / worker.seconds
            for flow in roles()[role]
            if flow.reads
        }
        cores = worker.grown("process_cpu_seconds_total")
        if not shares or cores is None:
            continue
        name = max(shares, key=lambda key: shares[key])
        redis = (worker.grown("headrace_redis_seconds_sum") or 0.0) / worker.seconds
        commits = (worker.grown("headrace_commit_seconds_sum", role=role) or 0.0) / worker.seconds
        found.append(Busy(worker.url, shares[name], cores / worker.seconds, name, redis, commits))
    return max(found, key=lambda busy: busy.share, default=None)


def failures(workers: Sequence[Worker]) -> list[str]:
    """Return what fails in workers again and again, in words."""
    return [
        f"{worker.url}: {count:.0f} calls of Redis ({call}) failed in {worker.seconds:.0f} s"
        for worker in workers
        for call, count in worker.grown_by("headrace_redis_errors_total", "call").items()
        if count >= MANY
    ]


def restoring(workers: Sequence[Worker], role: str) -> float:
    """Return how many records of the tables of a role are left to restore."""
    tables = {table for flow in roles()[role] for table in agent(flow.name).state}
    if not tables:
        return 0.0
    return sum((w.last.sum("headrace_restore_records") or 0.0) for w in workers if w.last is not None)


def slow_parts(workers: Sequence[Worker]) -> list[str]:
    """Return the parts of the pipeline that took too long again and again, in words."""
    slow: dict[str, float] = {}
    for worker in workers:
        for part, count in worker.grown_by("headrace_part_slow_total", "part").items():
            slow[part] = slow.get(part, 0.0) + count
    return [f"the part {part} took too long in {n:.0f} requests" for part, n in slow.items() if n >= MANY]
