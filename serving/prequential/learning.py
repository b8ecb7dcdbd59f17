"""The learning loop of an installation, in one process and in event time: from shown lists to new models.

It is the code that ships: the join of outcomes, the online model, the Parquet log, and the trainer.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning import examples as example_log
from headrace.models.learning.early_join import EarlyJoin
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaf_learner import LeafLearner
from headrace.models.learning.leaves import LeafDeltas
from headrace.models.learning.objectives import about_clicks, labels_of
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.online_learner import OnlineLearner
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.learning.training import TrainJob, train_from_log
from headrace.models.outcomes import (
    ShownList,
    SlotOutcome,
    deed_rows,
    examples_of,
    item_key,
    list_before,
    list_of,
    outcome_rows,
    request_key,
    unshown_items,
    user_key,
)
from headrace.models.slot_labels import Deed, Rules, Span, ended
from headrace.streams.messages.schemas import Event, Example, Impression
from headrace.streams.settings import Settings

#: Examples that the online model learns at once. (The agent also learns fewer of them, every few seconds.)
MINI_BATCH = 512
#: Examples in one file of the log.
FILE_ROWS = 20_000


class _Join:
    """The open lists of recorded clicks, in the order of their times; every request id is used once."""

    def __init__(self, wait_ms: int, rules: Rules) -> None:
        self._wait_ms, self._rules = wait_ms, rules
        self._open: deque[tuple[Impression, ShownList]] = deque()
        self._last: dict[tuple[str, str], int] = {}  # number of the last list of a user and surface
        self._next_at: dict[int, int] = {}  # time of the next one, ms, by number of a list
        self._shown = 0
        self._events: dict[int, list[npt.NDArray[Any]]] = {}
        self._deeds: dict[int, list[npt.NDArray[Any]]] = {}
        self._of_users: dict[int, list[ShownList]] = {}  # open lists by user
        self._done: deque[tuple[int, int]] = deque()  # time and key of what is in ``_deeds``

    def shown(self, impression: Impression) -> None:
        ts, items = impression.ts, frozenset(map(item_key, impression.item_ids))
        shown = ShownList(ts, self._shown, ts, ts + self._wait_ms, False, items)
        place = impression.user_id, impression.surface
        if place in self._last:
            self._next_at[self._last[place]] = ts
        self._last[place] = self._shown
        self._shown += 1
        self._open.append((impression, shown))
        self._of_users.setdefault(user_key(impression.user_id), []).append(shown)

    def happened(self, event: Event) -> None:
        told = [(event, event.ts)]
        keys, rows = outcome_rows(told, self._wait_ms, event.ts)
        for key in keys.tolist():
            self._events.setdefault(key, []).append(rows)
        keys, rows = deed_rows(told, self._wait_ms, event.ts)
        for key in keys.tolist():
            self._deeds.setdefault(key, []).append(rows)
            self._done.append((event.ts, key))

    def close(self, now: int) -> list[Example]:
        """Return the examples of the lists whose wait is over at ``now`` (ms)."""
        out: list[Example] = []
        while self._open and self._open[0][1].closes <= now:
            impression, shown = self._open.popleft()
            events = self._events.pop(request_key(impression.user_id, impression.request_id), [])
            span = Span(shown.at, shown.closes, self._next_at.pop(shown.number, 0))
            place = impression.user_id, impression.surface
            if self._last.get(place) == shown.number:
                del self._last[place]
            outcomes = _outcomes(impression, shown, events, span, self._rules)
            self._add_unshown(outcomes, impression, shown)
            out += examples_of(impression, outcomes)
        while self._done and self._done[0][0] < now - self._wait_ms:
            key = self._done.popleft()[1]
            if not self._deeds[key][1:]:
                del self._deeds[key]
            else:
                self._deeds[key].pop(0)
        return out

    def _add_unshown(
        self, outcomes: dict[int, SlotOutcome], impression: Impression, shown: ShownList
    ) -> None:
        """Note what the user did without a list with the candidates that this one has not shown."""
        key = user_key(impression.user_id)
        lists = self._of_users[key]
        items = list(map(item_key, unshown_items(impression)))
        for row in (row for rows in self._deeds.get(key, ()) for row in rows):
            item = int(row["item"])
            if item in items and list_before(int(row["ts"]), int(row["at"]), lists) is shown:
                slot = outcomes.setdefault(len(impression.item_ids) + items.index(item), SlotOutcome())
                slot.add(int(row["what"]), int(row["dwell_ms"]))
        lists.remove(shown)
        if not lists:
            del self._of_users[key]


def _outcomes(
    impression: Impression, shown: ShownList, events: list[npt.NDArray[Any]], span: Span, rules: Rules
) -> dict[int, SlotOutcome]:
    """Return the outcomes of a list's slots, by position."""
    items, deeds = list(map(item_key, impression.item_ids)), list[Deed]()
    for row in (row for rows in events for row in rows):
        if list_of(int(row["item"]), int(row["ts"]), int(row["at"]), [shown], 0) is not None:
            place = items.index(int(row["item"]))
            deeds.append(Deed(place, place, int(row["at"]), int(row["what"]), int(row["dwell_ms"])))
    return ended(deeds, len(items), span, rules).outcomes


