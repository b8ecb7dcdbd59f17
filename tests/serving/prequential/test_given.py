"""Given lists: nothing is known that comes later, and what can be learnt is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from strategies import T0

from headrace.models.learning.ranker import RankerParams
from headrace.serving.prequential import given
from headrace.serving.prequential.given import (
    OURS,
    GivenList,
    GivenLists,
    Recording,
    evaluate_lists,
    verdict,
)
from headrace.serving.prequential.given_figures import F64
from headrace.serving.prequential.loop import EvalSettings
from headrace.streams.errors import ConfigError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import HOUR_MS, MINUTE_MS, Settings

NEVER = EvalSettings(first_train=10**9)
SOON = Settings(outcome_wait_ms=100, train_min_rows=100)


def lists_of(n: int, seed: int = 0, gap_ms: int = 1000) -> list[GivenList]:
    """Lists of eight of twenty items; the one with the lowest number is clicked."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(n):
        numbers = rng.choice(20, 8, replace=False)
        items = tuple(f"i{i:02d}" for i in numbers)
        out.append(GivenList(str(k), f"u{k % 50}", T0 + k * gap_ms, items, frozenset({min(items)}), "1"))
    return out


class Scores(GivenLists):
    """Keeps the scores of every list."""

    def __init__(self, folder: Path, recording: Recording, settings: Settings = SOON) -> None:
        super().__init__(NEVER, settings, folder, recording)
        self.seen: list[dict[str, F64]] = []

    def _score(self, one: GivenList, ours: dict[str, F64]) -> None:
        super()._score(one, ours)
        self.seen.append({**ours, **self._counted.scores(one.items)})


def scores(folder: Path, lists: Sequence[GivenList], recording: Recording | None = None) -> Scores:
    loop = Scores(folder, recording or Recording(lists))
    for one in lists:
        loop.step([one])
    return loop


def equal(a: Sequence[dict[str, F64]], b: Sequence[dict[str, F64]]) -> bool:
    return all((x[name] == y[name]).all() for x, y in zip(a, b, strict=True) for name in x.keys() | y.keys())


def test_what_can_be_learnt_is_learnt_and_above_the_baselines() -> None:
    how = EvalSettings(first_train=300, params=RankerParams(trees=20, leaves=7, min_leaf=10))
    figures = evaluate_lists(Recording(lists_of(900)), SOON, how)
    assert figures["lists"] == figures["scored"] == 900
    assert figures["items_shown"] == 7200
    assert figures["trainings"] >= 2
    half = figures["second_half"]
    assert half[OURS]["auc"]["mean"] > 0.9
    assert half["by chance"]["auc"]["mean"] == pytest.approx(0.5, abs=0.05)
    assert figures["ahead_of"]["given order"]["ndcg_at_10"]["low"] > 0
    assert figures["methods"]["click rate so far"]["auc"]["mean"] > 0.9


def test_the_figures_of_the_given_order_are_exact() -> None:
    one = GivenList("1", "u", T0, ("a", "b", "c"), frozenset({"b"}))
    figures = evaluate_lists(Recording([one]), SOON, NEVER)["methods"]["given order"]
    assert figures["auc"]["mean"] == 0.5
    assert figures["mrr"]["mean"] == 0.5
    assert figures["ndcg_at_5"]["mean"] == round(1 / np.log2(3), 4)


def test_the_clicks_of_a_list_do_not_inform_its_own_scores(tmp_path: Path) -> None:
    lists, last = lists_of(60), lists_of(61)[-1]
    seen = []
    for k, item in enumerate(last.items):
        changed = GivenList(last.number, last.user, last.ts, last.items, frozenset({item}), last.device)
        seen.append(scores(tmp_path / str(k), [*lists, changed]).seen[-1:])
    assert all(equal(one, seen[0]) for one in seen)


def test_the_future_does_not_change_the_past(tmp_path: Path) -> None:
    lists = lists_of(80)
    half, whole = scores(tmp_path / "1", lists[:40]), scores(tmp_path / "2", lists)
    assert equal(half.seen, whole.seen[:40])


