"""The list that the re-rank stage makes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

#: Why a rule or chance has put an item in its slot.
EXPLORED, FRESH, LONG_TAIL = "explored", "fresh", "long_tail"


@dataclass(slots=True)
class Slate:
    """The list: positions in the candidate arrays, ``(n,)`` each.

    ``propensity[j]`` is the probability, given the slots above, of the item in slot j. ``explored[j]`` is
    true when it is not the greedy choice. ``reasons[j]`` is why it is in slot j, when it would not be there
    but for a rule or chance: "explored", "fresh", "long_tail"; else empty.
    """

    chosen: I64
    propensity: npt.NDArray[np.float64]
    explored: npt.NDArray[np.bool_]
    reasons: list[str]

    @classmethod
    def empty(cls, n: int) -> Slate:
        """Return a list of ``n`` slots that are to be filled."""
        return cls(np.zeros(n, np.int64), np.ones(n), np.zeros(n, bool), [""] * n)

    def where(self, keep: npt.NDArray[np.bool_]) -> Slate:
        """Return the slots chosen by a mask ``(n,)``."""
        return Slate(self.chosen[keep], self.propensity[keep], self.explored[keep])

    def followed_by(self, last: I64, places: I64) -> Slate:
        """Return the list with the candidates ``last`` at its end, in this order and certain.

        ``places`` are the places in the candidate arrays of the candidates that this list was made from.
        """
        return Slate(
            np.concatenate([places[self.chosen], last]),
            np.concatenate([self.propensity, np.ones(len(last))]),
            np.concatenate([self.explored, np.zeros(len(last), bool)]),
            self.reasons + [""] * len(last),
        )


def rerank(
    score: npt.NDArray[np.float64],
    vectors: npt.NDArray[np.float32],
    n: int,
    *,
    mmr_lambda: float,
    epsilon: float,
    rng: np.random.Generator,
) -> Slate:
    """Fill ``n`` slots by score, MMR and uniform exploration, without other rules; see ``choose``.

    Parameters
    ----------
    score
        Higher is better, float64 ``(m,)``.
    vectors
        Unit vectors (zeros: no content), float32 ``(m, DIM)``.
    n
        Number of slots.
    mmr_lambda
        Weight of relevance against similarity to what is already on the list; 1 switches diversity off.
    epsilon
        Chance, slot by slot, of a uniformly random remaining candidate instead of the greedy one.
    rng
        Source of the randomness.
    """
    from headrace.serving.rerank.choices import Choices
    from headrace.serving.rerank.choose import choose
    from headrace.serving.rerank.rules import OFF

    rules = replace(OFF, diversity="mmr", strength=1 - mmr_lambda, epsilon=epsilon)
    return choose(Choices.plain(score, vectors), n, rules, rng)
