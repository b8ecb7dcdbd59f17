"""How long a request has waited, whatever the clock of its caller says. Pure.

A record's age (our time of day less its timestamp) is what it waited in Kafka, and the difference of two
clocks. The time since this process has it is exact, and does not know of Kafka.
"""

from __future__ import annotations

from typing import Final

#: A worker that waited so long (s) for requests had none to answer: a record that comes then is not old.
IDLE_S: Final = 0.02
#: Only records of a partition that was read in the last so many seconds say so: others may have piled up.
_READ_S: Final = 60.0
#: Part by which a larger difference of clocks is believed at once: they may have been set.
_RISE: Final = 0.1
#: An age of more than a day (ms) is the fault of a clock.
_CREDIBLE: Final = 86_400_000.0
#: Callers that are remembered; their names come from outside.
_MOST: Final = 1000


class Waiting:
    """The difference of our clock and that of each caller, learnt from requests that cannot have waited.

    A caller is who reads a reply topic. Of several clocks behind one topic, the fastest counts.
    """

    def __init__(self) -> None:
        self._behind: dict[str, float] = {}
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
        if idle_s < IDLE_S or last is None or now - last > _READ_S:
            return
        if len(self._behind) > _MOST:
            self._behind.clear()
        for caller, age in ages:
            known = self._behind.get(caller, age)
            self._behind[caller] = min(age, known + _RISE * max(0.0, age - known))

    def spent(self, caller: str, age: float, here: float) -> float:
        """Return what a request has spent, ms: in this process (``here``), or since it was sent if longer.

        ``age`` is that of the record now. Without knowledge of the caller's clock, it is believed.
        """
        waited = age - self._behind.get(caller, 0.0)
        return max(here, waited) if waited <= _CREDIBLE else here
