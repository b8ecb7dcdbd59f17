"""The compiled choice of the best candidate does what a plain one with arrays does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.serving.rerank.creator_decay import CreatorDecay
from headrace.serving.rerank.mmr import Mmr
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


class Told:
    """Passes on what it is told: a rule that is not compiled."""

    def __init__(self, rule: Any) -> None:
        self._rule, self.put = rule, rule.put

    @property
    def penalty(self) -> Any:
        return self._rule.penalty


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_slots_are_filled_one_after_another(m: int, n: int, seed: int, similar: bool, decaying: bool) -> None:
    rng, width = np.random.default_rng(seed), min(m, 12)
    scores, vectors = -np.sort(-rng.standard_normal(m)), unit_vectors(m, seed % 100)
    near, creator = vectors[:width], rng.integers(0, 4, m).astype(np.uint64)
    n, found = min(m, n), []
    for how in ("compiled", "told", "plain"):
        remaining = Remaining(scores, width, 0.5)
        mmr = Mmr(near, 0.5) if similar else None
        decays = [CreatorDecay(creator, width, 0.5, 0.25)] if decaying else []
        chosen, propensity = np.zeros(n, np.int64), np.zeros(n)
        if how == "plain":
            for slot in range(n):
                chosen[slot] = remaining.best(mmr.penalty if mmr else None)
                propensity[slot] = 0.02 / (m - slot) + 0.98
                remaining.take(int(chosen[slot]))
                if mmr:
                    mmr.put(vectors[chosen[slot]])
                for decay in decays:
                    remaining.weaker(decay.put(int(chosen[slot]), remaining.factors))
        else:
            rules: Any = (Told(mmr) if mmr else None, [Told(one) for one in decays])
            given_rules: Any = rules if how == "told" else (mmr, decays)
            remaining.fill(chosen, propensity, 0.02, *given_rules, near, vectors.__getitem__)
        found.append((chosen.tolist(), propensity.tolist(), remaining.open.tolist()))
    assert found[0] == found[1] == found[2]


def test_rules_of_other_candidates_are_refused() -> None:
    remaining, vectors = Remaining(np.array([3.0, 2.0, 1.0]), 2, 1.0), unit_vectors(3, 0)
    slots = np.zeros(2, np.int64), np.zeros(2), 0.02
    with pytest.raises(ValueError, match="3 penalties for 2 candidates"):
        remaining.fill(*slots, Mmr(vectors, 0.5), [], vectors, vectors.__getitem__)
    decay = CreatorDecay(np.ones(3, np.uint64), 3, 0.5, 0.25)
    with pytest.raises(ValueError, match="a decay of 3 candidates for 2"):
        remaining.fill(*slots, None, [decay], vectors, vectors.__getitem__)
    with pytest.raises(ValueError, match="1 propensities for 2 slots"):
        remaining.fill(slots[0], np.zeros(1), 0.02, None, [], vectors, vectors.__getitem__)
    with pytest.raises(ValueError, match="2 candidates for 3 slots"):
        remaining.fill(np.zeros(3, np.int64), np.zeros(3), 0.02, None, [], vectors, vectors.__getitem__)


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
