"""Several vectors for a user with several interests.

In the spirit of PinnerSage (Pal et al., KDD 2020): the items clicked last are put into groups of similar
ones, and each group gives a vector to search around. The mean of sport and cooking is near neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.models.embeddings.directions import DIM, F32
from headrace.models.embeddings.features import I64, ItemFeatures, Users
from headrace.models.embeddings.towers import PLACES, Towers, scaled

#: Largest number of interests of a user.
MOST = 4
#: An item is put into a group when its inner product with the group's mean (of length 1) is at least this.
LIKE = 0.4


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
    recent = recent[:, :PLACES]
    weights = towers.weights[: recent.shape[1]]
    groups = _groups(recent, weights, most, like)
    sums = np.zeros((len(users), MOST, DIM), np.float32)
    mass = np.zeros((len(users), MOST), np.float32)
    for group in range(most):
        inside = (groups == group) * weights
        sums[:, group] = np.einsum("np,npd->nd", inside, recent)
        mass[:, group] = np.maximum(inside, 1e-6).sum(1) * (groups == group).any(1)
    mass[~mass.any(1), 0] = 1
    sums += towers.rest_of(users, features)[:, None]
    sums[mass == 0] = 0
    order = np.argsort(-mass, axis=1, kind="stable")
    each = np.arange(len(users))[:, None]
    vectors = scaled(sums[each, order].reshape(-1, DIM))[0].reshape(sums.shape)
    mass *= sums.any(2)
    totals = np.maximum(mass.sum(1, keepdims=True), np.float32(1e-30))
    return Interests(vectors, (mass / totals)[each, order])


def _groups(recent: F32, weights: F32, most: int, like: float) -> I64:
    """Return the group of each item, int64 ``(n, places)``, -1 where there is none.

    The newest item begins the first group. Each next one goes to the nearest group that it is like, else it
    begins another; when there are ``most``, it goes to the nearest.
    """
    n, places = recent.shape[:2]
    sums, count = np.zeros((n, most, DIM), np.float32), np.zeros(n, np.int64)
    out, each = np.full((n, places), -1, np.int64), np.arange(n)
    known = np.asarray(recent.any(2))
    for place in range(places):
        vectors = recent[:, place]
        means = scaled(sums.reshape(-1, DIM))[0].reshape(sums.shape)
        near = np.einsum("nkd,nd->nk", means, vectors)
        near[np.arange(most) >= count[:, None]] = -np.inf
        best = near.argmax(1)
        begins = known[:, place] & (count < most) & (near[each, best] < like)
        group = np.where(begins, count, best)
        count += begins
        out[known[:, place], place] = group[known[:, place]]
        at = np.flatnonzero(known[:, place])
        sums[at, group[at]] += max(float(weights[place]), 0.01) * vectors[at]
    return out
