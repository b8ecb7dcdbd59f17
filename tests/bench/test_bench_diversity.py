"""The benchmark of diversity, on a small log in the format of MovieLens 100K."""

from __future__ import annotations

import gzip
from pathlib import Path

import bench_diversity as bench
import numpy as np
import pytest

from headrace.serving.rerank.rules import OFF, Rules

GENRES = ["Action", "Comedy", "Drama", "War", "Western", "Musical"]


def write(folder: Path) -> None:
    """Write 150 users with a taste for two genres each, and 200 films with one or two."""
    rng = np.random.default_rng(0)
    films = [rng.choice(6, 1 + i % 2, replace=False) for i in range(200)]
    lines = [f"{i}\tFilm {i}\t1999\t{' '.join(GENRES[g] for g in genres)}" for i, genres in enumerate(films)]
    with gzip.open(folder / "ml-100k.item.gz", "wt") as file:
        file.write("\n".join(["item_id\tmovie_title\trelease_year\tclass", *lines]))
    ratings = []
    for user in range(150):
        tastes = set(rng.choice(6, 2, replace=False).tolist())
        weight = np.array([9.0 if tastes >= set(genres.tolist()) else 1.0 for genres in films])
        for film in rng.choice(200, 60, replace=False, p=weight / weight.sum()):
            likes = 5 if tastes & set(films[film].tolist()) else 2
            ratings.append(f"{user}\t{film}\t{likes}\t{rng.integers(10**6)}")
    with gzip.open(folder / "ml-100k.inter.gz", "wt") as file:
        file.write("\n".join(["user_id\titem_id\trating\ttimestamp", *ratings]))


def test_the_figures(tmp_path: Path) -> None:
    write(tmp_path)
    out = bench.main(tmp_path, 10, {"mmr": (0.1, 0.9), "dpp": (0.1, 0.9)})
    assert out["lists"] == 50
    assert out["none"]["ndcg_20"] > 0.2, "the scorer has learned the tastes"
    for kind in ("mmr", "dpp"):
        weak, strong = out[kind]
        assert out["none"]["distance"] < strong["distance"]
        assert weak["distance"] < strong["distance"]
        assert strong["genres"] >= out["none"]["genres"]
        assert set(out["distance_at_equal_ndcg"]["90%"]) == {"mmr", "dpp"}


def test_what_comes_after_the_cut_is_not_trained_on(tmp_path: Path) -> None:
    write(tmp_path)
    films = bench.Films(tmp_path)
    split = bench.Split(films, 0.5, 1000)
    n = len(films.user)
    assert split.seen.sum() == n // 2
    assert split.test.sum() == films.liked[n // 2 : int(0.6 * n)].sum()
    assert not (split.seen & split.test).any()
    assert np.isneginf(split.score[split.seen[split.users]]).all()


def test_figures_between_two_points() -> None:
    curve = [{"ndcg_20": 0.2, "distance": 0.5}, {"ndcg_20": 0.18, "distance": 0.6}]
    assert bench.at_equal_quality(curve, 0.19, "distance") == pytest.approx(0.55)
    assert bench.at_equal_quality(curve, 0.1, "distance") == 0.6


def test_the_cost_of_a_list() -> None:
    for rules in (OFF, Rules()):
        took = bench.cost(rules, runs=3)
        assert 0 < took["least"] <= took["median"]
