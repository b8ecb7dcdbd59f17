"""MovieLens 100K (Harper and Konstan 2015): foresee the films that users rate well, rating by rating.

A rating of 4 or 5 is a like; it is learnt as a click. Before a like of a user who has liked something before,
every method makes a list of 20 films that the user has not rated: is the film on it? Genres are tags.
"""

from __future__ import annotations

import csv
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.serving.prequential.baselines import ItemKnn
from headrace.serving.prequential.loop import EvalSettings, Prequential
from headrace.serving.prequential.towers import with_seldom_towers
from headrace.streams.errors import ConfigError
from headrace.streams.messages.files import Click, open_text
from headrace.streams.messages.schemas import MAX_TS, MIN_TS, Item
from headrace.streams.settings import Settings

OURS, POPULAR, NEIGHBOURS = "headrace", "likes so far", "item-kNN"
#: Ratings from this one on are likes.
LIKED = 4.0
_RATINGS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
_FILMS = ("item_id:token", "movie_title:token_seq", "class:token_seq")


@dataclass(frozen=True, slots=True)
class Rating:
    """A user's rating of a film."""

    user: str
    film: str
    liked: bool
    ts: int  # ms


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings in order of time, and the films: title, and genres as tags."""

    ratings: Sequence[Rating]
    films: Mapping[str, Item]


def read_movielens(folder: Path) -> Ratings:
    """Return the ratings of a folder with ``ml-100k.inter`` and ``ml-100k.item`` (RecBole's format).

    Raises
    ------
    ConfigError
        A file, a column or a field is missing, or is not what it should be.
    """
    ratings = [_rating(where, row) for where, row in _rows(folder, "ml-100k.inter", _RATINGS)]
    if not ratings:
        raise ConfigError(f"{folder}: no ratings in ml-100k.inter")
    ratings.sort(key=lambda one: one.ts)
    start = ratings[0].ts
    films = {
        film: Item(film, start, title=title, tags=genres.split())
        for _, (film, title, genres) in _rows(folder, "ml-100k.item", _FILMS)
    }
    for one in ratings:
        films.setdefault(one.film, Item(one.film, start))
    return Ratings(ratings, films)


def _rows(folder: Path, name: str, columns: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Return the place of each line, for messages, and the fields of some columns."""
    zipped = folder / f"{name}.gz"
    file = zipped if zipped.is_file() else folder / name
    out = []
    with open_text(file) as handle:
        rows = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(rows, [])
        missing = [c for c in columns if c not in header]
        if missing:
            raise ConfigError(f"{file}: not a file of RecBole's format, lacks {missing}")
        places = [header.index(c) for c in columns]
        for row in rows:
            where = f"{file}, line {rows.line_num}"
            if len(row) <= max(places) or not row[places[0]]:
                raise ConfigError(
                    f"{where}: {len(row)} fields, {len(header)} are needed, the first one filled"
                )
            out.append((where, [row[p] for p in places]))
    return out


def _rating(where: str, row: list[str]) -> Rating:
    user, film, rating, at = row
    try:
        value, ts = float(rating), int(float(at) * 1000)
    except (ValueError, OverflowError) as exc:
        raise ConfigError(f"{where}: {exc}") from exc
    if not film or not 0 < value <= 5 or not MIN_TS <= ts <= MAX_TS:
        raise ConfigError(f"{where}: needs a film, a rating up to 5 and a time in seconds, got {row}")
    return Rating(user, film, value >= LIKED, ts)


class Hits:
    """Hit rate and NDCG at n of each method."""

    def __init__(self) -> None:
        self.lists = 0
        self._hits: Counter[str] = Counter()
        self._gains: dict[str, float] = {}

    def add(self, ranks: Mapping[str, int]) -> None:
        """Count a prediction; a rank is 1 for the top of a list, 0 when the film is not on it."""
        self.lists += 1
        for name, rank in ranks.items():
            self._hits[name] += rank > 0
            self._gains[name] = self._gains.get(name, 0.0) + (1 / math.log2(rank + 1) if rank else 0.0)

    def figures(self) -> dict[str, dict[str, float]]:
        """Return ``hr_at_20`` and ``ndcg_at_20``, by method."""
        n = max(1, self.lists)
        return {
            name: {"hr_at_20": round(self._hits[name] / n, 4), "ndcg_at_20": round(gain / n, 4)}
            for name, gain in self._gains.items()
        }


class Films(Prequential):
    """The loop over likes.

    Parameters
    ----------
    every
        A list is asked for at every so many likes that can be foreseen; all of them are learnt.
    """

    def __init__(
        self, how: EvalSettings, settings: Settings, folder: Path, data: Ratings, every: int = 1
    ) -> None:
        super().__init__(how, with_seldom_towers(settings), folder)
        self.hits = Hits()
        self.recommender.catalog.put_many(list(data.films.values()))
        self._place = {film: k for k, film in enumerate(data.films)}
        self._knn = ItemKnn(len(data.films))
        self._rated: dict[str, list[str]] = {}
        self._likes: dict[str, list[int]] = {}
        self._every, self._foreseeable = every, 0

    def rate(self, rating: Rating) -> None:
        """Ask, score and learn one rating; of one that is no like, only that the film is known."""
        rated = self._rated.setdefault(rating.user, [])
        if rating.liked and rating.film not in rated:
            likes = self._likes.setdefault(rating.user, [])
            click = Click(rating.user, rating.user, rating.film, rating.ts, "", "")
            self._foreseeable += bool(likes)
            self.ask(click, rated if likes and self._foreseeable % self._every == 0 else [])
            self._knn.like(self._place[rating.film], likes)
            likes.append(self._place[rating.film])
        rated.append(rating.film)

    def _placed(self, click: Click, rank: int, version: str) -> None:
        super()._placed(click, rank, version)
        out = [self._place[film] for film in self._rated[click.user]]
        film, n = self._place[click.item], self.how.n
        scores = {POPULAR: self._knn.likes, NEIGHBOURS: self._knn.scores(self._likes[click.user])}
        others = {name: rank_of(of_all, film, out, n) for name, of_all in scores.items()}
        self.hits.add({OURS: rank, **others})


def rank_of(scores: np.ndarray, film: int, out: Sequence[int], n: int) -> int:
    """Return the rank of a film by ``scores`` among those not ``out``; 0 when it is beyond ``n``.

    Of films with equal scores, the first one of the file comes first.
    """
    left = np.array(scores, np.float64)
    left[list(out)] = -np.inf
    above = np.count_nonzero(left > left[film]) + np.count_nonzero(left[:film] == left[film])
    return int(above) + 1 if above < n else 0


def evaluate_films(
    data: Ratings,
    settings: Settings,
    every: int = 1,
    how: EvalSettings | None = None,
    progress: Callable[[int, Hits], None] | None = None,
) -> dict[str, Any]:
    """Run over the ratings; return counts, the figures of each method and seconds.

    Parameters
    ----------
    every
        A list is asked for at every so many likes.
    progress
        Called after every 1000 ratings with their number and the figures so far.

    Raises
    ------
    ConfigError
        No user likes two films.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="headrace-eval-") as folder:
        loop = Films(how or EvalSettings(), settings, Path(folder), data, every)
        for seen, rating in enumerate(data.ratings, 1):
            loop.rate(rating)
            if progress is not None and seen % 1000 == 0:
                progress(seen, loop.hits)
    if not loop.hits.lists:
        raise ConfigError("no like of these ratings can be foreseen: too few users have liked two films")
    return {
        "ratings": len(data.ratings),
        "predictions": loop.hits.lists,
        "candidate_recall": round(loop.score.in_pool / loop.hits.lists, 4),
        "trainings": loop.learning.trainings,
        "methods": loop.hits.figures(),
        "seconds": round(time.perf_counter() - started, 1),
    }
