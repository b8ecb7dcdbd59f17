"""How often lists have which items, beside the propensities that were logged."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from headrace.serving.rerank.slate import Slate


class Frequencies:
    """Many lists of the same candidates, with other draws.

    Attributes
    ----------
    lists
        How often each list was made.
    """

    def __init__(self) -> None:
        self.lists = Counter[tuple[int, ...]]()
        self._seen: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        self._logged: dict[tuple[int, ...], float] = {}

    def add(self, slate: Slate) -> None:
        """Count a list."""
        chosen = tuple(slate.chosen.tolist())
        self.lists[chosen] += 1
        for j, p in enumerate(slate.propensity.tolist()):
            self._seen[chosen[:j]][chosen[j]] += 1
            logged = self._logged.setdefault(chosen[: j + 1], p)
            assert logged == pytest.approx(p, rel=1e-12), "it depends on more than the slots above"

    def check(self) -> None:
        """Compare slot by slot, given the slots above: each frequency, and all of them (chi-square)."""
        for above, counts in self._seen.items():
            if counts.total() >= 200:
                compare(counts, {i: self._logged[*above, i] for i in counts})


def compare(counts: Counter[int], chances: dict[int, float]) -> None:
    """Check one slot after the same slots above: what was shown how often, and the logged chances of it."""
    total, missing = counts.total(), 1 - sum(chances.values())
    assert -1e-9 < missing < 12 / total, "they add up to 1; only candidates that are rare have not been seen"
    for i, p in chances.items():
        assert counts[i] / total == pytest.approx(p, abs=4.5 * (p * (1 - p) / total) ** 0.5 + 1e-9)
    often = [i for i, p in chances.items() if p * total >= 5]
    square = sum((counts[i] - chances[i] * total) ** 2 / (chances[i] * total) for i in often)
    free = max(1, len(often) - 1)
    assert square < free + 4.5 * (2 * free) ** 0.5 + 10
