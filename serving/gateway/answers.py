"""The answers to what was written: where each record landed, or why it was not taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from headrace.serving.gateway.backend import Landed, Topic, state_token
from headrace.serving.gateway.faults import fault_of
from headrace.serving.gateway.intake import EventVerdict
from headrace.streams.messages.schemas import ErrorInfo


class Written(msgspec.Struct):
    """Where a record landed. After a retry, the broker may not say: ``offset`` -1, ``state`` empty."""

    partition: int
    offset: int
    state: str


class EventResult(msgspec.Struct):
    """What became of one event: where it landed, or the error. ``event_id``: empty if it cannot be read."""

    event_id: str
    taken: bool
    partition: int | msgspec.UnsetType = msgspec.UNSET
    offset: int | msgspec.UnsetType = msgspec.UNSET
    state: str | msgspec.UnsetType = msgspec.UNSET
    error: ErrorInfo | msgspec.UnsetType = msgspec.UNSET


class EventsAnswer(msgspec.Struct):
    """One result for each event, in their order."""

    taken: int
    refused: int
    events: list[EventResult]


def where(topic: Topic, landed: Landed) -> Written:
    """Return where a record of `items` or `users` landed."""
    return Written(landed.partition, landed.offset, state_token(topic, landed))


def events_answer(
    verdicts: Sequence[EventVerdict], landed: Sequence[Landed | Exception]
) -> tuple[EventsAnswer, int]:
    """Return the answer to events and its status.

    The status is 200 when all were taken, 207 when some were, 400 when all were refused, 503 when none could
    be written.

    Parameters
    ----------
    verdicts
        All events.
    landed
        What became of those with a record, in their order.
    """
    places = iter(landed)
    results = [_result(verdict, places) for verdict in verdicts]
    taken = sum(result.taken for result in results)
    answer = EventsAnswer(taken, len(results) - taken, results)
    if taken == len(results):
        return answer, 200
    if taken:
        return answer, 207
    lost = any(verdict.record is not None for verdict in verdicts)
    return answer, 503 if lost else 400


def _result(verdict: EventVerdict, places: Iterator[Landed | Exception]) -> EventResult:
    if verdict.refused is not None:
        return EventResult(verdict.event_id, False, error=fault_of(verdict.refused).error)
    landed = next(places)
    if isinstance(landed, Exception):
        return EventResult(verdict.event_id, False, error=fault_of(landed).error)
    return EventResult(verdict.event_id, True, *landed, state_token("events", landed))
