"""Checks some served lists all the time: do features and score of the log follow from what was served?

After the replies, a thread of its own takes the impression as it is written (encoded and decoded), and
computes three things again:

``features``
    `assemble`, on the same inputs: the same bytes. They differ when a part has written into features or
    inputs, or when a slot has the features of another item.
``online_score``
    The online model, on the features of the log.
``score``
    The ranker, by LightGBM itself (`models/learning/parity.py`), on the features of the log.

The thread takes at most 2 % of a core (`serving/sampled.py`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.assemble import assemble
from headrace.models.features.spec import ONLINE, POSITION, SPEC
from headrace.models.learning import parity
from headrace.models.learning.ranker import Ranker
from headrace.serving.ranking import Ranked
from headrace.serving.sampled import Sampled
from headrace.streams.messages.schemas import Impression

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
log = logging.getLogger(__name__)

#: Of so many impressions one is looked at, and at most one in this time (s).
EVERY, PAUSE_S = 100, 1.0
#: What is compared.
WHAT = ("features", "online_score", "score")


class SkewProbe:
    """Compares the logged features and scores of some lists with those computed again.

    Parameters
    ----------
    every, pause_s
        See ``EVERY``.
    clock
        Monotonic seconds.

    Attributes
    ----------
    checked, skewed
        Slots that were compared, and that differed, by ``WHAT``.
    """

    def __init__(
        self, every: int = EVERY, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sampled = Sampled("skew", every, pause_s, clock, self._take)
        self.checked: Counter[str] = Counter(dict.fromkeys(WHAT, 0))
        self.skewed: Counter[str] = Counter(dict.fromkeys(WHAT, 0))

    def logged(self, ranked: Ranked, impression: Impression) -> None:
        """Compare a list if it is time. Call it when the replies are on their way."""
        if self._sampled.due():
            self._sampled.begin(lambda: _counted(ranked, impression))

    def settle(self, *, wait: bool = True) -> None:
        """Take the result of a comparison that is done."""
        self._sampled.settle(wait=wait)

    def _take(self, found: tuple[Counter[str], Counter[str]]) -> None:
        self.checked.update(found[0])
        self.skewed.update(found[1])

    def close(self) -> None:
        """End the thread, after the comparison that runs."""
        self._sampled.close()


def _counted(ranked: Ranked, impression: Impression) -> tuple[Counter[str], Counter[str]]:
    """Return slots checked and skewed, by ``WHAT``; none of a list that cannot be checked."""
    checked, skewed = Counter[str](), Counter[str]()
    try:
        record = msgspec.json.decode(msgspec.json.encode(impression), type=Impression)
        found = compare(ranked, record)
    except Exception:
        log.exception("a list could not be checked", extra={"action": "skew_not_checked"})
        return checked, skewed
    for what, wrong in found.items():
        checked[what], skewed[what] = len(wrong), int(wrong.sum())
        if wrong.any():
            log.error(
                "request %s: the %s of slots %s are not what they are when computed again",
                *(record.request_id, what, np.flatnonzero(wrong).tolist()),
                extra={"action": "skew", "what": what},
            )
    return checked, skewed


def compare(ranked: Ranked, record: Impression) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which slots of a logged list are not what they are when computed again, by ``WHAT``.

    Each is bool ``(n_slots,)``. A score is compared only if the ranker gave it. The online model multiplies
    other rows with the same weights here: float32 sums differ in their last bits, so it has a tolerance.
    """
    logged = np.frombuffer(record.features, "<f4").reshape(-1, len(SPEC))
    chosen = ranked.slate.chosen
    if len(logged) != len(chosen):
        return {"features": np.ones(max(len(logged), len(chosen)), bool)}
    again = assemble(ranked.query.user, ranked.pool.candidates, ranked.query.context)[chosen]
    again[:, POSITION] = np.arange(len(chosen))
    again[:, ONLINE] = logged[:, ONLINE]
    out = {"features": _differ(again, logged)}
    if logged[:, ONLINE].any():  # else it was not asked: what it gives is never 0
        out["online_score"] = ~np.isclose(_online(ranked, logged), logged[:, ONLINE], rtol=1e-5, atol=1e-7)
    used = ranked.used
    by_ranker = ranked.scorer is not None and ranked.scorer.name == "ranker"
    if by_ranker and used is not None and isinstance(used.ranker, Ranker) and ranked.ids is not None:
        scores = parity.scores(used.ranker, logged, used.moved, ranked.ids.of_items(chosen))
        out["score"] = ~parity.equal(scores, np.array(record.scores))
    return out


def _differ(ours: F32, logged: F32) -> npt.NDArray[np.bool_]:
    """Return which rows differ in a bit."""
    a, b = (np.ascontiguousarray(v, "<f4").view("<u4").reshape(len(v), -1) for v in (ours, logged))
    out: npt.NDArray[np.bool_] = np.any(a != b, axis=1)
    return out


def _online(ranked: Ranked, logged: F32) -> F32:
    """Return the scores of the online model on logged features, float32 ``(n,)``; NaN if there was none."""
    online = ranked.used.online if ranked.used is not None else None
    if online is None or ranked.ids is None:
        return np.full(len(logged), np.nan, np.float32)
    return online.predict(logged, ranked.ids.of_items(ranked.slate.chosen))
