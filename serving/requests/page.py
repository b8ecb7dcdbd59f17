"""A page: several lists in one request, each as if it had been asked for alone; no item is there twice."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from headrace.serving.answering import Answer
from headrace.serving.fits import NO_FILTERS
from headrace.streams.messages.schemas import RecList, RecReply, RecRequest


def parts_of(request: RecRequest) -> list[RecRequest]:
    """Return a request for each list, in the order asked; the request itself when it asks for one list.

    List ``n`` of the page ``r`` has the request id ``r/n``, from ``r/1`` on: so have its impression and the
    events on it.
    """
    if not request.lists:
        return [request]
    return [
        replace(
            request,
            request_id=f"{request.request_id}/{number}",
            surface=one.surface,
            n=one.n,
            item_id=one.item_id,
            filters=request.filters if one.filters == NO_FILTERS else one.filters,
            lists=[],
        )
        for number, one in enumerate(request.lists, 1)
    ]


def beside(part: RecRequest, above: Sequence[Answer]) -> RecRequest:
    """Return the request for a list without the items of the lists above it."""
    taken = [item.item_id for answer in above for item in answer.reply.items]
    return replace(part, exclude=[*part.exclude, *taken]) if taken else part


def reply_to(request: RecRequest, answers: Sequence[Answer]) -> RecReply:
    """Return the reply to a request, from the answers to its parts."""
    replies = [answer.reply for answer in answers]
    return page_of(request.request_id, replies) if request.lists else replies[0]


def page_of(request_id: str, replies: Sequence[RecReply]) -> RecReply:
    """Return the reply to the request for a page, from those to its lists."""
    degraded = dict.fromkeys(reason for reply in replies for reason in reply.degraded)
    lists = [RecList(reply.request_id, reply.items, reply.model, reply.degraded) for reply in replies]
    return RecReply(request_id, [], replies[0].model, list(degraded), lists=lists)
