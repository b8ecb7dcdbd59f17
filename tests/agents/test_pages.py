"""Several lists in one request: one reply, no item twice, an impression for each list."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from serve_stage import NOW, Broker, Rec, batch, body, stage_on

from headrace.agents.recommend import ServeStage
from headrace.models.outcomes import request_key
from headrace.streams.messages.schemas import Impression, RecReply
from headrace.streams.settings import Settings

LISTS: list[dict[str, Any]] = [
    {"surface": "home", "n": 5},
    {"surface": "related", "n": 4, "item_id": "i3"},
    {"surface": "home", "n": 3, "filters": {"category": {"any": ["sport"]}}},
]


async def answered(stage: ServeStage, broker: Broker, *records: Rec) -> list[RecReply]:
    todo = batch(*records)
    await stage.finish(todo, await stage.answer(todo))
    return [msgspec.json.decode(r[1] or b"", type=RecReply) for r in broker.of("rec-replies-p")]


def impressions(broker: Broker) -> list[Impression]:
    return [msgspec.json.decode(r[1] or b"", type=Impression) for r in broker.of("impressions")]


@pytest.mark.parametrize("known", [True, False], ids=["known topic", "new topic"])
async def test_one_reply_has_the_lists_and_each_has_an_impression(known: bool) -> None:
    broker = Broker(rec_replies_p=1)
    broker.known |= {"rec-replies-p"} if known else set()
    stage = stage_on(broker)
    (reply,) = await answered(stage, broker, Rec(body(request_id="page", lists=LISTS)))
    assert (reply.request_id, reply.items, reply.error) == ("page", [], None)
    assert [one.request_id for one in reply.lists] == ["page/1", "page/2", "page/3"]
    assert [len(one.items) for one in reply.lists] == [5, 4, 3]
    ids = [[i.item_id for i in one.items] for one in reply.lists]
    assert len({item for each in ids for item in each}) == 12, "no item twice"
    assert "i3" not in ids[1]
    assert {int(item[1:]) % 4 for item in ids[2]} == {1}, "sport"
    shown = impressions(broker)
    assert [(i.request_id, i.surface, i.item_ids) for i in shown] == [
        (f"page/{n}", one["surface"], each) for n, (one, each) in enumerate(zip(LISTS, ids, strict=True), 1)
    ]
    propensities = [[i.propensity for i in one.items] for one in reply.lists]
    assert [[round(p, 9) for p in i.propensities] for i in shown] == propensities
    assert len({request_key("u", i.request_id) for i in shown}) == 3
    assert reply.model is not None
    assert set(reply.degraded) == {reason for one in reply.lists for reason in one.degraded}


async def test_a_list_is_what_it_would_be_alone_with_the_items_above_excluded() -> None:
    lists = [{"surface": "home", "n": 4}, {"surface": "digest", "n": 4}]
    broker = Broker(rec_replies_p=1)
    (page,) = await answered(stage_on(broker), broker, Rec(body(request_id="p", lists=lists)))
    above = [i.item_id for i in page.lists[0].items]
    alone = [body(request_id="p/1", n=4), body(request_id="p/2", n=4, surface="digest", exclude=above)]
    for one, asked in zip(page.lists, alone, strict=True):
        broker = Broker(rec_replies_p=1)
        (reply,) = await answered(stage_on(broker), broker, Rec(asked))
        assert (one.items, one.model, one.degraded) == (reply.items, reply.model, reply.degraded)


async def test_lists_without_filters_have_those_of_the_request() -> None:
    broker = Broker(rec_replies_p=1)
    film, music = {"category": {"any": ["film"]}}, {"category": {"any": ["music"]}}
    lists = [{"surface": "home", "n": 2}, {"surface": "home", "n": 2, "filters": music}]
    (reply,) = await answered(stage_on(broker), broker, Rec(body(filters=film, lists=lists)))
    assert [{int(i.item_id[1:]) % 4 for i in one.items} for one in reply.lists] == [{3}, {2}]


async def test_the_items_run_out() -> None:
    broker = Broker(rec_replies_p=1)
    lists = [{"surface": "home", "n": 25}, {"surface": "home", "n": 25}, {"surface": "home", "n": 5}]
    (reply,) = await answered(stage_on(broker), broker, Rec(body(lists=lists)))
    assert [len(one.items) for one in reply.lists] == [25, 5, 0]
    assert "candidates" in reply.lists[2].degraded
    assert "candidates" in reply.degraded
    assert [i.request_id for i in impressions(broker)] == ["r/1", "r/2"]


async def test_a_page_after_its_deadline_has_popular_lists_without_repetitions() -> None:
    broker = Broker(rec_replies_p=1)
    lists = [{"surface": "home", "n": 6}, {"surface": "digest", "n": 6}]
    late = Rec(body(deadline_ms=10, lists=lists), timestamp=NOW - 1000)
    (reply,) = await answered(stage_on(broker), broker, late)
    assert len({i.item_id for one in reply.lists for i in one.items}) == 12
    assert all("deadline" in one.degraded for one in reply.lists)
    assert impressions(broker) == []


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"lists": [{"surface": "home"}, {"surface": "related"}]}, "missing_field", "lists[1].item_id"),
        ({"lists": [{"surface": "home", "n": 300}] * 2}, "invalid_field", "lists"),
        ({"lists": [{"surface": "home"}] * 9}, "invalid_field", "lists"),
        ({"lists": [{"surface": "attic"}]}, "invalid_field", "lists[0].surface"),
        ({"lists": [{"surface": "home", "n": 0}]}, "invalid_field", "lists[0].n"),
        ({"lists": [{"surface": "home"}], "candidates": ["a"]}, "invalid_field", "candidates"),
        ({"lists": [{"surface": "home"}], "request_id": "r" * 63}, "invalid_field", "request_id"),
        ({"candidates": ["a"] * 501}, "invalid_field", "candidates"),
        ({"seen": ["a"] * 501}, "invalid_field", "seen"),
        ({"seen": [""]}, "invalid_field", "seen[0]"),
        ({"filters": {"tags": {"any": ["x"] * 101}}}, "invalid_field", "filters.tags.any"),
        ({"filters": {"tags": {"none": [""]}}}, "invalid_field", "filters.tags.none[0]"),
        ({"filters": {"published_after": 1_790_000_000}}, "out_of_range", "filters.published_after"),
    ],
)
async def test_limits_are_checked_and_named(changes: dict[str, Any], code: str, field: str) -> None:
    broker = Broker(rec_replies_p=1)
    (reply,) = await answered(stage_on(broker), broker, Rec(body(**changes)))
    assert reply.error is not None
    assert (reply.error.code, reply.error.field.replace("[...]", "[0]")) == (code, field)
    assert broker.letters() == [(code, reply.error.field, 0)]


async def test_what_a_page_does_not_use_may_be_missing() -> None:
    broker = Broker(rec_replies_p=1)
    (reply,) = await answered(
        stage_on(broker), broker, Rec(body(surface="related", lists=[{"surface": "home", "n": 1}]))
    )
    assert len(reply.lists[0].items) == 1
    assert len("r" * 62 + "/8") == 64


async def test_other_tasks_run_between_the_lists() -> None:
    broker, turns = Broker(rec_replies_p=1), [0]
    broker.known.add("rec-replies-p")
    stage = stage_on(broker, Settings())
    seen: list[int] = []
    answer = stage.recommender.answer

    def noted(*args: Any) -> Any:
        seen.append(turns[0])
        return answer(*args)

    async def other() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    stage.recommender.answer = noted  # type: ignore[method-assign]
    running = asyncio.create_task(other())
    await answered(stage, broker, Rec(body(lists=[{"surface": "home", "n": 2}] * 6)))
    running.cancel()
    assert len(seen) == len(set(seen)) == 6
