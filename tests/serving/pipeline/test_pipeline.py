"""Parts that fail, are slow, or come from elsewhere."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pages import PAGES, blocks
from strategies import T0
from worlds import World, busy, by_mmr, item, request

from headrace.serving.filters.age import MinimumAge
from headrace.serving.filters.same_title import SameTitle
from headrace.serving.pipeline.guard import IN_A_ROW
from headrace.serving.pipeline.parts import LateFilter
from headrace.serving.pipeline.query import Found, Query
from headrace.serving.policy import Policy
from headrace.serving.scorers.ranker import ByRanker
from headrace.serving.sources.hot import Hot
from headrace.streams.messages.ids import hash64

Bool = npt.NDArray[np.bool_]


def test_a_source_that_fails_is_named_and_the_others_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Hot, query: Query, k: int) -> Sequence[npt.NDArray[np.uint64]]:
        raise RuntimeError("the index is gone")

    world = busy()
    healthy = world.shown(request("u1"))
    monkeypatch.setattr(Hot, "propose", fails)
    for _ in range(IN_A_ROW + 2):
        reply = world.answer(request("u1")).reply
        assert "source:hot" in reply.degraded
        assert len(reply.items) == len(healthy)
    counts = world.recommender.pipeline.counts()["source:hot"]
    assert (counts.failed, counts.left_out) == (IN_A_ROW, 2)
    assert world.recommender.popular(request("u1"), T0, "deadline").reply.items


def test_a_required_filter_that_fails_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: MinimumAge, query: Query, found: Found) -> Bool:
        raise RuntimeError("no ages")

    world = busy()
    monkeypatch.setattr(MinimumAge, "keep", fails)
    reply = world.answer(request("u1")).reply
    assert reply.items == []
    assert "filter:age" in reply.degraded


def test_a_ranker_that_fails_leaves_the_ranking_to_the_next_scorer(
    monkeypatch: pytest.MonkeyPatch, trained: object
) -> None:
    def fails(self: ByRanker, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        raise RuntimeError("a broken model")

    world = busy()
    by_blend = world.shown(request("u1"))
    world.recommender.ranker = trained  # type: ignore[assignment]
    monkeypatch.setattr(ByRanker, "score", fails)
    answer = world.answer(request("u1"))
    assert [i.item_id for i in answer.reply.items] == by_blend
    assert answer.reply.degraded == ["online", "scorer:ranker"]


def test_when_time_is_over_the_rest_of_the_sources_is_left_out() -> None:
    world = busy(Policy(rules=by_mmr(0, 0.9), candidates_ms=-1.0))
    reply = world.answer(request("u1")).reply
    assert "source:next" in reply.degraded
    assert "source:trending" in reply.degraded
    assert len(reply.items) == 20, "the sources for a short list are always asked"
    assert all(set(i.sources) <= {"popular", "catalog"} for i in reply.items)


def test_what_is_counted() -> None:
    world = busy()
    world.publish(item(3, min_age=18))
    answer = world.answer(request("u1", n=10))
    assert answer.impression is not None
    counts = world.recommender.pipeline.counts()
    age, trending = counts["filter:age"], counts["source:trending"]
    assert age.given - age.kept == 1
    assert trending.calls == 1
    assert trending.kept >= 50
    said = [name for i in answer.reply.items for name in i.sources]
    for name in set(said):
        assert counts[f"source:{name}"].shown == said.count(name)
    assert counts["source:next"].shown == said.count("next")
    assert counts["scorer:blend"].calls == 1


# --- late filters ---


class NoThirds(LateFilter):
    name = "no_thirds"
    required = True

    def keep(self, query: Query, items: npt.NDArray[np.uint64]) -> Bool:
        thirds = {hash64(f"i{n}") for n in range(0, 100, 3)}
        return np.array([key not in thirds for key in items.tolist()], bool)


def test_what_a_late_filter_removes_is_replaced_by_the_next_best() -> None:
    world = busy()
    ranked = world.rank(request("u1", n=12))
    keys = ranked.pool.candidates.items[np.argsort(-ranked.score, kind="stable")]
    best = [world.recommender.catalog.id_of(key) for key in keys.tolist()]
    assert any(int(name[1:]) % 3 == 0 for name in best[:12])
    strict = busy(Policy(rules=by_mmr(0, 1), plugins=(f"{__name__}:NoThirds",)))
    got = strict.shown(request("u1", n=12))
    assert got == [name for name in best if int(name[1:]) % 3][:12]
    assert len(got) == 12
    everything = strict.shown(request("u1", n=60))
    assert everything
    assert all(int(n[1:]) % 3 for n in everything), "nothing else is left: the list is shorter"


def test_one_story_under_two_ids_is_shown_once_while_there_are_others() -> None:
    world = World(30)
    for n in (3, 4, 5):
        world.publish(item(n, title="The same story  everywhere" if n == 4 else "the SAME story everywhere"))
        world.click("somebody", n)
    few = world.shown(request(n=10))
    assert sum(name in {"i3", "i4", "i5"} for name in few) == 1
    assert len(few) == 10
    assert len(world.shown(request(n=30))) == 30, "they are better than nothing"
    policy = Policy(rules=by_mmr(0, 0.9), parts={"late:same_title": "off"})
    world = World(30, policy, title="a title for everything")
    assert len(world.shown(request(n=10))) == 10


def test_short_titles_say_nothing() -> None:
    world = World(30, title="News")
    assert (
        not SameTitle(world.recommender.data)
        .keep(
            world.recommender.query(request(), None, world.anchors(request()), T0, 1),
            np.array([hash64("i1"), hash64("i2")], np.uint64),
        )
        .sum()
        < 2
    )


# --- parts of one's own: the examples of the page ---


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the parts of docs/parts.md into a module; return its name."""
    parts = [code for code in blocks(PAGES["docs/parts.md"], "python") if "class " in code]
    assert len(parts) == 3
    assert all(len(code.splitlines()) < 40 for code in parts)
    (tmp_path / "shop_parts.py").write_text("from __future__ import annotations\n" + "".join(parts))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return "shop_parts"


def test_the_examples_of_the_page(shop: str) -> None:
    names = ("OnSale", "NotAtNight", "TwoOfACategory")
    policy = Policy(rules=by_mmr(0, 1), plugins=tuple(f"{shop}:{name}" for name in names))
    world = World(40, policy)
    (on_sale,) = [s.part for s in world.recommender.pipeline._sources if s.part.name == "on_sale"]
    on_sale.keys = np.array([hash64("i33"), hash64("gone")], np.uint64)  # type: ignore[attr-defined]
    by_day = T0 // 86_400_000 * 86_400_000 + 36 * 3_600_000
    reply = world.answer(request(n=40, explain=True), by_day).reply
    (shown,) = [i for i in reply.items if i.item_id == "i33"]
    assert "on_sale" in shown.sources
    assert "cheaper today" in (shown.why or [])
    assert not reply.degraded or all(":" not in name for name in reply.degraded)
    reply = world.answer(request(n=8), by_day).reply
    category = [int(i.item_id[1:]) % 4 for i in reply.items]
    assert max(category.count(c) for c in range(4)) == 2
    world.publish(item(34, min_age=18))
    world.profile("adult", age=40)
    by_night = by_day + 12 * 3_600_000
    assert "i34" in world.shown(request("adult", n=40), by_day)
    assert "i34" not in world.shown(request("adult", n=40), by_night)
