"""Prequential evaluation: ask, score, then learn, click by click, with the code that serves.

For every click that is not the first of its session, the recommender makes a list from the clicks strictly
before it. The place of the clicked item on the list is scored. Then users, items and neighbours learn the
click. LightGBM is retrained at intervals, on the features logged when the lists were made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning import ranker as ranker_module
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.state import neighbours as neighbours_module
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.models.state.neighbours import Neighbours
from headrace.models.state.users import UserState, item_events
from headrace.serving.policy import Policy
from headrace.serving.prequential.score import Score
from headrace.serving.prequential.training_log import TrainingLog
from headrace.serving.ranking import Ranked
from headrace.serving.recommender import Recommender
from headrace.serving.sources.neighbours import Anchors
from headrace.streams.messages.columns import KIND, event_columns
from headrace.streams.messages.files import Click
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Item, RecRequest

#: Small trees on parts of the data: the first trainings have only a few thousand clicks.
PARAMS = RankerParams(
    objective="lambdarank",
    trees=60,
    leaves=15,
    learning_rate=0.1,
    min_leaf=200,
    threads=2,
    extra={
        "lambdarank_truncation_level": 20,
        "feature_fraction": 0.3,
        "bagging_fraction": 0.5,
        "bagging_freq": 1,
        "lambda_l2": 20.0,
    },
)

#: Smallest number of remembered lists for a training.
_LEAST_LISTS = 500


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """How the evaluation runs."""

    n: int = 20  # length of the lists
    first_train: int = 2_000  # predictions before the first training
    retrain_every: int = 5_000  # predictions between two trainings, fewer while there are few
    keep_lists: int = 10_000  # lists remembered for training
    keep_every: int = 1  # one list out of so many is remembered
    negatives: int = 40  # candidates kept of a remembered list, besides the clicked one
    params: RankerParams = PARAMS


class Prequential:
    """The whole loop in one process, in event time, without a broker."""

    def __init__(self, settings: EvalSettings, policy: Policy) -> None:
        self.settings = settings
        self.users = UserState(user_state.new_table(), policy.session_gap_ms)
        self.stats = ItemState()
        self.neighbours = Neighbours()
        self.recommender = Recommender(policy, stats=self.stats, refresh_ms=5_000)
        self.score = Score()
        self.log = TrainingLog(settings.keep_lists)
        self._sessions: dict[str, list[str]] = {}
        self._offset = 0
        self._next_train = settings.first_train
        self._rng = np.random.default_rng(7)

    def step(self, click: Click) -> None:
        """Ask, score and learn one click."""
        session = self._sessions.setdefault(click.session, [])
        if session and click.item not in session:
            self._predict(click, session)
        self._learn(click)
        session.append(click.item)

    def _predict(self, click: Click, session: list[str]) -> None:
        ranked = self._ranked(click, session)
        at = np.flatnonzero(ranked.pool.candidates.items == np.uint64(hash64(click.item)))
        place = np.flatnonzero(ranked.slate.chosen == at[0]) if len(at) else at
        self.score.in_pool += len(at)
        version = self.recommender.ranker.version if self.recommender.ranker else "blend"
        self.score.add(int(place[0]) + 1 if len(place) else 0, version)
        if len(at) and self.score.predictions % self.settings.keep_every == 0:
            self._remember(ranked, int(at[0]))
        if self.score.predictions >= self._next_train and len(self.log) >= _LEAST_LISTS:
            self._train()

    def _ranked(self, click: Click, session: list[str]) -> Ranked:
        """Ask for a list as the user would have just before the click."""
        request = RecRequest(
            request_id=str(self._offset),
            user_id=click.user,
            surface="home",
            n=self.settings.n,
            exclude=session,
            context=Context(country=click.region, device=click.device, ts=click.ts),
        )
        row = self.users.table.row(hash64(click.user))
        user = self.users.table.data[row : row + 1] if row >= 0 else None
        items = self.recommender.anchors_for(request, user, click.ts)
        return self.recommender.rank(request, user, Anchors(items, self._neighbour_rows(items)), click.ts)

    def _neighbour_rows(self, items: list[int]) -> npt.NDArray[np.void]:
        table = self.neighbours.table
        rows = table.find(items)
        out = np.full(len(items), neighbours_module.BLANK, neighbours_module.ROW)
        out[rows >= 0] = table.data[rows[rows >= 0]]
        return out

    def _remember(self, ranked: Ranked, clicked: int) -> None:
        """Keep the clicked candidate and a uniform sample of the others.

        The sample is uniform, not the best-scored candidates. With more negatives near the top than further
        down, clicks from further down look likelier than they are, and the ranker learns to reverse lists.
        """
        some = self._rng.integers(0, len(ranked.score), self.settings.negatives)
        keep = np.unique(np.append(some, clicked))
        self.log.add(ranked.features[keep], int(np.searchsorted(keep, clicked)))

    def _train(self) -> None:
        x, y, group = self.log.arrays()
        text = ranker_module.train(x, y, self.settings.params, group=group)
        self.score.trainings += 1
        self.recommender.ranker = Ranker(text, SPEC.names, f"t{self.score.trainings}")
        done = self.score.predictions
        self._next_train = done + min(done, self.settings.retrain_every)

    def _learn(self, click: Click) -> None:
        """Apply the click to users, items and neighbours, as the agents do."""
        offset = self._offset
        self._offset += 1
        key = hash64(click.item)
        if key not in self.recommender.catalog.table:
            # The files have no metadata: an item exists from its first click on.
            self.recommender.catalog.put(Item(item_id=click.item, published_ts=click.ts))
        events = event_columns([click.event(offset)], [offset])
        out = item_events(self.users.apply(events), 0)
        offsets = np.full(len(out), offset, np.int64)  # as if all of them came in one record
        pair = out["kind"] == KIND["pair"]
        self.stats.apply(out[~pair], offsets[~pair])
        self.neighbours.apply(out[pair], offsets[pair])


def evaluate(
    clicks: Iterable[Click],
    settings: EvalSettings | None = None,
    progress: Callable[[int, Score], None] | None = None,
) -> dict[str, float]:
    """Run over ``clicks``; return counts, hit rate, reciprocal rank, candidate recall and seconds.

    ``progress`` is called after every 1000 clicks with their number and the score so far.
    """
    settings = settings or EvalSettings()
    # The policy of the protocol: only the session's own clicks are left out; no exploration, no diversity.
    policy = Policy(candidates=200, epsilon=0.0, mmr_lambda=1.0, repeat_after_ms=0)
    loop = Prequential(settings, policy)
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
