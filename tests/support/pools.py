"""Candidate pools of a small world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from strategies import T0
from worlds import World, request

from headrace.models.features.inputs import Candidates
from headrace.serving.catalog import Catalog
from headrace.serving.filters.age import MinimumAge
from headrace.serving.filters.country import CountryRules
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.pipeline.pipeline import Pool
from headrace.serving.pipeline.query import Found
from headrace.serving.policy import Policy
from headrace.serving.recommender import Recommender
from headrace.streams.tables.rows import Rows


def gather(world: World, anchors: Anchors | None = None, **changes: Any) -> Pool:
    """Return the candidates of a request; ``exclude`` are item ids, other changes fields of ``Query``."""
    asked = request(n=1, exclude=changes.pop("exclude", []))
    limit = changes.pop("limit", 500)
    query = world.recommender.query(asked, None, anchors or Anchors(), changes.get("now", T0), limit)
    world.recommender.tick(query.now)
    return world.recommender.pipeline.gather(replace(query, **{"interests": [], "wanted": 0, **changes}))


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


def allowed(catalog: Catalog, rows: Rows, country: int, age: int) -> npt.NDArray[np.bool_]:
    """Return which rows of a catalogue the filters of country and age let through, bool ``(n,)``."""
    recommender = Recommender(Policy())
    recommender.data.catalog = catalog
    query = replace(recommender.query(request(), None, Anchors(), T0, 10), country=country, age=age)
    keys = catalog.column("key", rows)
    found = Found.of(catalog, keys, np.ones(len(keys), np.uint32), np.ones(len(keys)))
    return CountryRules(recommender.data).keep(query, found) & MinimumAge(recommender.data).keep(query, found)
