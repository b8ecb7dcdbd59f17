"""Several vectors for a user with several interests.

In the spirit of PinnerSage (Pal et al., KDD 2020): the items clicked last are put into groups of similar
ones, and each group gives a vector to search around. The mean of sport and cooking is near neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.models.embeddings.directions import DIM, F32
from headrace.models.embeddings.features import ItemFeatures, Users
from headrace.models.embeddings.groups import groups_of
from headrace.models.embeddings.towers import PLACES, Towers, scaled

#: Largest number of interests of a user.
MOST = 4
#: An item is put into a group when its inner product with the group's mean (of length 1) is at least this.
LIKE = 0.4
#: In groups, a place has at least this weight.
LEAST = np.float32(0.01)


@dataclass(slots=True)
class Interests:
    """The interests of ``n`` users, the strongest first.

    Attributes
    ----------
    vectors
        Unit vectors, float32 ``(n, MOST, DIM)``; zeros after the last one.
    shares
        What part of the weight of the items clicked last each one has, float32 ``(n, MOST)``. A user of whom
        no clicked item is known has one interest of share 1, if anything else is known.
    """

    vectors: F32
    shares: F32


def interests(
    towers: Towers, users: Users, recent: F32, features: ItemFeatures, most: int = MOST, like: float = LIKE
) -> Interests:
    """Return the interests of users: each is the user vector as if only the items of one group were clicked.

    Parameters
    ----------
    recent
        The vectors of ``users.recent``, of this version, float32 ``(n, places, DIM)``; zeros where unknown.
    most
        Largest number of interests, at most ``MOST``.
    like
        See ``LIKE``.
    """
    recent = np.ascontiguousarray(recent[:, :PLACES])
    weights = towers.weights[: recent.shape[1]]
    groups = groups_of(recent, np.maximum(weights, LEAST), min(most, MOST), like)
    inside = groups[:, None] == np.arange(MOST)[:, None]
    sums: F32 = (inside * weights) @ recent
    mass = (inside * np.maximum(weights, LEAST)).sum(2)
    mass[~mass.any(1), 0] = 1
    sums += towers.rest_of(users, features)[:, None]
    sums[mass == 0] = 0
    order = np.argsort(-mass, axis=1, kind="stable")
    each = np.arange(len(users))[:, None]
    vectors = scaled(sums[each, order].reshape(-1, DIM))[0].reshape(sums.shape)
    mass *= sums.any(2)
    totals = np.maximum(mass.sum(1, keepdims=True), np.float32(1e-30))
    return Interests(vectors, (mass / totals)[each, order])
