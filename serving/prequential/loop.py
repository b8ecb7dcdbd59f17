"""Prequential evaluation: ask, score, then learn, click by click, with the code that serves and trains.

For every click that is not the first of its session, the recommender makes a list from the clicks strictly
before it, with the policy of the settings. The place of the clicked item on the list is scored. Then users,
items and neighbours learn the click, and `learning` learns what was shown and clicked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.models.learning.ranker import RankerParams
from headrace.serving.answering import Answer
from headrace.serving.prequential.score import Score
from headrace.serving.prequential.world import World
from headrace.streams.messages.files import Click
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, Impression, Item, RecRequest
from headrace.streams.settings import Settings


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """How the evaluation runs. How lists are made and learnt from is in ``Settings``."""

    n: int = 20  # length of the lists
    first_train: int = 200  # predictions before the first training
    #: Predictions between two trainings, fewer while there are few. The trainer of an installation trains
    #: by the clock, much more often: that would take hours here.
    retrain_every: int = 5_000
    params: RankerParams = field(default_factory=RankerParams)


class Prequential(World):
    """The whole loop in one process, in event time, without a broker.

    Attributes
    ----------
    score
        Of the lists as they are shown.
    by_score
        Of the candidates in the order of their scores: what the rules of the re-rank stage cost is the
        difference.
    """

    def __init__(self, how: EvalSettings, settings: Settings, folder: Path) -> None:
        super().__init__(settings, folder, how.params)
        self.how = how
        self.score, self.by_score = Score(), Score()
        self._sessions: dict[str, list[str]] = {}
        self._next_train = how.first_train

    def step(self, click: Click) -> None:
        """Ask, score and learn one click."""
        session = self._sessions.setdefault(click.session, [])
        self.ask(click, session if click.item not in session else [])
        session.append(click.item)

    def ask(self, click: Click, known: list[str]) -> None:
        """Score and learn one click; a list is made without what is ``known``, and none when nothing is."""
        self.advance(click.ts)
        shown = self._predict(click, known) if known else None
        self._learn(click, shown)
        if self.score.predictions >= self._next_train:
            done = self.score.predictions
            self._next_train = done + min(done, self.how.retrain_every)
            self.train()
            self.score.trainings = self.learning.trainings

    def _predict(self, click: Click, session: list[str]) -> Impression | None:
        """Score the list for a click; return what was shown."""
        answer = self._answer(click, session)
        ids = [item.item_id for item in answer.reply.items]
        last = self.recommender.last
        place = place_by_score(last.score, last.pool.candidates.items, hash64(click.item))
        self.score.in_pool += int(place > 0)
        self._placed_by_score(click, place if place <= self.how.n else 0)
        version = self.recommender.ranker.version if self.recommender.ranker else ""
        self._placed(click, ids.index(click.item) + 1 if click.item in ids else 0, version)
        return answer.impression

    def _placed(self, click: Click, rank: int, version: str) -> None:
        """Score a click; ``rank`` is 1 for the top of the list, 0 when it is not on it."""
        self.score.add(rank, version)

    def _placed_by_score(self, click: Click, rank: int) -> None:
        """Score a click on the list that the scores alone would make; ``rank`` as in ``_placed``."""
        self.by_score.add(rank, "")

    def _answer(self, click: Click, session: list[str]) -> Answer:
        """Ask for a list as the user would have just before the click."""
        request = RecRequest(
            request_id=str(self._offset),
            user_id=click.user,
            surface="home",
            n=self.how.n,
            exclude=session,
            context=Context(country=click.region, device=click.device, ts=click.ts),
        )
        user, anchors = self.state_for(request, click.ts)
        return self.recommender.answer(request, user, anchors, click.ts)

    def _learn(self, click: Click, shown: Impression | None) -> None:
        """Apply the click, and the list it was shown on, to users, items and neighbours, as the agents do."""
        offset = self.next_offset()
        if hash64(click.item) not in self.recommender.catalog.table:
            self.recommender.catalog.put(self._item(click))
        self.towers.learn(click)
        event = click.event(offset)
        if shown is not None:
            self.count_shown(shown, offset)
            self.learning.shown(shown)
            if click.item in shown.item_ids:
                event.request_id, event.position = shown.request_id, shown.item_ids.index(click.item)
        self.learning.happened(event)
        self.happen([event], [offset])

    def _item(self, click: Click) -> Item:
        """Return an item that the catalogue does not have: it exists from its first click on."""
        return Item(item_id=click.item, published_ts=click.ts)


def place_by_score(score: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64], key: int) -> int:
    """Return the place of a candidate in the order of the scores ``(n,)``, 1 for the best; 0: it is none.

    Of equal scores, the first one comes first, as in the re-rank stage.
    """
    at = np.flatnonzero(keys == np.uint64(key))
    if not len(at):
        return 0
    own = score[at[0]]
    return int(np.count_nonzero(score > own) + np.count_nonzero(score[: at[0]] == own)) + 1


def evaluate(
    clicks: Iterable[Click],
    settings: Settings,
    how: EvalSettings | None = None,
    progress: Callable[[int, Score], None] | None = None,
) -> dict[str, float]:
    """Run over ``clicks``; return counts, hit rate, reciprocal rank, candidate recall and seconds.

    Hit rate and reciprocal rank are also those of the scores alone, without the rules of the re-rank stage.

    ``progress`` is called after every 1000 clicks with their number and the score so far.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-eval-") as folder:
        loop = Prequential(how or EvalSettings(), settings, Path(folder))
        started = time.perf_counter()
        seen = 0
        for click in clicks:
            loop.step(click)
            seen += 1
            if progress is not None and seen % 1000 == 0:
                progress(seen, loop.score)
        return _report(seen, loop, time.perf_counter() - started)


def _report(clicks: int, loop: Prequential, seconds: float) -> dict[str, float]:
    score, by_score = loop.score, loop.by_score
    return {
        "clicks": clicks,
        "predictions": score.predictions,
        "hr_at_20": round(score.hit_rate, 4),
        "mrr_at_20": round(score.mrr, 4),
        "hr_at_20_by_score": round(by_score.hit_rate, 4),
        "mrr_at_20_by_score": round(by_score.mrr, 4),
        "candidate_recall": round(score.in_pool / max(1, score.predictions), 4),
        "trainings": score.trainings,
        "seconds": round(seconds, 1),
    }
