"""Answers one request: candidates, features, scores, re-ranking. Pure: state and time in, an answer out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from headrace.models.features.assemble import assemble
from headrace.models.learning.arms import CANDIDATE
from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaves import LeafDeltas, moved
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.ranker import Ranker
from headrace.models.state.items import ItemState
from headrace.serving import context
from headrace.serving.answering import Answer, impression, popular_items, popular_of, ranked_items
from headrace.serving.catalog import Catalog
from headrace.serving.context import ShownRow, UserRow
from headrace.serving.index.hot import HotIndex
from headrace.serving.index.settled import Engine
from headrace.serving.ladder import FEWER, Rung
from headrace.serving.pipeline.given import Given
from headrace.serving.pipeline.guard import Guarded
from headrace.serving.pipeline.pairs import Anchors, Pairs
from headrace.serving.pipeline.parts import Scorer
from headrace.serving.pipeline.pipeline import Pipeline, Pool
from headrace.serving.pipeline.query import Models, Query, ServingData
from headrace.serving.policy import Policy
from headrace.serving.popular import PopularLists, plain_query
from headrace.serving.ranking import Ranked, Scored, Used, choices, first_of, score
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.slate import Slate
from headrace.serving.shadow import shadow_list
from headrace.serving.slates import slate_of
from headrace.serving.sources.trending import Trending
from headrace.serving.variants import Variants
from headrace.serving.varied import varied
from headrace.serving.vectors.swap import Swap
from headrace.streams.messages.schemas import Impression, ModelInfo, RecReply, RecRequest
from headrace.streams.settings import HOUR_MS, Settings

F32 = npt.NDArray[np.float32]


class Recommender:
    """The serving state of one worker; makes a list for a request.

    Parameters
    ----------
    policy
        How lists are made.
    hot_ms
        Age, in ms, at which an item leaves the hot index.
    hot_index
        How the hot index searches.
    refresh_ms
        How long the popular lists are kept, ms of event time.
    stats
        Item rows; new ones when None.
    settings
        What the policy is of; without it, no other settings are tried on some users.

    Attributes
    ----------
    data
        What the parts of the pipeline read.
    pipeline
        The parts.
    swap
        Brings other versions of the towers into use.

    Raises
    ------
    ConfigError
        When the policy names a part that does not exist.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        hot_ms: int = 48 * HOUR_MS,
        hot_index: Engine = "lists",
        refresh_ms: int = 1000,
        stats: ItemState | None = None,
        settings: Settings | None = None,
    ) -> None:
        stats = stats or ItemState()
        self.data = ServingData(
            Catalog(policy.blocked_flags),
            stats,
            Trending(stats, refresh_ms),
            HotIndex(hot_ms, hot_index),
            policy,
            Models(variants=Variants(partial(varied, settings) if settings else None)),
        )
        self.pipeline = Pipeline(self.data)
        self._popular = PopularLists(self.pipeline)
        self._leaves: LeafDeltas | None = None
        self.swap = Swap(self.catalog.vectors, self.hot)

    @property
    def policy(self) -> Policy:
        """How lists are made. Which parts are used is decided at the start."""
        return self.data.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.data.policy = policy

    @property
    def catalog(self) -> Catalog:
        """The items."""
        return self.data.catalog

    @property
    def stats(self) -> ItemState:
        """Item rows and country rows."""
        return self.data.stats

    @property
    def trending(self) -> Trending:
        """Popular lists."""
        return self.data.trending

    @property
    def hot(self) -> HotIndex:
        """Vector search over new items."""
        return self.data.hot

    @property
    def ranker(self) -> Ranker | None:
        """The live ranker, None while there is none."""
        return self.data.models.live

    @ranker.setter
    def ranker(self, ranker: Ranker | None) -> None:
        self.data.models.live = self.data.models.ranker = ranker
        self.leaves = self._leaves

    @property
    def leaves(self) -> LeafDeltas | None:
        """The newest leaf deltas; they are used while they are those of the ranker in use, and help."""
        return self._leaves

    @leaves.setter
    def leaves(self, leaves: LeafDeltas | None) -> None:
        self._leaves = leaves
        self.data.models.moved = moved(self.ranker, leaves) if self.policy.leaf_steps else None

    @property
    def online(self) -> OnlineWeights | None:
        """The online model in use, None while there is none."""
        return self.data.models.online

    @online.setter
    def online(self, online: OnlineWeights | None) -> None:
        self.data.models.online = online

    def tick(self, now: int) -> None:
        """Bring up to date what follows the time; ``now`` is that of this process, ms, not of a request."""
        self.swap.advance(now)
        self.trending.refresh(now)
        self.hot.expire(now)

    def close(self) -> None:
        """End the background threads."""
        self.swap.close()
        self.hot.close()

    def anchors_for(self, request: RecRequest, user: UserRow | None, now: int) -> list[int]:
        """Return the items whose neighbour rows this request needs, newest first."""
        return context.anchors_for(request, user, now, self.policy.session_gap_ms)

    def query(
        self,
        request: RecRequest,
        user: UserRow | None,
        anchors: Anchors,
        now: int,
        limit: int,
        shown: ShownRow | None = None,
    ) -> Query:
        """Return what the parts of the pipeline read of a request; at most ``limit`` candidates."""
        country, age = context.place_and_age(request, user)
        policy, settings = self._settings_of(request.user_id)
        known, interests = context.request_context(
            self.catalog, request, user, anchors.items, (country, age), now, shown
        )
        return Query(
            request=request,
            now=now,
            user=user,
            shown=shown,
            anchors=anchors,
            pairs=Pairs.of(anchors.rows),
            country=country,
            age=age,
            context=known,
            interests=interests,
            limit=limit,
            wanted=request.n,
            policy=policy,
            settings=settings,
            given=Given.of(request.candidates),
        )

    def _settings_of(self, user_id: str) -> tuple[Policy, str]:
        """Return the settings tried on a user, and their version; else those of the installation, and ""."""
        variant = self.data.models.variants.of(user_id)
        return (variant.policy, variant.version) if variant else (self.policy, "")

    def rank(
        self,
        request: RecRequest,
        user: UserRow | None,
        anchors: Anchors,
        now: int,
        shown: ShownRow | None = None,
        rung: Rung = "full",
    ) -> Ranked:
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
        shown
            What the user was shown ``(1,)``, None when unknown.
        rung
            How much there is time for; see ``ladder.py``.
        """
        stages = self.data.stages
        query = self.query(request, user, anchors, now, request.n, shown)
        if rung != "full":
            query.share = FEWER
            query.left_out.append(f"rung:{rung}")
        most = max(query.policy.candidates, len(request.candidates))
        query.limit = max(int(query.share * most), request.n)
        stages.done("query")
        models = self.data.models
        variant = models.rankers.variant_of(request.user_id)
        models.ranker = models.rankers.candidate if variant == CANDIDATE else models.live
        pool = self.pipeline.gather(query)
        scorers = self.pipeline.scorers if rung != "first" else first_of(self.pipeline.scorers)
        features, ids, (scores, scorer, missing, foreseen) = self.scored(query, pool, scorers)
        every = choices(self.data, query, pool, scores)
        slate = slate_of(self.pipeline, query, pool, every)
        stages.done("rerank")
        repeated = ["repeated"] if len(pool.repeated) and np.isin(slate.chosen, pool.repeated).any() else []
        version = models.ranker.version if models.ranker and rung != "first" else ""
        left_out = [*missing, *repeated, *query.left_out]
        moved = models.moved if models.ranker is models.live else None
        used = Used(models.ranker, moved, models.online)
        return Ranked(
            *(query, pool, features, scores, slate, left_out, version, variant, scorer, ids, used, every),
            foreseen=foreseen,
        )

    def scored(
        self, query: Query, pool: Pool, scorers: Sequence[Guarded[Scorer]] | None = None
    ) -> tuple[F32, Ids, Scored]:
        """Return features ``(n, len(SPEC))``, ids and scores of the candidates; see ``ranking.score``."""
        features = assemble(query.user, pool.candidates, query.context)
        told = query.request.context
        ids = Ids.of_request(query.request.user_id, told.country, told.device, pool.candidates.items)
        self.data.stages.done("features")
        found = score(self.pipeline.scorers if scorers is None else scorers, features, ids, query.left_out)
        self.data.stages.done("score")
        return features, ids, found

    def answer(
        self,
        request: RecRequest,
        user: UserRow | None,
        anchors: Anchors,
        now: int,
        shown: ShownRow | None = None,
        rung: Rung = "full",
    ) -> Answer:
        """Return the reply; its impression is made when it is asked for. Parameters as of ``rank``.

        ``degraded`` has "candidates" when no item may be shown. It has "repeated" when the list ends with
        items that rest, because there were too few others. It has the parts that were left out.
        """
        ranked = self.rank(request, user, anchors, now, shown, rung)
        models = self.data.models
        by_moved = models.moved and models.ranker is models.live and rung != "first"
        deltas = models.moved.version if models.moved and by_moved else ""
        model = ModelInfo(
            ranker=ranked.ranker,
            online=self.online.version if self.online else "",
            variant=ranked.variant,
            leaves=deltas,
            embeddings=self.catalog.vectors.version,
            settings=ranked.query.settings,
        )
        items = ranked_items(self.pipeline, ranked)
        degraded = ranked.degraded if items else [*ranked.degraded, "candidates"]
        reply = RecReply(request.request_id, items, model, list(degraded))
        self.data.stages.done("reply")
        if not items:
            return Answer(reply)

        def logged() -> Impression:
            self.pipeline.shown(ranked.pool.mask[ranked.slate.chosen])
            shadow = shadow_list(self.data, ranked, self.remade)
            return impression(self.pipeline, ranked, reply, shadow)

        return Answer(reply, logged, ranked)

    def remade(self, ranked: Ranked, every: Choices, rules: Rules) -> Slate:
        """Return the list that other rules or scores make of the same candidates."""
        return slate_of(self.pipeline, ranked.query, ranked.pool, every, rules)

    def popular(
        self,
        request: RecRequest,
        now: int,
        reason: str,
        user: UserRow | None = None,
        shown: ShownRow | None = None,
    ) -> Answer:
        """Return the cheapest list: popular items, the same for all users, and not logged for training.

        Items that the caller wants ranked keep the caller's order.
        What may be on it is held for a second (``popular.py``). Where that is too little, or reasons are
        asked for, it is made from all candidates.

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
        shown
            What the user was shown ``(1,)``, if it was read.
        """
        if not request.explain and not request.candidates:
            country, age = context.place_and_age(request, user)
            policy, settings = self._settings_of(request.user_id)
            plain = plain_query(request, now, country, age, policy, user, shown, settings)
            found = self._popular.found(plain)
            if found is not None:
                items = found.items(self._popular.id_of)
                reply = RecReply(request.request_id, items, ModelInfo(), [reason, *plain.left_out])
                return Answer(reply, popular=found)
        query = replace(self.query(request, user, Anchors(), now, request.n, shown), interests=[])
        pool = self.pipeline.gather(query)
        found = popular_of(query, pool)
        items = popular_items(self.pipeline, query, pool, found)
        degraded = [reason, *(["repeated"] if len(pool.repeated) else []), *query.left_out]
        degraded = degraded if items else [*degraded, "candidates"]
        return Answer(RecReply(request.request_id, items, ModelInfo(), degraded), popular=found)
