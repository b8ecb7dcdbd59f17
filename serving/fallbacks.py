"""Answers that always come: after an error in our code, a cheaper list."""

from __future__ import annotations

import logging

from headrace.serving.answering import Answer
from headrace.serving.context import ShownRow, UserRow
from headrace.serving.ladder import Rung
from headrace.serving.pipeline.pairs import Anchors
from headrace.serving.recommender import Recommender
from headrace.streams.messages.schemas import Impression, RecReply, RecRequest

log = logging.getLogger(__name__)


def answer(
    recommender: Recommender,
    request: RecRequest,
    user: UserRow | None,
    shown: ShownRow | None,
    anchors: Anchors,
    at: int,
    rung: Rung = "full",
) -> Answer:
    """Answer one request for the time ``at`` (ms); after an error, with the popular list."""
    try:
        return recommender.answer(request, user, anchors, at, shown, rung)
    except Exception:
        log.exception("request %s fell back to the popular list", request.request_id)
        return popular(recommender, request, user, shown, at, "internal")


def popular(
    recommender: Recommender,
    request: RecRequest,
    user: UserRow | None,
    shown: ShownRow | None,
    at: int,
    reason: str,
) -> Answer:
    """Return the popular list; after an error the one for nobody, or an empty one."""
    for rows in ((user, shown), (None, None)):
        try:
            return recommender.popular(request, at, reason, *rows)
        except Exception:
            log.exception("request %s got no popular list", request.request_id)
    return Answer(RecReply(request.request_id, degraded=[reason, "candidates"]), None)


def anchors_for(recommender: Recommender, request: RecRequest, user: UserRow | None, at: int) -> list[int]:
    """Return the items whose neighbours a request needs; none after an error."""
    try:
        return recommender.anchors_for(request, user, at)
    except Exception:
        log.exception("request %s is answered without anchors", request.request_id)
        return []


def impression(answered: Answer) -> Impression | None:
    """Make the impression of an answer; None when there is none. The reply is on its way already."""
    try:
        return answered.impression
    except Exception:
        log.exception("the impression of request %s is lost", answered.reply.request_id)
        return None
