"""Towers that have learnt something about the items of a ``World``."""

from __future__ import annotations

import numpy as np

from headrace.models.embeddings.artefact import save
from headrace.models.embeddings.features import Users
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.learner import Learner, Plan
from headrace.models.embeddings.towers import PLACES, Towers
from headrace.streams.messages.ids import hash_many


def learnt_body(content: ItemContent, items: list[str], seed: int, clicks: int = 200) -> bytes:
    """Return what a learner publishes after random clicks on ``items``."""
    rng, keys = np.random.default_rng(seed), hash_many(items)
    none = np.zeros((clicks, 0), np.uint64)
    place = hash_many(["BR"] * clicks)
    users = Users(rng.choice(keys, (clicks, PLACES)), none, none, place, place)
    learner = Learner(Towers(), content, Plan(batch=50))
    learner.learn(users, rng.choice(keys, clicks), np.arange(clicks))
    return save(learner)
