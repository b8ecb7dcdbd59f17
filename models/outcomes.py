"""Join what was shown with what came of it: impressions + events -> labelled examples. Pure.

    shown at t    click     |  closes at t + wait
    |---------------x-------|          one example a slot, clicked or not
        wait

An impression and the events on it meet by (user_id, request_id), in whatever order they are read: callers
count their requests as they like, and two of them may count alike.
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


@dataclass(slots=True)
class _Pending:
    impression: Impression
    closes: int


@dataclass(slots=True)
class OutcomeJoin:
    """Open impressions of one partition.

    Parameters
    ----------
    wait_ms
        How long a shown slot may wait for its outcome.
    """

    wait_ms: int
    _open: dict[Key, _Pending] = field(default_factory=dict)
    _closing: list[tuple[int, Key]] = field(default_factory=list)
    _outcomes: dict[Key, dict[str, _SlotOutcome]] = field(default_factory=dict)
    _fading: list[tuple[int, Key]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._open)

    def shown(self, impression: Impression, at: int) -> None:
        """Open an impression logged at ``at`` (ms). One seen before is left as it is.

        Raises
        ------
        RejectedError
            Its arrays do not have the same length, or its features are not ours.
        """
        n = len(impression.item_ids)
        if impression.spec != SPEC.version:
            raise RejectedError(
                "other_features", "spec", f"spec {impression.spec}, this code has {SPEC.version}"
            )
        if len(impression.features) != 4 * n * len(SPEC):
            raise RejectedError(
                "invalid_field",
                "features",
                f"{len(impression.features)} bytes for {n} slots of {len(SPEC)} features",
            )
        if not n == len(impression.propensities) == len(impression.explored) == len(impression.scores):
            raise RejectedError(
                "invalid_field", "item_ids", "slots, propensities, explored and scores differ in number"
            )
        key = (impression.user_id, impression.request_id)
        if key not in self._open:
            self._open[key] = _Pending(impression, at + self.wait_ms)
            heapq.heappush(self._closing, (at + self.wait_ms, key))

    def happened(self, events: Iterable[Event], at: int) -> None:
        """Note events read at ``at`` (ms); those that answer no request are passed over."""
        for event in events:
            if not event.request_id:
                continue
            key = (event.user_id, event.request_id)
            of_request = self._outcomes.get(key)
            if of_request is None:
                of_request = self._outcomes[key] = {}
                # Kept until any impression logged up to now has closed.
                heapq.heappush(self._fading, (at + 2 * self.wait_ms, key))
            outcome = of_request.setdefault(event.item_id, _SlotOutcome())
            match event.type:
                case "click":
                    outcome.clicked = True
                case "dwell":
                    outcome.dwell_ms = max(outcome.dwell_ms, event.dwell_ms or 0)
                case "like" | "save":
                    outcome.liked = True
                case "hide":
                    outcome.hidden = True
                case _:
                    pass

    def close(self, events_to: int, shown_to: int) -> list[Example]:
        """Return the examples of every impression whose wait is over.

        Parameters
        ----------
        events_to
            Events were read up to this time (ms): an impression closes only when its events can all be here.
        shown_to
            Impressions were read up to this time: events wait for theirs at least that long.
        """
        out: list[Example] = []
        while self._closing and self._closing[0][0] <= events_to:
            _, key = heapq.heappop(self._closing)
            pending = self._open.pop(key, None)
            if pending is not None:
                out.extend(_examples(pending.impression, self._outcomes.pop(key, {})))
        while self._fading and self._fading[0][0] <= min(events_to, shown_to):
            self._outcomes.pop(heapq.heappop(self._fading)[1], None)
        return out


def _examples(impression: Impression, outcomes: dict[str, _SlotOutcome]) -> list[Example]:
    width = 4 * len(SPEC)
    nothing = _SlotOutcome()
    out = []
    for position, item_id in enumerate(impression.item_ids):
        outcome = outcomes.get(item_id, nothing)
        out.append(
            Example(
                request_id=impression.request_id,
                user_id=impression.user_id,
                item_id=item_id,
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
        )
    return out
