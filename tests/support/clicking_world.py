"""Small worlds of items and clicks whose structure is known, for tests of the towers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.features import I64, Users
from headrace.models.embeddings.item_content import ItemContent
from headrace.models.embeddings.towers import PLACES
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Item

U64 = npt.NDArray[np.uint64]
T0 = 1_700_000_000_000


@dataclass
class ClickingWorld:
    """Items in groups that their content does not tell; users click mostly in one group."""

    content: ItemContent
    keys: U64
    group: I64
    users: Users
    items: U64
    ts: I64


def nobody(n: int) -> Users:
    """Return ``n`` users of whom nothing is known."""
    lists, column = np.zeros((n, 0), np.uint64), np.zeros(n, np.uint64)
    return Users(np.zeros((n, PLACES), np.uint64), lists, lists, column, column)


def clicking_world(clicks: int, groups: int = 5, size: int = 12, seed: int = 1) -> ClickingWorld:
    """Return a world of clicks: nine of ten are in the group of the user, popular items are clicked more."""
    rng = np.random.default_rng(seed)
    content, names = ItemContent(), [f"item-{n}" for n in range(groups * size)]
    for n, name in enumerate(names):
        tags = [f"tag-{t}" for t in rng.integers(0, 30, 3)]
        content.put(Item(item_id=name, published_ts=T0, tags=tags, creator_id=f"creator-{n % 7}"))
    keys, group = hash_many(names), np.arange(len(names)) % groups
    popularity = 1 / (1 + np.arange(size))
    users = nobody(clicks)
    users.country[:] = hash64("BR")
    users.device[:] = np.where(rng.random(clicks) < 0.5, hash64("phone"), hash64("desktop")).astype(np.uint64)
    histories: list[list[int]] = [[] for _ in range(60)]
    items = np.zeros(clicks, np.uint64)
    for n in range(clicks):
        user = int(rng.integers(len(histories)))
        mine = user % groups if rng.random() < 0.9 else int(rng.integers(groups))
        clicked = int(mine + groups * rng.choice(size, p=popularity / popularity.sum()))
        recent = histories[user][-PLACES:][::-1]
        users.recent[n, : len(recent)] = keys[recent] if recent else 0
        items[n] = keys[clicked]
        histories[user].append(clicked)
    return ClickingWorld(content, keys, group, users, items, T0 + 1000 * np.arange(clicks))
