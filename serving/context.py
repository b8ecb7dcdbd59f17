"""Reads the request and the user's row before the search for candidates. Pure: state and time passed in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM, category_vector, unit
from headrace.models.features.history import History, evidence
from headrace.models.features.inputs import RequestContext
from headrace.models.state import users as user_state
from headrace.serving.catalog import Catalog
from headrace.serving.vectors.clicked_sums import clicked_sums
from headrace.serving.vectors.users import by_towers
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import RecRequest

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]
#: The user's row, ``user_state.ROW`` ``(1,)``.
UserRow = npt.NDArray[Any]
#: What the user was shown, ``shown.ROW`` ``(1,)``.
ShownRow = npt.NDArray[Any]

#: Largest number of items whose neighbour rows one request reads.
ANCHORS = 10
#: A new session starts from this many clicks of the last one.
_FROM_LAST_SESSION = 3
#: Weight of each anchor's vector, relative to the one before it.
_VECTOR_FADE = 0.8
#: Of two vectors closer than this (inner product), only one is used for the search.
_SAME = 0.99


def anchors_for(request: RecRequest, user: UserRow | None, now: int, session_gap_ms: int) -> list[int]:
    """Return the items whose neighbour rows this request needs, newest first.

    These are the item a list is asked for, then the clicks of the user's session.
    """
    items: list[int] = [hash64(request.item_id)] if request.item_id else []
    if user is not None and request.surface != "related":
        recent, times = user_state.recent_items(user[0])
        session = int(user[0]["session_len"])
        if times and now - times[0] > session_gap_ms:
            session = _FROM_LAST_SESSION
        items += recent[: max(1, session)]
    return list(dict.fromkeys(items))[:ANCHORS]


def place_and_age(request: RecRequest, user: UserRow | None) -> tuple[int, int]:
    """Return the country asked from, else the user's (0: unknown), and an age (-1: unknown).

    The age is that of the profile, else that of the request: no caller makes a child older.
    """
    country, age = hash64(request.context.country), request.context.age
    told = -1 if age is None else age
    if user is None:
        return country, told
    known = int(user[0]["age"])
    return country or int(user_state.country_of(user)[0]), known if known >= 0 else told


def request_context(
    catalog: Catalog,
    request: RecRequest,
    user: UserRow | None,
    anchors: list[int],
    place: tuple[int, int],
    now: int,
    shown: ShownRow | None = None,
) -> tuple[RequestContext, list[F32]]:
    """Return the inputs of the features from the request, and the vectors to search around.

    ``anchors`` come from ``anchors_for``, ``place`` from ``place_and_age``.
    """
    country, age = place
    past, weights = evidence(user, shown)
    n, keys = len(anchors), np.concatenate([np.array(anchors, np.uint64), past])
    rows = catalog.find(keys)
    items = catalog.items(rows)
    if catalog.vectors.version:
        user_vector, last_vector, around = by_towers(
            catalog, user, anchors, country, hash64(request.context.device)
        )
    else:
        end = n if user is None else n + min(int(user["n_clicks"][0]), user_state.RECENT)
        user_vector, last_vector = _by_content(catalog, user, keys[:end], rows[:end], n)
        around = interests(user_vector, last_vector)
    context = RequestContext(
        now=now,
        country=country,
        device=request.context.device,
        surface=request.surface,
        user_vector=user_vector,
        last_vector=last_vector,
        last_category=int(items["category"][0]) if n else 0,
        last_creator=int(items["creator"][0]) if n else 0,
        age=age,
        language=0 if user is None else int(user["language"][0]),
        history=_history(items["category"][n:], rows[n:] >= 0, weights) if len(past) else None,
        shown=shown,
    )
    return context, around


def _history(category: U64, known: npt.NDArray[np.bool_], weights: F32) -> History:
    """Return the items of the user's past that the catalogue knows."""
    return History(category.copy(), weights) if known.all() else History(category[known], weights[:, known])


def _by_content(
    catalog: Catalog, user: UserRow | None, keys: U64, rows: npt.NDArray[np.int64], anchors: int
) -> tuple[F32, F32]:
    """Return the user's vector and the last click's, by version 0 of the towers.

    ``keys`` and ``rows`` are those of the anchors, then of the user's clicks, ``(n,)``.
    """
    vectors = catalog.vectors_at(rows, keys)
    out, last, clicks = clicked_sums(vectors, rows, anchors, _weights(anchors))
    if user is not None and not clicks:
        out += _taste_vector(catalog, user)
    return unit(out), vectors[last] if last >= 0 else np.zeros(DIM, np.float32)


@lru_cache(maxsize=64)
def _weights(count: int) -> F32:
    """Return the weights of so many vectors, float32 ``(count,)``; to be read only."""
    return np.array([_VECTOR_FADE**k for k in range(count)], np.float32)


def _taste_vector(catalog: Catalog, user: UserRow) -> F32:
    """Return the vector of the user's preferred categories, float32 ``(DIM,)``."""
    names = [catalog.name_of(int(k)) for k in user[0]["preferred"] if k]
    return category_vector([n for n in names if n])


def interests(user_vector: F32, last_vector: F32) -> list[F32]:
    """Return the vectors to search around: the user's, and the last click's where it differs."""
    out = [v for v in (user_vector, last_vector) if v.any()]
    if len(out) == 2 and float(out[0] @ out[1]) > _SAME:
        return out[:1]
    return out
