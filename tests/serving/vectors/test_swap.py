"""Another version of the towers comes into use as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from learnt_towers import learnt_body
from strategies import T0
from worlds import World, by_mmr, item, request

from headrace.models.embeddings.artefact import towers_of, version_of
from headrace.models.embeddings.pieces import cut
from headrace.models.embeddings.towers import Towers
from headrace.serving.mirrors import Mirrors
from headrace.serving.policy import Policy
from headrace.serving.ranking import Ranked
from headrace.serving.vectors.swap import BLOCK
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Context
from headrace.streams.settings import HOUR_MS

N = 2 * BLOCK + 40
KEYS = hash_many([f"i{n}" for n in range(N)])


@pytest.fixture
def world() -> Iterator[World]:
    out = World(N, Policy(rules=by_mmr(0, 1)))
    yield out
    out.recommender.close()


def body(world: World, seed: int = 1) -> bytes:
    return learnt_body(world.recommender.catalog.vectors.content, [f"i{n}" for n in range(N)], seed)


def of_one_version(world: World, ranked: Ranked) -> str:
    """Check that user, candidates, catalogue and index agree; return the version."""
    vectors, hot = world.recommender.catalog.vectors, world.recommender.hot
    towers, keys = vectors.now.towers, ranked.pool.candidates.items
    expected = towers.item_vectors(keys, vectors.content)
    np.testing.assert_allclose(ranked.pool.candidates.vectors, expected, atol=1e-5)
    products = expected @ ranked.query.interests[0]
    found = dict(zip(*(a.tolist() for a in hot.search(ranked.query.interests[0], N)), strict=True))
    near = [found[k] for k in keys.tolist() if k in found]
    assert len(near) > 20
    np.testing.assert_allclose(
        near, [p for k, p in zip(keys.tolist(), products, strict=True) if k in found], atol=0.02
    )
    return towers.version


class Gate:
    """Towers that are loaded when the test lets them."""

    def __init__(self, body: bytes) -> None:
        self.body, self.open = body, threading.Event()

    def __call__(self) -> Towers:
        assert self.open.wait(30)
        return towers_of(self.body)


def test_every_request_sees_one_version_whenever_the_swap_comes(world: World) -> None:
    world.session("me", [1, 2, 3])
    first, second = body(world, 1), body(world, 2)
    seen = [of_one_version(world, world.rank(request("me")))]
    for made in (first, second):
        gate = Gate(made)
        world.recommender.swap.begin(gate, T0)
        seen.append(of_one_version(world, world.rank(request("me"))))
        gate.open.set()
        for _ in range(10_000):
            if world.recommender.swap.advance(T0):
                break
            threading.Event().wait(0.001)
        seen.append(of_one_version(world, world.rank(request("me"))))
    assert seen == ["", "", version_of(first), version_of(first), version_of(second)]


def test_the_reply_names_the_version(world: World) -> None:
    world.session("me", [1, 2, 3])
    made = body(world)
    for version in ("", version_of(made)):
        reply = world.answer(request("me")).reply
        assert reply.model is not None
        assert reply.model.embeddings == version
        world.recommender.swap.begin(lambda: towers_of(made), T0)
        world.recommender.swap.settle(T0)


@pytest.mark.parametrize("many", [3, 300])
def test_what_is_put_and_dropped_meanwhile_is_in_both(world: World, many: int) -> None:
    gate = Gate(body(world))
    world.recommender.swap.begin(gate, T0)
    catalog, hot = world.recommender.catalog, world.recommender.hot
    new = [world.publish(item(f"new{n}", category="sport")) for n in range(many)]
    old = catalog.vector(new[0])
    assert old is not None
    assert set(new) <= set(hot.search(old, N + many)[0].tolist()), "found at once, in the present version"
    world.withdraw("i5")
    world.publish(item(6, category="film", title="all other words"))
    gate.open.set()
    world.recommender.swap.settle(T0)
    towers = catalog.vectors.now.towers
    assert towers.version
    keys = np.array([*new, *KEYS.tolist()], np.uint64)
    expected = towers.item_vectors(keys, catalog.vectors.content)
    expected[keys == hash64("i5")] = 0
    np.testing.assert_allclose(catalog.vectors.of(keys), expected, atol=1e-5)
    found, products = hot.search(expected[0], N + many)
    assert set(found.tolist()) == set(keys.tolist()) - {hash64("i5")}
    by_key = dict(zip(keys.tolist(), expected @ expected[0], strict=True))
    np.testing.assert_allclose(products, [by_key[k] for k in found.tolist()], atol=0.02)


def test_a_new_item_is_found_at_once_with_the_version_in_use(world: World) -> None:
    made = body(world)
    world.recommender.swap.begin(lambda: towers_of(made), T0)
    world.recommender.swap.settle(T0)
    key = world.publish(item("brand new"))
    vectors = world.recommender.catalog.vectors
    expected = vectors.now.towers.item_vectors(np.array([key], np.uint64), vectors.content)[0]
    np.testing.assert_allclose(vectors.vector(key), expected, atol=1e-5)
    assert world.recommender.hot.search(expected, 1)[0].tolist() == [key]


def test_an_item_without_content_gets_a_vector_when_its_id_was_learnt() -> None:
    world = World(N, Policy(rules=by_mmr(0, 1)), title="", category="", creator_id="", tags=[])
    assert len(world.recommender.hot) == 0
    made = learnt_body(world.recommender.catalog.vectors.content, ["i1", "i2", "i3"], 1)
    world.recommender.swap.begin(lambda: towers_of(made), T0)
    world.recommender.swap.settle(T0)
    vectors = world.recommender.catalog.vectors
    assert sorted(world.recommender.hot.search(vectors.of(KEYS[1:2])[0], 9)[0].tolist()) == sorted(
        KEYS[1:4].tolist()
    )
    world.recommender.close()


def test_old_items_leave_the_new_index_too(world: World) -> None:
    world.publish(item("old", published_ts=T0 - 47 * HOUR_MS))
    made = body(world)
    world.recommender.swap.begin(lambda: towers_of(made), T0)
    world.recommender.swap.settle(T0)
    assert len(world.recommender.hot) == N + 1
    assert world.recommender.hot.expire(T0 + 2 * HOUR_MS) == 1
    world.recommender.swap.begin(lambda: towers_of(made), T0 + 2 * HOUR_MS)
    world.recommender.swap.settle(T0 + 2 * HOUR_MS)
    assert len(world.recommender.hot) == N


def test_of_versions_that_come_quickly_the_newest_is_used(world: World) -> None:
    gate, last = Gate(body(world, 1)), body(world, 3)
    loaded: list[int] = []

    def load(seed: int, made: bytes) -> Callable[[], Towers]:
        return lambda: (loaded.append(seed), towers_of(made))[1]

    world.recommender.swap.begin(gate, T0)
    world.recommender.swap.begin(load(2, body(world, 2)), T0)
    world.recommender.swap.begin(load(3, last), T0)
    gate.open.set()
    world.recommender.swap.settle(T0)
    assert loaded == [3]
    assert world.recommender.catalog.vectors.version == version_of(last)


def test_a_version_that_cannot_be_used_leaves_the_present_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made = body(world)
    world.recommender.swap.begin(lambda: towers_of(made), T0)
    world.recommender.swap.settle(T0)

    def bad() -> Towers:
        raise ArtefactError("it is damaged")

    for load in (bad, lambda: towers_of(made[:-8])):
        caplog.clear()
        world.recommender.swap.begin(load, T0)
        world.recommender.swap.settle(T0)
        assert "a model was refused" in caplog.text
        assert world.recommender.catalog.vectors.version == version_of(made)
    world.session("me", [1, 2])
    assert of_one_version(world, world.rank(request("me"))) == version_of(made)


def test_mirrors_take_the_towers_from_their_pieces(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Rec:
        def __init__(self, key: bytes, value: bytes) -> None:
            self.key, self.value = key, value

    made, mirrors = body(world), Mirrors(world.recommender)
    pieces, head = cut(made, 0, 1, {}, {})
    records: list[Any] = [Rec(*record) for record in (*pieces, head)]
    assert len(pieces) > 2
    for record in records[:-1]:
        mirrors.models([record], T0)
    world.recommender.swap.settle(T0)
    assert world.recommender.catalog.vectors.version == ""
    mirrors.models(records[-1:], T0)
    world.recommender.swap.settle(T0)
    assert world.recommender.catalog.vectors.version == version_of(made)
    pieces, head = cut(body(world, 2), 1, 2, {}, {})
    mirrors.models([Rec(*record) for record in (*pieces[1:], head)], T0)
    world.recommender.swap.settle(T0)
    assert "1 of" in caplog.text
    assert world.recommender.catalog.vectors.version == version_of(made)


def test_lists_are_kept_diverse_by_content_not_by_what_was_learnt(world: World) -> None:
    vectors = world.recommender.catalog.vectors
    before = vectors.content_of(KEYS)
    made = body(world)
    world.recommender.swap.begin(lambda: towers_of(made), T0)
    world.recommender.swap.settle(T0)
    np.testing.assert_allclose(vectors.content_of(KEYS), before, atol=0.005)
    key = world.publish(item("later", category="sport"))
    world.withdraw("i7")
    found = vectors.content_of(np.array([key, hash64("i7")], np.uint64))
    assert float(found[0] @ found[0]) == pytest.approx(1, abs=0.02)
    assert not found[1].any()


def test_country_and_device_matter_to_learnt_towers(world: World) -> None:
    made = body(world)
    world.recommender.swap.begin(lambda: towers_of(made), T0)
    world.recommender.swap.settle(T0)
    nobody = world.rank(request("nobody")).query
    there = world.rank(request("nobody", context=Context(country="BR", device="BR"))).query
    assert nobody.interests == []
    assert len(there.interests) == 1
    np.testing.assert_allclose(there.context.user_vector, there.interests[0])
