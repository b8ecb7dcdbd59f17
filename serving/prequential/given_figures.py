"""How well several methods order given lists: AUC, MRR, NDCG, with bootstrap intervals over lists. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]

#: The figures of a list, in this order.
NAMES = ("auc", "mrr", "ndcg_at_5", "ndcg_at_10")
#: Samples of a bootstrap, and its interval.
SAMPLES, PERCENTILES = 1000, (2.5, 97.5)
_CHUNK = 50


def figures_of(scores: F64, clicked: Bool, chance: F64) -> tuple[float, ...]:
    """Return AUC, MRR, NDCG@5 and NDCG@10 of one list, as the evaluation of MIND defines them.

    Parameters
    ----------
    scores
        Higher is better, ``(n,)``.
    clicked
        Which items were clicked, ``(n,)``: some, and not all.
    chance
        Decides between equal scores, ``(n,)``; for the AUC, they count half.

    Notes
    -----
    MRR is the mean of 1 / rank over the clicked items. NDCG is divided by the best possible one
    (Jaervelin and Kekaelaeinen 2002).
    """
    wins = scores[clicked][:, None] - scores[~clicked][None, :]
    auc = float((wins > 0).mean() + (wins == 0).mean() / 2)
    ranks = np.flatnonzero(clicked[np.lexsort((chance, -scores))]) + 1
    return auc, float((1 / ranks).mean()), _ndcg(ranks, 5), _ndcg(ranks, 10)


def _ndcg(ranks: npt.NDArray[np.int64], k: int) -> float:
    gain = (1 / np.log2(ranks[ranks <= k] + 1)).sum()
    best = (1 / np.log2(np.arange(1, min(k, len(ranks)) + 1) + 1)).sum()
    return float(gain / best)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over lists and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(slots=True)
class Comparison:
    """The figures of every list, by method."""

    found: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)

    def add(self, scores: Mapping[str, F64], clicked: Bool, chance: F64) -> None:
        """Count a list that every method has scored; one without a choice to make is left out."""
        if clicked.all() or not clicked.any():
            return
        for name, of_method in scores.items():
            self.found.setdefault(name, []).append(figures_of(of_method, clicked, chance))

    def __len__(self) -> int:
        return max(map(len, self.found.values()), default=0)

    def mean(self, method: str, figure: str) -> float:
        """Return a mean so far; 0 before the first list."""
        rows = self.found.get(method, [])
        return sum(row[NAMES.index(figure)] for row in rows) / max(1, len(rows))

    def intervals(self, method: str, against: str = "", start: int = 0) -> dict[str, Interval]:
        """Return the figures of a method from list ``start`` on.

        With ``against``: how much higher they are than those of that method on the same lists.
        """
        values = np.array(self.found[method][start:], np.float64)
        if against:
            values = values - np.array(self.found[against][start:])
        low, high = np.percentile(_resampled(values), PERCENTILES, axis=0)
        return {
            name: Interval(*(round(float(x), 4) for x in (mean, a, b)))
            for name, mean, a, b in zip(NAMES, values.mean(0), low, high, strict=True)
        }

    def best(self, methods: Sequence[str], figure: str) -> str:
        """Return the method with the highest figure."""
        return max(methods, key=lambda name: self.mean(name, figure))


def _resampled(values: F64, seed: int = 7) -> F64:
    """Return the means of samples of the rows, drawn with replacement, float64 ``(SAMPLES, columns)``."""
    rng, n = np.random.default_rng(seed), len(values)
    draws = [rng.multinomial(n, np.full(n, 1 / n), _CHUNK) @ values / n for _ in range(SAMPLES // _CHUNK)]
    out: F64 = np.concatenate(draws)
    return out
