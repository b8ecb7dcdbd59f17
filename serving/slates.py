"""The list of a request from its scored candidates: re-ranked, and filled again after the late filters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.pipeline.pipeline import Pipeline, Pool
from headrace.serving.pipeline.query import Query
from headrace.serving.rerank.choices import Choices
from headrace.serving.rerank.choose import choose
from headrace.serving.rerank.rules import Rules
from headrace.serving.rerank.slate import Slate
from headrace.streams.messages.ids import hash64

#: A list is made again at most this often because a late filter removed items from it.
_REFILLS = 8


def slate_of(
    pipeline: Pipeline, query: Query, pool: Pool, every: Choices, rules: Rules | None = None
) -> Slate:
    """Return the list; the places of items that a late filter removes are filled again.

    Parameters
    ----------
    every
        What the rules read of all candidates.
    rules
        The rules; None: those of the request's policy.
    """
    n, out, rules = query.request.n, np.zeros(len(every), bool), rules or query.policy.rules
    for _ in range(_REFILLS):
        slate = _list(query, pool, every, np.flatnonzero(~out), rules)
        must, should = pipeline.late(query, pool.candidates.items[slate.chosen])
        out[slate.chosen[~must]] = True
        spare = max(0, int(np.count_nonzero(~out)) - n)
        put_off = slate.chosen[must & ~should][:spare]  # only as many as can be replaced
        out[put_off] = True
        if must.all() and not len(put_off):
            return slate
    slate = _list(query, pool, every, np.flatnonzero(~out), rules)
    must, _ = pipeline.late(query, pool.candidates.items[slate.chosen])
    return slate.where(must)


def _list(query: Query, pool: Pool, every: Choices, places: npt.NDArray[np.int64], rules: Rules) -> Slate:
    """Return the list of the candidates at ``places``: the best first, then what rested.

    Of candidates with the same score, the one that the caller gave first comes first.
    """
    last = pool.repeated[np.isin(pool.repeated, places)] if len(pool.repeated) else pool.repeated
    fresh = places if not len(last) else places[~np.isin(places, last)]
    if pool.places is not None:
        fresh = fresh[np.argsort(pool.places[fresh])]
    # The same request gets the same list.
    rng = np.random.default_rng(hash64(query.request.request_id))
    whole = len(fresh) == len(every) and pool.places is None
    slate = choose(every if whole else every.take(fresh), query.request.n, rules, rng)
    return slate.followed_by(last[: query.request.n - len(slate.chosen)], fresh)
