"""The time that is left of each request, and how much is done in it. Pure: the clock is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headrace.serving.ladder import Ladder, Rung
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
    """

    def __init__(self, clock: Clock, *, drop: bool = False) -> None:
        self._clock, self._drop = clock, drop
        self._ladder, self._waiting, self._standing = Ladder(), Waiting(), Standing()
        self._came = self._ended = clock.monotonic()
        self._partition: int | None = None
        self._kept: dict[int, float] = {}  # by record: when the time of a request is over that waits

    def begin(self, partition: int) -> None:
        """Note that a batch of a partition has come."""
        self._came, self._partition = self._clock.monotonic(), partition

    def read(self, jobs: Sequence[Job]) -> None:
        """Compare clocks with the callers of the first requests of a batch."""
        if self._partition is None or not jobs:
            return
        idle_s = self._came - self._ended
        if len(jobs) == 1 and idle_s >= IDLE_S:  # alone: however slow all else is, it waits for no other
            self._standing.add(0.0, self._came)
        ages = [(address.topic, self._age(record.timestamp)) for _, record, address in jobs]
        self._waiting.came(self._partition, ages, idle_s, self._came)
        self._partition = None

    def turn(self, job: Job) -> None:
        """Note that the turn of a request has come."""
        if not self.kept(job):
            share = self.spent(job) / min(job[0].deadline_ms / 1000, _SHORT_S)
            self._standing.add(share, self._clock.monotonic())

    def end(self) -> None:
        """Note that the batch is answered."""
        self._ended = self._clock.monotonic()

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

    def rung(self, job: Job) -> Rung:
        """Return how much there is time for, before the reply must be on its way back."""
        here = self._here(job)
        if self._standing.stands and not self.kept(job):
            here = self.left(job) - min(_WAY_BACK_OF_MANY * job[0].deadline_ms / 1000, _LONGEST_WAY_OF_MANY_S)
        return self._ladder.choose(here, self._clock.monotonic())

    def took(self, rung: Rung, since: float) -> None:
        """Note that a list of a rung was begun at ``since`` (monotonic seconds), and is made."""
        now = self._clock.monotonic()
        self._ladder.took(rung, now - since, now)

    def _here(self, job: Job) -> float:
        """Return the time that is left until the reply must be on its way back, s."""
        return self.left(job) - min(_WAY_BACK * job[0].deadline_ms / 1000, _LONGEST_WAY_S)

    def _age(self, timestamp: int) -> float:
        return float(self._clock.now_ms() - timestamp)
