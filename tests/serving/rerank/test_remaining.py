"""The compiled choice of the best candidate does what a plain one with arrays does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.rerank.remaining import Remaining

F32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
F64 = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


class Plain:
    """The same with arrays of numpy."""

    def __init__(self, scores: F64, width: int, weight: float) -> None:
        self.open, self.factors = np.ones(len(scores), bool), np.ones(width)
        low = float(scores[width - 1])
        scale = weight / (float(scores[0]) - low or 1.0)
        self._up, self._down = np.maximum(scores, 0) * scale, np.minimum(scores, 0) * scale
        self._zero = low * scale
        self.relevance = self._up + self._down - self._zero

    def best(self, penalty: F32 | None, allowed: Mask) -> int:
        width = len(self.factors)
        worth = self.relevance[:width] if penalty is None else self.relevance[:width] - penalty
        worth = np.where(allowed[:width], worth, -np.inf)
        best = int(worth.argmax())
        return best if worth[best] > -np.inf else int(np.where(allowed, self.relevance, -np.inf).argmax())

    def take(self, place: int) -> None:
        self.open[place] = False
        self._down[place] = self.relevance[place] = -np.inf

    def weaker(self, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        f = self.factors[places]
        self.relevance[places] = self._up[places] * f + self._down[places] / f - self._zero


@given(
    st.lists(
        st.floats(-1e30, 1e30) | st.sampled_from([0.0, -0.0, 5e-324, 1.0, 0.5]), min_size=1, max_size=60
    ),
    st.integers(1, 60),
    st.sampled_from([1.0, 0.9, 1e-9]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_the_same_candidates_as_by_arrays(
    scores: list[float], width: int, weight: float, penalised: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ordered = -np.sort(-np.array(scores))
    width = min(width, len(ordered))
    remaining = Remaining(ordered, width, weight)
    with np.errstate(all="ignore"):  # of scores that differ by less than can be divided by
        plain = Plain(ordered, width, weight)
        for _ in range(len(ordered)):
            penalty = rng.random(width, np.float32) if penalised else None
            some = plain.open & (rng.random(len(ordered)) < 0.5)
            if some.any():
                assert remaining.best(penalty, some) == plain.best(penalty, some)
            place = remaining.best(penalty)
            assert place == plain.best(penalty, plain.open)
            for each in (remaining, plain):
                each.take(place)
            assert remaining.open.tolist() == plain.open.tolist()
            places = np.flatnonzero(rng.random(width) < 0.3)
            for each in (remaining, plain):
                each.factors[places] *= 0.5
                each.weaker(places)


def test_arrays_of_another_length_are_refused() -> None:
    scores = np.array([3.0, 2.0, 1.0])
    for width in (0, 4):
        with pytest.raises(ValueError, match=f"the best {width} of 3 candidates"):
            Remaining(scores, width, 1.0)
    remaining = Remaining(scores, 2, 1.0)
    with pytest.raises(ValueError, match="3 penalties for 2 candidates"):
        remaining.best(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="2 marks for 3 candidates"):
        remaining.best(None, np.ones(2, bool))
    with pytest.raises(IndexError, match="candidate 3 of 3"):
        remaining.take(3)
    with pytest.raises(IndexError, match="candidate 2 of the best 2"):
        remaining.weaker(np.array([2]))
    assert Remaining(scores, 1, 1.0).best(None, np.array([False, False, True])) == 2
