"""A partition of the outcome join, whose two topics are read in batches that are cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.agents.partitions.outcomes import Closing, JoinPartition
from headrace.agents.partitions.written import Written
from headrace.models.outcomes import examples_of
from headrace.models.slot_labels import Rules
from headrace.streams.messages.schemas import Event, Example, Impression

Lists = Sequence[tuple[Impression, int]]
Events = Sequence[tuple[Event, int]]


class Cut:
    """Reads lists and events, both with the times of their records; has the examples, each with its time.

    Attributes
    ----------
    examples
        In the order in which they are written.
    early
        How many of them were written before their list closed.
    """

    def __init__(self, lists: Lists, events: Events, wait_ms: int, rules: Rules) -> None:
        self._lists, self._events = lists, events
        self._begin = min(at for _, at in (*lists, *events))
        self.part = JoinPartition(wait_ms, 0, self._begin, rules=rules)
        self._written = Written()
        self.examples: list[tuple[Example, int]] = []
        self.early = 0
        self._end = max(at for _, at in (*lists, *events)) + 2 * wait_ms

    def run(self, cuts: np.random.Generator, longest_ms: int) -> Cut:
        """Read everything in batches of up to ``longest_ms``, of one topic and the other by chance."""
        read = {"shown": 0, "events": 0}
        to = {"shown": self._begin, "events": self._begin}
        while min(to.values()) < self._end:
            topic = "shown" if cuts.random() < 0.5 else "events"
            if to[topic] > min(to.values()) + longest_ms:
                continue
            to[topic] += int(cuts.integers(1, longest_ms))
            self._read(topic, read, to[topic], now=max(to.values()))
            self._write(max(to.values()))
        return self

    def _read(self, topic: str, read: dict[str, int], to: int, now: int) -> None:
        """Read the records of a topic that are dated before ``to``."""
        given: Sequence[tuple[Any, int]] = self._lists if topic == "shown" else self._events
        some = [pair for pair in given[read[topic] :] if pair[1] < to]
        first, read[topic] = read[topic], read[topic] + len(some)
        if topic == "shown":
            self.part.arrive(first, read[topic])
            self.part.show([i for i, _ in some], range(first, read[topic]), [at for _, at in some], now)
        else:
            self.part.happen(some, now)
        (self.part.shown if topic == "shown" else self.part.events).read(to, now)

    def _write(self, now: int) -> None:
        closing = self.part.closing(self.part.due(1000))
        for c in (*closing, *self.part.early(100, 1000)):
            missing = self._written.missing(c.offset, range(c.slots) if c.early is None else c.early)
            made = examples_of(self._lists[c.offset][0], c.outcomes, missing)
            self.examples += [(example, now) for example in made]
            self._note(c, missing)
        self.part.close(closing)

    def _note(self, c: Closing, missing: list[int]) -> None:
        if c.early is None:
            self._written.complete(c.since, c.offset + 1)
        else:
            self._written.begin(c.offset, missing)
            self.early += len(missing)
