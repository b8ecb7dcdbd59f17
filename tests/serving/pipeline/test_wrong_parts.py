"""Parts that return nonsense: they are left out of the list and named, like parts that fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from worlds import World, busy, by_mmr, request

from headrace.serving.pipeline.guard import IN_A_ROW, Guarded
from headrace.serving.pipeline.parts import Filter, LateFilter, Part, Rest, Scorer, Source
from headrace.serving.policy import Policy

SHOP = "shop_of_wrong_parts"
SCORERS = ("ranker", "online", "blend")


@pytest.fixture(autouse=True)
def shop() -> Iterator[None]:
    sys.modules[SHOP] = ModuleType(SHOP)
    yield
    del sys.modules[SHOP]


def with_part(kind: type[Part], method: str, gives: Callable[..., Any], **attributes: Any) -> World:
    """Return a world with a part whose method gives what ``gives`` gives."""
    fields = {"name": "wrong", "size": 10, method: lambda self, *asked: gives(*asked), **attributes}
    vars(sys.modules[SHOP])["Wrong"] = type("Wrong", (kind,), fields)
    off = {f"scorer:{name}": "off" for name in SCORERS} if kind is Scorer else {}
    policy = Policy(rules=by_mmr(0, 1), plugins=(f"{SHOP}:Wrong",), parts=off, part_ms=1e9, candidates_ms=1e9)
    return busy(policy)


@pytest.mark.parametrize(
    "gives",
    [
        lambda query, k: [np.array([1, 2])],
        lambda query, k: [np.array([1.0])],
        lambda query, k: [[1, 2]],
        lambda query, k: [np.zeros((2, 2), np.uint64)],
        lambda query, k: np.zeros(3, np.uint64),
        lambda query, k: [None],
        lambda query, k: None,
        lambda query, k: (1 // 0 for _ in range(2)),
    ],
)
def test_a_source_that_proposes_no_keys(gives: Callable[..., Any]) -> None:
    world = with_part(Source, "propose", gives)
    reply = world.answer(request("u1")).reply
    assert len(reply.items) == 20
    assert "source:wrong" in reply.degraded
    assert world.recommender.pipeline.counts()["source:wrong"].failed == 1


@pytest.mark.parametrize(
    "gives",
    [
        lambda query, found: None,
        lambda query, found: [True] * len(found),
        lambda query, found: np.arange(len(found)) % 2,
        lambda query, found: np.ones(1, bool),
    ],
)
def test_a_filter_that_gives_no_mask(gives: Callable[..., Any]) -> None:
    for kind in (Filter, LateFilter):
        world = with_part(kind, "keep", gives)
        reply = world.answer(request("u1")).reply
        assert len({i.item_id for i in reply.items}) == 20
        assert f"{kind.kind}:wrong" in reply.degraded
        strict = with_part(kind, "keep", gives, required=True)
        assert strict.answer(request("u1")).reply.items == [], "without a required filter nothing is shown"


@pytest.mark.parametrize("gives", [lambda query: None, lambda query: [-3], lambda query: ["i1"]])
def test_a_rest_that_gives_no_keys(gives: Callable[..., Any]) -> None:
    reply = with_part(Rest, "resting", gives).answer(request("u1")).reply
    assert len(reply.items) == 20
    assert "rest:wrong" in reply.degraded


@pytest.mark.parametrize(
    "gives",
    [lambda x: np.full(len(x), np.nan), lambda x: np.ones(1), lambda x: np.ones((len(x), 2)), lambda x: None],
)
def test_a_scorer_that_gives_no_scores(gives: Callable[..., Any]) -> None:
    reply = with_part(Scorer, "score", gives).answer(request("u1")).reply
    assert len(reply.items) == 20
    assert "scorer:wrong" in reply.degraded


def test_a_source_that_cannot_say_why() -> None:
    world = with_part(Source, "reason", lambda query, c, i: 1 // 0, propose=_all)
    reply = world.answer(request("u1", explain=True)).reply
    assert len(reply.items) == 20
    assert all(i.why for i in reply.items)
    assert any("wrong" in i.sources for i in reply.items)


def _all(self: Source, query: Any, k: int) -> Any:
    return [self.data.catalog.newest.newest(query.now, 100)]


@pytest.mark.parametrize("how", ["slow", "fails"])
def test_a_required_filter_is_asked_every_time(how: str) -> None:
    """Were it left out for a while, all lists would be empty for as long."""
    clock = [0.0]

    def gives(query: Any, found: Any) -> Any:
        clock[0] += 1.0
        if how == "fails":
            raise RuntimeError("no")
        return np.ones(len(found), bool)

    world = with_part(Filter, "keep", gives, required=True)
    query = world.recommender.query(request(), None, world.anchors(request()), 0, 1)
    (part,) = [f.part for f in world.recommender.pipeline._filters if f.part.name == "wrong"]
    guarded, left_out = Guarded(part, 0.5, lambda: clock[0]), list[str]()
    for _ in range(2 * IN_A_ROW):
        guarded.run(lambda part: part.keep(query, []), left_out)  # type: ignore[arg-type]
    counts = guarded.counts
    assert (counts.calls, counts.left_out) == (2 * IN_A_ROW, 0)
    assert (counts.slow, counts.failed) == ((6, 0) if how == "slow" else (0, 6))
    assert len(left_out) == counts.failed
