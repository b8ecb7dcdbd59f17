"""Prequential evaluation: ask, score, then learn, click by click, with the code that serves and trains.

For every click that is not the first of its session, the recommender makes a list from the clicks strictly
before it, with the policy of the settings. The place of the clicked item on the list is scored. Then users,
items and neighbours learn the click, and `learning` learns what was shown and clicked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.models.learning.ranker import RankerParams
from headrace.models.state import neighbours as neighbours_module
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.models.state.neighbours import Neighbours
from headrace.models.state.users import UserState, item_events
from headrace.serving.answering import Answer
from headrace.serving.context import ShownRow, UserRow
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.policy import Policy
from headrace.serving.prequential.learning import Learning
from headrace.serving.prequential.score import Score
from headrace.serving.prequential.towers import EventTimeTowers
from headrace.serving.ranking import Ranked
from headrace.serving.recommender import Recommender
from headrace.streams.messages.columns import ITEM_EVENT, KIND, event_columns
from headrace.streams.messages.files import Click
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Context, Impression, Item, RecRequest
from headrace.streams.settings import HOUR_MS, Settings

#: Source numbers of item events: of clicks, and of shown lists.
_CLICKS, _SHOWN = 0, 1


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """How the evaluation runs. How lists are made and learnt from is in ``Settings``."""

    n: int = 20  # length of the lists
    first_train: int = 200  # predictions before the first training
    #: Predictions between two trainings, fewer while there are few. The trainer of an installation trains
    #: by the clock, much more often: that would take hours here.
    retrain_every: int = 5_000
    params: RankerParams = field(default_factory=RankerParams)


class _Watched(Recommender):
    """A recommender that remembers its last ranking: the evaluation looks at the candidates, too."""

    last: Ranked

    def rank(
        self,
        request: RecRequest,
        user: UserRow | None,
        anchors: Anchors,
        now: int,
        shown: ShownRow | None = None,
    ) -> Ranked:
        """Return the ranked list for a request; see ``Recommender``."""
        self.last = super().rank(request, user, anchors, now, shown)
        return self.last


class Prequential:
    """The whole loop in one process, in event time, without a broker."""

    def __init__(self, how: EvalSettings, settings: Settings, folder: Path) -> None:
        self.how = how
        # Nobody waits here: no part is left out because the machine is busy, so a run can be repeated.
        policy = replace(Policy.of(settings), part_ms=float("inf"), candidates_ms=float("inf"))
        self.users = UserState(user_state.new_table(), policy.session_gap_ms)
        self.stats = ItemState()
        self.neighbours = Neighbours()
        hot_ms = int(settings.hot_hours * HOUR_MS)
        self.recommender = _Watched(policy, hot_ms=hot_ms, stats=self.stats)
        self.score = Score()
        self.learning = Learning(folder, settings, how.params)
        self.towers = EventTimeTowers(settings, self.recommender)
        self._sessions: dict[str, list[str]] = {}
        self._offset = 0
        self._next_train = how.first_train

    def step(self, click: Click) -> None:
        """Ask, score and learn one click."""
        session = self._sessions.setdefault(click.session, [])
        self.learning.advance(click.ts)
        self.recommender.online = self.learning.online
        if self.recommender.leaves is not self.learning.leaves:
            self.recommender.leaves = self.learning.leaves
        self.towers.advance(click.ts)
        shown = self._predict(click, session) if session and click.item not in session else None
        self._learn(click, shown)
        session.append(click.item)
        if self.score.predictions >= self._next_train:
            done = self.score.predictions
            self._next_train = done + min(done, self.how.retrain_every)
            self.recommender.ranker = self.learning.train() or self.recommender.ranker
            self.score.trainings = self.learning.trainings

    def _predict(self, click: Click, session: list[str]) -> Impression | None:
        """Score the list for a click; return what was shown."""
        answer = self._answer(click, session)
        ids = [item.item_id for item in answer.reply.items]
        candidates = self.recommender.last.pool.candidates.items
        self.score.in_pool += int(np.uint64(hash64(click.item)) in candidates)
        version = self.recommender.ranker.version if self.recommender.ranker else ""
        self._placed(click, ids.index(click.item) + 1 if click.item in ids else 0, version)
        return answer.impression

    def _placed(self, click: Click, rank: int, version: str) -> None:
        """Score a click; ``rank`` is 1 for the top of the list, 0 when it is not on it."""
        self.score.add(rank, version)

    def _answer(self, click: Click, session: list[str]) -> Answer:
        """Ask for a list as the user would have just before the click."""
        request = RecRequest(
            request_id=str(self._offset),
            user_id=click.user,
            surface="home",
            n=self.how.n,
            exclude=session,
            context=Context(country=click.region, device=click.device, ts=click.ts),
        )
        row = self.users.table.row(hash64(click.user))
        user = self.users.table.data[row : row + 1] if row >= 0 else None
        self.recommender.tick(click.ts)
        items = self.recommender.anchors_for(request, user, click.ts)
        return self.recommender.answer(request, user, Anchors(items, self._neighbour_rows(items)), click.ts)

    def _neighbour_rows(self, items: list[int]) -> npt.NDArray[np.void]:
        table = self.neighbours.table
        rows = table.find(items)
        out = np.full(len(items), neighbours_module.BLANK, neighbours_module.ROW)
        out[rows >= 0] = table.data[rows[rows >= 0]]
        return out

    def _learn(self, click: Click, shown: Impression | None) -> None:
        """Apply the click, and the list it was shown on, to users, items and neighbours, as the agents do."""
        offset = self._offset
        self._offset += 1
        key = hash64(click.item)
        if key not in self.recommender.catalog.table:
            # The files have no metadata: an item exists from its first click on.
            self.recommender.catalog.put(Item(item_id=click.item, published_ts=click.ts))
        self.towers.learn(click)
        event = click.event(offset)
        if shown is not None:
            self._count_shown(shown, offset)
            self.learning.shown(shown)
            if click.item in shown.item_ids:
                event.request_id, event.position = shown.request_id, shown.item_ids.index(click.item)
        self.learning.happened(event)
        out = item_events(self.users.apply(event_columns([event], [offset])), _CLICKS)
        offsets = np.full(len(out), 2 * offset + 1, np.int64)  # as if all of them came in one record
        pair = out["kind"] == KIND["pair"]
        self._count(out[~pair], offsets[~pair])
        self.neighbours.apply(out[pair], offsets[pair])

    def _count_shown(self, shown: Impression, offset: int) -> None:
        n, ts = len(shown.item_ids), np.array([shown.ts], np.int64)
        self.users.shown(hash_many([shown.user_id]), np.array([n]), ts, np.array([offset]))
        out = np.zeros(n, ITEM_EVENT)
        out["item"] = hash_many(shown.item_ids)
        out["country"] = hash64(shown.country)
        out["ts"], out["amount"], out["kind"] = shown.ts, 1, KIND["shown"]
        out["source_partition"], out["source_seq"] = _SHOWN, offset
        self._count(out, np.full(n, 2 * offset, np.int64))

    def _count(self, events: npt.NDArray[np.void], offsets: npt.NDArray[np.int64]) -> None:
        items, countries = self.stats.apply(events, offsets)
        self.recommender.trending.changed(items)
        self.recommender.trending.countries_changed(countries)


def evaluate(
    clicks: Iterable[Click],
    settings: Settings,
    how: EvalSettings | None = None,
    progress: Callable[[int, Score], None] | None = None,
) -> dict[str, float]:
    """Run over ``clicks``; return counts, hit rate, reciprocal rank, candidate recall and seconds.

    ``progress`` is called after every 1000 clicks with their number and the score so far.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-eval-") as folder:
        loop = Prequential(how or EvalSettings(), settings, Path(folder))
        started = time.perf_counter()
        seen = 0
        for click in clicks:
            loop.step(click)
            seen += 1
            if progress is not None and seen % 1000 == 0:
                progress(seen, loop.score)
        return _report(seen, loop.score, time.perf_counter() - started)


def _report(clicks: int, score: Score, seconds: float) -> dict[str, float]:
    return {
        "clicks": clicks,
        "predictions": score.predictions,
        "hr_at_20": round(score.hit_rate, 4),
        "mrr_at_20": round(score.mrr, 4),
        "candidate_recall": round(score.in_pool / max(1, score.predictions), 4),
        "trainings": score.trainings,
        "seconds": round(seconds, 1),
    }
