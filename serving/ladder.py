"""How much is done for a request: less when there is less time than more took lately. Pure.

The rungs, from the dearest to the cheapest:

``full``
    Everything.
``fewer``
    Sources propose, and models score, a quarter of the candidates.
``first``
    The same, scored by the online model alone.
``popular``
    The popular list of the country: held for a second, filtered, not ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

Rung: TypeAlias = Literal["full", "fewer", "first", "popular"]
RANKED: Final[tuple[Rung, ...]] = ("full", "fewer", "first")
RUNGS: Final[tuple[Rung, ...]] = (*RANKED, "popular")

#: Share of the candidates of a full list.
FEWER: Final = 0.25
#: The quantile that must fit into what is left; what an observation weighs beside the next one.
_QUANTILE, _FADE = 0.9, 0.95
#: Without a new observation, a time is believed to halve in so long (s): so a dear rung is tried again.
_HALVES_S = 5.0
#: Upper bounds of the times that are told apart, s: four for each doubling, from 0.1 ms to 100 s.
_BOUNDS = 1e-4 * 2.0 ** (np.arange(81) / 4)
#: Left for sending the reply, s.
_SENDING_S = 0.005


def least(rungs: Iterable[str]) -> str:
    """Return the cheapest rung of the lists of a request; empty when none has one, as in bulk."""
    dearest_first: Sequence[str] = RUNGS
    return max((rung for rung in rungs if rung), key=dearest_first.index, default="")


class Quantile:
    """An exponentially weighted quantile of times.

    The weight of an observation falls by ``_FADE`` with each later one. The quantile is the upper bound of
    its bucket, at most 19 % too high.
    """

    def __init__(self) -> None:
        self._weights = np.zeros(len(_BOUNDS) + 1)
        self._value, self._at = 0.0, 0.0

    def add(self, seconds: float, now: float) -> None:
        """Add a time; ``now`` is in monotonic seconds."""
        self._weights *= _FADE
        self._weights[np.searchsorted(_BOUNDS, seconds)] += 1
        sums = np.cumsum(self._weights)
        place = int(np.searchsorted(sums, _QUANTILE * sums[-1]))
        self._value, self._at = float(_BOUNDS[min(place, len(_BOUNDS) - 1)]), now

    def read(self, now: float) -> float:
        """Return the quantile, s; it fades while nothing is added. 0: nothing is known."""
        return self._value * float(0.5 ** (max(0.0, now - self._at) / _HALVES_S))


class Ladder:
    """Chooses the rung of each list, from what each rung took lately. Times are in seconds, monotonic."""

    def __init__(self) -> None:
        self._took = {rung: Quantile() for rung in RANKED}

    def choose(self, left: float, now: float) -> Rung:
        """Return the dearest rung that fits into the time that is left; one never tried fits."""
        if left <= 0:
            return "popular"
        fits = (r for r in RANKED if (took := self._took[r].read(now)) == 0 or took + _SENDING_S <= left)
        return next(fits, "popular")

    def needs(self, now: float) -> float:
        """Return what a full list takes, with the sending of its reply, s."""
        return self._took["full"].read(now) + _SENDING_S

    def took(self, rung: Rung, seconds: float, now: float) -> None:
        """Say how long a list of a rung took."""
        if rung != "popular":
            self._took[rung].add(seconds, now)
