"""Makes the reply and its impression from a ranked list; also the popular list, which needs no ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import POSITION, SPEC
from headrace.models.state import items as item_state
from headrace.serving.explain import why
from headrace.serving.pipeline.pipeline import Pipeline, Pool
from headrace.serving.pipeline.query import Query
from headrace.serving.popular import Popular
from headrace.serving.ranking import Ranked
from headrace.serving.rerank.slate import Slate
from headrace.serving.rounded import rounded
from headrace.streams.messages.ages import age_group
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Impression, RecItem, RecReply, ShadowList, Unshown

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class Answer:
    """The reply, and the impression to log once the reply is on its way.

    Parameters
    ----------
    reply
        The reply.
    shown
        Makes the impression. None: nothing was shown, or the list is not for training.
    ranked
        What the list was made from.
    popular
        What a popular list was made from.

    Attributes
    ----------
    rung
        How much there was time for; empty: for everything, nobody asked.
    """

    def __init__(
        self,
        reply: RecReply,
        shown: Callable[[], Impression] | None = None,
        ranked: Ranked | None = None,
        popular: Popular | None = None,
    ) -> None:
        self.reply, self.ranked, self.popular, self.rung = reply, ranked, popular, ""
        self._shown = shown
        self._impression: Impression | None = None

    @property
    def impression(self) -> Impression | None:
        """The impression; it is made when first asked for."""
        if self._shown is not None:
            self._impression, self._shown = self._shown(), None
        return self._impression


def ranked_items(pipeline: Pipeline, ranked: Ranked) -> list[RecItem]:
    """Return the reply's items, in the order of the list."""
    explain, pool, slate = ranked.query.request.explain, ranked.pool, ranked.slate

    def told(place: int, reason: str) -> list[str] | None:
        return why(pipeline, ranked.query, pool, place, reason) if explain else None

    ids = _ids_at(pipeline, ranked, slate.chosen)
    return items_of(slate, ranked.score, ranked.objectives(), ids, pool.sources_at(slate.chosen), told)


def items_of(
    slate: Slate,
    score: F64,
    objectives: Mapping[str, F64],
    ids: Iterable[str],
    sources: Iterable[list[str]],
    told: Callable[[int, str], list[str] | None],
) -> list[RecItem]:
    """Return the slots of a list as a reply has them.

    Parameters
    ----------
    slate
        The list, ``(n,)``.
    score
        Of all candidates, ``(m,)``.
    objectives
        What each objective foresees of the slots, ``(n,)``; empty: the score is all there is.
    ids, sources
        Of the slots.
    told
        Returns why a candidate is in its slot, by its place and the slot's reason.
    """
    places = slate.chosen.tolist()
    scores, *foreseen = (rounded(column, 6) for column in (score[slate.chosen], *objectives.values()))
    explored, propensities = slate.explored.tolist(), rounded(slate.propensity, 9)
    names, each = (list(objectives), zip(*foreseen, strict=True)) if foreseen else (["click"], zip(scores))
    return [
        RecItem(
            item_id=item_id,
            score=scores[j],
            objectives=dict(zip(names, values, strict=True)),
            sources=named,
            explored=explored[j],
            propensity=propensities[j],
            why=told(i, slate.reasons[j]),
        )
        for j, (i, item_id, named, values) in enumerate(zip(places, ids, sources, each, strict=True))
    ]


def ids_of(pipeline: Pipeline, query: Query) -> Callable[[int], str]:
    """Return what gives the ids of the candidates of a request by their keys."""
    return pipeline.data.catalog.id_of if query.given is None else query.given.ids.__getitem__


def _ids_at(pipeline: Pipeline, ranked: Ranked, places: I64) -> list[str]:
    """Return the ids of the candidates at some places."""
    keys = ranked.pool.candidates.items[places]
    if ranked.query.given is None:
        return pipeline.data.catalog.ids_of(keys)
    return list(map(ranked.query.given.ids.__getitem__, keys.tolist()))


def impression(
    pipeline: Pipeline, ranked: Ranked, reply: RecReply, shadow: ShadowList | None = None
) -> Impression:
    """Return the log record of a shown list, with the features by which each slot was ranked.

    Some have a sample of what was not shown, too.
    """
    request, chosen = ranked.query.request, ranked.slate.chosen
    shown = ranked.features[chosen].copy()
    shown[:, POSITION] = np.arange(len(chosen))
    return Impression(
        request_id=request.request_id,
        user_id=request.user_id,
        surface=request.surface,
        ts=ranked.query.now,
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
        shadow=shadow,
        unshown=unshown(pipeline, ranked),
        durations=_durations(ranked, chosen),
        leaves=reply.model.leaves if reply.model else "",
        settings=ranked.query.settings,
        age_group=age_group(ranked.query.age),
    )


def unshown(pipeline: Pipeline, ranked: Ranked) -> Unshown | None:
    """Return a sample of the candidates that did not come onto a list; None for most requests.

    The hash of the request id decides whether there is one, and which: the same request gets the same. It
    has the candidates that would have been next, each with certainty, and of the others a uniform sample
    without replacement. Items that rest are left out: no score keeps them off the list.
    """
    how, name = pipeline.data.policy.unshown, ranked.query.request.request_id
    seed = hash64(f"unshown {name}")
    if not seed < how.share * 2.0**64:
        return None
    left = np.ones(len(ranked.score), bool)
    left[ranked.slate.chosen] = left[ranked.pool.repeated] = False
    order = np.flatnonzero(left)
    order = order[np.argsort(-ranked.score[order], kind="stable")]
    after = order[how.next :]
    n = min(how.random, len(after))
    drawn = np.sort(np.random.default_rng(seed).choice(len(after), n, replace=False)) if n else after[:0]
    sample = np.concatenate([order[: how.next], after[drawn]])
    if not len(sample):
        return None
    ids = _ids_at(pipeline, ranked, sample)
    return Unshown(
        item_ids=ids,
        probabilities=[1.0] * (len(sample) - n) + [n / max(1, len(after))] * n,
        scores=ranked.score[sample].tolist(),
        features=ranked.features[sample].astype("<f4").tobytes(),
        durations=_durations(ranked, sample),
    )


def _durations(ranked: Ranked, places: I64) -> list[int]:
    """Return the durations (ms, 0: none) of the candidates at some places; empty when none has one.

    They are those of the time of the answer: rows of the catalogue may be others by now.
    """
    durations = ranked.pool.candidates.duration
    found = [] if durations is None else durations[places].tolist()
    return found if any(found) else []


def popular_of(query: Query, pool: Pool) -> Popular:
    """Return what the popular list of a pool is made from.

    Those with the most clicks of the last hour come first, then those with the most of all time. Items that
    the caller wants ranked keep the caller's order. Items that rest come last.
    """
    stats = pool.candidates.stats
    clicks = item_state.WINDOWS.read_one(stats, query.now, "1h", "click")
    ever = item_state.COUNTS.totals(stats, "click").astype(np.int64)
    order = np.lexsort((-ever, -clicks)) if pool.places is None else np.argsort(pool.places)
    order = np.concatenate([order[~np.isin(order, pool.repeated)], pool.repeated])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Popular(pool.candidates.items, pool.mask, clicks, rank, len(order), pool.names)


def popular_items(pipeline: Pipeline, query: Query, pool: Pool, found: Popular) -> list[RecItem]:
    """Return the items of a popular list of a pool, with reasons if they are asked for."""
    explain = query.request.explain
    return found.items(
        ids_of(pipeline, query), lambda place: why(pipeline, query, pool, place) if explain else None
    )
