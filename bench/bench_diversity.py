"""What diversity costs: quality of lists against their variety, on MovieLens 100K.

    python bench/bench_diversity.py FOLDER [--users N]    # prints one JSON object

FOLDER has ml-100k.inter.gz and ml-100k.item.gz (RecBole's format). Ratings of 4 and 5 count as clicks. Split
by time, five times: a model is trained on what comes before a cut (50, 60, 70, 80, 90 % of all ratings), and
tested on the tenth that follows. Users need 5 clicks before the cut and one after it. The scorer is EASE
(Steck 2019), a linear model of items on items, with one number to set (its regularisation, 200). The best 500
films that the user has not rated before are the candidates of ``headrace.serving.rerank``. Genres are the
vectors.

``ndcg_20`` and ``hit_20``: quality; ``+-`` is the standard error of the difference to no diversity, over
lists. ``distance``: mean of 1 - cosine of the genres, over all pairs of a list. ``genres``: number of
different ones in a list. ``distance_at_equal_ndcg``, ``genres_at_equal_ndcg``: where the curve first falls to
this part of the NDCG without diversity. ``us``: CPU time of a list of 20 from 500, the least and the median.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from headrace.models.embeddings import DIM
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.choose import choose
from headrace.serving.rerank.rules import OFF, Diversity, Rules

LIKED, ENOUGH, REGULAR = 4, 5, 200.0
CUTS, TENTH = (0.5, 0.6, 0.7, 0.8, 0.9), 0.1
CANDIDATES, N = 500, 20
STRENGTHS: dict[Diversity, tuple[float, ...]] = {
    "mmr": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7),
    "dpp": (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.25),
}


def rows(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


class Films:
    """Films with genres, and the ratings by time."""

    def __init__(self, folder: Path) -> None:
        films = {row[0]: row[3].split() for row in rows(folder / "ml-100k.item.gz")}
        genres = sorted({g for names in films.values() for g in names})
        self.has = np.array([[g in names for g in genres] for names in films.values()])
        self.vectors = np.zeros((len(films), DIM), np.float32)
        self.vectors[:, : len(genres)] = self.has / np.sqrt(np.maximum(self.has.sum(1), 1))[:, None]
        ratings = sorted(rows(folder / "ml-100k.inter.gz"), key=lambda row: float(row[3]))
        film = {name: i for i, name in enumerate(films)}
        user = {name: i for i, name in enumerate(dict.fromkeys(row[0] for row in ratings))}
        self.user = np.array([user[row[0]] for row in ratings])
        self.film = np.array([film[row[1]] for row in ratings])
        self.liked = np.array([float(row[2]) >= LIKED for row in ratings])


class Split:
    """The clicks before and after a cut, as matrices of users and films; the users to test."""

    def __init__(self, films: Films, cut: float, most: int) -> None:
        n = len(films.user)
        begin, end = int(cut * n), int((cut + TENTH) * n)
        self.films = films
        shape = films.user.max() + 1, len(films.has)
        self.seen, self.train, self.test = (np.zeros(shape, bool) for _ in range(3))
        self.seen[films.user[:begin], films.film[:begin]] = True
        for matrix, part in ((self.train, slice(begin)), (self.test, slice(begin, end))):
            liked = films.liked[part]
            matrix[films.user[part][liked], films.film[part][liked]] = True
        self.users = np.flatnonzero((self.train.sum(1) >= ENOUGH) & self.test.any(1))[:most]
        self.score = self.scores()

    def scores(self) -> Any:
        """Return the scores of EASE, float64 ``(users, films)``; -inf for films rated before."""
        x = self.train.astype(np.float64)
        inverse = np.linalg.inv(x.T @ x + REGULAR * np.eye(x.shape[1]))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        out = x[self.users] @ weights
        out[self.seen[self.users]] = -np.inf
        return out


def quality(hits: Any, relevant: int) -> tuple[float, float]:
    """Return NDCG and whether there is a hit, for one list."""
    discount = 1 / np.log2(np.arange(2, N + 2))
    return float(hits @ discount / discount[: min(N, relevant)].sum()), float(hits.any())


def variety(films: Films, chosen: Any) -> tuple[float, float]:
    """Return the mean distance of all pairs of a list, and its number of genres."""
    cosine = films.vectors[chosen] @ films.vectors[chosen].T
    return float(1 - (cosine.sum() - np.trace(cosine)) / (N * (N - 1))), float(films.has[chosen].any(0).sum())


def lists(splits: list[Split], rules: Rules) -> Any:
    """Return NDCG, hit, distance and genres of each list, float64 ``(lists, 4)``."""
    out = []
    for split in splits:
        for user, score in zip(split.users, split.score, strict=True):
            best = np.argsort(-score)[: min(CANDIDATES, np.isfinite(score).sum())]
            choices = Choices.plain(score[best], split.films.vectors[best])
            chosen = best[choose(choices, N, rules, np.random.default_rng(0)).chosen]
            hits, relevant = split.test[user, chosen], int(split.test[user].sum())
            out.append([*quality(hits, relevant), *variety(split.films, chosen)])
    return np.array(out)


def summary(found: Any, without: Any) -> dict[str, float]:
    """Return the means over users, and the errors of the differences."""
    error = (found - without).std(0) / np.sqrt(len(found))
    mean = found.mean(0)
    return {
        "ndcg_20": round(mean[0], 4),
        "ndcg_20_+-": round(error[0], 4),
        "hit_20": round(mean[1], 4),
        "hit_20_+-": round(error[1], 4),
        "distance": round(mean[2], 4),
        "genres": round(mean[3], 2),
    }


def at_equal_quality(curve: list[dict[str, float]], ndcg: float, name: str) -> float:
    """Return a figure where a curve first falls to this NDCG, between two measured points."""
    for a, b in pairwise(curve):
        if b["ndcg_20"] < ndcg <= a["ndcg_20"]:
            part = (a["ndcg_20"] - ndcg) / (a["ndcg_20"] - b["ndcg_20"])
            return round(a[name] + part * (b[name] - a[name]), 4)
    return curve[-1][name]


def cost(rules: Rules, runs: int = 400) -> dict[str, float]:
    """Return the CPU time of a list of 20 from 500 random candidates, µs."""
    rng = np.random.default_rng(0)
    m = CANDIDATES
    vectors = rng.standard_normal((m, DIM)).astype(np.float32)
    shown = rng.integers(0, 80, m).astype(np.float64)
    choices = Choices(
        rng.standard_normal(m),
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        rng.integers(1, 100, m).astype(np.uint64),
        rng.integers(1, 20, m).astype(np.uint64),
        rng.random(m) < 0.1,
        rng.random(m) < 0.3,
        rng.random(m) < 0.04,
        np.floor(shown / 20),
        shown,
        np.ones(m),
        np.full(m, 0.05),
        np.zeros(m),
        np.arange(1, m + 1, dtype=np.uint64),
    )
    took = []
    for seed in range(runs):
        one = np.random.default_rng(seed)
        began = time.process_time_ns()
        choose(choices, N, rules, one)
        took.append((time.process_time_ns() - began) / 1000)
    return {"least": round(min(took)), "median": round(float(np.median(took)))}


def costs() -> dict[str, dict[str, float]]:
    quotas = {"creator_at_most": 2, "category_share": 0.25, "tail_share": 0.2}
    return {
        "off": cost(OFF),
        "mmr": cost(replace(OFF, diversity="mmr")),
        "dpp": cost(replace(OFF, diversity="dpp")),
        "fresh slot": cost(replace(OFF, fresh_share=0.05)),
        "quotas": cost(replace(OFF, **quotas)),  # type: ignore[arg-type]
        "default": cost(Rules()),
        "everything, dpp": cost(replace(Rules(diversity="dpp"), **quotas)),  # type: ignore[arg-type]
    }


def main(folder: Path, users: int, strengths: dict[Diversity, tuple[float, ...]]) -> dict[str, Any]:
    films = Films(folder)
    splits = [Split(films, cut, users) for cut in CUTS]
    without = lists(splits, OFF)
    none = {"strength": 0.0, **summary(without, without)}
    curves = {
        kind: [
            {"strength": s, **summary(lists(splits, replace(OFF, diversity=kind, strength=s)), without)}
            for s in values
        ]
        for kind, values in strengths.items()
    }
    return {"lists": len(without), "none": none, **curves, **at_equal(none, curves)}


def at_equal(none: dict[str, float], curves: dict[Diversity, list[dict[str, float]]]) -> dict[str, Any]:
    """Return distance and genres of each curve at parts of the NDCG without diversity."""
    return {
        f"{name}_at_equal_ndcg": {
            f"{part:.0%}": {
                kind: at_equal_quality([none, *curve], part * none["ndcg_20"], name)
                for kind, curve in curves.items()
            }
            for part in (0.99, 0.98, 0.97, 0.95, 0.9)
        }
        for name in ("distance", "genres")
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, default=1000, help="most users of each cut")
    args = parser.parse_args()
    print(json.dumps({**main(args.folder, args.users, STRENGTHS), "us": costs()}))
