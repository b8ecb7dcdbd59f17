from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clicking_world import T0, ClickingWorld, clicking_world, nobody

from headrace.models.embeddings.artefact import encode, save
from headrace.models.embeddings.directions import keys_of
from headrace.models.embeddings.features import Users
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.learner import Learner, Plan
from headrace.models.embeddings.towers import Towers, first_weights, recent_vectors
from headrace.streams.messages.ids import hash_many
from headrace.streams.messages.schemas import Item

SMALL = Plan(batch=64)


def learner_of(world: ClickingWorld, plan: Plan = SMALL) -> Learner:
    return Learner(Towers(), world.content, plan)


def learn(learner: Learner, world: ClickingWorld, start: int, end: int) -> None:
    learner.learn(world.users.part(start, end), world.items[start:end], world.ts[start:end])


def recall(towers: Towers, world: ClickingWorld, start: int, k: int = 5) -> float:
    """Return the share of the clicks from ``start`` whose item is among the ``k`` nearest of all items."""
    users = world.users.part(start, len(world.items))
    vectors = towers.user_vectors(users, recent_vectors(users, towers, world.content), world.content)
    scores = vectors @ towers.item_vectors(world.keys, world.content).T
    nearest = world.keys[np.argsort(-scores, axis=1)[:, :k]]
    return float((nearest == world.items[start:, None]).any(1).mean())


def test_learning_finds_a_structure_that_content_does_not_tell() -> None:
    world = clicking_world(12_000, size=40)
    learner = learner_of(world)
    before = recall(learner.towers, world, 10_000)
    learn(learner, world, 0, 10_000)
    learner.flush()
    after = recall(learner.towers, world, 10_000)
    vectors = learner.towers.item_vectors(world.keys, world.content)
    same = world.group[:, None] == world.group
    likeness = vectors @ vectors.T
    assert before < 0.2
    assert after > 0.42, after  # 0.49 at best: the five most popular items of the user's group
    assert likeness[same].mean() > likeness[~same].mean() + 0.15
    assert learner.learnt == 10_000


def test_the_correction_helps_popular_items_to_be_found() -> None:
    world, found = clicking_world(12_000, groups=1, size=60), {}
    world.users.recent[:] = 0  # so only popularity can be learnt: 0.49 at best, 0.08 by chance
    for log_q in (True, False):
        learner = learner_of(world, replace(SMALL, log_q=log_q))
        learn(learner, world, 0, 10_000)
        found[log_q] = recall(learner.towers, world, 10_000)
    assert found[True] > 0.4, found
    assert found[False] < 0.2, found


def test_the_same_clicks_give_the_same_bytes_however_they_are_cut() -> None:
    world, bodies = clicking_world(1000), set()
    for cut in (1000, 64, 37):
        learner = learner_of(world)
        for start in range(0, 1000, cut):
            learn(learner, world, start, min(start + cut, 1000))
        assert (learner.learnt, learner.waiting) == (960, 40)
        learner.flush()
        assert (learner.learnt, learner.waiting) == (1000, 0)
        bodies.add((encode(learner.towers), save(learner)))
    assert len(bodies) == 1


def test_other_clicks_give_another_version() -> None:
    versions = set()
    for seed in (1, 2):
        world = clicking_world(128, seed=seed)
        learner = learner_of(world)
        learn(learner, world, 0, 128)
        versions.add(encode(learner.towers)[1])
    assert len(versions) == 2


@pytest.mark.parametrize("sightings", [1, 2, 4])
def test_a_feature_gets_a_row_when_it_was_seen_often_enough(sightings: int) -> None:
    content = ItemContent()
    for name in ("i", "j"):
        content.put(Item(item_id=name, published_ts=T0, tags=[f"tag of {name}"]))
    towers = Towers()
    learner = Learner(towers, content, Plan(sightings=sightings))
    i, j = hash_many(["i", "j"])
    tags = hash_many(["tag:tag of i", "tag:tag of j"])
    for seen in range(1, 5):
        learner.learn(nobody(1), np.array([i], np.uint64), np.array([T0 + seen]))
        learner.flush()
        assert (tags[0] in towers.table.rows) == (seen >= sightings)
        assert (int(keys_of("item", hash_many(["i"]))[0]) in towers.table.rows) == (seen >= sightings)
    assert tags[1] not in towers.table.rows
    assert j != i


