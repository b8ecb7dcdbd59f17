"""Counts what was shown and clicked by ranker, for the metrics. Pure.

A slot that is read again after a crash counts again. Only the newest rankers are kept: there is a new one
every few minutes, and a metric must not grow for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from headrace.streams.messages.schemas import Example
from headrace.streams.metrics import Sample

#: So many rankers are kept, those with the newest examples.
MOST: Final = 8


class OutcomeCounts:
    """Shown and clicked slots by ranker; a list without a ranker counts as ``none``."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, examples: Iterable[Example]) -> None:
        """Count shown slots."""
        found = Counter((e.ranker or "none", e.clicked) for e in examples if not e.unshown)
        counts = dict(self._counts)
        for ranker in sorted({ranker for ranker, _ in found}):
            shown, clicked = counts.pop(ranker, (0, 0))  # and put at the end, as the newest
            clicks = found[ranker, True]
            counts[ranker] = shown + found[ranker, False] + clicks, clicked + clicks
        newest: Sequence[str] = list(counts)[-MOST:]
        # Put in place whole: it is counted in a thread, and read in the event loop.
        self._counts = {ranker: counts[ranker] for ranker in newest}

    def read(self) -> Iterator[Sample]:
        """Yield the counts."""
        for ranker, (shown, clicked) in self._counts.items():
            yield Sample("headrace_outcomes_total", shown, (ranker, "shown"))
            yield Sample("headrace_outcomes_total", clicked, (ranker, "clicked"))
