"""A list is made again from its trace: the same bytes; what was changed is named."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from leaf_world import trained
from small_models import online, online_of_all
from strategies import T0
from worlds import World, busy, here, item, request

from headrace.models.features.spec import ONLINE, SPEC
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.objectives import OBJECTIVES
from headrace.models.learning.ranker import Ranker
from headrace.serving.answering import Answer
from headrace.serving.policy import Policy
from headrace.serving.rerank import choose
from headrace.serving.rerank.rules import OFF, Rules
from headrace.serving.rerank.same_title import same_title
from headrace.serving.traces.explained import explained, instead
from headrace.serving.traces.made import traces_of
from headrace.serving.traces.record import Trace, decode, encode
from headrace.serving.traces.replay import again, whole
from headrace.streams.errors import TraceError
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import HOUR_MS

RULES = Rules(epsilon=0.2, fresh_share=0.2)


@pytest.fixture(scope="module")
def rankers() -> list[Ranker]:
    return [trained(), trained(9, "r2")]


def world_of(
    ranker: Ranker | None = None,
    *,
    moving: bool = False,
    with_online: bool = True,
    items: int = 60,
    rules: Rules = RULES,
) -> World:
    world = busy(Policy(rules=rules), items)
    for n in range(items, items + 6):
        world.publish(item(n, title="The same long title for all of them", published_ts=T0 - HOUR_MS))
    world.recommender.online = online() if with_online else None
    world.recommender.ranker = ranker
    if moving and ranker is not None and ranker.trees is not None:
        n = len(ranker.trees.leaves)
        deltas = np.random.default_rng(1).normal(size=n).astype(np.float32) / 9
        terms = np.random.default_rng(2).normal(size=1 << 15).astype(np.float32) / 9
        world.recommender.leaves = LeafDeltas(
            ranker.version, deltas, np.ones(n, np.float32), used=True, terms=terms, version="m"
        )
    return world


def sent(world: World, asked: RecRequest, answer: Answer, most: int) -> tuple[bytes, list[Trace]]:
    """Return the bytes of a reply, and its traces as they are read."""
    reply = answer.reply
    reply.took_ms, reply.state = 3.5, "e0:5"
    body = msgspec.json.encode(reply)
    made = traces_of(
        world.recommender.pipeline, asked, reply, hashlib.sha256(body).digest(), [answer], T0, 1.0, most
    )
    return body, [decode(encode(trace)) for trace in made]


def answered(
    world: World, nth: int = 0, rung: Any = "full", *, most: int = 500, **changes: Any
) -> tuple[bytes, list[Trace]]:
    fields = {"request_id": f"r{nth}", "n": 12, "context": here("BR" if nth % 2 else "US"), **changes}
    asked = request(f"u{nth % 25}", **fields)
    world.recommender.tick(T0)
    row = world.row(asked.user_id)
    if rung == "popular":
        answer = world.recommender.popular(asked, T0, "deadline", row)
    else:
        answer = world.recommender.answer(asked, row, world.anchors(asked), T0, None, rung)
    return sent(world, asked, answer, most)


ASKED: list[dict[str, Any]] = [
    {},
    {"explain": True},
    {"surface": "digest"},
    {"surface": "related", "item_id": "i7"},
    {"candidates": ["i9", "i3", "unknown", "i4", "i5", "i61", "i62"]},
    {"exclude": [f"i{n}" for n in range(55)]},
    {"n": 100},
]


@pytest.mark.parametrize("rung", ["full", "fewer", "first", "popular"])
@pytest.mark.parametrize("how", ["moved", "ranker", "online", "all", "blend"])
@pytest.mark.parametrize("asked", range(len(ASKED)))
def test_the_same_bytes(rankers: list[Ranker], rung: str, how: str, asked: int) -> None:
    ranker = rankers[0] if how in {"moved", "ranker"} else None
    world = world_of(ranker, moving=how == "moved", with_online=how != "blend")
    if how == "all":
        world.recommender.online = online_of_all()
    for n in range(4):
        body, traces = answered(world, n, rung, **ASKED[asked])
        # What happens later makes no difference.
        world.session(f"u{n}", [n + 5, n + 6], T0 + n)
        world.recommender.catalog.drop(f"i{40 + n}")
        lists = [again(trace, ranker) for trace in traces]
        assert whole(traces, lists) == (body, True)
        assert [one.differs + one.taken for one in lists] == [[]]
        (trace,) = traces
        assert trace.why.keys() >= {one.item_id for one in trace.reply.items} or rung == "popular"
        cheap = "blend" if how == "blend" else "online"
        by = {"first": cheap, "popular": ""}.get(rung, "ranker" if ranker else cheap)
        assert by == (trace.ranked.scorer if trace.ranked else "")
        if how == "all" and trace.ranked:
            assert {frozenset(one.objectives) for one in trace.reply.items} == {frozenset(OBJECTIVES)}


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what has the same title to the late filter, as it was before there was a rule for it."""
    monkeypatch.setattr(choose, "LIMITS", tuple(one for one in choose.LIMITS if one is not same_title))


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
@pytest.mark.parametrize("how", ["moved", "online", "blend"])
def test_what_was_looked_at_is_enough(rankers: list[Ranker], how: str, diversity: str) -> None:
    rules = replace(RULES, diversity=diversity, strength=0.4, creator_decay=0.8)
    ranker = rankers[0] if how == "moved" else None
    world = world_of(ranker, moving=how == "moved", with_online=how != "blend", items=400, rules=rules)
    for n in range(0, 400, 2):
        world.publish(item(n, title=f"One of the {n % 60} titles that several items have"))
    again_made = 0
    for n in range(12):
        body, (trace,) = answered(world, n, most=0)
        _, (full,) = answered(world, n)
        found = again(trace, ranker)
        assert whole([trace], [found]) == (body, True)
        assert found.differs + found.taken == []
        assert trace.ranked is not None
        assert trace.ranked.kept is not None
        again_made += len(found.slate.tried) > 0
        assert len(trace.ranked.ids) < 160 < len(trace.ranked.scores)
        assert explained(trace, found) == explained(full, again(full, ranker))
    assert again_made > 2, "some lists are made again for a late filter"


