"""The list of a request from its scored candidates: re-ranked, and filled again after the late filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.pipeline import Pipeline, Pool
from headrace.serving.pipeline.query import Query
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.choose import choose
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.slate import Slate
from headrace.streams.messages.ids import hash64

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Late: TypeAlias = Callable[[U64], tuple[Mask, Mask]]

#: A list is made again at most this often because a late filter removed items from it.
_REFILLS = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list is made of, besides what the rules read of the candidates.

    Attributes
    ----------
    request_id
        The same request gets the same list.
    n
        Number of slots.
    keys
        The candidates, uint64 ``(m,)``.
    repeated, places
        As in ``Pool``.
    """

    request_id: str
    n: int
    keys: U64
    repeated: I64
    places: I64 | None


def slate_of(
    pipeline: Pipeline, query: Query, pool: Pool, every: Choices, rules: Rules | None = None
) -> Slate:
    """Return the list of a request.

    Parameters
    ----------
    every
        What the rules read of all candidates.
    rules
        The rules; None: those of the request's policy.
    """
    request = query.request
    asked = Asked(request.request_id, request.n, pool.candidates.items, pool.repeated, pool.places)
    return filled(asked, every, rules or query.policy.rules, partial(pipeline.late, query))


def filled(asked: Asked, every: Choices, rules: Rules, late: Late) -> Slate:
    """Return the list; the places of items that a late filter removes are filled again.

    ``late`` says which items of a list must go, and which should; see ``Pipeline.late``.
    """
    slate = _list(asked, every, None, rules)
    must, should = late(asked.keys[slate.chosen])
    if (must & should).all():
        return slate
    out, tried = np.zeros(len(every), bool), np.zeros(len(every), bool)
    for _ in range(_REFILLS):
        out[slate.chosen[~must]] = True
        spare = max(0, int(np.count_nonzero(~out)) - asked.n)
        put_off = slate.chosen[must & ~should][:spare]  # only as many as can be replaced
        out[put_off] = True
        if must.all() and not len(put_off):
            break
        tried[slate.chosen] = True
        slate = _list(asked, every, np.flatnonzero(~out), rules)
        must, should = late(asked.keys[slate.chosen])
    else:
        tried[slate.chosen] = True
        slate = slate.where(must)
    slate.tried = np.flatnonzero(tried)
    return slate


def _list(asked: Asked, every: Choices, places: I64 | None, rules: Rules) -> Slate:
    """Return the list of the candidates at ``places`` (None: all): the best first, then what rested.

    Of candidates with the same score, the one that the caller gave first comes first.
    """
    # The same request gets the same list.
    rng = np.random.default_rng(hash64(asked.request_id))
    last = asked.repeated
    if places is None:
        if not len(last) and asked.places is None:
            return choose(every, asked.n, rules, rng)
        places = np.arange(len(every))
    last = last[np.isin(last, places)]
    fresh = places[~np.isin(places, last)]
    if asked.places is not None:
        fresh = fresh[np.argsort(asked.places[fresh])]
    slate = choose(every.take(fresh), asked.n, rules, rng)
    return slate.followed_by(last[: asked.n - len(slate.chosen)], fresh)
