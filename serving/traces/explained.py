"""What each part did to a list, from filters to exploration; and what another ranker changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE_COLUMNS, ONLINE_NAMES, SPEC
from headrace.models.learning.online import CLIP
from headrace.serving.scorers.blend import ByBlend, parts_of, together_of
from headrace.serving.scorers.online import ByOnline
from headrace.serving.traces.record import RankedTrace, Trace
from headrace.serving.traces.replay import Again, Ranking
from headrace.streams.messages.schemas import RecItem, RecReply

F64 = npt.NDArray[np.float64]
Figures: TypeAlias = dict[str, Any]

#: So many features are told of a slot: those that moved its score most.
MOST_FEATURES = 8
_MOVED = "learnt since the training"


def differences(sent: RecReply, made: RecReply) -> list[str]:
    """Return in what a list that was made again differs from the one sent, one sentence each."""
    out = []
    if len(sent.items) != len(made.items):
        out.append(f"{len(made.items)} slots instead of {len(sent.items)}")
    for slot, (ours, theirs) in enumerate(zip(made.items, sent.items, strict=False), 1):
        for name in RecItem.__struct_fields__:
            a, b = getattr(ours, name), getattr(theirs, name)
            if a != b:
                out.append(f"slot {slot}: {name} is {a!r}, {b!r} was sent")
    return out


def explained(trace: Trace, found: Again) -> Figures:
    """Return what made a list, for people and programs."""
    reply, t = trace.reply, trace.ranked
    return {
        "request_id": trace.request.request_id,
        "user_id": trace.request.user_id,
        "surface": trace.request.surface,
        "ts": trace.ts,
        "model": None if reply.model is None else msgspec.to_builtins(reply.model),
        "degraded": reply.degraded,
        "scorer": t.scorer if t is not None else "",
        "candidates": t.scores.shape[0]
        if t is not None
        else len(trace.popular.ids if trace.popular is not None else ()),
        "filters": []
        if t is None
        else [dict(zip(("filter", "given", "kept"), f, strict=True)) for f in t.filtered],
        "rules": {} if t is None else t.rules,
        "differs": [*found.differs, *differences(reply, found.reply)],
        "taken_from_the_log": found.taken,
        "slots": _slots(trace, found),
    }


def _slots(trace: Trace, found: Again) -> list[Figures]:
    t, items = trace.ranked, found.reply.items
    features = [] if t is None else contributions(t, found)
    out = []
    for j, one in enumerate(items):
        told: Figures = {"slot": j + 1, **msgspec.to_builtins(one), "why": trace.why.get(one.item_id, [])}
        if t is not None:
            place = int(found.slate.chosen[j])
            told["by_score"] = place_by_score(found.score, place)
            told["put_there_by"] = found.slate.reasons[j]
            told["features"] = features[j]
        out.append(told)
    return out


def place_by_score(score: F64, place: int) -> int:
    """Return the place that a candidate would have by its score alone, from 1 on."""
    own = score[place]
    return int(np.count_nonzero(score > own) + np.count_nonzero(score[:place] == own)) + 1


def contributions(t: RankedTrace, found: Again) -> list[dict[str, float]]:
    """Return for each slot what moved its score most, the largest first; empty for scorers of their own.

    For a ranker: how far each feature moves the log-odds of a click (Lundberg et al., "From local
    explanations to global understanding with explainable AI for trees", 2020; computed by LightGBM). For the
    online model: its terms of the log-odds of a click, whatever else counts in its score.
    """
    x = found.features[found.slate.chosen]
    if not len(x):
        return []
    names: Sequence[str]
    if found.by is not None:
        names, values = (*SPEC.names, _MOVED), _of_ranker(found, found.by)
    elif t.scorer == ByOnline.name and t.online is not None:
        of = t.online
        scaled = np.clip((x[:, ONLINE_COLUMNS] - of.mean) / of.scale, -CLIP, CLIP) * of.weights
        places = found.slate.chosen if t.kept is None else np.searchsorted(t.kept, found.slate.chosen)
        learnt = of.terms[places].sum(1)
        names, values = (*ONLINE_NAMES, "user, item, country, device"), np.column_stack([scaled, learnt])
    elif t.scorer == ByBlend.name:
        total = together_of(found.features) if t.together is None else t.together
        names, values = parts_of(x, total)
    else:
        return [{} for _ in x]
    return [_largest(names, row) for row in values]


def _of_ranker(found: Again, by: Ranking) -> F64:
    places = found.slate.chosen
    x = found.features[places]
    each: F64 = by.ranker.boosters[0].predict(x, pred_contrib=True, num_threads=1, validate_features=False)
    learnt, trees = np.zeros(len(x)), by.ranker.trees
    if by.moved is not None and trees is not None:
        learnt = by.moved.sums(x, by.ids.of_items(places)) - trees.sums(x, trees.values)
    return np.column_stack([each[:, :-1], learnt])


def _largest(names: Sequence[str], values: F64) -> dict[str, float]:
    order = np.argsort(-np.abs(values), kind="stable")[:MOST_FEATURES]
    return {names[i]: round(float(values[i]), 4) for i in order.tolist() if values[i]}


def instead(trace: Trace, was: Again, other: Again, version: str) -> Figures:
    """Return what another ranker would have changed."""
    before = {one.item_id: slot for slot, one in enumerate(was.reply.items, 1)}
    after = [one.item_id for one in other.reply.items]
    slots = []
    for j, one in enumerate(other.reply.items):
        place = int(other.slate.chosen[j])
        slots.append(
            {
                "slot": j + 1,
                "item_id": one.item_id,
                "was": before.get(one.item_id),
                "score": one.score,
                "score_was": round(float(was.score[place]), 6),
                "by_score": place_by_score(other.score, place),
                "by_score_was": place_by_score(was.score, place),
            }
        )
    gone = [item for item in before if item not in after]
    same = sum(slot["slot"] == slot["was"] for slot in slots)
    compared = int(np.isfinite(other.score).sum())
    return {
        "model": version,
        "compared": compared,
        "same_slots": same,
        "slots": slots,
        "not_shown_any_more": gone,
    }
