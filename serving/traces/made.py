"""The traces of a request: what each of its lists was made from. Call it when the reply is on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning.arms import place_of
from headrace.models.learning.hashed import Ids
from headrace.serving.answering import Answer, ids_of
from headrace.serving.explain import why
from headrace.serving.filters.same_title import comparable
from headrace.serving.index.quantised import coarse, of_coarse
from headrace.serving.pipeline.pipeline import Pipeline
from headrace.serving.ranking import Used
from headrace.serving.requests.page import parts_of
from headrace.serving.rerank.choices import Choices
from headrace.serving.traces.record import (
    Column,
    MovedTrace,
    OnlineTrace,
    PopularTrace,
    RankedTrace,
    Trace,
    packed,
)
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import RecItem, RecReply, RecRequest

I64 = npt.NDArray[np.int64]

#: Columns of ``Choices`` besides the scores.
CHOICES = tuple(column.name for column in fields(Choices) if column.name != "score")
_NAME = "trace"


def is_traced(request_id: str, share: float) -> bool:
    """Return whether a request is of the share that is traced: the hash of its id decides."""
    return share > 0 and place_of(request_id, _NAME) < share


def traces_of(
    pipeline: Pipeline,
    request: RecRequest,
    reply: RecReply,
    digest: bytes,
    answers: Sequence[Answer],
    ts: int,
    share: float,
) -> list[Trace]:
    """Return a trace for each list of a request.

    Parameters
    ----------
    reply
        The whole reply; ``digest`` is the SHA-256 of its bytes as they were sent.
    answers
        The lists.
    ts
        Time of the reply, ms.
    share
        Share of the requests that are traced.
    """
    return [
        Trace(
            request=part,
            whole=request.request_id,
            part=number,
            parts=len(answers),
            ts=ts,
            share=share,
            spec=SPEC.version,
            reply=answer.reply,
            took_ms=reply.took_ms,
            state=reply.state,
            digest=digest,
            why=_reasons(pipeline, answer),
            ranked=_ranked(pipeline, answer),
            popular=_popular(pipeline, answer),
        )
        for number, (part, answer) in enumerate(zip(parts_of(request), answers, strict=True))
    ]


def _reasons(pipeline: Pipeline, answer: Answer) -> dict[str, list[str]]:
    """Return why each item is on the list, as it is told to callers that ask."""
    ranked = answer.ranked
    if ranked is None:
        return {one.item_id: one.why for one in answer.reply.items if one.why is not None}
    slots = zip(answer.reply.items, ranked.slate.chosen.tolist(), ranked.slate.reasons, strict=True)
    return {
        one.item_id: why(pipeline, ranked.query, ranked.pool, place, reason) if one.why is None else one.why
        for one, place, reason in slots
    }


def _ids(
    id_of: Callable[[int], str], keys: Iterable[int], places: I64, shown: Sequence[RecItem]
) -> list[str]:
    """Return the ids of the candidates; those ``shown`` are at these places."""
    out = []
    for key in keys:
        try:
            out.append(id_of(key))
        except KeyError:  # withdrawn since the reply, or never in the catalogue
            out.append("")
    for place, one in zip(places.tolist(), shown, strict=True):
        out[place] = one.item_id
    return out


def _ranked(pipeline: Pipeline, answer: Answer) -> RankedTrace | None:
    ranked = answer.ranked
    if ranked is None:
        return None
    if ranked.every is None or ranked.ids is None or ranked.used is None:
        raise ValueError("a ranked list without what it was made from")
    query, pool, catalog, every = ranked.query, ranked.pool, pipeline.data.catalog, ranked.every
    keys = pool.candidates.items.tolist()
    ids = _ids(ids_of(pipeline, query), keys, ranked.slate.chosen, answer.reply.items)
    titles = [comparable(catalog.title_of(key, "")) for key in keys]
    return RankedTrace(
        now=query.now,
        keys=packed(pool.candidates.items),
        ids=ids,
        mask=packed(pool.mask),
        names=list(pool.names),
        filtered=list(pool.filtered),
        repeated=packed(pool.repeated),
        places=None if pool.places is None else packed(pool.places),
        titles=packed(np.array([hash64(title) if title else 0 for title in titles], np.uint64)),
        features=packed(ranked.features),
        scores=packed(ranked.score),
        scorer=ranked.scorer.name if ranked.scorer is not None else "",
        choices={name: packed(getattr(every, name)) for name in CHOICES}
        | {"vectors": _vectors(every.vectors)},
        rules=asdict(query.policy.rules),
        late=list(pipeline.late_filters),
        online=_online(ranked.used, ranked.ids),
        moved=_moved(ranked.used, ranked.ids),
    )


def _vectors(vectors: npt.NDArray[np.float32]) -> Column:
    short = coarse(vectors)
    return packed(short if np.array_equal(of_coarse(short), vectors) else vectors)


def _online(used: Used, ids: Ids) -> OnlineTrace | None:
    model = used.online
    if model is None:
        return None
    return OnlineTrace(
        packed(model.mean),
        packed(model.scale),
        packed(model.weights),
        model.bias,
        packed(_of_ids(model.terms, ids.terms())),
    )


def _moved(used: Used, ids: Ids) -> MovedTrace | None:
    moved = used.moved
    if moved is None:
        return None
    return MovedTrace(packed(moved.deltas), packed(_of_ids(moved.terms, ids.pair())))


def _of_ids(table: npt.NDArray[np.float32], slots: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    out: npt.NDArray[np.float32] = table[slots]
    return out


def _popular(pipeline: Pipeline, answer: Answer) -> PopularTrace | None:
    found = answer.popular
    if found is None:
        return None
    keys = found.keys.tolist()
    return PopularTrace(
        keys=packed(found.keys),
        ids=_ids(pipeline.data.catalog.id_of, keys, found.order, answer.reply.items),
        mask=packed(found.mask),
        names=list(found.names),
        clicks=packed(found.clicks),
        rank=packed(found.rank),
        wanted=found.wanted,
    )