class Learning:
    """Takes shown lists and clicks, gives models.

    Parameters
    ----------
    folder
        Folder of the Parquet log.
    settings
        Wait for outcomes, and limits of the training.
    params
        Training settings of the ranker.

    Attributes
    ----------
    online
        The online model; None before it has seen a click.
    leaves
        What was learnt since the last training; None before the first, or when it is switched off.
    trainings
        Number of rankers trained.
    logged
        Number of examples in the log.
    """

    def __init__(self, folder: Path, settings: Settings, params: RankerParams) -> None:
        rules = Rules(settings.passed_wait_ms, settings.seen_below)
        self._join = _Join(settings.outcome_wait_ms, rules)
        self._early = EarlyJoin(settings.outcome_wait_ms, 0)
        self._learner = OnlineLearner()
        self._to_learn: list[Example] = []
        self._to_log: list[Example] = []
        self.logged = 0
        self._folder = folder
        s = settings
        self._job = TrainJob(
            folder,
            params,
            min_rows=s.train_min_rows,
            min_clicks=s.train_min_clicks,
            max_rows=s.train_max_rows,
            sample_rows=s.train_sample_rows,
            unseen_weight=s.train_unseen_weight,
            unshown_weight=s.train_unshown_weight,
            weight_clip=s.train_weight_clip,
            user_slots=s.train_user_slots,
            user_clicks=s.train_user_clicks,
            smoothing=s.train_smoothing,
            objectives=dict(s.objectives),
            measure=False,
        )
        self.online: OnlineWeights | None = None
        self.leaves: LeafDeltas | None = None
        self._leaves: LeafLearner | None = None
        self._leaf_steps = s.leaf_steps
        self.trainings = 0

    def quality(self) -> dict[str, float]:
        """Return the rolling quality of the online model; see ``OnlineLearner.quality``."""
        return self._learner.quality()

    def shown(self, impression: Impression) -> None:
        """Note a list that was shown."""
        self._join.shown(impression)
        self._learn(self._early.show([(impression, impression.ts)]))

    def happened(self, event: Event) -> None:
        """Note an event; one on a list has the id of its request."""
        self._join.happened(event)
        self._learn(self._early.happen([(event, event.ts)]))

    def advance(self, now: int) -> None:
        """Log the examples whose wait for an outcome is over at ``now`` (ms)."""
        self._to_log += self._join.close(now)
        if len(self._to_log) >= FILE_ROWS:
            self._write()

    def _learn(self, examples: list[Example]) -> None:
        """Learn what is shown and what happens to it, without waiting, as the agent does."""
        self._to_learn += [e for e in examples if not e.unshown]
        if len(self._to_learn) >= MINI_BATCH:
            x = np.frombuffer(b"".join(e.features for e in self._to_learn), "<f4").reshape(-1, len(SPEC))
            happened, ids = labels_of(self._to_learn), Ids.of_examples(self._to_learn)
            self._learner.learn(x, happened, ids, early=True)
            if self._leaves is not None:
                known = about_clicks(happened)
                self._leaves.learn(x[known], happened[known, 0], ids.where(known), early=True)
                self.leaves = self._leaves.deltas()
            self._to_learn = []
            if self._learner.clicks:
                self.online = self._learner.weights()
                self.online.shares = self._learner.shares(self._job.objectives, self._job.min_clicks)

    def train(self) -> Ranker | None:
        """Return a ranker trained on the log; None while it has too few examples."""
        self._write()
        result = train_from_log(self._job)
        if result is None:
            return None
        self.trainings += 1
        trained = Ranker(result.objectives, SPEC.names, f"t{self.trainings}")
        if self._leaf_steps and trained.trees is not None:
            self._leaves = LeafLearner(trained.trees, trained.version)
        return trained

    def _write(self) -> None:
        rows, self._to_log = self._to_log, []
        if rows:
            offsets = range(self.logged, self.logged + len(rows))
            self.logged += len(rows)
            table = example_log.table_of(rows, 0, offsets, [e.ts for e in rows])
            example_log.write(self._folder, table, 0)
