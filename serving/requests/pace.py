"""The time that is left of each request, and how much is done in it. Pure: the clock is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from headrace.serving.ladder import Ladder, Rung
from headrace.serving.requests.backlog import Backlog
from headrace.serving.requests.deadlines import Deadlines
from headrace.serving.requests.read import Job
from headrace.serving.requests.standing import Standing
from headrace.serving.requests.waiting import IDLE_S, Waiting
from headrace.streams.clock import Clock

#: Part of its deadline, and at most so long (s), that a reply has for its way back: through the broker, and
#: into a process that is perhaps busy. Without it, when more is asked than can be answered, the queue grows
#: until every full list goes out at the very end of its deadline, and is late at its caller.
_WAY_BACK, _LONGEST_WAY_S = 0.25, 0.05
#: The same, while requests wait for one another all the time: then the queue is kept short.
_WAY_BACK_OF_MANY, _LONGEST_WAY_OF_MANY_S = 0.6, 0.2
#: Waiting is judged by the deadline, of those with a long one as of a short one (s).
_SHORT_S: Final = 0.15
#: Bounds of the time for which new requests gather at the broker (s); a shorter one saves nothing.
_LEAST_DELAY_S: Final = 0.004
_LONGEST_DELAY_S: Final = 0.01
#: A list is believed to take at least so long (s) when a request may wait before it is made.
LEAST_S: Final = 0.02


class Pace:
    """Says how much there is time for, for one batch of requests after the other.

    Parameters
    ----------
    clock
        Time.
    drop
        Whether requests are dropped that have no time left when their turn comes.
    max_bytes
        Larger requests are refused: what waits for them need not be in time.

    Attributes
    ----------
    queued
        Returns the records of each batch that waits in this process behind the one that is answered.
    """

    def __init__(self, clock: Clock, *, drop: bool = False, max_bytes: int = 1 << 20) -> None:
        self._clock, self._drop = clock, drop
        self._ladder, self._waiting, self._standing = Ladder(), Waiting(), Standing()
        self._backlog, self._deadlines = Backlog(), Deadlines(max_bytes)
        self.queued: Callable[[], Sequence[Sequence[Any]]] = list
        self._came = self._ended = clock.monotonic()
        self._partition: int | None = None
        self._records: Sequence[Any] = ()
        self._next = 0  # place of the first of them whose turn has not come
        self._gathered = self._came
        self._ranked_s = 0.0  # what the ranked lists of this batch took
        self._kept: dict[int, float] = {}  # by record: when the time of a request is over that waits

    def gather(self, records: Sequence[Any]) -> None:
        """Note what is answered next, in its order; ``begin`` says of which partitions it is."""
        self._records, self._next, self._ranked_s = records, 0, 0.0
        self._gathered = self._clock.monotonic()

    def begin(self, partition: int) -> None:
        """Note that a batch of a partition has come."""
        self._came, self._partition = self._clock.monotonic(), partition

    def read(self, jobs: Sequence[Job]) -> None:
        """Compare clocks with the callers of the first requests of a batch."""
        if self._partition is None or not jobs:
            return
        idle_s = self._came - self._ended
        alone = len(jobs) == 1 >= len(self._records)
        if alone and idle_s >= IDLE_S:  # however slow all else is, it waits for no other
            self._standing.add(0.0, self._came)
        ages = [(address.topic, self._age(record.timestamp)) for _, record, address in jobs]
        self._waiting.came(self._partition, ages, idle_s, self._came)
        self._partition = None

    def turn(self, job: Job) -> None:
        """Note that the turn of a request has come."""
        if not self.kept(job):
            self._pass(job[1])
            now, deadline_s = self._clock.monotonic(), job[0].deadline_ms / 1000
            self._standing.add(self.spent(job) / min(deadline_s, _SHORT_S), now)

    def end(self) -> None:
        """Note that the batch is answered."""
        self._ended = self._clock.monotonic()
        if self._records:
            self._backlog.took(len(self._records), self._ended - self._gathered - self._ranked_s)
        self._records = ()

    def spent(self, job: Job) -> float:
        """Return the time since a request was sent, s."""
        _, record, address = job
        here = 1000 * (self._clock.monotonic() - self._came)
        return self._waiting.spent(address.topic, self._age(record.timestamp), here) / 1000

    def left(self, job: Job) -> float:
        """Return the time that a request has left, s; not positive: none."""
        request, record, _ = job
        if (end := self._kept.get(id(record))) is not None:
            return end - self._clock.monotonic()
        return request.deadline_ms / 1000 - self.spent(job)

    def spare(self, job: Job) -> float:
        """Return how long a request may wait before its lists are made, s; not positive: not at all."""
        lists = max(1, len(job[0].lists))
        return self._here(job) - lists * max(LEAST_S, self._ladder.needs(self._clock.monotonic()))

    def keep(self, job: Job) -> None:
        """Note when the time of a request is over that is answered after its batch; then call ``forget``."""
        self._kept[id(job[1])] = self._clock.monotonic() + self.left(job)

    def kept(self, job: Job) -> bool:
        """Return whether ``keep`` was called for a request."""
        return id(job[1]) in self._kept

    def forget(self, job: Job) -> None:
        """Note that a request is answered that was kept."""
        self._kept.pop(id(job[1]), None)

    def dropped(self, job: Job) -> bool:
        """Return whether a request gets no reply: nobody waits for it any more."""
        return self._drop and self.left(job) < 0

    def fetch_delay_s(self) -> float:
        """Return how long new requests may gather at the broker, s: half of what those that are here take.

        When more comes than can be answered, a fetch for each or two of them costs a tenth of the CPU.
        """
        waiting = len(self._records) - self._next + sum(map(len, self.queued()))
        seconds = waiting * self._backlog.each_s / 2
        return min(seconds, _LONGEST_DELAY_S) if seconds >= _LEAST_DELAY_S else 0.0

    def rung(self, job: Job) -> Rung:
        """Return how much there is time for, before the reply must be on its way back."""
        here = self._here(job)
        if not self.kept(job):
            here = self.left(job) - self._way_back(job[0].deadline_ms / 1000)
            if here > 0:
                here = min(here, self._backlog.spare(self._behind(job)))
        return self._ladder.choose(here, self._clock.monotonic())

    def took(self, rung: Rung, since: float) -> None:
        """Note that a list of a rung was begun at ``since`` (monotonic seconds), and is made."""
        now = self._clock.monotonic()
        self._ladder.took(rung, now - since, now)
        self._ranked_s += now - since

    def _way_back(self, deadline_s: float) -> float:
        """Return how long before its deadline a reply must be on its way, s."""
        if self._standing.stands:
            return min(_WAY_BACK_OF_MANY * deadline_s, _LONGEST_WAY_OF_MANY_S)
        return min(_WAY_BACK * deadline_s, _LONGEST_WAY_S)

    def _behind(self, job: Job) -> Iterator[tuple[float, float, int]]:
        """Yield what is left (s), way back (s) and place of the ends of each batch behind a request.

        Ages are by the clock of its caller. Those of callers with another clock are wrong by the difference:
        such a request seems too old to be saved, or so young that it can wait.
        """
        _, _, address = job
        before = 0
        self._deadlines.begin()
        for records, first in chain([(self._records, self._next)], ((r, 0) for r in self.queued())):
            last = len(records) - 1
            for place in {first, last} if first <= last else ():
                record = records[place]
                age = self._waiting.spent(address.topic, self._age(record.timestamp), 0.0)
                deadline = self._deadlines.of(record)
                yield deadline - age / 1000, self._way_back(deadline), before + place - first
            before += max(0, last + 1 - first)

    def _pass(self, now: Any) -> None:
        """Note that what was gathered behind this record comes later than it."""
        records = self._records
        for place in range(self._next, len(records)):
            if records[place].offset == now.offset and records[place].timestamp == now.timestamp:
                self._next = place + 1
                return

    def _here(self, job: Job) -> float:
        """Return the time that is left until the reply must be on its way back, s."""
        deadline_s = job[0].deadline_ms / 1000
        return self.left(job) - min(_WAY_BACK * deadline_s, _LONGEST_WAY_S)

    def _age(self, timestamp: int) -> float:
        return float(self._clock.now_ms() - timestamp)
