"""Makes a list again from its trace, by the code that made it; by another ranker, too.

What follows from what: features and the numbers of the online model give its scores; features, ranker and
moved leaves give the scores; scores, rules and the columns of the candidates give the list. It has the same
draws, because the request id is their seed. Each step is compared with what was logged of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import ONLINE, SPEC
from headrace.models.learning.hashed import SLOTS, Ids
from headrace.models.learning.leaves import LeafDeltas, MovedRanker
from headrace.models.learning.objectives import CLICK
from headrace.models.learning.online import Head, OnlineWeights
from headrace.models.learning.ranker import Ranker
from headrace.serving.answering import items_of
from headrace.serving.filters.same_title import SameTitle, first_of_title
from headrace.serving.index.quantised import of_coarse
from headrace.serving.pipeline.pipeline import named
from headrace.serving.popular import Popular
from headrace.serving.requests.page import page_of
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.slate import Slate
from headrace.serving.scorers.blend import ByBlend, blend
from headrace.serving.scorers.online import ByOnline
from headrace.serving.scorers.ranker import ByRanker
from headrace.serving.slates import Asked, filled
from headrace.serving.traces.made import CHOICES
from headrace.serving.traces.record import OnlineTrace, RankedTrace, Trace
from headrace.streams.errors import TraceError
from headrace.streams.messages.schemas import RecItem, RecReply

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_LAST_BITS = "scores of the online model: on this machine, they differ in their last bits"
_SAME_TITLE = f"{SameTitle.kind}:{SameTitle.name}"


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranker of a list, with its moved leaves."""

    ranker: Ranker
    moved: MovedRanker | None
    ids: Ids

    def scores(self, x: F32) -> F64:
        """Return the scores of all candidates, float64 ``(n,)``."""
        return self.ranker.predict(x) if self.moved is None else self.moved.predict(x, self.ids)

    def objectives(self, x: F32, places: npt.NDArray[np.int64]) -> dict[str, F64]:
        """Return what each objective foresees of some candidates; empty where it is clicks only."""
        if [one.name for one in self.ranker.objectives] == [CLICK]:
            return {}
        if self.moved is None:
            return self.ranker.by_objective(x[places])
        return self.moved.by_objective(x[places], self.ids.of_items(places))


@dataclass(slots=True)
class Again:
    """A list that was made again.

    Attributes
    ----------
    reply
        The list.
    score, slate, features
        Of a ranked list: scores of all candidates, the list as places among them, and their features. Those
        that are not kept have the logged score, under another ranker -inf; and features of zeros.
    differs
        What does not follow from what was logged, one sentence each.
    taken
        What was taken from the log because it cannot be computed here, one sentence each.
    by
        The ranker whose scores they are, None when it is no ranker's.
    foreseen
        By objective, float64 ``(n,)``, when the online model has made the list alone.
    """

    reply: RecReply
    score: F64 = field(default_factory=lambda: np.zeros(0))
    slate: Slate = field(default_factory=lambda: Slate.empty(0))
    features: F32 = field(default_factory=lambda: np.zeros((0, len(SPEC)), np.float32))
    differs: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    by: Ranking | None = None
    foreseen: dict[str, F64] = field(default_factory=dict)


def again(trace: Trace, ranker: Ranker | None, *, instead: bool = False) -> Again:
    """Return the list of a trace, made again.

    Parameters
    ----------
    ranker
        That of the list, None when there is none any more; or with ``instead``, another one to rank by.

    Raises
    ------
    TraceError
        The trace is of other features or rules than those of this code, or its columns do not fit together.
    """
    try:
        if trace.ranked is not None:
            return _ranked(trace, trace.ranked, ranker, instead=instead)
        return _popular(trace)
    except (ValueError, IndexError, KeyError) as exc:
        raise TraceError(f"the parts of the trace of {trace.request.request_id} do not fit: {exc}") from exc


def whole(traces: Sequence[Trace], lists: Sequence[Again]) -> tuple[bytes, bool]:
    """Return the bytes of the reply to a request, from all its lists; and whether they are those sent."""
    first, replies = traces[0], [one.reply for one in lists]
    reply = page_of(first.whole, replies) if first.request.request_id != first.whole else replies[0]
    body = msgspec.json.encode(msgspec.structs.replace(reply, took_ms=first.took_ms, state=first.state))
    return body, all(hashlib.sha256(body).digest() == trace.digest for trace in traces)


# -- a ranked list


