"""What a user clicked lately, and was shown and did not click: evidence that they like a category.

It is read from rows that are kept anyway: the ring of clicks (``state/users.py``), and what the user was
shown (``state/shown.py``). The list that is being made is on neither: its outcome is not in its features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.state import users as user_state
from headrace.models.state.key_sets import among

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]

#: The long and the short memory: evidence halves after so many clicks, or so many showings without a click.
#: They are counted and not timed, because some users click in seconds and others once a day.
CLICKS, SHOWN = np.array([12.0, 3.0]), np.array([120.0, 30.0])
#: A user clicks what they like so many times as often as other things.
TIMES = 6.0
#: A user's click rate begins as one click in so many showings.
_RATE_SHOWN = 15
_RING = np.arange(user_state.RECENT)
_A_CLICK = (np.log(TIMES) * np.exp2(-np.arange(user_state.RECENT) / CLICKS[:, None])).astype(np.float32)
#: What is left of a showing after so many others; the last place stands for all that are older.
_LEFT = np.exp2(-np.arange(2000) / SHOWN[:, None]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class History:
    """The items of a user's past.

    Attributes
    ----------
    category
        Of each item, uint64 ``(n,)``; 0: unknown.
    evidence
        What each adds to the log-odds that its category is liked, in the long and the short memory, float32
        ``(2, n)``.
    """

    category: U64
    evidence: F32


def evidence(user: npt.NDArray[Any] | None, shown: npt.NDArray[Any] | None) -> tuple[U64, F32]:
    """Return the items of a user's past, uint64 ``(n,)``, and ``History.evidence``, float32 ``(2, n)``.

    Parameters
    ----------
    user
        The user's row (``users.ROW``, ``(1,)``), None for an unknown user.
    shown
        What the user was shown (``shown.ROW``, ``(1,)``), None when unknown.

    Notes
    -----
    Clicks of a category are Poisson counts, with the rate ``r`` a showing, or with ``TIMES * r`` if it is
    liked. The log of the likelihood ratio is then ``log(TIMES)`` for a click and ``-r * (TIMES - 1)`` for a
    showing. Most clicks are on what is liked, so ``r`` is the user's click rate divided by ``TIMES``.

    An item that was shown several times without a click counts as often. Where the ring of clicks is full,
    what was shown before the oldest click is left out: it may have been clicked.
    """
    clicked, since = _clicked(user)
    items, times, found = _passed(shown, clicked, since)
    n = len(clicked)
    out = np.empty((2, n + len(items)), np.float32)
    out[:, :n] = _A_CLICK[:, :n]
    if len(items):
        newer = np.cumsum(times)
        rate = (found + 1) / (found + int(newer[-1]) + _RATE_SHOWN)
        against = times * np.float32(-rate * (1 - 1 / TIMES))
        out[:, n:] = against * _LEFT.take(newer - times, axis=1, mode="clip")
    return np.concatenate([clicked, items]), out


def _clicked(user: npt.NDArray[Any] | None) -> tuple[U64, int]:
    """Return the clicks, the newest first, and the time (s) from which on all are among them."""
    if user is None:
        return np.zeros(0, np.uint64), 0
    n, size = int(user["n_clicks"][0]), user_state.RECENT
    places = (n - 1 - _RING[:n]) % size
    since = int(user["recent_ts"][0, n % size]) // 1000 if n > size else 0
    return user["recent"][0, places], since


def _passed(shown: npt.NDArray[Any] | None, clicked: U64, since: int) -> tuple[U64, U8, int]:
    """Return what was shown and not clicked, the newest first, how often, and how much of it was clicked."""
    if shown is None:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint8), 0
    n = int(shown["count"][0])
    items, counts = shown["items"][0, :n][::-1], shown["counts"][0, :n][::-1]
    out = hit = among(items, clicked)
    if since:
        out = hit | (shown["times"][0, :n][::-1] < since)
    keep = np.flatnonzero(~out)
    return items[keep], counts[keep], int(np.count_nonzero(hit))
