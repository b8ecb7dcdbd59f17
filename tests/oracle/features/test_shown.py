"""What the oracle computes of impressions and hides, against lists written by hand and plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from oracle_frames import event_frame, item_frame, shown_frame
from strategies import T0 as NOW

from headrace.oracle.features.affinities import PUBLISHED_MS, item_attributes
from headrace.oracle.features.hidden import CREATORS, ITEMS, hidden_of
from headrace.oracle.features.shown import MOST, PLACES, shown_lists
from headrace.streams.settings import DAY_MS, HOUR_MS

T0 = NOW // 1000 * 1000


def lists(*shown: Any) -> dict[int, list[tuple[int, int, int]]]:
    out: dict[int, list[tuple[int, int, int]]] = {}
    for user, place, *told in shown_lists(shown_frame(shown)).sort("user", "place").iter_rows():
        assert place == len(out.setdefault(user, []))
        out[user].append((told[0], told[1] - T0 // 1000, told[2]))
    return out


def test_items_are_in_the_order_of_their_last_showing() -> None:
    assert lists(
        (1, [5, 6, 7], T0, 0), (2, [5], T0 + 4000, 0), (1, [6, 8], T0 - 3000, 0), (1, [], T0, 0),
        (1, [5, 5], T0 + 1999, 0),
    ) == {1: [(7, 0, 1), (6, 0, 2), (8, -3, 1), (5, 1, 3)], 2: [(5, 4, 1)]}  # fmt: skip


def test_an_item_that_was_dropped_begins_anew() -> None:
    fill = list(range(1000, 1000 + PLACES - 1))
    assert lists((1, [7, 7, *fill], T0, 0))[1][0] == (7, 0, 2)
    assert lists((1, [7, 7, *fill, 1], T0, 0))[1][0] == (1000, 0, 1)
    assert lists((1, [7, 7, *fill, 1, 7], T0, 0))[1][-1] == (7, 0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_lists_of_any_length_are_those_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shown = [
        (user, rng.integers(1, 40 if user == 1 else 400, 30).tolist(), T0 + int(rng.integers(HOUR_MS)), 0)
        for user in rng.integers(1, 4, 60).tolist()
    ]
    plain: dict[int, list[list[int]]] = {}
    for user, items, ts, _ in shown:
        mine = plain.setdefault(user, [])
        for item in items:
            (old,) = [e for e in mine if e[0] == item] or [[item, -(10**9), 0]]
            mine[:] = [e for e in mine if e[0] != item]
            mine.append([item, max(old[1], ts // 1000 - T0 // 1000), min(old[2] + 1, MOST)])
            del mine[:-PLACES]
    assert lists(*shown) == {user: [tuple(e) for e in mine] for user, mine in plain.items()}


def hid(*acts: tuple[int, str, int, bool], complete: bool = True, early: int = 0) -> list[Any]:
    """Return user, items, creators, sure. The creator of item n is 10 + n % 3, 0 for every fourth."""
    when = NOW + 10 * DAY_MS  # of all records in ``event_frame``
    published = [(n, 1, 10 + n % 3 if n % 4 else 0, when - PUBLISHED_MS + (n == early)) for n in range(1, 60)]
    changed = [(50, 1, 99, when - 20_000)]
    attributes = item_attributes(item_frame([*published, *changed]))
    events = event_frame([(user, item, kind, T0, 0, 0) for user, kind, item, _ in acts])
    events = events.with_columns(of_creator=pl.Series([of for *_, of in acts], dtype=pl.Boolean))
    return hidden_of(events, attributes, complete=complete).sort("user").rows()


def test_a_like_and_a_follow_undo_a_hide() -> None:
    assert hid(
        (1, "hide", 5, True), (1, "hide", 6, False), (1, "hide", 7, True), (1, "hide", 4, True),
        (1, "like", 6, False), (1, "follow", 5, False), (1, "hide", 5, False), (1, "click", 7, False),
        (2, "follow", 7, False), (2, "like", 7, False),
    ) == [(1, [7, 4, 5], [11], True), (2, [], [], True)]  # fmt: skip


def test_the_oldest_of_too_many_is_dropped() -> None:
    ((_, items, _, _),) = hid(*((1, "hide", n, False) for n in range(1, ITEMS + 3)), (1, "hide", 3, False))
    assert items == [*range(4, ITEMS + 3), 3]
    assert CREATORS == 16


def test_creators_that_a_worker_may_have_seen_otherwise_are_unsure() -> None:
    assert hid((1, "hide", 50, True), (2, "hide", 50, False), (3, "follow", 50, False)) == [
        (1, [50], [12], False), (2, [50], [], True), (3, [], [], False),
    ]  # fmt: skip
    assert [sure for *_, sure in hid((1, "hide", 7, True), (2, "hide", 8, True), early=7)] == [False, True]
    assert [sure for *_, sure in hid((1, "hide", 7, True), (2, "like", 8, True), complete=False)] == [
        False,
        True,
    ]
    assert hid((1, "hide", 77, True)) == [(1, [77], [], True)], "never published"
