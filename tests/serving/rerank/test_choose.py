from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slates import candidates, made, shown
from strategies import unit_vectors

from headrace.serving.rerank import choose as choosing
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.choose import choose
from headrace.serving.rerank.rules import Rules


def drawn(m: int, seed: int) -> Choices:
    """Return candidates with every column drawn at random; some scores are equal, some negative."""
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(max(m, 1), seed)[:m]
    vectors[rng.random(m) < 0.2] = 0
    clicks = rng.integers(0, 5, m)
    return candidates(
        rng.integers(-20, 20, m) / 7,
        vectors=vectors,
        creator=rng.integers(0, 6, m),
        category=rng.integers(0, 4, m),
        followed=rng.random(m) < 0.2,
        tail=rng.random(m) < 0.3,
        fresh=rng.random(m) < 0.2,
        clicks=clicks,
        shown=clicks + rng.integers(0, 50, m),
        boost=rng.choice([0.5, 1, 1, 2], m),
    )


rules = st.builds(
    Rules,
    diversity=st.sampled_from(["mmr", "dpp", "none"]),
    strength=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    creator_decay=st.sampled_from([1.0, 0.5]),
    creator_at_most=st.integers(0, 3),
    creator_window=st.integers(0, 4),
    category_at_most=st.integers(0, 3),
    category_share=st.sampled_from([1.0, 0.25]),
    tail_share=st.sampled_from([0.0, 0.2, 1.0]),
    not_followed=st.sampled_from([1.0, 0.75]),
    boosts=st.booleans(),
    fresh_share=st.sampled_from([0.0, 0.1, 0.5]),
    thompson=st.sampled_from([0.0, 0.5, 1.0]),
    epsilon=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)


@given(st.integers(0, 40), st.integers(0, 50), rules, st.integers(0, 2**32))
def test_a_list_is_a_list(m: int, n: int, rules: Rules, seed: int) -> None:
    choices = drawn(m, seed)
    slate = choose(choices, n, rules, np.random.default_rng(seed))
    size = min(n, m)
    assert len(slate.chosen) == len(slate.propensity) == len(slate.explored) == len(slate.reasons) == size
    assert slate.chosen.dtype == np.int64
    assert slate.propensity.dtype == np.float64
    assert slate.explored.dtype == np.bool_
    assert len(set(slate.chosen.tolist())) == size, "an item is shown twice"
    assert ((slate.chosen >= 0) & (slate.chosen < m)).all()
    assert ((slate.propensity > 0) & (slate.propensity <= 1 + 1e-12)).all()
    assert set(slate.reasons) <= {"", "explored", "fresh", "long_tail"}
    again = choose(choices, n, rules, np.random.default_rng(seed))
    assert again.chosen.tolist() == slate.chosen.tolist()
    assert again.reasons == slate.reasons
    np.testing.assert_array_equal(again.propensity, slate.propensity)
    if rules.epsilon == 0 and (rules.fresh_share == 0 or rules.thompson == 0):
        assert (slate.propensity == 1).all()
        assert not slate.explored.any()


@given(st.integers(1, 30), rules, st.integers(0, 2**32))
def test_the_order_of_the_candidates_does_not_matter(m: int, rules: Rules, seed: int) -> None:
    rules = replace(rules, epsilon=0, thompson=0)
    choices, other = drawn(m, seed), np.random.default_rng(seed).permutation(m)
    choices.score = choices.score + np.arange(m) * 1e-3  # no two are equal
    choices.boost[:] = 1
    first = choose(choices, 10, rules, np.random.default_rng(0)).chosen
    second = choose(choices.take(other), 10, rules, np.random.default_rng(0)).chosen
    if rules.strength < 1 and rules.creator_decay == 1 and rules.not_followed == 1:
        assert other[second].tolist() == first.tolist()
    assert len(second) == len(first)


def test_no_candidates() -> None:
    slate = choose(candidates([]), 10, Rules(), np.random.default_rng(0))
    assert slate.chosen.shape == slate.propensity.shape == slate.explored.shape == (0,)
    assert slate.reasons == []
    assert made(candidates([1.0]), 0).chosen.shape == (0,)


