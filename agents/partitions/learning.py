"""What one learner has learnt of its partitions, and what all learners have learnt together. Pure.

    published model --> learner 1 --> part --.
          |      '----> learner 2 --> part ---+--> merged model --> published model
          '-----------> learner 3 --> part --'

A learner has one part on its way at most. The next published model tells by the offsets in it whether it
contains that part; the learner goes on from it, with what it does not contain.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from headrace.agents.partitions.leaf_deltas import RankerLeaves
from headrace.models.features.spec import SPEC
from headrace.models.learning import leaves, online
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.objectives import (
    CLICK,
    OBJECTIVES,
    about_clicks,
    count_name,
    figure_name,
    labels_of,
)
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.online_learner import OnlineLearner, OnlinePart
from headrace.models.learning.parts import Part, Read
from headrace.streams.errors import ArtefactError
from headrace.streams.messages.schemas import Example

log = logging.getLogger(__name__)

KINDS = "impressions", "events"
#: The quality of a learner counts for so many published models after its last part.
HEARD = 30


class Verdict(enum.Enum):
    """What a published model says of the part that is on its way."""

    CONTAINED = enum.auto()
    WAITING = enum.auto()
    LOST = enum.auto()


class Learning:
    """The model of one learner.

    Parameters
    ----------
    name
        Of the learner, unique.
    leaf_steps
        Whether leaves of the ranker move.

    Attributes
    ----------
    model, leaves
        What it has learnt.
    read
        Up to where.
    since_ms
        When the model was published that it began with; 0: there was none.
    sent
        The part that is on its way.
    """

    def __init__(self, name: str, *, leaf_steps: bool = True) -> None:
        self.name = name
        self._leaf_steps = leaf_steps
        self.model, self.leaves = OnlineLearner(), RankerLeaves()
        self.read: Read = {kind: {} for kind in KINDS}
        self.since_ms = 0
        self.sent: Part | None = None
        self._fresh = OnlinePart()
        self._base: tuple[OnlineWeights, int, int] | None = None
        self._of_base: Read = {kind: {} for kind in KINDS}  # all partitions
        self._known: Read = {kind: {} for kind in KINDS}  # those of this learner

    # -- beginning

    def restore(self, records: Iterable[Any]) -> None:
        """Take records of `models` in, in their order, before anything is learnt."""
        for record in records:
            if record.key == online.NAME.encode() and record.value is not None:
                self._take_base(record.value)
            elif self._leaf_steps:
                self.leaves.take(record.key, record.value)

    def _take_base(self, value: bytes) -> bool:
        try:
            weights, counts = online.decode(value), online.learnt(value)
            read, self.since_ms = online.read_up_to(value)
        except ArtefactError as exc:
            log.warning("published weights are skipped: %s", exc)
            return False
        self._base, self._of_base = (weights, *counts), {kind: dict(read.get(kind, {})) for kind in KINDS}
        self.model.restore(*self._base)
        return True

    def begin(self, at: Read) -> None:
        """Begin to learn the partitions in ``at``, each from that offset."""
        self.read = {kind: dict(at.get(kind, {})) for kind in KINDS}
        self._known = self._of(self.read, self._of_base)

    @property
    def tells(self) -> bool:
        """Whether the model it begins with says up to where it has learnt."""
        return any(self._of_base.values())

    def known(self, kind: str, partition: int) -> int | None:
        """Return up to where the model it begins with has learnt a partition."""
        return self._of_base[kind].get(partition)

    @staticmethod
    def _of(partitions: Read, offsets: Read) -> Read:
        return {
            kind: {p: offsets[kind][p] for p in partitions[kind] if p in offsets.get(kind, {})}
            for kind in KINDS
        }

    # -- learning

    def learn(self, examples: Sequence[Example]) -> None:
        """Learn examples of shown slots, each as soon as it is known: see `early_join`."""
        if examples:
            x = np.frombuffer(b"".join(e.features for e in examples), "<f4").reshape(-1, len(SPEC))
            happened, ids = labels_of(examples), Ids.of_examples(list(examples))
            self.model.learn(x, happened, ids, early=True)
            known = about_clicks(happened)
            self.leaves.learn(x[known], happened[known, 0], ids.where(known), early=True)

    def give_part(self) -> Part | None:
        """Return what was learnt since the last call, and remember it as sent; None when there is nothing.

        What is not finite is given up: learning goes on from the published model.
        """
        self._gather()
        fresh, self._fresh = self._fresh, OnlinePart()
        if not fresh.steps:
            return None
        if not fresh.sound():
            log.error(
                "the online model is not finite any more: the last %d examples are not used",
                fresh.seen,
                extra={"action": "online_not_finite", "count": fresh.seen},
            )
            self._restart_model()
            fresh = OnlinePart()
        read = {kind: dict(at) for kind, at in self.read.items()}
        of_leaves = self.leaves.give_part(None if self.sent is None else self.sent.leaves)
        self.sent = Part(self.name, self._known, read, fresh, of_leaves, self.model.quality())
        return self.sent

    def _gather(self) -> None:
        self._fresh = self._fresh.then(self.model.take_part())

    def _restart_model(self) -> None:
        self.model = OnlineLearner()
        if self._base is not None:
            self.model.restore(*self._base)
        if self.sent is not None:
            self.model.grow([self.sent.online])

    # -- going on

    def follow(self, key: bytes | None, value: bytes | None) -> Verdict | None:
        """Take one record of `models`, in their order; return a verdict when it is an online model."""
        if key != online.NAME.encode() or value is None:
            if self._leaf_steps:
                self.leaves.take(key, value, None if self.sent is None else self.sent.leaves)
            return None
        self._gather()
        if not self._take_base(value):
            return Verdict.WAITING
        now, sent = self._of(self.read, self._of_base), self.sent
        if sent is not None and now == sent.read:
            verdict, self.sent = Verdict.CONTAINED, None
        else:
            verdict = Verdict.WAITING if now == self._known else Verdict.LOST
        self._known = now
        for part in (None if self.sent is None else self.sent.online, self._fresh):
            if part is not None:
                self.model.grow([part])
        return verdict

    def follow_ranker(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record of `models` when this learner merges itself: only rankers count."""
        if self._leaf_steps and key not in {online.NAME.encode(), leaves.NAME.encode()}:
            self.leaves.take(key, value)

    def settle(self, merged: Merged) -> None:
        """Continue from the merged model, which contains everything that was given away."""
        self._gather()
        if self.sent is not None:
            self._known = self.sent.read
            self.sent = None
        self._base = merged.model.weights(), merged.model.seen, merged.model.clicks
        self.model.go_on_as(merged.model)
        self.model.grow([self._fresh])
        self.leaves.go_on_as(merged.leaves)