def _ranked(trace: Trace, t: RankedTrace, ranker: Ranker | None, *, instead: bool) -> Again:
    if trace.spec != SPEC.version:
        raise TraceError(
            f"the trace has the features {trace.spec}, this version of Headrace has {SPEC.version}"
        )
    keys, logged = t.keys, t.scores
    kept = np.arange(len(logged)) if t.kept is None else t.kept
    x, all_keys = _of_all(kept, t.features, len(logged)), _of_all(kept, keys, len(logged))
    if len(kept) != len(t.ids) or x.shape[1:] != (len(SPEC),):
        raise ValueError("the columns have different lengths")
    told = trace.request.context
    ids = Ids.of_request(trace.request.user_id, told.country, told.device, all_keys)
    out = Again(trace.reply, features=x)
    _check_online(out, t, x, ids, kept)
    scorer = _scorer_of(trace, t, ranker, ids.of_items(kept), instead=instead)
    by = ByRanker.name if instead else t.scorer
    if by == ByOnline.name and t.online is not None and t.online.shares:
        found = _alone(out, t.online, x, ids, kept, logged[kept])
    else:
        found = _scores(out, trace, t, by, x[kept], scorer, logged[kept])
    if not instead and (n := int(np.count_nonzero(found != logged[kept]))):
        out.differs.append(f"scores: those of {n} of {len(kept)} candidates are not the logged ones")
    out.score = np.full(len(logged), -np.inf) if instead else logged.copy()
    out.score[kept] = found
    out.slate = _slate(trace, t, out, kept if instead else np.arange(len(logged)), all_keys)
    out.taken += [
        f"late:{name} is a part of its own, and is left out" for name in t.late if name != SameTitle.name
    ]
    if instead and len(kept) < len(logged):
        out.taken.append(f"candidates: the trace has the features of {len(kept)} of {len(logged)}")
    out.by = None if by != ByRanker.name or scorer is None else replace(scorer, ids=ids)
    chosen = out.slate.chosen
    objectives = {name: each[chosen] for name, each in out.foreseen.items()}
    if out.by is not None:
        objectives = out.by.objectives(x, chosen)
    out.reply = msgspec.structs.replace(trace.reply, items=_items(trace, t, out, kept, objectives))
    return out


