"""What a user clicked lately, and was shown and did not click: evidence that they like a category.

It is read from rows that are kept anyway: the ring of clicks (``state/users.py``), and what the user was
shown (``state/shown.py``). The list that is being made is on neither: its outcome is not in its features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.past import past_of
from headrace.models.state import users as user_state

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

#: The long and the short memory: evidence halves after so many clicks, or so many showings without a click.
#: They are counted and not timed, because some users click in seconds and others once a day.
CLICKS, SHOWN = np.array([12.0, 3.0]), np.array([120.0, 30.0])
#: A user clicks what they like so many times as often as other things.
TIMES = 6.0
#: A user's click rate begins as one click in so many showings.
_RATE_SHOWN = 15
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
    return past_of(user, shown, _A_CLICK, _LEFT, _RATE_SHOWN, 1 - 1 / TIMES)
