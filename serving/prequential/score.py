"""How well the lists predict the clicks: running hit rate and reciprocal rank."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Score:
    """Running hit rate and reciprocal rank.

    Attributes
    ----------
    in_pool
        Predictions for which the clicked item was among the candidates.
    by_version
        Predictions, hits and sum of reciprocal ranks, by the version of the ranker.
    """

    predictions: int = 0
    hits: int = 0
    reciprocal: float = 0.0
    in_pool: int = 0
    trainings: int = 0
    by_version: dict[str, tuple[int, int, float]] = field(default_factory=dict)

    def add(self, rank: int, version: str) -> None:
        """Count one prediction; ``rank`` is 1 for the top of the list, 0 when the item is not on it."""
        self.predictions += 1
        hit, gain = int(rank > 0), 1 / rank if rank else 0.0
        self.hits += hit
        self.reciprocal += gain
        n, h, g = self.by_version.get(version, (0, 0, 0.0))
        self.by_version[version] = (n + 1, h + hit, g + gain)

    @property
    def hit_rate(self) -> float:
        """Share of predictions with the clicked item on the list (HR@n)."""
        return self.hits / max(1, self.predictions)

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank of the clicked item, 0 where it is not on the list (MRR@n)."""
        return self.reciprocal / max(1, self.predictions)
