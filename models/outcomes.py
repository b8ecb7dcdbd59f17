"""What became of the slots of shown lists: whose an event is, and the labelled examples. Pure.

    shown at t    click     |  closes at t + wait
    |---------------x-------|          one example a slot, clicked or not
        wait

Lists and events are joined by user and request id; two callers may use the same request id. A caller may
use one again: then an event belongs to the newest list that holds its item and is dated at or before it::

    list 1 (a b)      list 2 (b c)
    |------- a b -----|------- a b c -------|
             1 1               1 2 2             the list that each click belongs to

The clocks that date lists and events may differ. So where a request id was used once, the list may be dated a
little after the event, if its record was written before that of the event.

A list may come with a sample of candidates that were not shown. What a user does without a request id
(``deed_rows``) belongs to the newest list of the user before it; it labels the item if that is in the sample.
With a request id it belongs to the list of that request, and would count twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.streams.errors import RejectedError
from headrace.streams.messages.schemas import (
    Event,
    Example,
    Impression,
    ShadowList,
    ShadowSlot,
    SlotLabel,
    Unshown,
)

U64 = npt.NDArray[np.uint64]

#: One event about a shown item: item, its time, the time of its record, when it is forgotten, what happened.
OUTCOME = np.dtype(
    [("item", "u8"), ("ts", "i8"), ("at", "i8"), ("until", "i8"), ("dwell_ms", "i4"), ("what", "u1")]
)
CLICKED, LIKED, HIDDEN, DWELT, SKIPPED, FOLLOWED = 1, 2, 4, 8, 16, 32
#: What touches a slot, and what says that its item is not wanted.
TOUCH, NOT_WANTED = CLICKED | LIKED | DWELT | FOLLOWED, HIDDEN | SKIPPED
_DEEDS = {"click": CLICKED, "like": LIKED, "save": LIKED, "hide": HIDDEN, "dwell": DWELT}
_WHAT = {**_DEEDS, "skip": SKIPPED, "follow": FOLLOWED}

_MASK = (1 << 64) - 1
_WIDTH = 4 * len(SPEC)  # bytes of one slot's features


def request_key(user_id: str, request_id: str) -> int:
    """Return a 64-bit key of a request.

    It differs from process to process: nobody can choose ids whose keys are equal.
    """
    return hash((user_id, request_id)) & _MASK


def item_key(item_id: str) -> int:
    """Return a 64-bit key of an item, of this process."""
    return hash(item_id) & _MASK


def user_key(user_id: str) -> int:
    """Return a 64-bit key of a user, of this process."""
    return hash(user_id) & _MASK


def outcome_rows(events: Sequence[tuple[Event, int]], keep_ms: int, now: int) -> tuple[U64, npt.NDArray[Any]]:
    """Return the request keys, ``(n,)``, and the rows of ``OUTCOME``, ``(n,)``, of events that say something.

    Parameters
    ----------
    events
        Events and the times of their records, ms. Those without a request id are left out.
    keep_ms
        How long after its record's time an event is kept; when that is in the future, how long after ``now``.
    now
        Present time, ms since the epoch.
    """
    told = [(e, at, what) for e, at in events if e.request_id and (what := _WHAT.get(e.type))]
    keys = np.fromiter((request_key(e.user_id, e.request_id) for e, _, _ in told), np.uint64, len(told))
    rows = [
        (item_key(e.item_id), e.ts, at, min(at, now) + keep_ms, e.dwell_ms or 0, what) for e, at, what in told
    ]
    return keys, np.array(rows, OUTCOME)


def deed_rows(events: Sequence[tuple[Event, int]], keep_ms: int, now: int) -> tuple[U64, npt.NDArray[Any]]:
    """Return what users did without a request id: ``user_key`` and rows of ``OUTCOME``, ``(n,)`` each.

    Parameters are those of ``outcome_rows``.
    """
    told = [(e, at, what) for e, at in events if not e.request_id and (what := _DEEDS.get(e.type))]
    keys = np.fromiter((user_key(e.user_id) for e, _, _ in told), np.uint64, len(told))
    rows = [
        (item_key(e.item_id), e.ts, at, min(at, now) + keep_ms, e.dwell_ms or 0, what) for e, at, what in told
    ]
    return keys, np.array(rows, OUTCOME)


def list_before(ts: int, at: int, lists: Iterable[ShownList]) -> ShownList | None:
    """Return the newest of a user's lists at or before an event, None when there is none or it has closed."""
    found = max((shown for shown in lists if shown.ts <= ts), default=None)
    return found if found is not None and at < found.closes else None


class ShownList(NamedTuple):
    """What decides whose an event is: a list and its number, the larger the later it was written.

    Times are ms: ``ts`` is its own, ``at`` that of its record; events of records from ``closes`` on are too
    late. ``reused``: another list has its request id.
    """

    ts: int
    number: int
    at: int
    closes: int
    reused: bool
    items: frozenset[int]


