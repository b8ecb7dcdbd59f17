"""The traces of a request: what each of its lists was made from. Call it when the reply is on its way.

Arrays are copied: those of models, rows and catalogue may be others when a trace is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.features.spec import SPEC
from headrace.models.learning.arms import place_of
from headrace.models.learning.hashed import Ids
from headrace.serving.answering import Answer, ids_of
from headrace.serving.explain import why
from headrace.serving.index.quantised import coarse, of_coarse
from headrace.serving.pipeline.pipeline import Pipeline
from headrace.serving.ranking import Ranked, Used
from headrace.serving.requests.page import parts_of
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.choose import by_score, compared
from headrace.serving.rerank.rules import Rules
from headrace.serving.scorers.blend import together_of
from headrace.serving.scorers.online import ByOnline
from headrace.serving.titles import comparable
from headrace.serving.traces.record import (
    Array,
    HeadTrace,
    MovedTrace,
    OnlineTrace,
    PopularTrace,
    RankedTrace,
    Trace,
)
from headrace.streams.messages.schemas import RecReply, RecRequest

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

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
    most: int,
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
    most
        Of the candidates, features of so many of the best are kept; and of those that the making of the list
        looked at closely.
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
            ranked=_ranked(pipeline, answer, most),
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


def _ids(id_of: Callable[[int], str], keys: Iterable[int], shown: Mapping[int, str]) -> list[str]:
    """Return the ids of candidates; those ``shown`` are known by key."""
    out = []
    for key in keys:
        try:
            out.append(shown.get(key) or id_of(key))
        except KeyError:  # withdrawn since the reply, or never in the catalogue
            out.append("")
    return out


def _shown(keys: U64, answer: Answer) -> dict[int, str]:
    """Return the ids of a list by key."""
    return dict(zip(keys.tolist(), (one.item_id for one in answer.reply.items), strict=True))


def _kept(ranked: Ranked, every: Choices, most: int) -> I64 | None:
    """Return the places of the candidates that are kept, None for all.

    Those that were compared for the list, and those that were on it, must be: whatever was left out meanwhile
    (what repeats, what late filters removed), they are among so many more of the best. Of items that the
    caller gave, whose order counts, all are.
    """
    if most >= len(every) or ranked.pool.places is not None:
        return None
    slate, repeated = ranked.slate, ranked.pool.repeated
    _, order = by_score(every, ranked.query.policy.rules)
    looked_at = compared(len(every), ranked.query.request.n) + len(repeated) + len(slate.tried)
    return np.unique(np.concatenate([order[: max(most, looked_at)], slate.chosen, slate.tried]))


def titles_of(pipeline: Pipeline, ranked: Ranked) -> list[str]:
    """Return the comparable titles of all candidates, as they are now."""
    title_of = pipeline.data.catalog.title_of
    return [comparable(title_of(key, "")) for key in ranked.pool.candidates.items.tolist()]


def _numbered(values: U64) -> U64:
    """Return a number for each value, the same for the same one; 0 stays 0."""
    known, numbers = np.unique(values, return_inverse=True)
    return (numbers + int(len(known) > 0 and known[0] != 0)).astype(np.uint64)


def _ranked(pipeline: Pipeline, answer: Answer, most: int) -> RankedTrace | None:
    ranked = answer.ranked
    if ranked is None:
        return None
    if ranked.every is None or ranked.ids is None or ranked.used is None:
        raise ValueError("a ranked list without what it was made from")
    query, pool, every = ranked.query, ranked.pool, ranked.every
    kept = _kept(ranked, every, most)
    near: I64 | slice = slice(None) if kept is None else kept
    keys = pool.candidates.items[near]
    shown = _shown(pool.candidates.items[ranked.slate.chosen], answer)
    every_title = titles_of(pipeline, ranked) if ranked.titles is None else ranked.titles
    titles = every_title if kept is None else [every_title[place] for place in kept.tolist()]
    numbers = {"": 0} | {title: number for number, title in enumerate(titles, 1) if title}
    columns = {name: getattr(every, name) for name in CHOICES}
    columns |= {name: _numbered(columns[name]) for name in ("creator", "category", "title")}
    ids = ranked.ids if kept is None else ranked.ids.of_items(kept)
    return RankedTrace(
        now=query.now,
        kept=None if kept is None else np.array(kept),
        keys=np.array(keys),
        ids=_ids(ids_of(pipeline, query), keys.tolist(), shown),
        mask=np.array(pool.mask[near]),
        names=list(pool.names),
        filtered=list(pool.filtered),
        repeated=np.array(pool.repeated),
        places=None if pool.places is None else np.array(pool.places),
        titles=np.array([numbers[title] for title in titles], np.uint64),
        features=np.array(ranked.features[near]),
        scores=np.array(ranked.score),
        scorer=ranked.scorer.name if ranked.scorer is not None else "",
        choices={name: np.array(column) for name, column in columns.items()}
        | {"vectors": _vectors(every.vectors[near])},
        rules=dict(_told(query.policy.rules)),
        late=list(pipeline.late_filters),
        online=_online(ranked, ranked.used, ids),
        moved=_moved(ranked.used, ids),
        together=together_of(ranked.features),
    )


@lru_cache(maxsize=64)
def _told(rules: Rules) -> dict[str, Any]:
    """Return the numbers of the re-rank stage: they are the same for most lists, and copied one by one."""
    return asdict(rules)


def _vectors(vectors: npt.NDArray[np.float32]) -> Array:
    short = coarse(vectors)
    return np.array(short if np.array_equal(of_coarse(short), vectors) else vectors)


def _online(ranked: Ranked, used: Used, ids: Ids) -> OnlineTrace | None:
    model = used.online
    if model is None:
        return None
    alone, slots = ranked.scorer is not None and ranked.scorer.name == ByOnline.name, ids.terms()
    heads = {
        name: HeadTrace(np.array(head.weights), head.bias, np.array(_of_ids(head.terms, slots)))
        for name, head in model.heads.items()
        if alone and name in model.shares
    }
    return OnlineTrace(
        np.array(model.mean),
        np.array(model.scale),
        np.array(model.weights),
        model.bias,
        np.array(_of_ids(model.terms, slots)),
        heads,
        dict(model.shares) if alone else {},
    )


def _moved(used: Used, ids: Ids) -> MovedTrace | None:
    moved = used.moved
    if moved is None:
        return None
    return MovedTrace(np.array(moved.deltas), np.array(_of_ids(moved.terms, ids.pair())))


def _of_ids(table: npt.NDArray[np.float32], slots: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    out: npt.NDArray[np.float32] = table[slots]
    return out


def _popular(pipeline: Pipeline, answer: Answer) -> PopularTrace | None:
    found = answer.popular
    if found is None:
        return None
    keys = found.keys.tolist()
    return PopularTrace(
        keys=np.array(found.keys),
        ids=_ids(pipeline.data.catalog.id_of, keys, _shown(found.keys[found.order], answer)),
        mask=np.array(found.mask),
        names=list(found.names),
        clicks=np.array(found.clicks),
        rank=np.array(found.rank),
        wanted=found.wanted,
    )