def test_lists_of_the_same_moment_do_not_inform_each_other(tmp_path: Path) -> None:
    lists, items = lists_of(40), ("i03", "i01", "i02")
    now = lists[-1].ts + MINUTE_MS
    a, b = (GivenList(u, u, now, items, frozenset({"i03"})) for u in ("ua", "ub"))
    loop = scores(tmp_path / "1", lists)
    loop.step([a, b])
    alone = scores(tmp_path / "2", [*lists, b])
    assert equal(loop.seen[-1:], alone.seen[-1:])


def test_the_past_of_a_user_counts_from_their_first_list_on(tmp_path: Path) -> None:
    past = {"u1": [("old", T0 - 3 * HOUR_MS), ("i01", T0 - 2 * HOUR_MS)]}
    items = ("i01", "i02")
    lists = [GivenList(str(k), f"u{k}", T0 + k, items, frozenset({"i02"})) for k in range(2)]
    loop = scores(tmp_path, lists, Recording(lists, past))
    assert loop.seen[0]["clicks so far"].tolist() == [0, 0]
    assert loop.seen[1]["clicks so far"].tolist() == [1, 1]
    row = loop.users.table.data[loop.users.table.row(hash64("u1"))]
    assert int(row["n_clicks"]) == 3  # two of the past, one on the list


def test_content_comes_from_the_files_and_items_exist_from_when_they_are_seen(tmp_path: Path) -> None:
    content = {"a": Item("a", 0, "A title", "sports", ["golf"]), "b": Item("b", T0 - HOUR_MS)}
    one = GivenList("1", "u", T0, ("a", "b", "c"), frozenset({"b"}), reading="d")
    loop = scores(tmp_path, [one], Recording([one], {}, content))
    catalog = loop.recommender.catalog
    rows = catalog.find(np.array([hash64(i) for i in "abcd"], np.uint64))
    assert catalog.column("published", rows).tolist() == [T0, T0 - HOUR_MS, T0, T0]
    assert catalog.column("category", rows)[0] == hash64("sports")


def test_a_taste_for_a_category_is_learnt(tmp_path: Path) -> None:
    names = [f"{kind}{k}" for kind in "xy" for k in range(40)]
    content = {name: Item(name, 0, category=name[0]) for name in names}
    lists = []
    for k in range(40):
        items = (f"x{k}", f"y{k}")
        for user, kind in (("likes x", "x"), ("likes y", "y")):
            ts = T0 + k * HOUR_MS + 1000 * (kind == "y")
            lists.append(GivenList(f"{user}{k}", user, ts, items, frozenset({f"{kind}{k}"})))
    loop = scores(tmp_path, lists, Recording(lists, {}, content))
    blend = [seen["blend, no model"] for seen in loop.seen[40::2]]  # who asks first, before anybody clicked
    assert all(x > y for x, y in blend)


def test_lists_without_a_choice_are_refused() -> None:
    one = GivenList("1", "u", T0, ("a",), frozenset({"a"}))
    with pytest.raises(ConfigError, match="clicked and others"):
        evaluate_lists(Recording([one]), SOON, NEVER)


def test_the_verdict_says_what_is_above_and_what_is_not() -> None:
    def ahead(mean: float, low: float, high: float) -> dict[str, dict[str, float]]:
        return {figure: {"mean": mean, "low": low, "high": high} for figure in ("auc", "ndcg_at_10")}

    better, tie, worse = ahead(0.1, 0.05, 0.2), ahead(0.1, -0.05, 0.2), ahead(-0.1, -0.2, -0.05)
    assert verdict({"ahead_of": {"given order": better, "clicks so far": tie}}) == (
        "above given order by auc (surely), given order by ndcg_at_10 (surely), "
        "clicks so far by auc (not surely), clicks so far by ndcg_at_10 (not surely)"
    )
    assert verdict({"ahead_of": {"given order": better, "clicks so far": worse}}) == (
        "NOT above clicks so far by auc (surely), clicks so far by ndcg_at_10 (surely); "
        "above given order by auc (surely), given order by ndcg_at_10 (surely)"
    )
    assert given.BASELINES == ("clicks so far", "click rate so far", "given order")