@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
def test_equal_scores(diversity: str) -> None:
    assert shown(candidates(np.zeros(10)), 4) == [0, 1, 2, 3]
    choices = candidates(np.zeros(10), vectors=np.repeat(unit_vectors(2, 0), 5, 0))
    chosen = shown(choices, 4, diversity=diversity)
    assert chosen[0] == 0
    assert chosen[1] == 5, "the other kind is next"


@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_items_without_content_are_sorted(diversity: str, strength: float) -> None:
    score = np.random.default_rng(1).standard_normal(30)
    expected = np.argsort(-score).tolist()
    assert shown(candidates(score), 30, diversity=diversity, strength=strength) == expected


@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
def test_nothing_but_diversity(diversity: str) -> None:
    # The best first; then one of each kind, the best of it first.
    vectors = np.eye(64, dtype=np.float32)[[0, 0, 0, 1, 1, 2]]
    choices = candidates([6.0, 5, 4, 3, 2, 1], vectors=vectors)
    assert shown(choices, 3, diversity=diversity, strength=1) == [0, 3, 5]


@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
@pytest.mark.parametrize("scale", [0.001, 1000.0])
@pytest.mark.parametrize("shift", [-500.0, 500.0])
def test_diversity_does_not_depend_on_the_scale_of_scores(diversity: str, scale: float, shift: float) -> None:
    score, vectors = np.random.default_rng(4).integers(0, 1000, 80).astype(float), unit_vectors(80, 1)
    expected = shown(candidates(score, vectors=vectors), 20, diversity=diversity, strength=0.4)
    other = candidates(score * scale + shift, vectors=vectors)
    assert shown(other, 20, diversity=diversity, strength=0.4) == expected


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_scores_must_be_finite(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        made(candidates([1.0, wrong]), 1)


def test_columns_have_one_length() -> None:
    with pytest.raises(ValueError, match="creator has 1 rows, score has 2"):
        made(candidates([1.0, 2.0], creator=[1]), 1)


class Even:
    """A limit as it was before limits could name their slots: every slot has one of the even places."""

    reason = ""

    def __init__(self, m: int) -> None:
        self.even, self.told = np.arange(m) % 2 == 0, list[tuple[int, int]]()

    def allowed(self, slot: int) -> Any:
        return self.even

    def put(self, slot: int, place: int) -> None:
        self.told.append((slot, place))


class EvenAtFirst(Even):
    """The same for the first three slots only."""

    slots = range(3)

    def allowed(self, slot: int) -> Any:
        return self.even if slot in self.slots else None


@pytest.mark.parametrize(("limit", "expected"), [(Even, [0, 2, 4, 6]), (EvenAtFirst, [0, 2, 4, 1])])
def test_a_limit_of_somebody_else(
    monkeypatch: pytest.MonkeyPatch, limit: type[Even], expected: list[int]
) -> None:
    one = limit(9)
    monkeypatch.setattr(choosing, "LIMITS", (lambda *_: one,))
    for n in (4, 2, 1):
        one.told.clear()
        assert shown(candidates(-np.arange(9.0)), n) == expected[:n]
        assert one.told == ([] if limit is EvenAtFirst else list(enumerate(expected[:n])))


def test_all_rules_at_once() -> None:
    choices = drawn(400, 3)
    numbers: dict[str, Any] = {
        "creator_at_most": 4,
        "category_share": 0.35,
        "tail_share": 0.3,
        "epsilon": 0.0,
    }
    slate = choose(choices, 20, Rules(**numbers, diversity="dpp", fresh_share=0.1), np.random.default_rng(1))
    creators, categories = choices.creator[slate.chosen], choices.category[slate.chosen]
    assert max(np.bincount(creators.astype(int))[1:]) <= 4
    assert max(np.bincount(categories.astype(int))[1:]) <= 7
    assert choices.tail[slate.chosen].sum() >= 6
    assert choices.fresh[slate.chosen[[5, 15]]].all()


def test_long_lists() -> None:
    choices = drawn(600, 1)
    for diversity in ("mmr", "dpp", "none"):
        assert len(set(shown(choices, 500, diversity=diversity, strength=0.2))) == 500
