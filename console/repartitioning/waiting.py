"""What must have been read before partitions are made more, and whether it was."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import TopicPartition

from headrace.console.imported.jobs import Jobs
from headrace.console.repartitioning.plan import AGAIN
from headrace.console.upgrading.offline import committed
from headrace.streams.settings import Settings
from headrace.streams.topics.flow import group_reads
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader

Offsets = Mapping[TopicPartition, int]

#: Topics of which everything must have been read, by role: their records belong to the partition that they
#: are in. Nobody writes them while the roles are stopped.
DRAINED = {
    "ingest": ("impressions",),
    "aggregate": ("item_events",),
    "learn": ("impressions",),
}
_HOW = {
    "ingest": "start ingest until it has read them",
    "aggregate": "start aggregate until it has read them",
    "learn": "start learn until the last lists have waited for their outcomes (HEADRACE_OUTCOME_WAIT_MS)",
}


def left(role: str, topic: str, done: Offsets, ends: Offsets) -> str:
    """Return what a role has not read of a topic, as a sentence; empty when there is nothing. Pure."""
    behind = {
        tp: ends[tp] - done.get(tp, 0)
        for tp in ends
        if tp.topic == topic and ends[tp] > done.get(tp, 0)
    }  # fmt: skip
    if not behind:
        return ""
    where = ", ".join(str(tp.partition) for tp in sorted(behind))
    return (
        f"{role} has not read {sum(behind.values()):,} records of {topic} (partitions {where}): "
        f"{_HOW[role]}, with serve stopped"
    )


def cut_off(settings: Settings) -> list[str]:
    """Return the imports that have sent some of their events, as this data folder knows, a sentence each.

    They cannot go on with other partitions: what they have sent is known by its partition.
    """
    return [
        f"an import of {', '.join(job.files.values())} runs, or was cut off: run it again, and let it end"
        for job in Jobs(settings).all()
        if job.state == "sending"
    ]


class Waiting:
    """The committed offsets of the groups, and the ends of their topics."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._topics = settings, Topics(settings)
        self.committed: dict[str, dict[TopicPartition, int]] = {}
        self.begins: dict[TopicPartition, int] = {}
        self.ends: dict[TopicPartition, int] = {}

    async def look(self) -> None:
        """Ask the broker."""
        reads = group_reads()
        self.committed = {role: await committed(self._settings, role) for role in reads}
        topics = {getattr(self._topics, name) for names in reads.values() for name in names}
        async with open_reader(self._settings, topics) as reader:
            self.begins, self.ends = await reader.bounds()

    def read_from(self) -> dict[str, dict[int, int]]:
        """Return where `ingest` and `aggregate` read on, by topic and partition."""
        out: dict[str, dict[int, int]] = {}
        for role in ("ingest", "aggregate"):
            for name in group_reads()[role]:
                topic = getattr(self._topics, name)
                for tp, begin in self.begins.items():
                    if tp.topic == topic:
                        at = self.committed[role].get(tp, begin)
                        out.setdefault(topic, {})[tp.partition] = at
        return out

    def not_drained(self) -> list[str]:
        """Return what was not read that must be, a sentence each."""
        out = []
        for role, names in DRAINED.items():
            done = self.committed[role]
            if role == "learn" and not done:
                continue  # it never ran: nobody waits for outcomes
            for name in names:
                done = {tp: done.get(tp, begin) for tp, begin in self.begins.items()}
                out.append(left(role, getattr(self._topics, name), done, self.ends))
        return [text for text in out if text]

    def behind(self, seen: Mapping[str, list[int]]) -> list[str]:
        """Return where a group has committed less than the state has: it would read records again.

        Parameters
        ----------
        seen
            By topic, for each partition the offset up to which the state has everything.
        """
        out = []
        for role in ("ingest", "aggregate"):
            for tp, at in sorted(self.committed[role].items()):
                of = seen.get(tp.topic, [])
                if tp.partition < len(of) and at < of[tp.partition]:
                    out.append(f"{role} has not committed all that it has counted of {tp.topic}: {AGAIN}")
        return sorted(set(out))
