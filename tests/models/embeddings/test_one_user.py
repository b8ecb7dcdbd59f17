"""One user at a time is as many users at once: ``interests`` is the plain reference."""

from __future__ import annotations

import numpy as np
import pytest
from clicking_world import clicking_world

from headrace.models.embeddings.directions import KIND, keys_of
from headrace.models.embeddings.features import Users
from headrace.models.embeddings.interests import interests
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.learner import Learner, Plan
from headrace.models.embeddings.one_user import OneUser, vectors_of
from headrace.models.embeddings.towers import Towers, recent_vectors
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item

WORLD = clicking_world(600)


def learnt() -> Towers:
    learner = Learner(Towers(), WORLD.content, Plan(batch=50))
    learner.learn(WORLD.users, WORLD.items, WORLD.ts)
    towers = learner.towers
    known = keys_of("country", hash_many(["BR"]) + np.uint64(1))
    towers.table.add(known, np.full(1, KIND["country"], np.uint8), 1)
    return towers


@pytest.mark.parametrize("towers", [Towers(), learnt()], ids=["version 0", "learnt"])
@pytest.mark.parametrize("places", [0, 1, 7, 20])
@pytest.mark.parametrize("profile", [False, True])
def test_one_user_is_as_many(towers: Towers, places: int, profile: bool) -> None:
    content = ItemContent()
    for n in range(3):
        content.put(Item(f"x{n}", 10**12, "", f"cat{n}", [], f"by{n}"))
    rng = np.random.default_rng(places)
    for row in range(20):
        users = WORLD.users.part(row, row + 1)
        given = rng.choice(WORLD.keys, (1, places)) if places else np.zeros((1, 0), np.uint64)
        preferred, followed = np.zeros((1, 8), np.uint64), np.zeros((1, 16), np.uint64)
        if profile:
            preferred[0, :2] = hash_many(["cat1", "no item has it"])
            followed[0, 3] = hash64("by2")
        users = Users(given, preferred, followed, hash_many(["BR"]), hash_many(["phone"]))
        recent = recent_vectors(users, towers, WORLD.content)[:, :places]
        one = OneUser(recent[0], preferred[0], followed[0], hash64("BR"), hash64("phone"))
        whole, several = vectors_of(towers, one, content)
        np.testing.assert_allclose(whole, towers.user_vectors(users, recent, content)[0], atol=1e-5)
        expected = interests(towers, users, recent, content)
        there = expected.vectors[0].any(1)
        assert len(several) == int(there.sum())
        if len(several):
            np.testing.assert_allclose(np.array(several), expected.vectors[0][there], atol=1e-5)


def test_one_item_is_as_many() -> None:
    towers = learnt()
    vectors = towers.item_vectors(WORLD.keys[:50], WORLD.content)
    for key, vector in zip(WORLD.keys[:50].tolist(), vectors, strict=True):
        content = WORLD.content.features_of(np.array([key], np.uint64))
        own = content.own[0] if len(content.own) else None
        np.testing.assert_allclose(
            towers.item_vector(key, content.keys, content.kinds, own), vector, atol=1e-5
        )
