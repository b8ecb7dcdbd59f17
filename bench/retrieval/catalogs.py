"""Made-up catalogues for the retrieval benchmarks, in bulk, and the true nearest items.

Vectors are what ``models/embeddings.py`` makes: the weighted sum of the directions of a category, a creator,
three tags and seven words, at length 1. How often a feature is used falls with its rank (Zipf). A query is
the mean of one to seven items, as the vector of a user is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from headrace.models.embeddings import DIM
from headrace.models.embeddings.directions import KIND
from headrace.models.embeddings.features import Features
from headrace.serving.index.quantised import coarse
from headrace.serving.snapshot.items import Items, Ragged
from headrace.streams.messages.ids import hash_many

BLOCK = 100_000
#: How many different ones there are, their weight, how many an item has: category, creator, tags, words.
_FEATURES = ((300, 1.0, 1), (20_000, 0.7, 1), (10_000, 0.6, 3), (50_000, 0.3, 7))
_TITLE = 48


def blocks(n: int, seed: int = 1) -> Iterator[np.ndarray]:
    """Yield the vectors of ``n`` items, float32 ``(<=BLOCK, DIM)``."""
    rng = np.random.default_rng(seed)
    tables = [rng.standard_normal((m, DIM), dtype=np.float32) for m, _, _ in _FEATURES]
    shares = [np.cumsum(1 / np.arange(1, m + 1)) for m, _, _ in _FEATURES]
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        out = np.zeros((size, DIM), np.float32)
        for (_, weight, times), table, share in zip(_FEATURES, tables, shares, strict=True):
            for _ in range(times):
                out += weight * table[np.searchsorted(share, rng.random(size) * share[-1])]
        yield out / np.sqrt((out * out).sum(axis=1, keepdims=True))


def queries(vectors: np.ndarray, count: int, seed: int = 3) -> np.ndarray:
    """Return unit vectors of users, float32 ``(count, DIM)``."""
    rng = np.random.default_rng(seed)
    means = [vectors[rng.integers(0, len(vectors), rng.integers(1, 8))].mean(axis=0) for _ in range(count)]
    raw = np.stack(means)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


class Nearest:
    """The ``k`` items nearest to each query, while items arrive in blocks."""

    def __init__(self, asked: np.ndarray, k: int) -> None:
        self._asked, self._k = asked, k
        self._products = np.full((len(asked), k), -2, np.float32)
        self.items = np.full((len(asked), k), -1, np.int64)

    def add(self, vectors: np.ndarray, first: int) -> None:
        """Take the items ``first`` and following."""
        for i, row in enumerate(self._asked @ vectors.T):
            better = np.flatnonzero(row > self._products[i].min())
            products = np.concatenate([self._products[i], row[better]])
            items = np.concatenate([self.items[i], better + first])
            best = np.argpartition(-products, self._k - 1)[: self._k]
            self._products[i], self.items[i] = products[best], items[best]


def recall(found: list[np.ndarray], truth: np.ndarray) -> float:
    """Return the share of the true nearest items that were found."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))


def columns(vectors: np.ndarray, first: int) -> Items:
    """Return items in columns: ids of 13 characters, titles of 48, a country rule for every tenth."""
    n, rng = len(vectors), np.random.default_rng(first)
    digits = (np.arange(first, first + n)[:, None] // 10 ** np.arange(7, -1, -1)) % 10 + ord("0")
    ids = np.concatenate(
        [np.tile(np.frombuffer(b"item-", np.uint8), (n, 1)), digits.astype(np.uint8)], axis=1
    )
    titles = rng.integers(97, 123, (n, _TITLE), np.uint8)
    few = np.array([11, 22, 33], np.uint64)
    rules = np.repeat(few, np.where(np.arange(n) % 10 == 0, 1, 0).sum() // 3 + 1)[: (n + 9) // 10]
    some = Ragged(rules, np.concatenate([[0], np.cumsum(np.arange(n) % 10 == 0)]).astype(np.int64))
    none = Ragged(np.zeros(0, np.uint64), np.zeros(n + 1, np.int64))
    return Items(
        key=keys(first, n),
        category=rng.integers(1, 300, n, np.uint64),
        creator=rng.integers(1, 20_000, n, np.uint64),
        language=rng.integers(1, 20, n, np.uint64),
        published=np.arange(first, first + n, dtype=np.int64) + 1_700_000_000_000,
        min_age=np.zeros(n, np.int16),
        boost=np.ones(n, np.float32),
        duration=np.zeros(n, np.int64),
        title=rng.integers(1, 2**32, n, np.uint32),
        flags=none,
        allowed=some,
        blocked=none,
        ids=Ragged(ids.ravel(), np.arange(n + 1, dtype=np.int64) * ids.shape[1]),
        titles=Ragged(titles.ravel(), np.arange(n + 1, dtype=np.int64) * _TITLE),
        vectors=vectors,
        alike=coarse(vectors),
        content=content(n, rng),
    )


def content(n: int, rng: np.random.Generator) -> Features:
    """Return twelve features of each item, as often used as those of the vectors; no publishers' vectors."""
    kinds = ("category", "creator", "tag", "word")
    drawn, codes = [], []
    for (many, _, times), kind in zip(_FEATURES, kinds, strict=True):
        share = np.cumsum(1 / np.arange(1, many + 1))
        ranks = np.searchsorted(share, rng.random((n, times)) * share[-1])
        drawn.append((ranks + 1).astype(np.uint64) + np.uint64(KIND[kind] << 32))
        codes += [KIND[kind]] * times
    keys = np.concatenate(drawn, axis=1)
    bounds = np.arange(n + 1, dtype=np.int64) * keys.shape[1]
    none = np.zeros(0, np.int64)
    return Features(
        bounds, keys.ravel(), np.tile(np.array(codes, np.uint8), n), none, np.zeros((0, DIM), np.float32)
    )


def keys(first: int, n: int) -> np.ndarray:
    """Return the keys of the items ``first`` and following, uint64 ``(n,)``."""
    return hash_many([f"item-{i:08d}" for i in range(first, first + n)])
