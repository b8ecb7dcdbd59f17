"""Learns the towers from clicks, in their order: the same code online and from a log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings.directions import F32, KIND, U64
from headrace.models.embeddings.features import I64, ItemFeatures, Users
from headrace.models.embeddings.frequency import ClickGaps, Sightings
from headrace.models.embeddings.loss import Batch, Gradients, loss_and_gradients
from headrace.models.embeddings.towers import (
    N_WEIGHTS,
    PLACES,
    Bags,
    Embedded,
    Towers,
    user_features,
    with_ids,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the towers learn.

    Attributes
    ----------
    batch
        Clicks in a step.
    rate
        Step size of AdaGrad, for embeddings.
    weight_rate
        The same, for the weights of a user's parts and the map of publishers' vectors.
    temperature
        Scores are inner products divided by it.
    sightings
        So often a feature must be seen before it gets a row.
    log_q
        Whether popular items are corrected for.
    skip_recent
        Whether what a user clicked before is no wrong answer.
    """

    batch: int = 256
    rate: float = 0.02
    weight_rate: float = 0.01
    temperature: float = 0.1
    sightings: int = 2
    log_q: bool = True
    skip_recent: bool = True


class Learner:
    """Learns clicks. The same clicks in the same order give the same bytes, however they are cut into calls.

    Attributes
    ----------
    towers
        The model, learnt so far.
    learnt, waiting
        Number of clicks learnt, and given but not learnt: they wait until a batch is full.
    loss
        Moving mean of the loss.
    """

    def __init__(self, towers: Towers, features: ItemFeatures, plan: Plan | None = None) -> None:
        self.towers, self.plan = towers, plan or Plan()
        self._features = features
        self.gaps, self.sightings = ClickGaps(), Sightings()
        self.weight_squares = np.zeros(N_WEIGHTS, np.float32)
        self.map_squares = np.zeros_like(towers.own_map)
        self.learnt, self.loss = 0, 0.0
        self._waiting: tuple[Users, U64, I64] | None = None

    @property
    def waiting(self) -> int:
        """Return how many clicks were given and not learnt."""
        return len(self._waiting[1]) if self._waiting else 0

    def learn(self, users: Users, items: U64, ts: I64) -> None:
        """Take ``n`` clicks; learn those that fill a batch.

        Parameters
        ----------
        users
            The users, as they were before their clicks.
        items
            Keys of the items they clicked, uint64 ``(n,)``.
        ts
            Times of the clicks, ms, int64 ``(n,)``.
        """
        if self._waiting:
            before = self._waiting
            users = before[0].and_then(users)
            items, ts = np.concatenate([before[1], items]), np.concatenate([before[2], ts])
        full = len(items) - len(items) % self.plan.batch
        for start in range(0, full, self.plan.batch):
            end = start + self.plan.batch
            self._step(users.part(start, end), items[start:end], ts[start:end])
        self._waiting = (users.part(full, len(items)), items[full:], ts[full:]) if full < len(items) else None

    def flush(self) -> None:
        """Learn the clicks that wait."""
        if self._waiting:
            waiting, self._waiting = self._waiting, None
            self._step(*waiting)

    def expire(self, before_ms: int) -> int:
        """Forget what was learnt about features that were not seen since; return how many they are."""
        return self.towers.table.expire(before_ms)

    def _step(self, users: Users, clicked: U64, ts: I64) -> None:
        self.gaps.count(clicked)
        batch, found = self._batch(users, clicked, int(ts.max()))
        towers, table = self.towers, self.towers.table
        weights = np.append(towers.weights, np.float32(1))
        embeddings = table.vectors(found.keys, found.kinds)
        self._descend(found, loss_and_gradients(batch, embeddings, weights, towers.own_map))
        self.learnt += len(clicked)

    def _batch(self, users: Users, clicked: U64, now: int) -> tuple[Batch, Embedded]:
        """Number items and features of a batch, and give rows to features that were seen often enough."""
        n = len(clicked)
        who, place = np.nonzero(users.recent[:, :PLACES])
        numbers, items = _numbered(np.concatenate([clicked, users.recent[who, place]]))
        content = self._features.features_of(items)
        keys, kinds, bounds = with_ids(items, content)
        others, other_kinds, other_weights, other_users = user_features(users, self._features)
        found = Embedded.of(np.concatenate([keys, others]), np.concatenate([kinds, other_kinds]))
        of_items, of_users = np.split(found.places, [len(keys)])
        self._see(found, numbers[:n], of_items, bounds, of_users, now)
        parts = _bags(
            np.concatenate([who, other_users]),
            np.concatenate([numbers[n:], len(items) + of_users]),
            np.concatenate([place, other_weights]),
            n,
        )
        batch = Batch(
            Bags(of_items, np.zeros(0, np.int64), bounds),
            content.own_at,
            content.own,
            parts,
            numbers[:n],
            self._left_out(numbers[:n], who, numbers[n:], len(items)),
            self.gaps.log_share(clicked) if self.plan.log_q else np.zeros(n, np.float32),
            self.plan.temperature,
        )
        return batch, found

    def _see(
        self, found: Embedded, clicked: I64, of_items: I64, bounds: I64, of_users: I64, now: int
    ) -> None:
        """Count the features of clicked items and of users; note when they were seen, give rows."""
        times_clicked = np.bincount(clicked, minlength=len(bounds) - 1)
        times = np.bincount(of_items, np.repeat(times_clicked, np.diff(bounds)), len(found.keys))
        times += np.bincount(of_users, minlength=len(found.keys))
        table, seen = self.towers.table, np.flatnonzero((times > 0) & (found.keys != 0))
        rows = table.rows.find(found.keys[seen])
        table.touch(rows[rows >= 0], now)
        new = seen[rows < 0]
        counts = self.sightings.add(found.keys[new], times[new].astype(np.int64))
        new = new[counts >= self.plan.sightings]
        table.add(found.keys[new], found.kinds[new], now)

    def _left_out(self, clicked: I64, who: I64, recent: I64, items: int) -> npt.NDArray[np.bool_]:
        n = len(clicked)
        known = np.zeros((n, items), bool)
        known[np.arange(n), clicked] = True
        if self.plan.skip_recent:
            known[who, recent] = True
        out = known[:, clicked]
        out[np.arange(n), np.arange(n)] = False
        return out

    def _descend(self, found: Embedded, grads: Gradients) -> None:
        towers, table = self.towers, self.towers.table
        rows = table.rows.find(found.keys)
        there = (rows >= 0) & grads.embeddings.any(1)
        table.descend(rows[there], grads.embeddings[there], self.plan.rate)
        rate = self.plan.weight_rate
        towers.weights -= _adagrad(self.weight_squares, grads.weights[:N_WEIGHTS], rate)
        towers.own_map -= _adagrad(self.map_squares, grads.own_map, rate)
        share = 0.01 if self.learnt else 1.0
        self.loss += share * (grads.loss - self.loss)


def _adagrad(squares: F32, grads: F32, rate: float) -> F32:
    """Add the squares of gradients to ``squares``, in place; return the step."""
    np.add(squares, grads * grads, out=squares)
    return np.asarray(np.float32(rate) * grads / np.sqrt(np.maximum(squares, np.float32(1e-20))), np.float32)


def _numbered(keys: U64) -> tuple[I64, U64]:
    """Return the number of each key, and the different keys by number."""
    found = Embedded.of(keys, np.full(len(keys), KIND["item"], np.uint8))
    return found.places, found.keys


def _bags(bag: I64, members: I64, weights: I64, n: int) -> Bags:
    """Return ``n`` bags from members in any order."""
    order = np.argsort(bag, kind="stable")
    return Bags(members[order], weights[order], np.searchsorted(bag[order], np.arange(n + 1)))