def test_of_a_short_trace_another_ranker_is_given_the_best(rankers: list[Ranker]) -> None:
    world = world_of(rankers[0], items=400, rules=OFF)
    _, (trace,) = answered(world, 1, most=150)
    assert trace.ranked is not None
    assert trace.ranked.kept is not None
    best = set(np.argsort(-trace.ranked.scores, kind="stable")[:150].tolist())
    assert best <= set(trace.ranked.kept.tolist())
    other = again(trace, rankers[1], instead=True)
    assert other.taken == [
        f"candidates: the trace has the features of {len(trace.ranked.kept)} of {len(trace.ranked.scores)}"
    ]
    assert np.isfinite(other.score).sum() == len(trace.ranked.kept)
    assert len(other.reply.items) == 12
    told = instead(trace, again(trace, rankers[0]), other, "r2")
    assert told["compared"] == len(trace.ranked.kept)


def test_an_empty_list_is_the_logged_one() -> None:
    body, traces = answered(World(), 0)
    assert whole(traces, [again(traces[0], None)]) == (body, True)
    assert traces[0].reply.items == []


@pytest.mark.usefixtures("late")
def test_the_late_filter_works_again() -> None:
    world = world_of(with_online=False)
    world.publish(item(66, title="Another title, and an older item", published_ts=T0 - 90 * HOUR_MS))
    _, (trace,) = answered(world, 1, n=2, candidates=["i60", "i61", "i66"])
    assert "i66" in {one.item_id for one in again(trace, None).reply.items}
    assert trace.ranked is not None
    trace.ranked.late = []
    assert {one.item_id for one in again(trace, None).reply.items} == {"i60", "i61"}


def test_the_rule_of_titles_works_again_and_older_traces_have_no_number_of_a_title() -> None:
    world = world_of(with_online=False)
    world.publish(item(66, title="Another title, and an older item", published_ts=T0 - 90 * HOUR_MS))
    _, (trace,) = answered(world, 1, n=2, candidates=["i60", "i61", "i66"])
    assert trace.ranked is not None
    trace.ranked.late = []
    assert "i66" in {one.item_id for one in again(trace, None).reply.items}
    del trace.ranked.choices["title"]
    assert {one.item_id for one in again(trace, None).reply.items} == {"i60", "i61"}


