"""What users were shown: rows against plain Python, and who reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.models.state import shown
from headrace.models.state.shown import MOST_COUNTED, REST_MS, SHOWN, ShownState, filled, shown_lately
from headrace.models.state.shown_updates import ShownUpdates

T0 = 1_700_000_000_000


class Plain:
    """The same rows as dicts: item -> (time in seconds, how often), the item shown longest ago first."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[int, tuple[int, int]]] = {}
        self.offset: dict[int, int] = {}
        self.updated: dict[int, int] = {}

    def apply(self, user: int, items: list[int], ts: int, offset: int) -> None:
        row = self.rows.setdefault(user, {})
        if offset <= self.offset.get(user, -1):
            return
        self.offset[user], self.updated[user] = offset, max(self.updated.get(user, 0), ts)
        for item in items:
            second, count = row.pop(item, (0, 0))
            row[item] = max(second, ts // 1000), min(count + 1, MOST_COUNTED)
            if len(row) > SHOWN:
                del row[next(iter(row))]


Impression = tuple[int, list[int], int, int]


def impressions(rng: np.random.Generator, n: int, *, users: int, items: int) -> list[Impression]:
    """Return user, items, time (ms) and offset of impressions: some late, some without an item."""
    offsets = np.cumsum(rng.integers(1, 4, n))
    return [
        (
            int(rng.integers(1, users + 1)),
            rng.integers(1, items + 1, rng.integers(0, 30)).tolist(),
            T0 + int(offset) * 1000 - int(rng.integers(0, 9000)),
            int(offset),
        )
        for offset in offsets
    ]


def apply(state: ShownState, some: list[Impression]) -> Any:
    return state.apply(
        np.array([user for user, *_ in some], np.uint64),
        np.array([len(items) for _, items, *_ in some], np.int64),
        np.array([item for _, items, *_ in some for item in items], np.uint64),
        np.array([ts for *_, ts, _ in some], np.int64),
        np.array([offset for *_, offset in some], np.int64),
    )


def row_of(state: ShownState, user: int) -> Any:
    return state.table.data[state.table.find(np.array([user], np.uint64))[0]]


def contents(row: Any) -> list[tuple[int, tuple[int, int]]]:
    n = int(row["count"])
    pairs = zip(row["times"][:n].tolist(), row["counts"][:n].tolist(), strict=True)
    return list(zip(row["items"][:n].tolist(), pairs, strict=True))


@pytest.mark.parametrize("seed", range(30))
def test_rows_are_those_of_plain_python(seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = impressions(rng, 400, users=3, items=int(rng.choice([20, 150, 260, 5000])))
    state, plain, at = ShownState(), Plain(), 0
    while at < len(some):
        again = int(rng.integers(0, 6)) if rng.random() < 0.2 else 0  # delivered again
        to = at + int(rng.integers(1, 40))
        batch = some[max(0, at - again) : to]
        before = {user: contents(row_of(state, user)) for user in plain.rows}
        changed = apply(state, batch)
        for one in batch:
            plain.apply(*one)
        named = set(state.table.data["key"][changed].tolist())
        assert named == {user for user, *_, offset in batch if offset > (some[at - 1][3] if at else -1)}
        for user, old in before.items():
            assert user in named or contents(row_of(state, user)) == old
        at = to
    for user, items in plain.rows.items():
        row = row_of(state, user)
        assert contents(row) == list(items.items())
        assert (row["offset"], row["updated"]) == (plain.offset[user], plain.updated[user])
        assert not row["items"][len(items) :].any()
        assert not row["times"][len(items) :].any()
        assert not row["counts"][len(items) :].any()


def test_how_batches_are_cut_does_not_matter() -> None:
    some = impressions(np.random.default_rng(7), 300, users=4, items=300)
    whole, cut = ShownState(), ShownState()
    apply(whole, some)
    for at in range(0, 300, 7):
        apply(cut, some[at : at + 7])
    for user in range(1, 5):
        assert row_of(whole, user).tobytes() == row_of(cut, user).tobytes()


def test_an_item_shown_very_often_is_counted_up_to_a_limit() -> None:
    state = ShownState()
    apply(state, [(1, [9] * 300, T0, 0), (1, [8, 8], T0 - 5000, 1), (1, [9], T0 - 5000, 2)])
    row = row_of(state, 1)
    assert contents(row) == [(8, (T0 // 1000 - 5, 2)), (9, (T0 // 1000, MOST_COUNTED))]


def test_a_forgotten_user_keeps_an_empty_row_that_knows_what_was_applied() -> None:
    state = ShownState()
    assert state.forget(1, 3, T0) == -1, "there is no row"
    assert len(state.table) == 0
    apply(state, [(1, [5, 6], T0, 4), (2, [5], T0, 5)])
    assert state.forget(1, 7, T0 + 9) >= 0
    assert state.forget(1, 7, T0 + 9) == -1, "delivered again"
    apply(state, [(1, [5], T0, 3), (1, [6], T0, 4)])
    row = row_of(state, 1)
    assert (row["key"], row["offset"], row["since"], row["forgotten"], row["updated"]) == (1, 4, 4, 7, T0 + 9)
    assert contents(row) == []
    assert filled(state.table.pack(state.table.find(np.array([1, 2], np.uint64)))).tolist() == [False, True]
    apply(state, [(1, [7], T0 + 1, 6)])
    assert contents(row_of(state, 1)) == [(7, (T0 // 1000, 1))]
    assert row_of(state, 1)["since"] == 4


def test_items_rest_for_a_while_or_when_they_were_shown_too_often() -> None:
    state = ShownState()
    apply(state, [(1, [1, 2, 3], T0, 0), (1, [4], T0 + REST_MS, 1), (1, [2, 2], T0, 2)])
    row = row_of(state, 1)
    assert shown_lately(row, T0 + 1).tolist() == [1, 3, 4, 2]
    assert shown_lately(row, T0 + REST_MS).tolist() == [4]
    assert shown_lately(row, T0 + 2 * REST_MS, most=3).tolist() == [2]
    assert shown_lately(row, T0 + 2 * REST_MS, most=1).tolist() == [1, 3, 4, 2]
    assert shown_lately(row, T0 + 5000, rest_ms=5000).tolist() == [4], "dated ahead"
    assert shown_lately(shown.BLANK, T0, most=0).tolist() == []
    assert shown_lately(row, T0).dtype == np.uint64


@pytest.mark.parametrize("wrong", ["slots", "items", "ts", "offsets", "rows"])
def test_arrays_that_do_not_fit_are_refused(wrong: str) -> None:
    state = ShownState()
    given = {
        "rows": state.table.take(np.array([1], np.uint64)),
        "slots": np.array([2], np.int64),
        "items": np.array([3, 4], np.uint64),
        "ts": np.array([T0], np.int64),
        "offsets": np.array([0], np.int64),
    }
    broken: dict[str, Any] = {
        "rows": np.array([10**6]), "slots": np.array([-1]), "items": np.zeros(3, np.uint64),
        "ts": np.array([2**43]), "offsets": np.arange(2),
    }  # fmt: skip
    given[wrong] = broken[wrong]
    with pytest.raises((ValueError, IndexError)):
        ShownUpdates(shown.ROW, items=SHOWN).apply(state.table.data, *given.values())
    with pytest.raises(ValueError, match="items"):
        ShownUpdates(shown.ROW, items=SHOWN + 1)


def test_a_packed_row_has_the_size_that_the_documentation_says() -> None:
    state = ShownState()
    rng = np.random.default_rng(3)
    for n in range(40):
        apply(state, [(1, rng.integers(1, 2**63, 20).tolist(), T0 + n * 60_000, n)])
    (packed,) = state.table.pack(state.table.find(np.array([1], np.uint64)))
    assert len(packed) == shown.ROW.itemsize == 2648, "a full row"
    apply(state, [(2, rng.integers(1, 2**63, 20).tolist(), T0, 100)])
    (packed,) = state.table.pack(state.table.find(np.array([2], np.uint64)))
    assert 300 < len(packed) < 400, "one list"
