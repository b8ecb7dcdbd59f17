"""Prequential evaluation: ask, score, then learn, click by click, with the code that serves.

At every click that is not the first of its session the recommender is asked for a list from what came
strictly before; the click it should have foreseen is scored; then everything learns it. LightGBM is retrained
as the stream goes, on features logged when the lists were made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace.models.features import SPEC
from headrace.models.learning import ranker as ranker_module
from headrace.models.learning.ranker import Ranker, RankerParams
from headrace.models.state import neighbours as neighbours_module
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.models.state.neighbours import Neighbours
from headrace.models.state.users import UserState, item_events
from headrace.serving.recommender import Policy, Ranked, Recommender
from headrace.serving.sources.candidates import Anchors
from headrace.streams.messages.columns import KIND, event_columns
from headrace.streams.messages.files import Click
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Item, RecRequest

F32 = npt.NDArray[np.float32]


#: Small trees on parts of the data: the first trainings have a few thousand clicks to go by.
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


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """How the evaluation runs."""

    n: int = 20
    first_train: int = 2_000
    retrain_every: int = 5_000  # predictions between two trainings, fewer while there are few
    keep_lists: int = 10_000  # lists remembered for training
    keep_every: int = 1  # every how many lists one is remembered
    negatives: int = 40  # candidates kept of a remembered list, beside the one clicked
    params: RankerParams = PARAMS


@dataclass(slots=True)
class Score:
    """Running hit rate and reciprocal rank."""

    predictions: int = 0
    hits: int = 0
    reciprocal: float = 0.0
    in_pool: int = 0
    trainings: int = 0
    by_version: dict[str, tuple[int, int, float]] = field(default_factory=dict)

    def add(self, rank: int, version: str) -> None:
        """Count one prediction; ``rank`` is 1 for the top of the list, 0 for not on it."""
        self.predictions += 1
        hit, gain = int(rank > 0), 1 / rank if rank else 0.0
        self.hits += hit
        self.reciprocal += gain
        n, h, g = self.by_version.get(version, (0, 0, 0.0))
        self.by_version[version] = (n + 1, h + hit, g + gain)

    @property
    def hit_rate(self) -> float:
        """Return HR@n."""
        return self.hits / max(1, self.predictions)

    @property
    def mrr(self) -> float:
        """Return MRR@n."""
        return self.reciprocal / max(1, self.predictions)


class TrainingLog:
    """Remembered lists, the newest ``keep`` of them: the log a trainer would read."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._lists: list[tuple[F32, int]] = []

    def __len__(self) -> int:
        return len(self._lists)

    def add(self, features: F32, clicked: int) -> None:
        """Remember a list: float32 ``(k, len(SPEC))`` and which row was clicked."""
        self._lists.append((features, clicked))
        if len(self._lists) > self._keep * 1.2:
            self._lists = self._lists[-self._keep :]

    def arrays(self) -> tuple[F32, F32, npt.NDArray[np.int64]]:
        """Return features, labels and group sizes for ``lambdarank``."""
        lists = self._lists[-self._keep :]
        group = np.array([len(f) for f, _ in lists], np.int64)
        x = np.concatenate([f for f, _ in lists])
        y = np.zeros(len(x), np.float32)
        y[np.r_[0, np.cumsum(group)[:-1]] + np.array([c for _, c in lists])] = 1
        return x, y, group


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
        s = self.settings
        request = RecRequest(
            request_id=str(self._offset),
            user_id=click.user,
            surface="home",
            n=s.n,
            exclude=session,
            context=Context(country=click.region, device=click.device, ts=click.ts),
        )
        row = self.users.table.row(hash64(click.user))
        user = self.users.table.data[row : row + 1] if row >= 0 else None
        items = self.recommender.anchors_for(request, user, click.ts)
        anchors = Anchors(items, self._neighbour_rows(items))
        ranked = self.recommender.rank(request, user, anchors, click.ts)
        keys = ranked.pool.candidates.items
        at = np.flatnonzero(keys == np.uint64(hash64(click.item)))
        place = np.flatnonzero(ranked.slate.chosen == at[0]) if len(at) else at
        self.score.in_pool += len(at)
        version = self.recommender.ranker.version if self.recommender.ranker else "blend"
        self.score.add(int(place[0]) + 1 if len(place) else 0, version)
        if len(at) and self.score.predictions % s.keep_every == 0:
            self._remember(ranked, int(at[0]))
        if self.score.predictions >= self._next_train and len(self.log) >= 500:
            self._train(click.ts)

    def _neighbour_rows(self, items: list[int]) -> npt.NDArray[np.void]:
        table = self.neighbours.table
        rows = table.find(items)
        out = np.full(len(items), neighbours_module.BLANK, neighbours_module.ROW)
        out[rows >= 0] = table.data[rows[rows >= 0]]
        return out

    def _remember(self, ranked: Ranked, clicked: int) -> None:
        """Keep the clicked candidate and a uniform sample of the others.

        Uniform, not the best-scored ones: with more negatives near the top than further down, a click from
        further down looks likelier than it is, and the ranker learns to turn lists upside down.
        """
        some = self._rng.integers(0, len(ranked.score), self.settings.negatives)
        keep = np.unique(np.append(some, clicked))
        self.log.add(ranked.features[keep], int(np.searchsorted(keep, clicked)))

    def _train(self, ts: int) -> None:
        x, y, group = self.log.arrays()
        text = ranker_module.train(x, y, self.settings.params, group=group)
        self.score.trainings += 1
        self.recommender.ranker = Ranker(text, SPEC.names, f"t{self.score.trainings}")
        done = self.score.predictions
        self._next_train = done + min(done, self.settings.retrain_every)

    def _learn(self, click: Click) -> None:
        """Let users, items and neighbours see the click, as the stream would."""
        offset = self._offset
        self._offset += 1
        key = hash64(click.item)
        if key not in self.recommender.catalog.table:
            # No metadata in these files: an item exists from its first click on.
            self.recommender.catalog.put(Item(item_id=click.item, published_ts=click.ts))
        events = event_columns([click.event(offset)], [offset])
        out = item_events(self.users.apply(events), 0)
        offsets = np.full(len(out), offset, np.int64)  # as if it came in one record
        pair = out["kind"] == KIND["pair"]
        self.stats.apply(out[~pair], offsets[~pair])
        self.neighbours.apply(out[pair], offsets[pair])


def evaluate(
    clicks: Iterable[Click],
    settings: EvalSettings | None = None,
    progress: Callable[[int, Score], None] | None = None,
) -> dict[str, float]:
    """Run over ``clicks``; return predictions, hit rate, reciprocal rank, seconds and what else was seen."""
    settings = settings or EvalSettings()
    # Policy of the protocol: nothing but the session's own clicks is left out, no exploration, no diversity.
    policy = Policy(candidates=200, epsilon=0.0, mmr_lambda=1.0, repeat_after_ms=0)
    loop = Prequential(settings, policy)
    started = time.perf_counter()
    seen = 0
    for click in clicks:
        loop.step(click)
        seen += 1
        if progress is not None and seen % 1000 == 0:
            progress(seen, loop.score)
    score = loop.score
    return {
        "clicks": seen,
        "predictions": score.predictions,
        "hr_at_20": round(score.hit_rate, 4),
        "mrr_at_20": round(score.mrr, 4),
        "candidate_recall": round(score.in_pool / max(1, score.predictions), 4),
        "trainings": score.trainings,
        "seconds": round(time.perf_counter() - started, 1),
    }
