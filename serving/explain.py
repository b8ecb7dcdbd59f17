"""Why an item is shown: one or more plain sentences with their numbers, from the sources that proposed it."""

from __future__ import annotations

from headrace.serving.pipeline.pipeline import Pipeline, Pool
from headrace.serving.pipeline.query import Query

#: The user likes a category with more than this affinity.
_LIKED = 0.5


def liked(query: Query) -> set[int]:
    """Return the categories the user has shown a taste for or has named in the profile."""
    if query.user is None:
        return set()
    row = query.user[0]
    return (set(row["cat"][row["cat_w"] > _LIKED].tolist()) | set(row["preferred"].tolist())) - {0}


def why(pipeline: Pipeline, query: Query, pool: Pool, i: int, explored: bool) -> list[str]:
    """Return the reasons for candidate ``i``, each once; never empty."""
    out = ["we are trying something new for you"] if explored else []
    out += [
        text for source in pipeline.sources_of(pool, i) if (text := source.reason(query, pool.candidates, i))
    ]
    category = int(pool.candidates.category[i])
    if category in liked(query) and (name := pipeline.data.catalog.name_of(category)):
        out.append(f"you like {name}")
    if i in pool.repeated:
        opened = query.user is not None and pool.candidates.items[i] in query.user["recent"][0]
        out.append("you opened it before" if opened else "you have seen it before")
    return list(dict.fromkeys(out)) or ["part of today's selection"]
