"""Joins impressions and the events about them into labelled examples. Pure: time is passed in.

    shown at t    click     |  closes at t + wait
    |---------------x-------|          one example a slot, clicked or not
        wait

Impressions and events are joined by (user_id, request_id) and may be read in any order. The user is part
of the key because two callers may use the same request id.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from headrace.models.features.spec import SPEC
from headrace.streams.errors import RejectedError
from headrace.streams.messages.schemas import Event, Example, Impression

Key = tuple[str, str]


@dataclass(slots=True)
class _SlotOutcome:
    clicked: bool = False
    dwell_ms: int = 0
    liked: bool = False
    hidden: bool = False

    def add(self, event: Event) -> None:
        """Note one event on the slot."""
        match event.type:
            case "click":
                self.clicked = True
            case "dwell":
                self.dwell_ms = max(self.dwell_ms, event.dwell_ms or 0)
            case "like" | "save":
                self.liked = True
            case "hide":
                self.hidden = True
            case _:
                pass


@dataclass(slots=True)
class _Pending:
    impression: Impression
    closes: int


@dataclass(slots=True)
class OutcomeJoin:
    """The open impressions of one partition: those whose slots still wait for events.

    Parameters
    ----------
    wait_ms
        How long a shown slot may wait for its outcome.
    """

    wait_ms: int
    _open: dict[Key, _Pending] = field(default_factory=dict)
    _closing: list[tuple[int, Key]] = field(default_factory=list)
    _outcomes: dict[Key, dict[str, _SlotOutcome]] = field(default_factory=dict)
    _expiring: list[tuple[int, Key]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._open)

    def shown(self, impression: Impression, at: int) -> None:
        """Open an impression logged at ``at`` (ms). An impression that is already open is not changed.

        Raises
        ------
        RejectedError
            Its arrays differ in length, or it was made for another feature list.
        """
        _check(impression)
        key = (impression.user_id, impression.request_id)
        if key not in self._open:
            self._open[key] = _Pending(impression, at + self.wait_ms)
            heapq.heappush(self._closing, (at + self.wait_ms, key))

    def happened(self, events: Iterable[Event], at: int) -> None:
        """Note events read at ``at`` (ms); those without a request id are ignored."""
        for event in events:
            if not event.request_id:
                continue
            key = (event.user_id, event.request_id)
            of_request = self._outcomes.get(key)
            if of_request is None:
                of_request = self._outcomes[key] = {}
                # Kept until every impression logged up to now has closed.
                heapq.heappush(self._expiring, (at + 2 * self.wait_ms, key))
            of_request.setdefault(event.item_id, _SlotOutcome()).add(event)

    def close(self, events_to: int, shown_to: int) -> list[Example]:
        """Return the examples of the impressions whose time to wait is over.

        Parameters
        ----------
        events_to
            Events were read up to this time (ms). An impression closes only when all its events can have been
            read.
        shown_to
            Impressions were read up to this time (ms). Events are kept until the impression they answer can
            have been read.
        """
        out: list[Example] = []
        while self._closing and self._closing[0][0] <= events_to:
            _, key = heapq.heappop(self._closing)
            pending = self._open.pop(key, None)
            if pending is not None:
                out.extend(_examples(pending.impression, self._outcomes.pop(key, {})))
        while self._expiring and self._expiring[0][0] <= min(events_to, shown_to):
            self._outcomes.pop(heapq.heappop(self._expiring)[1], None)
        return out


def _check(impression: Impression) -> None:
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


def _examples(impression: Impression, outcomes: dict[str, _SlotOutcome]) -> list[Example]:
    nothing = _SlotOutcome()
    return [
        _example(impression, position, outcomes.get(item_id, nothing))
        for position, item_id in enumerate(impression.item_ids)
    ]


def _example(impression: Impression, position: int, outcome: _SlotOutcome) -> Example:
    width = 4 * len(SPEC)
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
        features=impression.features[position * width : (position + 1) * width],
    )
