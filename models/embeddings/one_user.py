"""The vectors of one user, for one request: those of ``towers`` and ``interests``, but quicker for one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.models.embeddings.content import unit
from headrace.models.embeddings.directions import DIM, F32, KIND, U64, key_of
from headrace.models.embeddings.features import NamedFeatures
from headrace.models.embeddings.groups import groups_of
from headrace.models.embeddings.interests import LEAST, LIKE, MOST
from headrace.models.embeddings.towers import FOLLOWED, PLACES, PREFERRED, Towers, scaled

_MASK = 2**64 - 1


@dataclass(slots=True)
class OneUser:
    """What the user tower knows of a user; as ``Users``.

    Attributes
    ----------
    recent
        The vectors of the items clicked last, newest first, of the version of the towers, float32
        ``(any number, DIM)``; zeros where unknown.
    preferred, followed
        uint64 ``(any number,)``; 0 is nothing.
    country, device
        ``hash64``; 0 where unknown.
    """

    recent: F32
    preferred: U64
    followed: U64
    country: int
    device: int


def vectors_of(
    towers: Towers, user: OneUser, features: NamedFeatures, most: int = MOST, like: float = LIKE
) -> tuple[F32, list[F32]]:
    """Return the user's unit vector, zeros where nothing is known, and those of the interests.

    The strongest interest is first. Without clicked items there is one, the user's vector, if anything else
    is known.
    """
    recent = user.recent[:PLACES]
    weights = towers.weights[: len(recent)]
    rest = _rest_of(towers, user, features)
    whole = unit(weights @ recent + rest)
    at_least = np.maximum(weights, LEAST)
    groups = groups_of(recent[None], at_least, min(most, MOST), like)[0] if len(recent) else _NONE
    inside = groups == np.arange(groups.max(initial=-1) + 1)[:, None]
    if len(inside) <= 1:
        return whole, [whole] if whole.any() else []
    sums = (inside * weights) @ recent
    sums += rest
    order = np.argsort(-(inside @ at_least), kind="stable")
    return whole, [vector for vector in scaled(sums[order])[0] if vector.any()]


def _rest_of(towers: Towers, user: OneUser, features: NamedFeatures) -> F32:
    """Return the part of the user's sum that is not from clicked items, float32 ``(DIM,)``."""
    table, out = towers.table, np.zeros(DIM, np.float32)
    for kind, known in (("country", user.country), ("device", user.device)):
        row = table.rows.row(int(key_of(kind, known + 1 & _MASK)))
        if row >= 0:  # before something is learnt about them, they say nothing
            out += table.rows.data["vector"][row]
    if user.preferred.any() or user.followed.any():
        categories = features.categories(user.preferred[user.preferred != 0])
        creators = features.creators(user.followed[user.followed != 0])
        keys = np.concatenate([categories, creators])
        kinds = np.full(len(keys), KIND["creator"], np.uint8)
        kinds[: len(categories)] = KIND["category"]
        factors = np.full(len(keys), towers.weights[FOLLOWED], np.float32)
        factors[: len(categories)] = towers.weights[PREFERRED]
        out += factors @ table.vectors(keys, kinds)
    return out


_NONE = np.zeros(0, np.int64)
