"""Scores of the candidates, and the ranked list with all that the reply, the log and the evaluation need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.models.learning.hashed import Ids
from headrace.models.learning.leaves import MovedRanker
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.ranker import Ranker
from headrace.models.state.items import METRICS
from headrace.models.state.key_sets import among
from headrace.serving import newcomers
from headrace.serving.filters.same_title import SameTitle
from headrace.serving.pipeline import checked
from headrace.serving.pipeline.build import label
from headrace.serving.pipeline.guard import Guarded
from headrace.serving.pipeline.parts import Scorer
from headrace.serving.pipeline.pipeline import Pool
from headrace.serving.pipeline.query import Query, ServingData
from headrace.serving.rerank.choices import Choices, Unread
from headrace.serving.rerank.priors import counts_of, prior_rates
from headrace.serving.rerank.slate import Slate

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_CLICK, _SHOWN = METRICS.index("click"), METRICS.index("shown")
_NOBODY = np.zeros(0, np.uint64)


class Scored(NamedTuple):
    """The scores of candidates.

    Attributes
    ----------
    score
        float64 ``(n,)``.
    scorer
        Whose they are, None: no scorer could.
    missing
        The names of the scorers that have no model.
    foreseen
        The probabilities behind the scores, by objective, float64 ``(n,)``; None: ask the scorer for them.
    """

    score: F64
    scorer: Scorer | None
    missing: list[str]
    foreseen: dict[str, F64] | None


@dataclass(frozen=True, slots=True)
class Used:
    """The models that made a list; others may be in use by the time that it is looked at again."""

    ranker: Ranker | None
    moved: MovedRanker | None  # the ranker with moved leaves, if its scores were used
    online: OnlineWeights | None


@dataclass(slots=True)
class Ranked:
    """A ranked list with its features and scores.

    ``ranker`` and ``variant`` are the version that scored it, and the user's arm; empty: none.
    """

    query: Query
    pool: Pool
    features: F32  # (n_candidates, len(SPEC))
    score: F64  # (n_candidates,)
    slate: Slate
    degraded: list[str]
    ranker: str = ""
    variant: str = ""
    scorer: Scorer | None = None  # whose scores they are
    ids: Ids | None = None
    used: Used | None = None
    every: Choices | None = None  # what the list was made from
    foreseen: dict[str, F64] | None = None  # of all candidates, by objective, if it is known
    titles: list[str] | None = (
        None  # of all candidates, comparable, as the list was made; of traced ones only
    )

    def objectives(self) -> dict[str, F64]:
        """Return the probabilities that make up the scores of the list, by objective, float64 ``(n,)``."""
        if self.scorer is None or self.ids is None:
            return {}
        chosen = self.slate.chosen
        if self.foreseen is not None:
            return {name: each[chosen] for name, each in self.foreseen.items()}
        return self.scorer.objectives(self.features[chosen], self.ids.of_items(chosen))


def score(scorers: Sequence[Guarded[Scorer]], features: F32, ids: Ids, left_out: list[str]) -> Scored:
    """Score with the first scorer that can.

    Parameters
    ----------
    scorers
        The best one first. One that fills a feature runs in any case, before the others.
    features
        float32 ``(n, len(SPEC))``.
    ids
        Who asks, and the candidates ``(n,)``.
    left_out
        Gets the labels of the scorers that failed.

    Returns
    -------
    The scores, zeros when no scorer can.
    """
    ready = [s for s in scorers if s.part.ready()]
    alone, feature = _scores(features, ids, alone=True), _scores(features, ids, alone=False)
    # The first one orders the list, if it does not fail. The others only fill their feature.
    fill = [s for s in ready if s.part.fills_feature]
    done = {s.label: s.run(alone if s is ready[0] else feature, left_out) for s in fill}
    missing = [s.part.name for s in scorers if not s.part.ready()]
    for scorer in ready:
        found = done.get(scorer.label)
        if scorer.label not in done or (found is not None and scorer is not ready[0]):
            found = scorer.run(alone, left_out)
        if found is not None:
            return Scored(found[0], scorer.part, missing, found[1])
    return Scored(np.zeros(len(features)), None, missing, None)


def first_of(scorers: Sequence[Guarded[Scorer]]) -> list[Guarded[Scorer]]:
    """Return the scorers that run in any case, and the last one for want of them."""
    return [s for s in scorers if s.part.fills_feature or s is scorers[-1]]


def _scores(features: F32, ids: Ids, *, alone: bool) -> Callable[[Scorer], tuple[F64, dict[str, F64] | None]]:
    def scores(scorer: Scorer) -> tuple[F64, dict[str, F64] | None]:
        found = scorer.score_alone(features, ids) if alone else scorer.score_for(features, ids)
        return checked.scores(found, len(features)), scorer.foreseen(features)

    return scores


def choices(data: ServingData, query: Query, pool: Pool, scores: F64) -> Choices:
    """Return what the re-rank stage reads of the candidates."""
    c, policy, rows = pool.candidates, query.policy, pool.catalog_rows
    rules, n, catalog = policy.rules, len(c), data.catalog
    totals, more, fresh_ms = c.stats["totals"], c.stats["totals_x"], policy.fresh_ms
    clicks, shown, fresh, tail = counts_of(
        *(
            totals,
            more,
            _CLICK,
            _SHOWN,
            c.published,
            query.now,
            fresh_ms,
            policy.fresh_shown,
            policy.tail_clicks,
        )
    )
    begin = rules.prior_clicks, rules.prior_misses
    prior = guess = np.zeros(n)
    if rules.fresh_prior:
        prior = prior_rates(clicks, shown, c.category, c.creator, fresh, begin)
    if rules.welcome and newcomers.is_new(query):
        rates = prior_rates(clicks, shown, c.category, c.creator, np.ones(n, bool), begin)
        guess = newcomers.rates(data.stats, query, c, rates, (clicks, shown), sum(begin))
    creators = query.user["followed"][0] if query.user is not None else _NOBODY
    return Unread(
        lambda places: catalog.content_vectors(rows.take(places)),
        score=scores,
        creator=c.creator,
        category=c.category,
        followed=among(c.creator, creators[creators != 0]),
        tail=tail,
        fresh=fresh,
        clicks=clicks,
        shown=shown,
        boost=pool.items["boost"].astype(np.float64),
        prior=prior,
        guess=guess,
        title=_titles(data, pool),
    )


def _titles(data: ServingData, pool: Pool) -> npt.NDArray[np.uint64]:
    """Return the numbers of the titles of the candidates; 0 where the same title may be shown twice."""
    if data.policy.parts.get(label(SameTitle)) == "off":
        return np.zeros(len(pool.candidates), np.uint64)
    return pool.items["title"].astype(np.uint64)
