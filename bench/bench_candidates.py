"""How often the next click is among the candidates, by source: Globo's clicks in event time, without ranking.

For every click that is not the first of its session: gather candidates from what came strictly before, look
for the clicked item, then learn the click. ``alone`` is the share of predictions for which a source proposes
the item; ``without`` the share that is left when the source is off (before the cut to the limit). ``lost``
says why the others are no candidates, as shares of the predictions: ``no_item`` is the first click on an
item, which the catalogue does not have before; ``rests`` may not be shown, for the user clicked it lately;
``cut`` was proposed, but others were stronger; ``not_proposed`` is in no list of a source.
``session_knn``: the share of the predictions that no source proposed, but session kNN (VSTAN) does, among its
100 and its 20 best: what it could add at most, were it a source; ``us`` is its time.

With ``--lists`` the lists are made instead, ranked by what is learnt on the way, as ``headrace eval globo``
does: by source, slots ``shown`` of the items that it proposed, and those ``clicked`` next.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from retrieval.session_knn import SessionKnn

from headrace.models.learning.ranker import RankerParams
from headrace.serving.answering import Answer
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.pipeline.query import Query
from headrace.serving.prequential.loop import EvalSettings, Prequential
from headrace.streams.messages.files import Click, read_globo
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Context, RecRequest
from headrace.streams.settings import Settings

#: More candidates than there are.
_ALL = 1_000_000
#: Lengths of the lists of session kNN.
_BEST = (20, 100)
_REASONS = ("no_item", "rests", "cut", "not_proposed")


class Lists(Prequential):
    """The whole loop of the evaluation; counts slots by source."""

    def __init__(self, folder: Path, parts: dict[str, str], limit: int) -> None:
        super().__init__(EvalSettings(), Settings(parts=parts, candidates=limit), folder)
        self.shown, self.clicked = Counter[str](), Counter[str]()

    def _answer(self, click: Click, session: list[str]) -> Answer:
        answer = super()._answer(click, session)
        for slot in answer.reply.items:
            self.shown.update(slot.sources)
            if slot.item_id == click.item:
                self.clicked.update(slot.sources)
        return answer

    def report(self) -> dict[str, object]:
        """Return the figures."""
        return {
            "hr_at_20": round(self.score.hit_rate, 4),
            "mrr_at_20": round(self.score.mrr, 4),
            "sources": {
                name: {"shown": shown, "clicked": self.clicked[name]}
                for name, shown in self.shown.most_common()
            },
        }


class Candidates(Prequential):
    """The loop of the evaluation, but of every answer only the candidates are made."""

    def __init__(self, folder: Path, parts: dict[str, str], limit: int, skip: int = 0) -> None:
        super().__init__(EvalSettings(params=RankerParams()), Settings(parts=parts, candidates=limit), folder)
        self.limit, self._skip = limit, skip
        self.predictions = self.found = self.candidates = 0
        self.masks: Counter[int] = Counter()
        self.lost: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.session_knn, self.knn_seconds = SessionKnn(), 0.0
        self.knn_found: Counter[int] = Counter()

    def step(self, click: Click) -> None:
        """Gather, look, learn. The towers are those that an installation would use by now."""
        self.advance(click.ts)
        session = self._sessions.setdefault(click.session, [])
        if self._skip > 0:
            self._skip -= 1
        elif session and click.item not in session:
            self._gather(click, session)
        self._learn(click, None)
        self.session_knn.learn(click.session, click.item, click.ts)
        session.append(click.item)

    def _gather(self, click: Click, session: list[str]) -> None:
        request = RecRequest(
            request_id=str(self.predictions),
            user_id=click.user,
            surface="home",
            n=20,
            exclude=session,
            context=Context(country=click.region, device=click.device, ts=click.ts),
        )
        row = self.users.table.row(hash64(click.user))
        user = self.users.table.data[row : row + 1] if row >= 0 else None
        rec = self.recommender
        rec.tick(click.ts)
        items = rec.anchors_for(request, user, click.ts)
        anchors = Anchors(items, self._neighbour_rows(items))
        began = time.perf_counter()
        query = rec.query(request, user, anchors, click.ts, self.limit)
        pool = rec.pipeline.gather(query)
        self.seconds.append(time.perf_counter() - began)
        keys, clicked = pool.candidates.items, np.array([hash64(click.item)], np.uint64)
        self.predictions += 1
        self.candidates += len(keys)
        began = time.perf_counter()
        near = self.session_knn.best(click.session, session, click.ts, max(_BEST))
        self.knn_seconds += time.perf_counter() - began
        at = np.flatnonzero(keys == clicked)
        if len(at):
            self.found += 1
            self.masks[int(pool.mask[at[0]])] += 1
        else:
            reason = self._reason(query, clicked)
            self.lost[reason] += 1
            if reason == "not_proposed" and click.item in near:
                self.knn_found.update(most for most in _BEST if click.item in near[:most])

    def _reason(self, query: Query, clicked: npt.NDArray[np.uint64]) -> str:
        """Return why an item, uint64 ``(1,)``, is no candidate."""
        pipeline = self.recommender.pipeline
        if self.recommender.catalog.find(clicked)[0] < 0:
            return "no_item"
        if not len(pipeline.showable(query, clicked, np.zeros(1, np.uint32))):
            return "rests"
        proposed = pipeline.gather(replace(query, limit=_ALL)).candidates.items
        return "cut" if clicked[0] in proposed else "not_proposed"

    def report(self) -> dict[str, object]:
        """Return the figures."""
        n = max(1, self.predictions)
        names, counts = self.recommender.pipeline.names, self.recommender.pipeline.counts()
        gathered = max(1, self.predictions + self.lost["cut"] + self.lost["not_proposed"])
        sources = {}
        for bit, name in enumerate(names):
            if f"source:{name}" not in counts:  # what rests and came back, and what the caller gave
                continue
            alone = sum(c for mask, c in self.masks.items() if mask >> bit & 1)
            only = sum(c for mask, c in self.masks.items() if mask == 1 << bit)
            made = counts[f"source:{name}"]
            sources[name] = {
                "proposed_per_request": round(made.kept / gathered, 1),
                "alone": round(alone / n, 4),
                "without": round((self.found - only) / n, 4),
                "us": round(1e6 * made.seconds / max(1, made.calls), 1),
            }
        return {
            "predictions": self.predictions,
            "candidate_recall": round(self.found / n, 4),
            "candidates": round(self.candidates / n, 1),
            "lost": {reason: round(self.lost[reason] / n, 4) for reason in _REASONS},
            "session_knn": {
                **{f"in_{most}": round(self.knn_found[most] / n, 4) for most in _BEST},
                "us": round(1e6 * self.knn_seconds / n, 1),
            },
            "gather_p50_ms": round(1000 * float(np.percentile(self.seconds, 50)), 3),
            "gather_p99_ms": round(1000 * float(np.percentile(self.seconds, 99)), 3),
            "sources": sources,
        }


def main() -> None:
    """Run over a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--clicks", type=int, default=120_000)
    parser.add_argument("--skip", type=int, default=0, help="the first clicks are learnt only")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--parts", type=json.loads, default={})
    parser.add_argument("--lists", action="store_true", help="make the lists instead (much slower)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loop: Lists | Candidates = (
            Lists(Path(folder), args.parts, args.candidates)
            if args.lists
            else Candidates(Path(folder), args.parts, args.candidates, args.skip)
        )
        for click in read_globo(args.path, args.clicks):
            loop.step(click)
        print(json.dumps(loop.report()))


if __name__ == "__main__":
    main()
