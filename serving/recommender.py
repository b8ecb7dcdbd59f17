"""Answers one request: candidates, features, ranking, re-ranking. Pure: state and time in, an answer out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.features.assemble import assemble
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.ranker import Ranker
from headrace.models.state.items import ItemState
from headrace.serving import context
from headrace.serving.answering import Answer, impression, popular_items, ranked_items
from headrace.serving.catalog import Catalog
from headrace.serving.context import UserRow
from headrace.serving.index.hot import HotIndex
from headrace.serving.policy import Policy
from headrace.serving.ranking import Ranked, boosted, score
from headrace.serving.rerank.slate import Slate, rerank
from headrace.serving.retriever import Budget, Pool, Retriever
from headrace.serving.sources.neighbours import Anchors
from headrace.serving.sources.trending import Trending
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import ModelInfo, RecReply, RecRequest
from headrace.streams.settings import HOUR_MS

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class Recommender:
    """The serving state of one worker; makes a list for a request.

    Parameters
    ----------
    policy
        How lists are made.
    hot_ms
        Age, in ms, at which an item leaves the hot index.
    budget
        How many candidates each source may propose; the defaults when None.
    refresh_ms
        How long the popular lists are kept, ms of event time.
    stats
        Item rows; new ones when None.

    Attributes
    ----------
    ranker, online
        The models in use, None while there is none.
    """

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
        return context.anchors_for(request, user, now, self.policy.session_gap_ms)

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
        country, _ = context.place_and_age(request, user)
        known = context.request_context(self.catalog, request, user, anchors.items, country, now)
        limit = max(p.candidates, request.n)
        pool = self._gather(request, user, anchors, context.interests(known), now, limit)
        features = assemble(user, pool.candidates, known)
        scores, degraded = score(features, self.ranker, self.online)
        boost = self.catalog.table.data["boost"][pool.catalog_rows].astype(np.float64)
        scores = boosted(scores, boost)
        if len(pool.repeated):
            degraded = [*degraded, "repeated"]
        return Ranked(pool, features, scores, self._slate(request, pool, scores), anchors, degraded)

    def _slate(self, request: RecRequest, pool: Pool, scores: F64) -> Slate:
        """Return the list: the best candidates first, then those the user clicked lately."""
        vectors, how = pool.candidates.vectors, self.policy
        fresh = np.delete(np.arange(len(scores)), pool.repeated) if len(pool.repeated) else None
        slate = rerank(
            scores if fresh is None else scores[fresh],
            vectors if fresh is None else vectors[fresh],
            request.n,
            mmr_lambda=how.mmr_lambda,
            epsilon=how.epsilon,
            rng=np.random.default_rng(hash64(request.request_id)),  # the same request gets the same list
        )
        return slate if fresh is None else slate.followed_by(pool.repeated, fresh)

    def _gather(
        self,
        request: RecRequest,
        user: UserRow | None,
        anchors: Anchors,
        interests: list[F32],
        now: int,
        limit: int,
    ) -> Pool:
        country, age = context.place_and_age(request, user)
        return self.retriever.gather(
            anchors,
            interests,
            exclude=context.excluded(request),
            clicked=context.clicked_lately(user, now, self.policy.repeat_after_ms),
            country=country,
            age=age,
            now=now,
            limit=limit,
            wanted=request.n,
        )

    def answer(self, request: RecRequest, user: UserRow | None, anchors: Anchors, now: int) -> Answer:
        """Return the reply and its impression.

        ``degraded`` has "candidates" when no item may be shown. It has "repeated" when the list ends with
        items that the user clicked lately, because there were too few others.
        """
        ranked = self.rank(request, user, anchors, now)
        model = ModelInfo(
            ranker=self.ranker.version if self.ranker else "",
            online=self.online.version if self.online else "",
        )
        items = ranked_items(self.catalog, request, user, ranked)
        degraded = ranked.degraded if items else [*ranked.degraded, "candidates"]
        reply = RecReply(request.request_id, items, model, list(degraded))
        return Answer(reply, impression(request, ranked, reply, now) if items else None)

    def popular(self, request: RecRequest, now: int, reason: str, user: UserRow | None = None) -> Answer:
        """Return the cheapest list: popular items, the same for all users, and not logged for training.

        Parameters
        ----------
        request
            A valid request.
        now
            Time asked, ms.
        reason
            Why there is no ranked list; it goes into ``degraded``.
        user
            The user's row ``(1,)`` if it was read. It does not change the order, but filters the items: by
            country, age, and recent clicks.
        """
        pool = self._gather(request, user, Anchors(), [], now, request.n)
        items = popular_items(self.catalog, request, pool, now)
        degraded = [reason, *(["repeated"] if len(pool.repeated) else []), *([] if items else ["candidates"])]
        return Answer(RecReply(request.request_id, items, ModelInfo(), degraded), None)
