"""The last-click protocol of Transformers4Rec (Moreira et al., RecSys 2021): the referee between systems.

A click on an item that its session has clicked already is left out, what comes after 20 clicks of a session,
and sessions of one click. Of every session the last click is foreseen, among the whole catalogue; HR@20 and
NDCG@20 are means over the hours with at least 20 such clicks. Every click is learnt as it comes: to learn,
the system makes its lists at every click, also where they are not scored.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from headrace.serving.prequential.loop import EvalSettings, Prequential
from headrace.streams.errors import ConfigError
from headrace.streams.messages.files import Click
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings

#: Clicks of a session that count.
MOST_CLICKS = 20
#: An hour with fewer scored clicks is left out.
LEAST_IN_HOUR = 20


def kept(clicks: Iterable[Click]) -> list[Click]:
    """Return the clicks of the protocol, in their order."""
    seen: dict[str, set[str]] = defaultdict(set)
    out = []
    for click in clicks:
        items = seen[click.session]
        if click.item not in items and len(items) < MOST_CLICKS:
            items.add(click.item)
            out.append(click)
    return [click for click in out if len(seen[click.session]) > 1]


def second_day(clicks: Sequence[Click]) -> int:
    """Return when the day after the first click begins, UTC, ms."""
    return (clicks[0].ts // DAY_MS + 1) * DAY_MS


class HourlyScore:
    """Hit rate and NDCG at 20 by hour."""

    def __init__(self) -> None:
        self._hours: dict[int, list[float]] = defaultdict(lambda: [0, 0, 0.0])

    def add(self, ts: int, rank: int) -> None:
        """Count a prediction at ``ts`` (ms); ``rank`` is 1 for the top of the list, 0 when not on it."""
        hour = self._hours[ts // HOUR_MS]
        hour[0] += 1
        if rank:
            hour[1] += 1
            hour[2] += 1 / math.log2(rank + 1)

    def figures(self) -> dict[str, float]:
        """Return hours, predictions, and the means over hours."""
        hours = [h for h in self._hours.values() if h[0] >= LEAST_IN_HOUR]
        k = max(1, len(hours))
        return {
            "hours": len(hours),
            "predictions": int(sum(h[0] for h in hours)),
            "hr_at_20": round(sum(h[1] / h[0] for h in hours) / k, 4),
            "ndcg_at_20": round(sum(h[2] / h[0] for h in hours) / k, 4),
        }


class LastClicks(Prequential):
    """The loop that scores last clicks.

    Parameters
    ----------
    last
        The last item of each session.
    first
        Clicks from this time (ms) on are scored.
    """

    def __init__(
        self, how: EvalSettings, settings: Settings, folder: Path, last: dict[str, str], first: int
    ) -> None:
        super().__init__(how, settings, folder)
        self.hourly, self.hourly_by_score = HourlyScore(), HourlyScore()
        self._last, self._first = last, first

    def _placed(self, click: Click, rank: int, version: str) -> None:
        super()._placed(click, rank, version)
        if self._counts(click):
            self.hourly.add(click.ts, rank)

    def _placed_by_score(self, click: Click, rank: int) -> None:
        super()._placed_by_score(click, rank)
        if self._counts(click):
            self.hourly_by_score.add(click.ts, rank)

    def _counts(self, click: Click) -> bool:
        return click.ts >= self._first and click.item == self._last[click.session]


def evaluate_last_clicks(
    clicks: Iterable[Click],
    settings: Settings,
    first: int | None = None,
    how: EvalSettings | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Run the protocol; return the figures of ``HourlyScore``, clicks, trainings and seconds.

    HR@20 and NDCG@20 are also those of the scores alone, without the rules of the re-rank stage.

    Parameters
    ----------
    first
        Clicks from this time (ms) on are scored; None: from the second day on.
    progress
        Called after every 1000 clicks with their number and the figures so far.

    Raises
    ------
    ConfigError
        No session has two clicks, or no hour has enough last clicks.
    """
    chosen = kept(clicks)
    if not chosen:
        raise ConfigError("no session of these clicks has clicks on two items")
    first = second_day(chosen) if first is None else first
    last = {click.session: click.item for click in chosen}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="headrace-eval-") as folder:
        loop = LastClicks(how or EvalSettings(), settings, Path(folder), last, first)
        for seen, click in enumerate(chosen, 1):
            loop.step(click)
            if progress is not None and seen % 1000 == 0:
                progress(seen, loop.hourly.figures())
        found, by_score = loop.hourly.figures(), loop.hourly_by_score.figures()
    if not found["hours"]:
        raise ConfigError(
            f"no hour from {first} ms on has {LEAST_IN_HOUR} last clicks: read more clicks, or score earlier"
        )
    trained, seconds = loop.score.trainings, round(time.perf_counter() - started, 1)
    return {
        "clicks": len(chosen),
        **found,
        "hr_at_20_by_score": by_score["hr_at_20"],
        "ndcg_at_20_by_score": by_score["ndcg_at_20"],
        "first_scored_ts": first,
        "trainings": trained,
        "seconds": seconds,
    }
