"""Makes the reply and its impression from a ranked list; also the popular list, which needs no ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.models.features.spec import POSITION, SPEC
from headrace.models.state import items as item_state
from headrace.serving import explain
from headrace.serving.catalog import Catalog
from headrace.serving.context import UserRow
from headrace.serving.ranking import Ranked
from headrace.serving.retriever import Pool
from headrace.serving.sources.neighbours import Anchors
from headrace.streams.messages.schemas import Impression, RecItem, RecReply, RecRequest

#: The user likes a category with more than this affinity.
_LIKED = 0.5


@dataclass(slots=True)
class Answer:
    """The reply, and the impression to log (None: nothing was shown, or the list is not for training)."""

    reply: RecReply
    impression: Impression | None


def ranked_items(
    catalog: Catalog, request: RecRequest, user: UserRow | None, ranked: Ranked
) -> list[RecItem]:
    """Return the reply's items, in the order of the list."""
    liked = _liked(user) if request.explain and user is not None else set()
    out = []
    for j, i in enumerate(ranked.slate.chosen.tolist()):
        score = round(float(ranked.score[i]), 6)
        explored = bool(ranked.slate.explored[j])
        why = (
            explain.why(ranked.pool, i, explored, ranked.anchors, catalog, liked) if request.explain else None
        )
        out.append(
            RecItem(
                item_id=catalog.id_of(int(ranked.pool.candidates.items[i])),
                score=score,
                objectives={"click": score},
                sources=ranked.pool.sources(i),
                explored=explored,
                propensity=round(float(ranked.slate.propensity[j]), 9),
                why=why,
            )
        )
    return out


def _liked(user: UserRow) -> set[int]:
    """Return the categories the user has shown a taste for or has named in the profile."""
    row = user[0]
    return (set(row["cat"][row["cat_w"] > _LIKED].tolist()) | set(row["preferred"].tolist())) - {0}


def impression(request: RecRequest, ranked: Ranked, reply: RecReply, now: int) -> Impression:
    """Return the log record of a shown list, with the features by which each slot was ranked."""
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


def popular_items(catalog: Catalog, request: RecRequest, pool: Pool, now: int) -> list[RecItem]:
    """Return a pool's items, those with the most clicks of the last hour first, then of all time.

    Items that the user clicked lately come last.
    """
    stats = pool.candidates.stats
    clicks = item_state.WINDOWS.read_one(stats, now, "1h", "click")
    ever = item_state.COUNTS.totals(stats, "click").astype(np.int64)
    order = np.lexsort((-ever, -clicks))
    order = np.concatenate([order[~np.isin(order, pool.repeated)], pool.repeated])
    nothing = Anchors()
    return [
        RecItem(
            item_id=catalog.id_of(int(pool.candidates.items[i])),
            score=float(clicks[i]),
            objectives={},
            sources=pool.sources(i),
            explored=False,
            propensity=1.0,
            why=explain.why(pool, i, False, nothing, catalog, set()) if request.explain else None,
        )
        for i in order.tolist()
    ]
