"""Source ``ann``: nearest items of the whole catalogue, by the index of its snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mapped_catalogs import base_of, begin_swap, opened, write_snapshot
from strategies import T0
from worlds import World, by_mmr, item, request

from headrace.serving.catalog import Catalog
from headrace.serving.catalog_changes import Origin
from headrace.serving.policy import Policy
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS

#: Only the source that is tested.
ALONE = Policy(
    rules=by_mmr(0, 1), parts={"source:catalog": "off", "source:new": "off", "source:creator": "off"}
)


def old(n: int, **changes: Any) -> Any:
    """Return an item that no other source proposes: it is a month old, and nobody clicked it."""
    return item(n, published_ts=T0 - 30 * DAY_MS, **changes)


def on_snapshot(path: Path, world: World, *records: Any) -> None:
    write_snapshot(path, records, {0: 1})
    base = base_of(path)
    begin_swap(world.recommender.catalog, base)
    world.recommender.catalog.swap(base)


def sources_of(world: World, user: str = "u") -> dict[str, list[str]]:
    return {i.item_id: i.sources for i in world.answer(request(user, n=30)).reply.items}


def test_items_close_to_the_interests_come_from_the_whole_catalogue(tmp_path: Path) -> None:
    world = World(policy=ALONE)
    near = [old(n, category="sport", creator_id="ana", tags=["cup"], title="") for n in range(5)]
    far = [old(n, category="film", creator_id="bob", tags=["oscar"], title="") for n in range(5, 400)]
    on_snapshot(tmp_path, world, *near, *far)
    world.click("u", "i0")
    found = sources_of(world)
    assert all(found[f"i{n}"] == ["ann"] for n in range(1, 5))
    reason = world.answer(request("u", n=30, explain=True)).reply.items[0].why
    assert reason
    assert "similar to what you opened lately" in reason[0]


def test_the_interests_share_the_size(tmp_path: Path) -> None:
    world = World(policy=ALONE)
    on_snapshot(tmp_path, world, *(old(n) for n in range(300)))
    world.click("u", "i1")
    source = next(s.part for s in world.recommender.pipeline._sources if s.part.name == "ann")
    asked = request("u")
    query = world.recommender.query(asked, world.row("u"), world.anchors(asked), T0, 500)
    one = query.interests[0]
    query.interests = [one, -one]
    assert [len(keys) for keys in source.propose(query, 200)] == [100, 100]
    query.interests = []
    assert source.propose(query, 200) == []


def test_what_was_withdrawn_or_changed_is_not_found_in_the_snapshot(tmp_path: Path) -> None:
    world = World(policy=ALONE)
    on_snapshot(tmp_path, world, *(old(n, category="sport", title="") for n in range(6)))
    world.click("u", "i0")
    world.withdraw("i1")
    world.recommender.catalog.put(old(2, category="film", title=""))
    keys = world.recommender.catalog.nearest(np.asarray(world.recommender.catalog.vector(hash64("i3"))), 10)
    assert {world.recommender.catalog.id_of(k) for k in keys.tolist()} == {"i0", "i3", "i4", "i5"}
    assert "i1" not in sources_of(world)


def test_without_a_snapshot_it_proposes_nothing_and_is_not_missed() -> None:
    world = World(30)
    world.click("u", "i1")
    reply = world.answer(request("u")).reply
    assert "source:ann" not in reply.degraded
    assert all("ann" not in i.sources for i in reply.items)


def test_vectors_of_another_version_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(30)
    on_snapshot(tmp_path, world, *(old(n) for n in range(30, 40)))
    world.click("u", "i1")
    assert "source:ann" not in world.answer(request("u")).reply.degraded
    monkeypatch.setattr(Catalog, "version", property(lambda self: "later"))
    reply = world.answer(request("u")).reply
    assert "source:ann" in reply.degraded
    assert all("ann" not in i.sources for i in reply.items)
    counts = world.recommender.pipeline.counts()["source:ann"]
    assert (counts.left_out, counts.failed) == (1, 0)


def found_by_ann(world: World, asked: Any) -> set[int]:
    return {int(i.item_id[1:]) for i in world.answer(asked).reply.items if "ann" in i.sources}


def test_lists_are_right_before_a_swap_in_between_and_after(tmp_path: Path) -> None:
    world = World(policy=ALONE)
    records = [old(n) for n in range(400)]
    on_snapshot(tmp_path, world, *records)
    catalog = world.recommender.catalog
    for n in range(0, 300, 3):
        catalog.put_many([old(n, title=f"New {n}")], Origin(0, np.array([n]), T0))
    catalog.drop_many(["i7"], Origin(0, np.array([300]), T0))
    world.click("u", "i1")
    asked = request("u", n=50)
    before = found_by_ann(world, asked)
    assert before
    assert not any(n % 3 == 0 and n < 300 for n in before), "those that changed are found by others"
    changed = [old(n, title=f"New {n}") for n in range(0, 300, 3)]
    write_snapshot(tmp_path, [*changed, "i7"], {0: 301}, old=opened(tmp_path))
    base = base_of(tmp_path)
    begin_swap(catalog, base)
    last = catalog.swap(base)
    assert last is not None
    steps, more = 0, True
    while more:
        ranked = world.rank(asked)
        np.testing.assert_array_equal(
            catalog.column("key", ranked.pool.catalog_rows), ranked.pool.candidates.items
        )
        more, steps = catalog.trim(), steps + 1
    assert steps > 0
    assert len(catalog.table) == 0
    after = found_by_ann(world, asked)
    assert 7 not in after
    assert any(n % 3 == 0 and n < 300 for n in after), "items that changed are found in the new snapshot"
