"""What a candidate would have shown: made after the reply, for a share of the lists, logged with them.

Of several candidates each list has one, so the cost does not grow with their number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from headrace.models.learning.arms import CANDIDATE, place_of
from headrace.models.learning.ranker import Ranker
from headrace.serving.pipeline.query import ServingData
from headrace.serving.ranking import Ranked, choices
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.slate import Slate
from headrace.streams.messages.schemas import ShadowList

log = logging.getLogger(__name__)

#: Makes a list for a ranked request from other scores, by these rules.
Remake = Callable[[Ranked, Choices, Rules], Slate]
_NAME: Final = "shadow"


def shadow_list(data: ServingData, ranked: Ranked, remake: Remake) -> ShadowList | None:
    """Return the list of one of the candidates beside the one that was shown; each has the same chance.

    None: there is no candidate, the list is not of the live ranker, it is not of the share, or the
    candidate's list failed. That has no random slots.
    """
    share = data.policy.shadow_share
    place = place_of(ranked.query.request.request_id, _NAME)
    if place >= share or ranked.variant == CANDIDATE or not ranked.ranker:
        return None
    candidate = data.models.rankers.shadowed(place / share)
    if candidate is None:
        return None
    try:
        return _beside(data, ranked, candidate, remake)
    except Exception:
        log.exception("the shadow of request %s failed", ranked.query.request.request_id)
        return None


def _beside(data: ServingData, ranked: Ranked, candidate: Ranker, remake: Remake) -> ShadowList:
    scores = candidate.predict(ranked.features)
    rules = replace(ranked.query.policy.rules, epsilon=0.0, thompson=0.0)
    other = remake(ranked, choices(data, ranked.query, ranked.pool, scores), rules).chosen
    shown = ranked.slate.chosen
    n = min(len(shown), len(other))
    return ShadowList(
        candidate.version, (shown[:n] == other[:n]).tolist(), ranked.score[other[:n]].round(9).tolist()
    )