def list_of(
    item: int, ts: int, at: int, lists: Iterable[ShownList], clocks_differ_ms: int
) -> ShownList | None:
    """Return the list of one request that an event belongs to, None when there is none.

    Parameters
    ----------
    item, ts, at
        Item of the event, its time, and the time of its record.
    lists
        The known lists of the request.
    clocks_differ_ms
        How much later than the event the only list of a request may be dated.
    """
    holding = [shown for shown in lists if item in shown.items]
    before = [shown for shown in holding if shown.ts <= ts]
    if not before:
        before = [s for s in holding if not s.reused and s.ts <= ts + clocks_differ_ms and s.at <= at]
    found = max(before, default=None)
    return found if found is not None and at < found.closes else None


@dataclass(slots=True)
class SlotOutcome:
    """What happened to one shown slot; ``label``: see ``slot_labels``."""

    clicked: bool = False
    dwell_ms: int = 0
    liked: bool = False
    hidden: bool = False
    label: SlotLabel = "unseen"

    def add(self, what: int, dwell_ms: int) -> None:
        """Note one event on the slot; noting it twice changes nothing."""
        self.clicked |= bool(what & CLICKED)
        self.liked |= bool(what & LIKED)
        self.hidden |= bool(what & HIDDEN)
        self.dwell_ms = max(self.dwell_ms, dwell_ms)


def check(impression: Impression, _record: Any = None) -> None:
    """Raise ``RejectedError`` when an impression's arrays differ in length, or for another feature list."""
    n = len(impression.item_ids)
    if impression.spec != SPEC.version:
        raise RejectedError("other_features", "spec", f"spec {impression.spec}, this code has {SPEC.version}")
    if len(impression.features) != 4 * n * len(SPEC):
        told = f"{len(impression.features)} bytes for {n} slots of {len(SPEC)} features"
        raise RejectedError("invalid_field", "features", told)
    if not n == len(impression.propensities) == len(impression.explored) == len(impression.scores):
        raise RejectedError(
            "invalid_field", "item_ids", "slots, propensities, explored and scores differ in number"
        )
    if (rest := impression.unshown) is not None:
        n = len(rest.item_ids)
        if not n == len(rest.probabilities) == len(rest.scores) or len(rest.features) != n * _WIDTH:
            told = "its items, probabilities, scores and features differ in number"
            raise RejectedError("invalid_field", "unshown", told)


def unshown_items(impression: Impression) -> list[str]:
    """Return the candidates that were not shown and came with a list; most often there are none."""
    return [] if impression.unshown is None else impression.unshown.item_ids


def examples_of(
    impression: Impression, outcomes: Mapping[int, SlotOutcome], positions: Iterable[int] | None = None
) -> list[Example]:
    """Return the examples of some positions, by default of all; ``outcomes`` are by position.

    The candidates that were not shown have the positions after the slots.
    """
    nothing = SlotOutcome()
    slots, rest = len(impression.item_ids), impression.unshown
    if positions is None:
        positions = range(slots + len(unshown_items(impression)))
    return [
        _example(impression, k, outcomes.get(k, nothing))
        if rest is None or k < slots
        else _unshown(impression, rest, k - slots, k, outcomes.get(k, nothing))
        for k in positions
    ]


def _example(impression: Impression, position: int, outcome: SlotOutcome) -> Example:
    return Example(
        request_id=impression.request_id,
        user_id=impression.user_id,
        item_id=impression.item_ids[position],
        surface=impression.surface,
        position=position,
        ts=impression.ts,
        country=impression.country,
        device=impression.device,
        ranker=impression.ranker,
        spec=impression.spec,
        propensity=impression.propensities[position],
        explored=impression.explored[position],
        score=impression.scores[position],
        clicked=outcome.clicked,
        dwell_ms=outcome.dwell_ms,
        liked=outcome.liked,
        hidden=outcome.hidden,
        features=impression.features[position * _WIDTH : (position + 1) * _WIDTH],
        sources=impression.sources[position] if position < len(impression.sources) else [],
        shadow=_shadow(impression.shadow, position),
        duration_ms=impression.durations[position] if position < len(impression.durations) else 0,
        leaves=impression.leaves,
        settings=impression.settings,
        label=outcome.label,
    )


def _unshown(impression: Impression, rest: Unshown, k: int, position: int, outcome: SlotOutcome) -> Example:
    return Example(
        request_id=impression.request_id,
        user_id=impression.user_id,
        item_id=rest.item_ids[k],
        surface=impression.surface,
        position=position,
        ts=impression.ts,
        country=impression.country,
        device=impression.device,
        ranker=impression.ranker,
        spec=impression.spec,
        propensity=rest.probabilities[k],
        explored=False,
        score=rest.scores[k],
        clicked=outcome.clicked,
        dwell_ms=outcome.dwell_ms,
        liked=outcome.liked,
        hidden=outcome.hidden,
        features=rest.features[k * _WIDTH : (k + 1) * _WIDTH],
        unshown=True,
        duration_ms=rest.durations[k] if k < len(rest.durations) else 0,
        leaves=impression.leaves,
        settings=impression.settings,
    )


def _shadow(shadow: ShadowList | None, position: int) -> ShadowSlot | None:
    """Return what the shadow has in a slot; None without one."""
    if shadow is None or position >= min(len(shadow.match), len(shadow.value)):
        return None
    return ShadowSlot(shadow.ranker, shadow.match[position], shadow.value[position])
