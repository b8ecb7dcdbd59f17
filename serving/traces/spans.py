"""Spans of a request: what OpenTelemetry is told of it. Pure: times are given.

A span for the request, from the time of its record until its reply is with the broker, and one for each stage
below it. They say nothing of the user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from headrace.serving.answering import Answer
from headrace.serving.ladder import least
from headrace.serving.requests.address import TRACEPARENT
from headrace.serving.traces.made import is_traced
from headrace.streams.messages.schemas import RecReply, RecRequest

#: Stages that requests which are answered together share.
SHARED: Final = frozenset({"store", "rows", "tick"})
#: A later version than 00 may have more fields, which begin with another dash.
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 1

Value = str | int | Sequence[str]


class Caller(NamedTuple):
    """The span of a caller that a request belongs to, and whether the caller samples it."""

    trace_id: int
    span_id: int
    sampled: bool


class Time(NamedTuple):
    """What a stage took: when it began and ended, s."""

    stage: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class RequestSpans:
    """The span of a request, and those of its stages below it. Times are in seconds since 1970.

    Attributes
    ----------
    caller
        Whose trace they continue; None: they are a trace of their own.
    error
        Why the reply was not delivered; empty: it was.
    """

    began: float
    ended: float
    attributes: Mapping[str, Value]
    stages: Sequence[Time]
    caller: Caller | None = None
    error: str = ""


class SpanSink(Protocol):
    """Takes spans; never waits, and never fails."""

    def write(self, spans: RequestSpans) -> None:
        """Take the spans of a request."""
        ...


def caller_of(headers: Iterable[tuple[str, bytes | None]]) -> Caller | None:
    """Return the caller's span in the headers of a request; None without a correct one. The last counts."""
    value = None
    for name, content in headers:
        if name == TRACEPARENT:
            value = content
    found = _PARENT.fullmatch(value) if value is not None else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id or (version == b"00" and more):
        return None
    return Caller(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def is_sampled(request_id: str, caller: Caller | None, share: float) -> bool:
    """Return whether a request has spans: its caller decides, if it says so; else the hash of its id."""
    return is_traced(request_id, share) if caller is None else caller.sampled


def attributes_of(
    request: RecRequest, reply: RecReply, answers: Sequence[Answer], partition: int
) -> dict[str, Value]:
    """Return what is said of a request: nothing of its user, and no item.

    Parameters
    ----------
    answers
        Its lists.
    partition
        That of its user.
    """
    items = [item for answer in answers for item in answer.reply.items]
    out: dict[str, Value] = {
        "headrace.request_id": request.request_id,
        "headrace.surface": request.surface,
        "headrace.n": sum(one.n for one in request.lists) or request.n,
        "headrace.items": len(items),
        "headrace.degraded": list(reply.degraded),
        "headrace.sources": sorted({source for item in items for source in item.sources}),
        "headrace.partition": partition,
    }
    if request.lists:
        out["headrace.surfaces"] = [one.surface for one in request.lists]
    if rung := least([answer.rung for answer in answers]):
        out["headrace.rung"] = rung
    if reply.model is not None:
        out |= {"headrace.ranker": reply.model.ranker, "headrace.online": reply.model.online}
    return out
