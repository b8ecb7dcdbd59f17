"""What users hid: rows against plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from strategies import T0, Act, columns

from headrace.models.state import users as user_state
from headrace.models.state.hidden_updates import HiddenUpdates
from headrace.models.state.shown import hidden
from headrace.models.state.users import HIDDEN, HIDDEN_CREATORS, UserState, known
from headrace.streams.settings import MINUTE_MS

KINDS = ("hide", "hide", "hide", "like", "follow", "click", "save", "dwell")


def plain(acts: list[Act]) -> dict[int, tuple[list[int], list[int]]]:
    """Return the hidden items and creators of every user, the oldest first."""
    out: dict[int, tuple[list[int], list[int]]] = {}
    for a in acts:
        items, creators = out.setdefault(a.user, ([], []))
        if a.kind == "like" and a.item in items:
            items.remove(a.item)
        if a.kind == "follow" and a.creator in creators:
            creators.remove(a.creator)
        if a.kind == "hide":
            for keys, key, wanted, most in (
                (items, a.item, True, HIDDEN),
                (creators, a.creator, a.of_creator, HIDDEN_CREATORS),
            ):
                if wanted and key:
                    keys[:] = [*(k for k in keys if k != key), key][-most:]
    return out


def some_acts(seed: int) -> list[Act]:
    rng = np.random.default_rng(seed)
    n_items = int(rng.choice([8, 60, 400]))
    return [
        Act(
            user=int(rng.integers(1, 4)),
            item=(item := int(rng.integers(1, n_items + 1))),
            kind=str(rng.choice(KINDS)),
            ts=T0 + i * 1000,
            creator=item % 31 if item % 5 else 0,
            of_creator=bool(rng.random() < 0.5),
        )
        for i in range(600)
    ]


def row_of(state: UserState, user: int) -> Any:
    return state.table.data[state.table.find(np.array([user], np.uint64))[0]]


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_those_of_plain_python(seed: int) -> None:
    acts, rng, at = some_acts(seed), np.random.default_rng(seed), 0
    state = UserState(user_state.new_table(), 30 * MINUTE_MS)
    while at < len(acts):
        begin = max(0, at - int(rng.integers(0, 9)))  # some are delivered again
        to = min(len(acts), at + int(rng.integers(1, 50)))
        state.apply(columns(acts[begin:to], range(begin, to)))
        at = to
    for user, (items, creators) in plain(acts).items():
        row = row_of(state, user)
        assert [keys.tolist() for keys in hidden(row)] == [items, creators]
        assert not row["hidden"][len(items) :].any()
        assert not row["hidden_creators"][len(creators) :].any()


def test_hiding_again_moves_to_the_end_and_a_like_or_a_follow_undoes_it() -> None:
    def act(kind: str, item: int, creator: int = 0, *, of_creator: bool = False) -> Act:
        return Act(1, item, kind, T0, creator=creator, of_creator=of_creator)

    state = UserState(user_state.new_table(), 30 * MINUTE_MS)
    acts = [
        act("hide", 1, 7),
        act("hide", 2, 8, of_creator=True),
        act("hide", 3, 0, of_creator=True),  # its creator is not known
        act("hide", 1, 9, of_creator=True),
        act("like", 2, 8),
        act("follow", 5, 9),
    ]
    state.apply(columns(acts))
    assert [keys.tolist() for keys in hidden(row_of(state, 1))] == [[3, 1], [8]]


def test_a_forgotten_user_has_hidden_nothing() -> None:
    state = UserState(user_state.new_table(), 30 * MINUTE_MS)
    state.apply(columns([Act(1, 5, "hide", T0, creator=6, of_creator=True)]))
    row = state.forget(1, 3, T0)
    assert [keys.tolist() for keys in hidden(state.table.data[row])] == [[], []]
    assert known(state.table.pack(np.array([row]))).tolist() == [False]


def test_wrong_columns_and_rows_are_refused() -> None:
    updates = HiddenUpdates(user_state.ROW, items=HIDDEN, creators=HIDDEN_CREATORS)
    table = user_state.new_table()
    rows = table.take(np.array([1], np.uint64))
    events = columns([Act(1, 5, "hide", T0)])
    events.creator = np.zeros(2, np.uint64)
    with pytest.raises(ValueError, match="lengths"):
        updates.apply(table.data, rows, events)
    with pytest.raises((ValueError, IndexError)):
        updates.apply(table.data, np.array([10**6]), columns([Act(1, 5, "hide", T0)]))
    with pytest.raises(ValueError, match="hidden"):
        HiddenUpdates(user_state.ROW, items=HIDDEN + 1, creators=1)
