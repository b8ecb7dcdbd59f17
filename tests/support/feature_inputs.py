"""Candidates, a request and a user: inputs of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from strategies import GAP_MS, T0, Act, columns, unit_vectors

from headrace.models.embeddings import DIM
from headrace.models.features.inputs import Candidates, RequestContext
from headrace.models.features.spec import SPEC
from headrace.models.state import items as item_state
from headrace.models.state.items import ItemState
from headrace.models.state.shown import ShownState
from headrace.models.state.users import UserState, new_table
from headrace.streams.settings import HOUR_MS, MINUTE_MS


def candidates(n: int, stats: ItemState | None = None, **changes: Any) -> Candidates:
    items = np.arange(1, n + 1, dtype=np.uint64)
    rows = np.full(n, item_state.BLANK, item_state.ROW)
    if stats is not None:
        rows = stats.rows_of(items)
    zeros = np.zeros(n, np.float32)
    fields: dict[str, Any] = {
        "items": items,
        "stats": rows,
        "category": items % np.uint64(5),
        "creator": items % np.uint64(7),
        "published": np.full(n, T0 - HOUR_MS, np.int64),
        "vectors": unit_vectors(n, 3),
        "country_clicks": zeros,
        "next_score": zeros,
        "next_share": zeros,
        "next_share_2": zeros,
        "together": zeros,
        **changes,
    }
    return Candidates(**fields)


def context(**changes: Any) -> RequestContext:
    fields: dict[str, Any] = {
        "now": T0,
        "country": 0,
        "device": "",
        "surface": "home",
        "user_vector": np.zeros(DIM, np.float32),
        "last_vector": np.zeros(DIM, np.float32),
        **changes,
    }
    return RequestContext(**fields)


def user_of(*story: Act) -> Any:
    state = UserState(new_table(), GAP_MS)
    state.apply(columns(story))
    return state.table.data[state.table.row(1)][None]


def shown_of(*lists: list[int], first: int = T0 - 60 * MINUTE_MS) -> Any:
    """Return the row of a user who was shown these lists, a minute from one to the next."""
    state = ShownState()
    for number, items in enumerate(lists):
        state.apply(
            np.array([1], np.uint64),
            np.array([len(items)]),
            np.array(items, np.uint64),
            np.array([first + number * MINUTE_MS]),
            np.array([number]),
        )
    return state.table.data[state.table.row(1)][None]


def of(matrix: Any, name: str) -> list[float]:
    return matrix[:, SPEC.index(name)].tolist()  # type: ignore[no-any-return]
