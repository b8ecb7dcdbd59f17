"""The time that is left of each request, and how much is done in it. Pure: the clock is given."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.serving.ladder import Ladder, Rung
from headrace.serving.requests.read import Job
from headrace.serving.requests.waiting import Waiting
from headrace.streams.clock import Clock

#: Part of its deadline, and at most so long (s), that a reply has for its way back: through the broker, and
#: into a process that is perhaps busy. Without it, when more is asked than can be answered, the queue grows
#: until every full list goes out at the very end of its deadline, and is late at its caller.
_WAY_BACK, _LONGEST_WAY_S = 0.25, 0.05


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
        self._ladder, self._waiting = Ladder(), Waiting()
        self._came = self._ended = clock.monotonic()
        self._partition: int | None = None

    def begin(self, partition: int) -> None:
        """Note that a batch of a partition has come."""
        self._came, self._partition = self._clock.monotonic(), partition

    def read(self, jobs: Sequence[Job]) -> None:
        """Compare clocks with the callers of the first requests of a batch."""
        if self._partition is None or not jobs:
            return
        ages = [(address.topic, self._age(record.timestamp)) for _, record, address in jobs]
        self._waiting.came(self._partition, ages, self._came - self._ended, self._came)
        self._partition = None

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
        request, _, _ = job
        return request.deadline_ms / 1000 - self.spent(job)

    def dropped(self, job: Job) -> bool:
        """Return whether a request gets no reply: nobody waits for it any more."""
        return self._drop and self.left(job) < 0

    def rung(self, job: Job) -> Rung:
        """Return how much there is time for, before the reply must be on its way back."""
        left = self.left(job) - min(_WAY_BACK * job[0].deadline_ms / 1000, _LONGEST_WAY_S)
        return self._ladder.choose(left, self._clock.monotonic())

    def took(self, rung: Rung, since: float) -> None:
        """Note that a list of a rung was begun at ``since`` (monotonic seconds), and is made."""
        now = self._clock.monotonic()
        self._ladder.took(rung, now - since, now)

    def _age(self, timestamp: int) -> float:
        return float(self._clock.now_ms() - timestamp)