def test_another_ranker_makes_another_list(rankers: list[Ranker]) -> None:
    world = world_of(rankers[0], moving=True)
    _, (trace,) = answered(world, 3, n=20)
    other = again(trace, rankers[1], instead=True)
    world.recommender.ranker = rankers[1]
    _, (beside,) = answered(world, 3, n=20)
    assert other.reply.items == beside.reply.items, "what the other ranker would have made of it"
    assert [i.item_id for i in other.reply.items] != [i.item_id for i in trace.reply.items]


def test_without_its_ranker_the_logged_scores_are_taken(rankers: list[Ranker]) -> None:
    _, (trace,) = answered(world_of(rankers[0]), 3)
    found = again(trace, None)
    assert [i.item_id for i in found.reply.items] == [i.item_id for i in trace.reply.items]
    assert found.taken == [f"scores: ranker {rankers[0].version} is not kept any more"]


def changed(trace: Trace, name: str, at: Any, value: Any) -> None:
    array = getattr(trace.ranked, name).copy()
    array[at] = value
    setattr(trace.ranked, name, array)


TAMPERED: list[tuple[str, Callable[[Trace], None], str]] = [
    (
        "features",
        lambda t: changed(t, "features", (slice(0, 9), slice(None)), 3.0),
        "features or online model",
    ),
    (
        "online score",
        lambda t: changed(t, "features", (slice(None), ONLINE), 0.5),
        "features or online model",
    ),
    ("scores", lambda t: changed(t, "scores", 4, 9.0), "scores"),
    ("sources", lambda t: changed(t, "mask", slice(None), 1), "bytes"),
    ("titles", lambda t: changed(t, "titles", slice(None), 7), "bytes"),
    ("rules", lambda t: t.ranked.rules.update(strength=0.9, epsilon=0.9), "bytes"),  # type: ignore[union-attr]
    ("ids", lambda t: t.ranked.ids.reverse(), "bytes"),  # type: ignore[union-attr]
    ("took", lambda t: setattr(t, "took_ms", 1.0), "bytes"),
    ("digest", lambda t: setattr(t, "digest", b""), "bytes"),
]


@pytest.mark.parametrize(("change", "says"), [t[1:] for t in TAMPERED], ids=[t[0] for t in TAMPERED])
def test_what_was_changed_is_named(rankers: list[Ranker], change: Callable[[Trace], None], says: str) -> None:
    _, traces = answered(world_of(rankers[0]), 3)
    change(traces[0])
    found = again(traces[0], rankers[0])
    if says == "bytes":
        assert not whole(traces, [found])[1]
    else:
        assert any(one.startswith(says) for one in found.differs)


def test_a_damaged_or_foreign_record_is_refused() -> None:
    _, (trace,) = answered(world_of(), 1)
    value = encode(trace)
    for bad in (b"", value[1:], value[:-9], value[:50] + b"\x00\x00" + value[52:], b"\x01"):
        with pytest.raises(TraceError):
            decode(bad)
    with pytest.raises(TraceError, match=r"another version of Headrace \(layout 01, not 02\)"):
        decode(b"\x01" + zlib.compress(value))
    trace.spec = "other"
    with pytest.raises(TraceError, match=SPEC.version):
        again(trace, None)


def test_columns_that_do_not_fit_are_refused() -> None:
    _, (trace,) = answered(world_of(), 1)
    assert trace.ranked is not None
    trace.ranked.choices.pop("boost")
    with pytest.raises(TraceError, match="boost"):
        again(trace, None)
    trace.ranked.rules["unheard"] = 1
    trace.ranked.choices["boost"] = np.ones(len(trace.ranked.ids))
    with pytest.raises(TraceError, match="unheard"):
        again(trace, None)


def test_an_empty_reply_has_nothing_to_make_again() -> None:
    asked, reply = request(), RecReply("r1", degraded=["deadline", "candidates"])
    body = msgspec.json.encode(reply)
    world = World()
    made = traces_of(
        world.recommender.pipeline, asked, reply, hashlib.sha256(body).digest(), [Answer(reply)], T0, 1.0, 0
    )
    assert whole(made, [again(made[0], None)]) == (body, True)
