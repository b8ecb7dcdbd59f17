"""Source ``ann``: nearest items of the whole catalogue, by the index of its snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mapped_catalogs import base_of, write_snapshot
from strategies import T0
from worlds import World, by_mmr, item, request

from headrace.models.embeddings.many import ContentVectors
from headrace.serving.policy import Policy
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS

#: Only the source that is tested.
ALONE = Policy(rules=by_mmr(0, 1), parts={"source:catalog": "off", "source:new": "off", "source:creator": "off"})


def old(n: int, **changes: Any) -> Any:
    """Return an item that no other source proposes: it is a month old, and nobody clicked it."""
    return item(n, published_ts=T0 - 30 * DAY_MS, **changes)


def on_snapshot(path: Path, world: World, *records: Any) -> None:
    write_snapshot(path, records, {0: 1})
    base = base_of(path)
    base.hide(world.recommender.catalog.begin_swap())
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


def test_vectors_of_another_version_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(30)
    on_snapshot(tmp_path, world, *(old(n) for n in range(30, 40)))
    world.click("u", "i1")
    assert "source:ann" not in world.answer(request("u")).reply.degraded
    later = ContentVectors()
    monkeypatch.setattr(later, "version", "later")
    world.recommender.catalog.vectors = later
    reply = world.answer(request("u")).reply
    assert "source:ann" in reply.degraded
    assert all("ann" not in i.sources for i in reply.items)
    counts = world.recommender.pipeline.counts()["source:ann"]
    assert (counts.left_out, counts.failed) == (1, 0)