def _of_all(kept: I64, column: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """Return a column of those kept as one of all candidates, zeros elsewhere."""
    if len(column) != len(kept):
        raise ValueError("the columns have different lengths")
    out = np.zeros((n, *column.shape[1:]), column.dtype)
    out[kept] = column
    return out


def _slate(trace: Trace, t: RankedTrace, out: Again, among: I64, keys: U64) -> Slate:
    """Return the list of the candidates at the places ``among``."""
    kept = np.arange(len(keys)) if t.kept is None else t.kept
    untitled = np.zeros(len(keys), np.uint64)  # a trace may be older than the column of titles
    given: dict[str, Any] = {"title": untitled} | t.choices
    columns = {name: given[name] for name in CHOICES}
    if columns["vectors"].dtype == np.int8:
        columns["vectors"] = of_coarse(columns["vectors"])
    columns["vectors"] = _of_all(kept, columns["vectors"], len(keys))
    every = Choices(score=out.score, **columns)
    if any(len(column) != len(keys) for column in columns.values()):
        raise ValueError("the columns have different lengths")
    at = np.full(len(keys), -1)
    at[among] = np.arange(len(among))
    repeated = at[t.repeated]
    places = None if t.places is None else t.places[among]
    asked = Asked(trace.request.request_id, trace.request.n, keys[among], repeated[repeated >= 0], places)
    late = _late(trace, t, t.keys)
    slate = filled(asked, every.take(among), _rules(t.rules), late)
    slate.chosen, slate.tried = among[slate.chosen], among[slate.tried]
    return slate


def _check_online(out: Again, t: RankedTrace, x: F32, ids: Ids, kept: I64) -> None:
    """Compare the score of the online model with the logged one, which is a feature."""
    if t.online is None or not x[:, ONLINE].any():  # else it was not asked: what it gives is never 0
        return
    # Of all candidates: sums of float32 depend on how many rows there are.
    found = _online(t.online, ids.of_items(kept)).predict(x, ids)[kept]
    logged = x[kept, ONLINE]
    if np.array_equal(found, logged):
        return
    far = _far(found, logged)
    if far:
        out.differs.append(
            f"features or online model: {far} of {len(kept)} candidates get another score from it"
        )
    else:
        out.taken.append(_LAST_BITS)


def _far(found: Any, logged: Any) -> int:
    """Return how many numbers differ by more than their last bits.

    Another processor adds float32 numbers up in another order.
    """
    return int(np.count_nonzero(~np.isclose(found, logged, rtol=1e-5, atol=1e-7)))


def _online(told: OnlineTrace, ids: Ids) -> OnlineWeights:
    """Return the online model of a trace, as far as it is known; ``ids`` are of those kept."""
    slots, ones = ids.terms(), np.ones(len(told.weights) + 1, np.float32)
    heads = {
        name: Head(head.weights, head.bias, _table(slots, head.terms), ones)
        for name, head in told.heads.items()
    }
    return OnlineWeights(
        *(told.mean, told.scale, told.weights, told.bias),
        terms=_table(slots, told.terms),
        heads=heads,
        shares=told.shares,
    )


def _alone(out: Again, told: OnlineTrace, x: F32, ids: Ids, kept: I64, logged: F64) -> F64:
    """Return the scores of those kept by the online model alone; its clicks are the logged feature."""
    model = _online(told, ids.of_items(kept))
    out.foreseen = model.by_objective(model.foreseen(x, ids) | {CLICK: x[:, ONLINE]})
    found = model.together(out.foreseen)[kept]
    if np.array_equal(found, logged) or _far(found, logged):
        return found
    out.taken.append(_LAST_BITS)
    return logged


def _scorer_of(
    trace: Trace, t: RankedTrace, ranker: Ranker | None, ids: Ids, *, instead: bool
) -> Ranking | None:
    if ranker is None:
        return None
    own = trace.reply.model is not None and trace.reply.model.ranker == ranker.version
    if t.moved is None or not own or (instead and t.scorer != ByRanker.name):
        return Ranking(ranker, None, ids)
    deltas, trees = t.moved.deltas, ranker.trees
    if trees is None or len(trees.leaves) != len(deltas):
        raise ValueError("the moved leaves are not those of the ranker")
    terms = _table(ids.pair(), t.moved.terms)
    found = LeafDeltas(ranker.version, deltas, np.ones_like(deltas), used=True, terms=terms)
    return Ranking(ranker, MovedRanker(ranker, trees, found), ids)


def _scores(
    out: Again, trace: Trace, t: RankedTrace, by: str, x: F32, scorer: Ranking | None, logged: F64
) -> F64:
    if by == ByRanker.name and scorer is not None:
        return scorer.scores(x)
    if by == ByOnline.name:
        return x[:, ONLINE].astype(np.float64)
    if by == ByBlend.name:
        return blend(x, t.together)
    if not by:
        return np.zeros(len(x))
    version = trace.reply.model.ranker if trace.reply.model is not None else ""
    what = (
        f"ranker {version} is not kept any more"
        if by == ByRanker.name
        else f"scorer:{by} is a part of its own"
    )
    out.taken.append(f"scores: {what}")
    return logged


def _table(slots: U32, weights: F32) -> F32:
    """Return a table of hashed terms that has these weights at these slots."""
    out = np.zeros(SLOTS, np.float32)
    out[slots] = weights
    return out


def _rules(told: Mapping[str, object]) -> Rules:
    try:
        return Rules(**told)  # type: ignore[arg-type]
    except TypeError as exc:
        raise TraceError(f"the trace has other rules than this version of Headrace: {exc}") from exc


def _late(trace: Trace, t: RankedTrace, keys: U64) -> _Late:
    on = SameTitle.name in t.late and _SAME_TITLE not in trace.reply.degraded
    return _Late(keys, t.titles if on else None)


@dataclass(frozen=True, slots=True)
class _Late:
    """The late filter of titles, on the logged ones; None: it was left out."""

    keys: U64
    titles: U64 | None

    def __call__(self, items: U64) -> tuple[Mask, Mask]:
        must = np.ones(len(items), bool)
        if self.titles is None:
            return must, must
        return must, first_of_title(self.titles[np.searchsorted(self.keys, items)].tolist())


def _items(
    trace: Trace, t: RankedTrace, out: Again, kept: I64, objectives: Mapping[str, F64]
) -> list[RecItem]:
    names, explain = tuple(t.names), trace.request.explain
    ids = dict(zip(kept.tolist(), t.ids, strict=True))
    mask = dict(zip(kept.tolist(), t.mask.tolist(), strict=True))

    def told(place: int, _: str) -> list[str] | None:
        return trace.why.get(ids[place], []) if explain else None

    shown = out.slate.chosen.tolist()
    sources = [named(mask[place], names) for place in shown]
    return items_of(out.slate, out.score, objectives, [ids[place] for place in shown], sources, told)


# -- a popular list


def _popular(trace: Trace) -> Again:
    t = trace.popular
    if t is None:
        return Again(trace.reply, taken=["the list: it is empty"])
    found = Popular(t.keys, t.mask, t.clicks, t.rank, t.wanted, tuple(t.names))
    ids = dict(zip(found.keys.tolist(), t.ids, strict=True))
    explain = trace.request.explain

    def told(place: int) -> list[str] | None:
        return trace.why.get(t.ids[place], []) if explain else None

    items = found.items(ids.__getitem__, told)
    return Again(msgspec.structs.replace(trace.reply, items=items))
