"""How long a request has waited, whatever the clock of its caller says. Pure.

A record's age (our time of day less its timestamp) is what it waited in Kafka, and the difference of two
clocks. The time since this process has it is exact, and does not know of Kafka.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

#: A worker that waited so long (s) for requests had none to answer: a record that comes then is not old.
IDLE_S: Final = 0.02
#: Only records of a partition that was read in the last so many seconds say so: others may have piled up.
_READ_S: Final = 60.0
#: A larger difference of clocks is believed step by step, by this part of what it is larger: they may have
#: been set. Each step needs so many batches that came to an idle worker, over so long (s), and no younger
#: record meanwhile: a broker that paused once hands out old records to idle workers, too.
_RISE, _BATCHES, _STEP_S = 0.25, 3, 1.0
#: An age of more than a day (ms) is the fault of a clock.
_CREDIBLE: Final = 86_400_000.0
#: Callers that are remembered; their names come from outside.
_MOST: Final = 1000


@dataclass(slots=True)
class _Clock:
    """What is known of a caller's clock.

    Attributes
    ----------
    behind
        How far it is behind ours, ms; negative: ahead.
    least
        Smallest age since the last step, ms; ``idle`` batches came since then to an idle worker. It was at
        ``since``, monotonic s.
    """

    behind: float
    since: float
    least: float = math.inf
    idle: int = 0

    def seen(self, age: float, idle: bool, now: float) -> None:
        """Note the smallest age of a batch."""
        self.behind, self.least = min(self.behind, age), min(self.least, age)
        self.idle += idle
        if self.idle >= _BATCHES and now - self.since >= _STEP_S:
            self.behind += _RISE * (self.least - self.behind)
            self.since, self.least, self.idle = now, math.inf, 0


class Waiting:
    """The difference of our clock and that of each caller, learnt from requests that cannot have waited.

    A caller is who reads a reply topic. Of several clocks behind one topic, the fastest counts. No request
    has waited less than not at all, so a younger record than the difference allows corrects it at once.
    """

    def __init__(self) -> None:
        self._clocks: dict[str, _Clock] = {}
        self._read: dict[int, float] = {}

    def came(self, partition: int, ages: list[tuple[str, float]], idle_s: float, now: float) -> None:
        """Note a batch of a partition.

        Parameters
        ----------
        partition
            Of the request topic.
        ages
            Caller and age (ms) of each record.
        idle_s
            How long the worker had waited for it, s.
        now
            Monotonic seconds.
        """
        last, self._read[partition] = self._read.get(partition), now
        idle = idle_s >= IDLE_S and last is not None and now - last <= _READ_S
        if len(self._clocks) > _MOST:
            self._clocks.clear()
        least = dict[str, float]()
        for caller, age in ages:
            least[caller] = min(age, least.get(caller, age))
        for caller, age in least.items():
            clock = self._clocks.get(caller)
            if clock is not None:
                clock.seen(age, idle, now)
            elif idle:
                self._clocks[caller] = _Clock(age, now)

    def spent(self, caller: str, age: float, here: float) -> float:
        """Return what a request has spent, ms: in this process (``here``), or since it was sent if longer.

        ``age`` is that of the record now. Without knowledge of the caller's clock, it is believed.
        """
        clock = self._clocks.get(caller)
        waited = age if clock is None else age - clock.behind
        return max(here, waited) if waited <= _CREDIBLE else here
