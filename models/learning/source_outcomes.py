"""Counts what came of the slots that each candidate source proposed. Pure.

For the report ``headrace sources`` and for the metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.streams.metrics import Sample

#: What is counted of a source, see ``SourceCounts``.
STEPS: Final = ("shown", "clicked", "alone", "clicked_alone")
#: So many sources have figures of their own in the metrics: those that were seen first.
MOST: Final = 100
#: Takes the figures of the others.
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """Slots of one source.

    Attributes
    ----------
    shown, clicked
        Slots whose item it proposed, and those of them with a click.
    alone, clicked_alone
        Of these, the slots that no other source proposed: without the source they would not have been shown.
    """

    source: str
    shown: int
    clicked: int
    alone: int
    clicked_alone: int


class SourceOutcomes:
    """Shown and clicked slots by source. A slot that several sources proposed counts for each.

    Parameters
    ----------
    most
        How many sources have counts of their own; None: all.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._counts: dict[str, list[int]] = {}

    def add(self, sources: Iterable[Sequence[str] | None], clicked: Iterable[bool]) -> None:
        """Count slots, by the sources of each and whether it was clicked.

        Many slots have the same sources, so most of the work is done once for all of them.
        """
        slots = Counter((tuple(names or ()), click) for names, click in zip(sources, clicked, strict=True))
        for (names, click), n in slots.items():
            clicks, alone = n * click, len(names) == 1
            for name in names:
                counts = self._of(name)
                counts[0] += n
                counts[1] += clicks
                counts[2] += n * alone
                counts[3] += clicks * alone

    def _of(self, name: str) -> list[int]:
        if self._most is not None and name not in self._counts and len(self._counts) >= self._most:
            name = OTHER
        return self._counts.setdefault(name, [0] * len(STEPS))

    def counts(self) -> list[SourceCounts]:
        """Return the counts, those of the source with the most clicks first."""
        out = [SourceCounts(name, *counts) for name, counts in self._counts.items()]
        return sorted(out, key=lambda c: (-c.clicked, -c.shown, c.source))

    def read(self) -> Iterator[Sample]:
        """Yield the counts for the metrics."""
        for name, counts in self._counts.items():
            for step, n in zip(STEPS, counts, strict=True):
                yield Sample("headrace_source_outcomes_total", n, (name, step))
