"""MovieLens: the reader, the baselines, and the loop."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from command_line import run_headrace
from strategies import T0

from headrace.serving.prequential.baselines import ItemKnn
from headrace.serving.prequential.loop import EvalSettings
from headrace.serving.prequential.movielens import (
    NEIGHBOURS,
    OURS,
    POPULAR,
    Films,
    Hits,
    Rating,
    Ratings,
    evaluate_films,
    rank_of,
    read_movielens,
)
from headrace.streams.errors import ConfigError
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import Settings

NEVER = EvalSettings(first_train=10**9)
CALM = Settings(candidates=200, rules={"epsilon": "0", "strength": "0", "fresh_share": "0"})
HEAD = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
FILMS = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
SECOND = T0 // 1000


def folder_of(folder: Path, *lines: str, head: str = HEAD) -> Path:
    with gzip.open(folder / "ml-100k.inter.gz", "wt") as file:
        file.write(head + "".join(f"{line}\n" for line in lines))
    (folder / "ml-100k.item").write_text(FILMS + "1\tToy Story\t1995\tAnimation Comedy\n")
    return folder


def test_ratings_are_read_in_order_of_time(tmp_path: Path) -> None:
    found = read_movielens(folder_of(tmp_path, f"a\t2\t3\t{SECOND + 5}", f"b\t1\t4\t{SECOND}"))
    at = SECOND * 1000
    assert found.ratings == [Rating("b", "1", True, at), Rating("a", "2", False, at + 5000)]
    assert found.films == {
        "1": Item("1", at, title="Toy Story", tags=["Animation", "Comedy"]),
        "2": Item("2", at),
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a\t1\t4", "line 3: 3 fields, 4 are needed"),
        ("a\t1\tfour\t893286638", "line 3: could not convert"),
        ("a\t1\t9\t893286638", "line 3: needs a film"),
        ("a\t\t4\t893286638", "line 3: needs a film"),
        ("a\t1\t4\t5", "line 3: needs a film, a rating up to 5 and a time"),
        ("a\t1\tnan\t893286638", "line 3: needs a film"),
        ("a\t1\t4\tinf", "line 3: cannot convert"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_movielens(folder_of(tmp_path, f"b\t1\t4\t{SECOND}", line))


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_movielens(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks .*timestamp"):
        read_movielens(folder_of(tmp_path, head="user_id:token\titem_id:token\trating:float\n"))
    with pytest.raises(ConfigError, match="no ratings"):
        read_movielens(folder_of(tmp_path))


def test_item_knn_is_the_cosine_of_who_likes_what() -> None:
    rng, n = np.random.default_rng(1), 12
    knn, matrix = ItemKnn(n), np.zeros((30, n))
    for user in range(30):
        likes: list[int] = []
        for item in rng.choice(n, 5, replace=False).tolist():
            knn.like(item, likes)
            likes.append(item)
            matrix[user, item] = 1
    both = matrix.T @ matrix
    cosine = both / np.sqrt(np.outer(both.diagonal(), both.diagonal()))
    np.fill_diagonal(cosine, 0)
    assert knn.likes == pytest.approx(both.diagonal())
    assert knn.scores([3, 7]) == pytest.approx(cosine[3] + cosine[7])


def test_rank_of_a_film() -> None:
    scores = np.array([5.0, 9, 5, 1])
    assert [rank_of(scores, film, [], 4) for film in range(4)] == [2, 1, 3, 4]
    assert rank_of(scores, 0, [1], 4) == 1
    assert rank_of(scores, 3, [], 3) == 0
    assert scores[1] == 9, "the scores stay as they are"


def test_hits_of_known_ranks() -> None:
    hits = Hits()
    hits.add({"a": 1, "b": 0})
    hits.add({"a": 3, "b": 0})
    assert hits.figures() == {
        "a": {"hr_at_20": 1.0, "ndcg_at_20": round((1 + 1 / math.log2(4)) / 2, 4)},
        "b": {"hr_at_20": 0.0, "ndcg_at_20": 0.0},
    }


def pairs_of_films(users: int, seed: int = 1) -> Ratings:
    """Users like film A<i> and then B<i>, of 40; and find film C bad in between."""
    films = {
        f"{letter}{k}": Item(f"{letter}{k}", T0, tags=[f"kind {k}"]) for letter in "AB" for k in range(40)
    }
    films["C"] = Item("C", T0)
    ratings = []
    for user, k in enumerate(np.random.default_rng(seed).integers(0, 40, users).tolist()):
        of_user = [(f"A{k}", True), ("C", False), (f"B{k}", True), (f"B{k}", True)]
        ratings += [
            Rating(f"u{user}", film, liked, T0 + user * 4000 + 1000 * j)
            for j, (film, liked) in enumerate(of_user)
        ]
    return Ratings(ratings, films)


def test_what_follows_is_foreseen_and_neighbours_too() -> None:
    figures = evaluate_films(pairs_of_films(300), CALM, how=NEVER)
    assert figures["predictions"] == 300
    methods = figures["methods"]
    assert isinstance(methods, dict)
    assert methods[OURS]["ndcg_at_20"] > 0.8
    assert methods[NEIGHBOURS]["ndcg_at_20"] > 0.8
    assert methods[POPULAR]["ndcg_at_20"] < 0.5
    fewer = evaluate_films(pairs_of_films(300), CALM, 3, NEVER)
    assert fewer["predictions"] == 100


def test_films_that_were_rated_are_not_proposed_and_bad_ones_are_no_clicks(tmp_path: Path) -> None:
    data = pairs_of_films(100)
    loop = Films(NEVER, CALM, tmp_path, data)
    lists: list[list[str]] = []
    answer = loop.recommender.answer

    def recorded(*given: object) -> object:
        made = answer(*given)  # type: ignore[arg-type]
        lists.append([item.item_id for item in made.reply.items])
        return made

    loop.recommender.answer = recorded  # type: ignore[method-assign, assignment]
    for rating in data.ratings:
        lists.clear()
        before = set(loop._rated.get(rating.user, ()))
        loop.rate(rating)
        assert all(before.isdisjoint(shown) for shown in lists)
        assert bool(lists) == (rating.film.startswith("B") and rating.film not in before)
    assert loop.stats.table.row(hash64("C")) < 0 or not loop._knn.likes[loop._place["C"]]
    assert loop._knn.likes.sum() == 200


def test_likes_that_cannot_be_foreseen_are_refused() -> None:
    films = {"a": Item("a", T0)}
    with pytest.raises(ConfigError, match="two films"):
        evaluate_films(Ratings([Rating("u", "a", True, T0)], films), CALM, how=NEVER)


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = [f"u{u}\t{f}\t5\t{SECOND + u * 10 + f}" for u in range(30) for f in (1, 2)]
    out = tmp_path / "out.json"
    folder_of(tmp_path, *lines)
    assert (
        run_headrace(monkeypatch, "eval", "movielens", str(tmp_path), "--every", "1", "--json", str(out)) == 0
    )
    figures = json.loads(out.read_text())
    assert figures["predictions"] == 30
    assert figures["methods"][OURS]["hr_at_20"] == 1.0, "only one film is left"
    assert "item-kNN" in capsys.readouterr().out