class Merged:
    """The model of all learners, kept by one of them.

    Parameters
    ----------
    leaf_steps
        See ``Learning``.
    objectives, least
        Weights of the objectives in the score of a list, and how many positives one needs to have a share in
        it (``objectives.shares``).

    Attributes
    ----------
    model, leaves
        What all have learnt together.
    read
        Up to where, all partitions.
    changed
        Whether there is anything to publish.
    """

    def __init__(
        self, *, leaf_steps: bool = True, objectives: Mapping[str, float] | None = None, least: int = 1
    ) -> None:
        self._leaf_steps = leaf_steps
        self._objectives, self._least = {CLICK: 1.0} if objectives is None else dict(objectives), least
        self._began = Learning("", leaf_steps=leaf_steps)
        self.model, self.leaves, self.read = self._began.model, self._began.leaves, self._began.read
        self.changed = False
        self._offered: dict[str, Part] = {}
        self._heard: dict[str, tuple[int, int, dict[str, float]]] = {}  # publication, examples, quality
        self._number = 0

    def restore(self, records: Iterable[Any]) -> None:
        """Take records of `models` in, in their order, before anything is merged."""
        self._began.restore(records)
        self.read = self._began._of_base

    def follow(self, key: bytes | None, value: bytes | None) -> None:
        """Take note of a new ranker. What this learner publishes itself is not read."""
        if self._leaf_steps and key not in {online.NAME.encode(), leaves.NAME.encode()}:
            self.leaves.take(key, value)

    def offer(self, part: Part) -> None:
        """Remember a part until the next merge; the newest of each learner counts."""
        self._offered[part.learner] = part

    def fits(self, part: Part) -> bool:
        """Return whether the model has learnt exactly what came before a part, in its partitions."""
        return all(
            self.read[kind].get(p) == part.known.get(kind, {}).get(p)
            for kind in KINDS
            for p in part.read.get(kind, {})
        )

    def merge(self, own: Part | None) -> int:
        """Merge the own part and those that were offered, as far as they fit; return how many."""
        fit: list[Part] = []
        for part in ([] if own is None else [own]) + list(self._offered.values()):
            if self.fits(part):
                fit.append(part)
                for kind in KINDS:
                    self.read[kind] |= part.read.get(kind, {})
        self._offered = {}
        if fit:
            self.model.grow([p.online for p in fit])
            self.leaves.merge([p.leaves for p in fit if p.leaves is not None])
            self.changed = True
            self._number += 1
            self._heard |= {p.learner: (self._number, p.online.seen, p.quality) for p in fit}
        return len(fit)

    def quality(self) -> dict[str, float]:
        """Return the mean of the qualities of the learners, by their examples; the sum of their drifts."""
        self._heard = {k: v for k, v in self._heard.items() if v[0] > self._number - HEARD}
        told = [(max(seen, 1), quality) for _, seen, quality in self._heard.values()]
        out = {}
        for objective in OBJECTIVES:
            for what in ("auc", "log_loss", "calibration"):
                name = figure_name(objective, what)
                known = [(n, quality[name]) for n, quality in told if name in quality]
                total = sum(n for n, _ in known)  # a learner of an older version has not all figures
                out[name] = sum(n * value for n, value in known) / total if total else 0.0
            name = figure_name(objective, "drifts")
            out[name] = sum(quality.get(name, 0.0) for _, quality in told)
        counts = {count_name(name): float(count) for name, count in self.model.happened().items()}
        return {**out, "examples": float(self.model.seen), **counts}

    def to_publish(
        self,
    ) -> tuple[OnlineWeights, dict[str, float], Read, tuple[LeafDeltas, dict[str, float]] | None]:
        """Return the model, its quality, up to where it has learnt, and leaf deltas if they have moved."""
        self.changed = False
        read = {kind: dict(at) for kind, at in self.read.items()}
        weights = self.model.weights()
        weights.shares = self.model.shares(self._objectives, self._least)
        return weights, self.quality(), read, self.leaves.to_publish()
