"""Why an item is shown: one or more plain sentences with their numbers, from the sources that proposed it."""

from __future__ import annotations

import logging

from headrace.serving.pipeline.parts import Source
from headrace.serving.pipeline.pipeline import Pipeline, Pool
from headrace.serving.pipeline.query import Query
from headrace.serving.rerank.slate import EXPLORED, FRESH, LONG_TAIL, WELCOME

log = logging.getLogger(__name__)

#: The user likes a category with more than this affinity.
_LIKED = 0.5


def liked(query: Query) -> set[int]:
    """Return the categories the user has shown a taste for or has named in the profile."""
    if query.user is None:
        return set()
    row = query.user[0]
    return (set(row["cat"][row["cat_w"] > _LIKED].tolist()) | set(row["preferred"].tolist())) - {0}


_SLOT = {
    EXPLORED: "we are trying something new for you",
    FRESH: "new, and few people have seen it yet",
    WELCOME: "we do not know your taste yet, so we show you different things that people like",
    LONG_TAIL: "a find that few people know",
}


def why(pipeline: Pipeline, query: Query, pool: Pool, i: int, reason: str = "") -> list[str]:
    """Return the reasons for candidate ``i``, each once; never empty. ``reason`` is that of its slot."""
    out = [_SLOT[reason]] if reason else []
    sources = pipeline.sources_of(pool, i)
    names = {source.name for source in sources}
    told = [source for source in sources if not source.unsaid_beside & names]
    out += [text for source in told if (text := _reason(source, query, pool, i))]
    category = int(pool.candidates.category[i])
    if category in liked(query) and (name := pipeline.data.catalog.name_of(category)):
        out.append(f"you like {name}")
    if i in pool.repeated:
        opened = query.user is not None and pool.candidates.items[i] in query.user["recent"][0]
        out.append("you opened it before" if opened else "you have seen it before")
    return list(dict.fromkeys(out)) or ["part of today's selection"]


def _reason(source: Source, query: Query, pool: Pool, i: int) -> str:
    """Return what a source says; nothing when it fails: the list is worth more than a reason."""
    try:
        return source.reason(query, pool.candidates, i)
    except Exception:
        log.exception("source:%s gives no reason", source.name, extra={"action": "reason_failed"})
        return ""
