"""Re-ranking with the defaults of the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from strategies import unit_vectors

from headrace.models.embeddings import DIM
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.choose import choose
from headrace.serving.rerank.rules import OFF
from headrace.serving.rerank.slate import Slate


def run(
    score: Any, n: int, *, lam: float = 1.0, epsilon: float = 0.0, seed: int = 0, vectors: Any = None
) -> Slate:
    score = np.asarray(score, np.float64)
    vectors = unit_vectors(len(score), 1) if vectors is None else vectors
    return by_mmr(score, vectors, n, lam, epsilon, np.random.default_rng(seed))


def by_mmr(score: Any, vectors: Any, n: int, lam: float, epsilon: float, rng: np.random.Generator) -> Slate:
    """Return the list by score, MMR and uniform exploration, without other rules."""
    rules = replace(OFF, diversity="mmr", strength=1 - lam, epsilon=epsilon)
    return choose(Choices.plain(score, vectors), n, rules, rng)


def candidates(score: Any, **columns: Any) -> Choices:
    """Return candidates with these scores; the other columns are those that change nothing, unless given."""
    score = np.asarray(score, np.float64)
    plain = Choices.plain(score, np.zeros((len(score), DIM), np.float32))
    for name, values in columns.items():
        setattr(plain, name, np.asarray(values, getattr(plain, name).dtype))
    return plain


def made(choices: Choices, n: int, seed: int = 0, **rules: Any) -> Slate:
    """Return the list of these rules; those that are not given are off."""
    return choose(choices, n, replace(OFF, **rules), np.random.default_rng(seed))


def shown(choices: Choices, n: int, **rules: Any) -> list[int]:
    """Return the items of that list."""
    items: list[int] = made(choices, n, **rules).chosen.tolist()
    return items
