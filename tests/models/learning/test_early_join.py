"""Learning without waiting: what is learnt when, and that the probabilities come out as with the wait."""

from __future__ import annotations

import numpy as np
import pytest
from shown_lists import shown
from toy_clicks import happened

from headrace.models.features.spec import SPEC
from headrace.models.learning import early_join, ranker
from headrace.models.learning.early_join import EarlyJoin
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaf_learner import LeafLearner
from headrace.models.learning.leaves import moved
from headrace.models.learning.online_learner import OnlineLearner
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.streams.messages.schemas import Event, Example

WAIT = 10_000


def join() -> EarlyJoin:
    return EarlyJoin(WAIT, 100)


def click(request: str = "r", item: str = "a", ts: int = 10, kind: str = "click") -> tuple[Event, int]:
    event = Event("e", kind, "u", item, ts, request_id=request)  # type: ignore[arg-type]
    return event, ts


def told(examples: list[Example]) -> list[tuple[str, str, bool]]:
    return [(e.request_id, e.item_id, e.clicked) for e in examples]


def test_a_list_is_learnt_at_once_and_its_click_when_it_comes_once() -> None:
    j = join()
    one = shown(ts=5)
    assert told(j.show([(one, 5)])) == [("r", "a", False), ("r", "b", False)]
    (found,) = j.happen([click(item="b")])
    assert told([found]) == [("r", "b", True)]
    assert found.position == 1
    assert found.features == one.features[4 * len(SPEC) :]
    assert j.happen([click(item="b", ts=11), click(item="c"), click("", "a")]) == []
    assert j.happen([click(item="a", kind="skip")]) == []
    assert told(j.happen([click(item="a")])) == [("r", "a", True)]


def test_a_click_that_is_read_before_its_list_waits_for_it() -> None:
    j = join()
    assert j.happen([click(), click(item="b"), click(ts=12)]) == []
    assert told(j.show([(shown(ts=5), 5)])) == [
        ("r", "a", False), ("r", "b", False), ("r", "a", True), ("r", "b", True),
    ]  # fmt: skip
    assert j.happen([click()]) == []


def test_what_was_learnt_before_a_restart_is_only_remembered() -> None:
    j = join()
    assert j.happen([click()], learn=False) == []
    assert j.happen([click(item="b")]) == []
    assert told(j.show([(shown(ts=5), 5)], learn=False)) == [("r", "b", True)]
    assert j.happen([click(), click(item="b")]) == [], "both are learnt"


def test_an_event_belongs_to_the_newest_list_of_its_request_that_holds_its_item() -> None:
    j = join()
    j.show([(shown(items=["a", "b"], ts=5), 5), (shown(items=["b", "c"], ts=50), 50)])
    assert len(j.happen([click(item="b", ts=20), click(item="b", ts=60), click(item="b", ts=61)])) == 2


def test_memory_is_bounded_by_time_and_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    j = join()
    j.show([(shown(ts=5), 5)])
    j.show([(shown("r2", ts=WAIT + 5), WAIT + 5)])
    assert len(j) == 2
    assert j.happen([click(ts=WAIT + 6)]) == [], "its list is forgotten"
    monkeypatch.setattr(early_join, "MOST_SLOTS", 10)
    monkeypatch.setattr(early_join, "MOST_EVENTS", 3)
    j.show([(shown(f"n{k}", ts=WAIT + 9), WAIT + 9) for k in range(20)])
    assert len(j) == 10
    for k in range(9):
        j.happen([click(f"late{k}", ts=WAIT + 9)])
    late = [j.show([(shown(f"late{k}", ts=WAIT + 9), WAIT + 9)]) for k in range(9)]
    assert [any(e.clicked for e in examples) for examples in late] == [False] * 6 + [True] * 3


def stream(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, Ids]:  # type: ignore[type-arg]
    """Return rows of shown slots, their true click rates, and ids."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, len(SPEC)), np.float32)
    x[:, [3, 10]] = rng.standard_normal((n, 2))
    rate = 1 / (1 + np.exp(-(0.8 * x[:, 3] - 0.6 * x[:, 10] - 2.2)))
    return x, rate, Ids(*(rng.integers(1, most, n).astype(np.uint64) for most in (200, 100, 3, 2)))


def test_probabilities_are_those_of_the_full_wait_within_two_percent() -> None:
    """Clicks come on average after 1500 more slots; the other learners get them with their slots."""
    n, rng = 80_000, np.random.default_rng(1)
    x, rate, ids = stream(n, 2)
    clicked = rng.random(n) < rate
    at = np.concatenate([np.arange(n), np.flatnonzero(clicked) + rng.exponential(1500, clicked.sum())])
    rows = np.concatenate([np.arange(n), np.flatnonzero(clicked)])
    late = np.r_[np.zeros(n, bool), np.ones(clicked.sum(), bool)]
    order = np.argsort(at, kind="stable")
    order = order[at[order] < n]  # the stream goes on: clicks alone would come after that
    past, past_rate, _ = stream(5000, 4)
    text = ranker.train(past, (rng.random(5000) < past_rate).astype(np.float32), RankerParams(trees=40))
    model = Ranker(text, SPEC.names, "r1")
    assert model.trees is not None
    early, full = OnlineLearner(), OnlineLearner()
    early_leaves, full_leaves = (LeafLearner(model.trees, model.version) for _ in range(2))
    for start in range(0, len(order), 512):
        part = order[start : start + 512]
        some = Ids(*(column[rows[part]] for column in (ids.users, ids.items, ids.countries, ids.devices)))
        early.learn(x[rows[part]], happened(late[part]), some, early=True)
        early_leaves.learn(x[rows[part]], late[part], some, early=True)
    for start in range(0, n, 512):
        part = np.arange(start, min(n, start + 512))
        some = Ids(*(column[part] for column in (ids.users, ids.items, ids.countries, ids.devices)))
        full.learn(x[part], happened(clicked[part]), some)
        full_leaves.learn(x[part], clicked[part], some)
    fresh, truth, who = stream(40_000, 3)
    sums = [learner.weights().predict(fresh, who).sum() / truth.sum() for learner in (early, full)]
    for leaf_learner in (early_leaves, full_leaves):
        found = leaf_learner.deltas()
        assert found.used
        changed = moved(model, found)
        assert changed is not None
        sums.append(changed.predict(fresh, who).sum() / truth.sum())
    assert sums[0] == pytest.approx(sums[1], rel=0.02)
    assert sums[2] == pytest.approx(sums[3], rel=0.02)
    assert sums[0] == pytest.approx(1, rel=0.03)
    quality = early.quality()
    assert quality["calibration"] == pytest.approx(1, rel=0.1)
    assert 0 < clicked.sum() - quality["clicks"] < 600, "some clicks are still to come"
    assert quality["log_loss"] == pytest.approx(full.quality()["log_loss"], rel=0.05)
    assert (quality["examples"], quality["clicks"]) == (n, late[order].sum())
