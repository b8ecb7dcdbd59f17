"""An installation in one process and in event time: state, serving and learning, without a broker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.models.learning.ranker import RankerParams
from headrace.models.state import neighbours as neighbours_module
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.models.state.neighbours import Neighbours
from headrace.models.state.users import UserState, item_events
from headrace.serving.context import ShownRow, UserRow
from headrace.serving.ladder import Rung
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.prequential.learning import Learning
from headrace.serving.prequential.towers import EventTimeTowers
from headrace.serving.ranking import Ranked
from headrace.serving.recommender import Recommender
from headrace.streams.messages.columns import ITEM_EVENT, KIND, event_columns
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Event, Impression, RecRequest
from headrace.streams.settings import HOUR_MS, Settings

#: Source numbers of item events: of clicks, and of shown lists.
_CLICKS, _SHOWN = 0, 1


class Watched(Recommender):
    """A recommender that remembers its last ranking: the evaluation looks at the candidates, too."""

    last: Ranked

    def rank(
        self,
        request: RecRequest,
        user: UserRow | None,
        anchors: Anchors,
        now: int,
        shown: ShownRow | None = None,
        rung: Rung = "full",
    ) -> Ranked:
        """Return the ranked list for a request; see ``Recommender``."""
        self.last = super().rank(request, user, anchors, now, shown, rung)
        return self.last


class World:
    """What the agents hold, and the changes they make to it, record by record.

    Parameters
    ----------
    settings
        How lists are made and models trained.
    folder
        Folder of the Parquet log.
    params
        Training settings of the ranker.
    """

    def __init__(self, settings: Settings, folder: Path, params: RankerParams) -> None:
        # Nobody waits here: no part is left out because the machine is busy, so a run can be repeated.
        policy = replace(Policy.of(settings), part_ms=float("inf"), candidates_ms=float("inf"))
        self.users = UserState(user_state.new_table(), policy.session_gap_ms)
        self.stats = ItemState()
        self.neighbours = Neighbours()
        hot_ms = int(settings.hot_hours * HOUR_MS)
        self.recommender = Watched(policy, hot_ms=hot_ms, stats=self.stats)
        self.learning = Learning(folder, settings, params)
        self.towers = EventTimeTowers(settings, self.recommender)
        self._offset = 0

    def advance(self, now: int) -> None:
        """Let the time come to ``now`` (ms): outcomes close, newer models are used."""
        self.learning.advance(now)
        self.recommender.online = self.learning.online
        if self.recommender.leaves is not self.learning.leaves:
            self.recommender.leaves = self.learning.leaves
        self.towers.advance(now)

    def train(self) -> None:
        """Train a ranker on what is logged, and use it."""
        self.recommender.ranker = self.learning.train() or self.recommender.ranker

    def state_for(self, request: RecRequest, now: int) -> tuple[UserRow | None, Anchors]:
        """Return what a worker reads of the user before it answers a request at ``now`` (ms)."""
        row = self.users.table.row(hash64(request.user_id))
        user = self.users.table.data[row : row + 1] if row >= 0 else None
        self.recommender.tick(now)
        items = self.recommender.anchors_for(request, user, now)
        return user, Anchors(items, self._neighbour_rows(items))

    def _neighbour_rows(self, items: list[int]) -> npt.NDArray[np.void]:
        table = self.neighbours.table
        rows = table.find(items)
        out = np.full(len(items), neighbours_module.BLANK, neighbours_module.ROW)
        out[rows >= 0] = table.data[rows[rows >= 0]]
        return out

    def next_offset(self) -> int:
        """Return the next number of a record: every record has its own, and they rise."""
        self._offset += 1
        return self._offset - 1

    def happen(self, events: list[Event], offsets: list[int]) -> None:
        """Apply events to users, items and neighbours, as the agents do."""
        columns = event_columns(events, offsets)
        columns.category, columns.creator = self.recommender.catalog.attributes(columns.item)
        out = item_events(self.users.apply(columns), _CLICKS)
        sent = np.full(len(out), 2 * offsets[-1] + 1, np.int64)  # as if all of them came in one record
        pair = out["kind"] == KIND["pair"]
        self._count(out[~pair], sent[~pair])
        self.neighbours.apply(out[pair], sent[pair])

    def count_shown(self, shown: Impression, offset: int) -> None:
        """Count a shown list at its user and its items."""
        n, ts = len(shown.item_ids), np.array([shown.ts], np.int64)
        self.users.shown(hash_many([shown.user_id]), np.array([n]), ts, np.array([offset]))
        out = np.zeros(n, ITEM_EVENT)
        out["item"] = hash_many(shown.item_ids)
        out["country"] = hash64(shown.country)
        out["age_group"] = shown.age_group if shown.country else 0
        out["ts"], out["amount"], out["kind"] = shown.ts, 1, KIND["shown"]
        out["source_partition"], out["source_seq"] = _SHOWN, offset
        self._count(out, np.full(n, 2 * offset, np.int64))

    def _count(self, events: npt.NDArray[np.void], offsets: npt.NDArray[np.int64]) -> None:
        items, countries = self.stats.apply(events, offsets)
        self.recommender.trending.changed(items)
        self.recommender.trending.countries_changed(countries)
