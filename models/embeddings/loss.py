"""The loss of a batch of clicks, and its gradients. Pure: arrays in, arrays out; float32 or float64.

In-batch sampled softmax: the item each user clicked, among all items clicked in the batch. Popular items are
in more batches, so the logarithm of an item's share of the clicks is subtracted from its score (the log-Q
correction; Bengio and Senécal 2008; Yi et al. 2019): the loss is then close to that of the softmax over all
items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.bags import add_bags, dot_bags, spread_bags
from headrace.models.embeddings.features import I64
from headrace.models.embeddings.towers import Bags, scaled

#: float32 or float64, one of them throughout.
Floats = npt.NDArray[Any]


@dataclass(slots=True)
class Batch:
    """What a step computes with. Items and features of the batch are numbered, each once.

    Attributes
    ----------
    items
        The features of each of ``m`` items; their weights are not read (all are 1).
    own_at, own
        The items with a publisher's vector, and these, ``(k, DIM)``.
    users
        The parts of each of ``n`` users: items, by number, and features, by ``m`` + number.
    clicked
        The item each user clicked, int64 ``(n,)``.
    left_out
        Which of the clicked items are not compared with a user's own, bool ``(n, n)``: the same item, clicked
        by another user (an accidental hit), and what the user clicked before.
    log_share
        Of each clicked item, the logarithm of its share of all clicks, ``(n,)``.
    temperature
        Scores are inner products divided by it.
    """

    items: Bags
    own_at: I64
    own: Floats
    users: Bags
    clicked: I64
    left_out: npt.NDArray[np.bool_]
    log_share: Floats
    temperature: float


@dataclass(slots=True)
class Gradients:
    """The mean loss; its gradients by embeddings ``(f, DIM)``, weights ``(N_WEIGHTS + 1,)``, ``own_map``."""

    loss: float
    embeddings: Floats
    weights: Floats
    own_map: Floats


def loss_and_gradients(batch: Batch, embeddings: Floats, weights: Floats, own_map: Floats) -> Gradients:
    """Return the mean loss of a batch and its gradients.

    Parameters
    ----------
    embeddings
        Of the features of the batch, ``(f, DIM)``.
    weights
        float ``(N_WEIGHTS + 1,)``; the last one is 1.
    own_map
        ``(DIM, DIM)``.
    """
    kind = embeddings.dtype
    ones = np.ones(len(batch.items.members), kind)
    sums = np.zeros((len(batch.items.bounds) - 1, embeddings.shape[1]), kind)
    add_bags(embeddings, batch.items.members, ones, batch.items.bounds, sums)
    sums[batch.own_at] += batch.own @ own_map
    items, item_lengths = scaled(sums)
    parts, factors = np.concatenate([items, embeddings]), weights[batch.users.weights]
    user_sums = np.zeros((len(batch.clicked), embeddings.shape[1]), kind)
    add_bags(parts, batch.users.members, factors, batch.users.bounds, user_sums)
    users, user_lengths = scaled(user_sums)

    loss, slopes = _softmax(batch, users @ items[batch.clicked].T, item_lengths[batch.clicked], user_lengths)
    d_users = _through_scaling(slopes @ items[batch.clicked], users, user_lengths)
    d_parts = np.zeros_like(parts)
    spread_bags(d_users, batch.users.members, factors, batch.users.bounds, d_parts)
    each = np.arange(len(batch.clicked) + 1)
    spread_bags(slopes.T @ users, batch.clicked, np.ones(len(batch.clicked), kind), each, d_parts)
    d_weights = np.empty(len(batch.users.members), kind)
    dot_bags(d_users, parts, batch.users.members, batch.users.bounds, d_weights)
    d_items = _through_scaling(d_parts[: len(items)], items, item_lengths)
    d_embeddings = d_parts[len(items) :]
    spread_bags(d_items, batch.items.members, ones, batch.items.bounds, d_embeddings)
    return Gradients(
        loss,
        d_embeddings,
        np.bincount(batch.users.weights, d_weights, len(weights)).astype(kind),
        batch.own.T @ d_items[batch.own_at],
    )


def _softmax(batch: Batch, products: Floats, items: Floats, users: Floats) -> tuple[float, Floats]:
    """Return the mean loss, and its gradient by the inner products ``(n, n)``.

    A user or an item without a vector (length 0) says nothing, and is left out.
    """
    right = np.arange(len(products))
    scores = products / products.dtype.type(batch.temperature) - batch.log_share
    scores[batch.left_out | (items == 0)] = -np.inf
    told = np.flatnonzero((items > 0) & (users > 0))
    if not len(told):
        return 0.0, np.zeros_like(products)
    scores = scores[told]
    scores -= scores.max(1, keepdims=True)
    odds = np.exp(scores)
    totals = odds.sum(1)
    loss = float(np.mean(np.log(totals) - scores[np.arange(len(told)), told]))
    slopes = np.zeros_like(products)
    slopes[told] = odds / totals[:, None]
    slopes[told, right[told]] -= 1
    slopes /= products.dtype.type(batch.temperature * len(told))
    return loss, slopes


def _through_scaling(grads: Floats, units: Floats, lengths: Floats) -> Floats:
    """Return the gradients by the sums, from those by the sums scaled to length 1."""
    inner = np.einsum("ij,ij->i", grads, units)
    safe = np.where(lengths > 0, lengths, 1).astype(grads.dtype)
    out: Floats = (grads - units * inner[:, None]) / safe[:, None]
    out[lengths == 0] = 0
    return out