def test_features_that_are_seen_stay_and_others_expire() -> None:
    content = ItemContent()
    for name in ("i", "j"):
        content.put(Item(item_id=name, published_ts=T0, tags=["both", f"only {name}"]))
    learner = Learner(Towers(), content, Plan(sightings=1))
    for ts, name in ((T0, "i"), (T0 + 1000, "j")):
        learner.learn(nobody(1), hash_many([name]), np.array([ts]))
        learner.flush()
    table = learner.towers.table.rows
    assert learner.expire(T0 + 1000) == 2  # the item i, and the tag that only i has
    names = hash_many(["tag:both", "tag:only i", "tag:only j"])
    assert [int(name) in table for name in names] == [True, False, True]
    before = learner.towers.item_vectors(hash_many(["i"]), content)
    assert abs(float(before[0] @ before[0]) - 1) < 1e-6  # it has the fixed directions again


def test_a_new_item_learns_from_the_features_it_shares() -> None:
    content, names = ItemContent(), [f"i{n}" for n in range(40)]
    for n, name in enumerate(names):
        content.put(Item(item_id=name, published_ts=T0, category=f"c{n % 4}", tags=[f"t{n}"]))
    rng, keys = np.random.default_rng(1), hash_many(names)
    users = nobody(12_000)
    clicked = rng.integers(0, 40, 12_000)
    together = clicked % 4 // 2  # who reads c0 reads c1, who reads c2 reads c3
    users.recent[:, 0] = keys[4 * rng.integers(0, 10, 12_000) + 2 * together + rng.integers(0, 2, 12_000)]
    learner = Learner(Towers(), content, SMALL)
    learner.learn(users, keys[clicked], T0 + np.arange(12_000))
    for n in range(4):
        content.put(Item(item_id=f"new {n}", published_ts=T0, category=f"c{n}"))
    new, readers = hash_many([f"new {n}" for n in range(4)]), nobody(4)
    readers.recent[:, 0] = keys[:4]  # one of each category
    towers, gains = learner.towers, []
    for model in (Towers(), towers):
        found = model.user_vectors(readers, recent_vectors(readers, model, content), content)
        scores = found @ model.item_vectors(new, content).T
        gains.append([scores[n, n ^ 1] - scores[n, n ^ 2] for n in range(4)])
    assert min(gains[1]) > 0.2, gains
    assert max(gains[0]) < 0.2, gains


def test_clicks_on_what_is_not_known_change_nothing_but_the_counts() -> None:
    learner = Learner(Towers(), ItemContent(), Plan(batch=4, sightings=200))
    learner.learn(nobody(8), np.arange(1, 9, dtype=np.uint64), np.full(8, T0))
    assert learner.learnt == learner.gaps.clicks == 8
    np.testing.assert_array_equal(learner.towers.weights, first_weights())
    assert len(learner.towers.table) == 0
    assert learner.loss == 0


def test_publishers_vectors_are_learnt_through_the_map() -> None:
    rng, content = np.random.default_rng(2), ItemContent()
    names = [f"i{n}" for n in range(30)]
    own = rng.normal(size=(30, 12))
    for name, vector in zip(names, own, strict=True):
        content.put(Item(item_id=name, published_ts=T0, vector=vector.tolist()))
    keys, users = hash_many(names), nobody(3000)
    clicked = rng.integers(0, 30, 3000)
    opposite = np.argsort(own @ own.T, axis=1)[:, 0]
    users.recent[:, 0] = keys[opposite[clicked]]
    learner = Learner(Towers(), content, Plan(batch=100, sightings=250))  # no rows: the map alone learns
    before = learner.towers.own_map.copy()
    losses = []
    for start in range(0, 3000, 1000):
        part = slice(start, start + 1000)
        learner.learn(users.part(start, start + 1000), keys[clicked[part]], T0 + np.arange(1000))
        losses.append(learner.loss)
    assert not np.array_equal(before, learner.towers.own_map)
    assert losses[-1] < losses[0]


def test_recent_items_beyond_the_places_are_not_read() -> None:
    world = clicking_world(128)
    longer = np.concatenate([world.users.recent, np.full((128, 3), 77, np.uint64)], axis=1)
    versions = set()
    for recent in (world.users.recent, longer):
        u = world.users
        learner = learner_of(world)
        learner.learn(Users(recent, u.preferred, u.followed, u.country, u.device), world.items, world.ts)
        versions.add(encode(learner.towers)[1])
    assert len(versions) == 1
