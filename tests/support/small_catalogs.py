"""Items in columns for tests of the snapshot."""

from __future__ import annotations

import numpy as np
from strategies import unit_vectors

from headrace.models.embeddings import DIM
from headrace.models.embeddings.features import Features
from headrace.serving.index.quantised import coarse
from headrace.serving.snapshot.items import Items, id_sets, texts
from headrace.serving.titles import numbers_of
from headrace.streams.messages.countries import country_id
from headrace.streams.messages.ids import hash64, hash_many

CATEGORIES = ["", "sport", "politik", "kultur"]
NAMES = {hash64(name): name for name in [*CATEGORIES, "anna", "de"] if name}
DE, FR, US = (country_id(code) for code in ("DE", "FR", "US"))


def items(first: int, n: int, seed: int = 0) -> Items:
    """Return items ``first`` to ``first + n``; the vector of every tenth is zeros."""
    which = range(first, first + n)
    ids = [f"item-{i}" for i in which]
    vectors = unit_vectors(n, seed)
    vectors[[i - first for i in which if i % 10 == 0]] = 0
    return Items(
        key=hash_many(ids),
        category=hash_many([CATEGORIES[i % 4] for i in which]),
        creator=hash_many(["anna" if i % 2 else "" for i in which]),
        language=hash_many(["de"] * n),
        published=np.arange(first, first + n, dtype=np.int64) + 1_700_000_000_000,
        duration=np.array([1000 * i for i in which], np.int64),
        title=numbers_of(f"Überschrift {i}" if i % 2 else "" for i in which),
        min_age=np.array([18 if i % 5 == 0 else 0 for i in which], np.int16),
        boost=np.full(n, 1.5, np.float32),
        flags=id_sets([{hash64("breaking")} if i % 3 == 0 else () for i in which]),
        allowed=id_sets([(DE, FR) if i % 4 == 1 else () for i in which]),
        blocked=id_sets([(FR,) if i % 4 in (1, 2) else () for i in which]),
        ids=texts(ids),
        titles=texts([f"Überschrift {i}" if i % 2 else "" for i in which]),
        vectors=vectors,
        alike=coarse(unit_vectors(n, seed + 1)),
        content=content(first, n),
    )


def content(first: int, n: int) -> Features:
    """Return what the towers read: none to six features, publishers' vectors of every third."""
    which = np.arange(first, first + n)
    bounds = np.concatenate([[0], np.cumsum(which % 7)]).astype(np.int64)
    keys = hash_many([f"tag:{i * at % 40}" for i in which.tolist() for at in range(i % 7)])
    own_at = np.flatnonzero(which % 3 == 0)
    own = np.random.default_rng(first).standard_normal((len(own_at), DIM)).astype(np.float16)
    return Features(bounds, keys, (keys % 5).astype(np.uint8), own_at, own.astype(np.float32))
