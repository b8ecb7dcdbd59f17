"""Stories of users, applied to their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from strategies import GAP_MS, T0, Act, columns, pieces

from headrace.models.state.users import (
    Applied,
    UserState,
    new_table,
    recent_items,
)
from headrace.streams.settings import MINUTE_MS


def apply(story: Sequence[Act], where: Sequence[int] = ()) -> tuple[UserState, list[Applied]]:
    state = UserState(new_table(), GAP_MS)
    parts = pieces(len(story), where)
    return state, [state.apply(columns(story[p], range(p.start, p.stop))) for p in parts]


def rows_of(state: UserState) -> dict[int, bytes]:
    return dict(zip(state.table.keys().tolist(), state.table.pack(state.table.rows()), strict=True))


def row(state: UserState, user: int = 1) -> Any:
    return state.table.data[state.table.row(user)]


def taste(a: Any, name: str) -> dict[int, float]:
    return {int(k): float(w) for k, w in zip(a[name], a[f"{name}_w"], strict=True) if k}


def clicks(*minutes_items: tuple[float, int], user: int = 1) -> list[Act]:
    return [Act(user, item, "click", int(T0 + m * MINUTE_MS)) for m, item in minutes_items]


def newest(state: UserState, user: int = 1) -> list[int]:
    return recent_items(row(state, user))[0]
