"""Answer one request: candidates, features, ranking, re-rank. Pure: state and time in, an answer out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM, category_vector, unit
from headrace.models.features import ONLINE, POSITION, SPEC, RequestContext, assemble
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.ranker import Ranker
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.models.state.items import ItemState
from headrace.serving import explain
from headrace.serving.catalog import Catalog
from headrace.serving.index.hot import HotIndex
from headrace.serving.rerank.slate import Slate, rerank
from headrace.serving.sources.candidates import Anchors, Budget, Pool, Retriever
from headrace.serving.sources.trending import Trending
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Impression, ModelInfo, RecItem, RecReply, RecRequest
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
UserRow = npt.NDArray[Any]

#: Session clicks that pairs are looked up for.
ANCHORS = 10


@dataclass(frozen=True, slots=True)
class Policy:
    """How lists are made."""

    candidates: int = 500
    epsilon: float = 0.02
    mmr_lambda: float = 0.9
    repeat_after_ms: int = DAY_MS  # what was clicked less long ago is not shown again
    session_gap_ms: int = 30 * 60_000

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return the policy the settings ask for."""
        return cls(
            settings.candidates, settings.epsilon, settings.mmr_lambda, session_gap_ms=settings.session_gap_ms
        )


@dataclass(slots=True)
class Answer:
    """The reply, and what to log of it (None when nothing was shown)."""

    reply: RecReply
    impression: Impression | None


@dataclass(slots=True)
class Ranked:
    """Everything behind a list, for the reply, the log and the evaluator."""

    pool: Pool
    features: F32
    score: F64
    slate: Slate
    anchors: Anchors
    degraded: list[str] = field(default_factory=list)


