"""Candidate pools of a small world."""

from __future__ import annotations

from typing import Any

import numpy as np
from strategies import T0
from worlds import World

from headrace.models.features.inputs import Candidates
from headrace.serving.retriever import Pool
from headrace.serving.sources.neighbours import Anchors


def gather(world: World, anchors: Anchors | None = None, **changes: Any) -> Pool:
    asked: dict[str, Any] = {
        "interests": [],
        "exclude": [],
        "country": 0,
        "age": -1,
        "now": T0,
        "limit": 500,
        **changes,
    }
    interests = asked.pop("interests")
    return world.recommender.retriever.gather(anchors or Anchors(), interests, **asked)


def by_id(world: World, pool: Pool) -> dict[str, list[str]]:
    return {
        world.recommender.catalog.id_of(k): pool.sources(i)
        for i, k in enumerate(pool.candidates.items.tolist())
    }


def consistent(world: World, pool: Pool) -> None:
    c: Candidates = pool.candidates
    n = len(c)
    assert len(pool.mask) == len(pool.catalog_rows) == n
    assert len(set(c.items.tolist())) == n, "a candidate twice"
    for name in c.__dataclass_fields__:
        value = getattr(c, name)
        if isinstance(value, np.ndarray):
            assert len(value) == n, name
            if value.dtype.kind == "f":
                assert np.isfinite(value).all(), name
    assert (pool.mask > 0).all(), "nobody proposed it"
    np.testing.assert_array_equal(world.recommender.catalog.table.data["key"][pool.catalog_rows], c.items)