class Recommender:
    """The serving state of one worker and the way from a request to a list."""

    def __init__(
        self,
        policy: Policy,
        *,
        hot_ms: int = 48 * HOUR_MS,
        budget: Budget | None = None,
        refresh_ms: int = 1000,
        stats: ItemState | None = None,
    ) -> None:
        self.policy = policy
        self.catalog = Catalog()
        self.stats = stats or ItemState()
        self.hot = HotIndex(hot_ms)
        self.trending = Trending(self.stats, refresh_ms)
        self.retriever = Retriever(self.catalog, self.stats, self.trending, self.hot, budget)
        self.ranker: Ranker | None = None
        self.online: OnlineWeights | None = None

    def anchors_for(self, request: RecRequest, user: UserRow | None, now: int) -> list[int]:
        """Return the items whose neighbour rows this request needs, newest first."""
        items: list[int] = [hash64(request.item_id)] if request.item_id else []
        if user is not None and request.surface != "related":
            recent, times = user_state.recent_items(user[0])
            session = int(user[0]["session_len"])
            if times and now - times[0] > self.policy.session_gap_ms:
                session = 3  # a new session: start from where the last one ended
            items += recent[: max(1, session)]
        return list(dict.fromkeys(items))[:ANCHORS]

    def rank(self, request: RecRequest, user: UserRow | None, anchors: Anchors, now: int) -> Ranked:
        """Return the ranked list for a request, before it is turned into a reply.

        Parameters
        ----------
        request
            A valid request.
        user
            The user's row ``(1,)``, None when unknown.
        anchors
            Items of ``anchors_for`` with their neighbour rows.
        now
            Time asked, ms.
        """
        p = self.policy
        country, age = _place_and_age(request, user)
        context = self._context(request, user, anchors, country, now)
        interests = [v for v in (context.user_vector, context.last_vector) if v.any()]
        if len(interests) == 2 and float(interests[0] @ interests[1]) > 0.99:
            interests = interests[:1]
        pool = self.retriever.gather(
            anchors,
            interests,
            exclude=self._excluded(request, user, now),
            country=country,
            age=age,
            now=now,
            limit=max(p.candidates, request.n),
            wanted=request.n,
        )
        features = assemble(user, pool.candidates, context)
        score, degraded = self._score(features)
        boost = self.catalog.table.data["boost"][pool.catalog_rows].astype(np.float64)
        # A ranker's raw scores may be negative: there, too, a boost above 1 must lift the item.
        score = np.where(score > 0, score * boost, score / np.maximum(boost, 1e-6))
        rng = np.random.default_rng(hash64(request.request_id))
        slate = rerank(
            score, pool.candidates.vectors, request.n, mmr_lambda=p.mmr_lambda, epsilon=p.epsilon, rng=rng
        )
        return Ranked(pool, features, score, slate, anchors, degraded)

    def _excluded(self, request: RecRequest, user: UserRow | None, now: int) -> list[int]:
        out = [hash64(i) for i in request.exclude]
        if request.item_id:
            out.append(hash64(request.item_id))
        if user is not None:
            recent, times = user_state.recent_items(user[0])
            out += [i for i, t in zip(recent, times, strict=True) if now - t < self.policy.repeat_after_ms]
        return out

    def _context(
        self, request: RecRequest, user: UserRow | None, anchors: Anchors, country: int, now: int
    ) -> RequestContext:
        vectors = [v for i in anchors.items if (v := self.catalog.vector(i)) is not None]
        mean = np.zeros(DIM, np.float32)
        for k, vector in enumerate(vectors):
            mean += np.float32(0.8**k) * vector
        if user is not None:
            mean += self._taste_vector(user)
        last = self.catalog.table.row(anchors.items[0]) if anchors.items else -1
        data = self.catalog.table.data
        return RequestContext(
            now=now,
            country=country,
            device=request.context.device,
            surface=request.surface,
            user_vector=unit(mean),
            last_vector=vectors[0] if vectors else np.zeros(DIM, np.float32),
            last_category=int(data["category"][last]) if last >= 0 else 0,
            last_creator=int(data["creator"][last]) if last >= 0 else 0,
        )

    def _taste_vector(self, user: UserRow) -> F32:
        """Return the mean vector of the user's clicks, else of their preferences, float32 ``(DIM,)``."""
        recent, _ = user_state.recent_items(user[0])
        rows = self.catalog.table.find(recent)
        rows = rows[rows >= 0]
        if not len(rows):
            names = [self.catalog.name_of(int(k)) for k in user[0]["preferred"] if k]
            return category_vector([n for n in names if n])
        mean: F32 = self.catalog.table.data["vector"][rows].mean(0)
        return mean

    def _score(self, features: F32) -> tuple[F64, list[str]]:
        """Score with the best model there is; say which ones were missing."""
        degraded = [
            name for name, model in (("ranker", self.ranker), ("online", self.online)) if model is None
        ]
        if self.online is not None and len(features):
            features[:, ONLINE] = self.online.predict(features)
        if self.ranker is not None:
            return self.ranker.predict(features), degraded
        if self.online is not None:
            return features[:, ONLINE].astype(np.float64), degraded
        return blend(features), degraded

    def answer(self, request: RecRequest, user: UserRow | None, anchors: Anchors, now: int) -> Answer:
        """Return the reply and its impression; an empty catalogue gives an empty list and says so."""
        ranked = self.rank(request, user, anchors, now)
        model = ModelInfo(
            ranker=self.ranker.version if self.ranker else "",
            online=self.online.version if self.online else "",
        )
        degraded = list(ranked.degraded)
        if not len(ranked.slate.chosen):
            degraded.append("candidates")
        items = self._items(request, user, ranked)
        reply = RecReply(request.request_id, items, model, degraded)
        if not items:
            return Answer(reply, None)
        return Answer(reply, self._impression(request, ranked, reply, now))

    def popular(self, request: RecRequest, now: int, reason: str, user: UserRow | None = None) -> Answer:
        """Return the cheapest list there is: popular items, ranked for nobody, not logged for training.

        What is known of the user, where the row was read, still decides what may be shown: country, age,
        and what was clicked of late.
        """
        nothing = Anchors()
        country, age = _place_and_age(request, user)
        pool = self.retriever.gather(
            nothing,
            [],
            exclude=self._excluded(request, user, now),
            country=country,
            age=age,
            now=now,
            limit=request.n,
            wanted=request.n,
        )
        clicks = item_state.WINDOWS.read_one(pool.candidates.stats, now, "1h", "click")
        ever = item_state.COUNTS.totals(pool.candidates.stats, "click").astype(np.int64)
        order = np.lexsort((-ever, -clicks)).tolist()
        items = [
            RecItem(
                item_id=self.catalog.id_of(int(pool.candidates.items[i])),
                score=float(clicks[i]),
                objectives={},
                sources=pool.sources(i),
                explored=False,
                propensity=1.0,
                why=explain.why(pool, i, False, nothing, self.catalog, set()) if request.explain else None,
            )
            for i in order
        ]
        degraded = [reason] if items else [reason, "candidates"]
        return Answer(RecReply(request.request_id, items, ModelInfo(), degraded), None)

    def _items(self, request: RecRequest, user: UserRow | None, ranked: Ranked) -> list[RecItem]:
        pool, slate = ranked.pool, ranked.slate
        liked: set[int] = set()
        if request.explain and user is not None:
            row = user[0]
            liked = set(row["cat"][row["cat_w"] > 0.5].tolist()) | set(row["preferred"].tolist())
            liked.discard(0)
        out = []
        for j, i in enumerate(slate.chosen.tolist()):
            score = float(ranked.score[i])
            explored = bool(slate.explored[j])
            out.append(
                RecItem(
                    item_id=self.catalog.id_of(int(pool.candidates.items[i])),
                    score=round(score, 6),
                    objectives={"click": round(score, 6)},
                    sources=pool.sources(i),
                    explored=explored,
                    propensity=round(float(slate.propensity[j]), 9),
                    why=explain.why(pool, i, explored, ranked.anchors, self.catalog, liked)
                    if request.explain
                    else None,
                )
            )
        return out

    def _impression(self, request: RecRequest, ranked: Ranked, reply: RecReply, now: int) -> Impression:
        chosen = ranked.slate.chosen
        shown = ranked.features[chosen].copy()
        shown[:, POSITION] = np.arange(len(chosen))
        return Impression(
            request_id=request.request_id,
            user_id=request.user_id,
            surface=request.surface,
            ts=now,
            country=request.context.country,
            device=request.context.device,
            ranker=reply.model.ranker if reply.model else "",
            online=reply.model.online if reply.model else "",
            spec=SPEC.version,
            item_ids=[i.item_id for i in reply.items],
            propensities=ranked.slate.propensity.tolist(),
            explored=ranked.slate.explored.tolist(),
            scores=ranked.score[chosen].tolist(),
            features=shown.astype("<f4").tobytes(),
            sources=[i.sources for i in reply.items],
        )


def _place_and_age(request: RecRequest, user: UserRow | None) -> tuple[int, int]:
    """Return the country asked from, else the user's (0 = unknown), and the user's age (-1 = unknown)."""
    country = hash64(request.context.country)
    if user is None:
        return country, -1
    return country or int(user[0]["country"]), int(user[0]["age"])


_NEXT, _TOGETHER, _SHARE, _VECTOR, _AFFINITY, _AGE = (
    SPEC.index(n)
    for n in (
        "next_share",
        "together_score",
        "item_click_share_1h",
        "vector_user",
        "category_affinity",
        "item_age_h",
    )
)


def blend(features: F32) -> F64:
    """Return the ranking of last resort, float64 ``(n,)``: pairs, popularity, content, freshness."""
    together = features[:, _TOGETHER]
    total = float(together.sum()) or 1.0
    out: F64 = (
        0.5 * features[:, _NEXT].astype(np.float64)
        + 0.5 * together / total
        + 0.5 * features[:, _SHARE]
        + 0.05 * features[:, _VECTOR]
        + 0.05 * features[:, _AFFINITY]
        - 1e-4 * features[:, _AGE]
    )
    return out
