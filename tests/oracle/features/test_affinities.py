"""Decayed weights of categories and creators, and for which users they are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from oracle_frames import event_frame, item_frame, shown_frame
from strategies import T0

from headrace.oracle.features.affinities import item_attributes
from headrace.oracle.features.users import users_of
from headrace.streams.settings import DAY_MS


def test_affinities_fade_and_add_up() -> None:
    """A click 30 days before the time asked is worth half a click; a skip takes a fifth of one away."""
    at = T0 + 30 * DAY_MS
    did = [
        (1, 1, "click", T0, 0, 0),
        (1, 1, "skip", at, 0, 0),
        (1, 2, "dwell", at, 45, 0),
        (1, 3, "click", at, 0, 0),
    ]
    items = item_attributes(item_frame([(1, 7, 70, T0), (2, 8, 0, T0)]))
    known = users_of(event_frame(did), shown_frame([]))
    cats, sure = known.affinities(items, "category", at)
    assert sure.tolist() == [True]
    assert dict(cats.select("key", "weight").iter_rows()) == pytest.approx({7: 0.3, 8: 1.5})
    creators, _ = known.affinities(items, "creator", at)
    assert dict(creators.select("key", "weight").iter_rows()) == pytest.approx({70: 0.3})


def test_views_fade_and_add_up() -> None:
    """The log of the seconds of each view, of ten minutes at most; those of no time or too early are none."""
    at = T0 + 30 * DAY_MS
    did = [
        (1, 1, "dwell", at, 99, 0),
        (1, 1, "dwell", T0, 7, 0),
        (1, 1, "dwell", at, 40_000, 0),
        (1, 2, "dwell", at, 0, 0),
        (1, 3, "dwell", at, 30, 0),
        (1, 1, "click", at, 0, 0),
    ]
    items = item_attributes(item_frame([(1, 7, 70, T0), (2, 8, 0, T0)]))
    views = users_of(event_frame(did), shown_frame([])).views(np.array([0]), items, at)
    assert views.select("row", "key").rows() == [(0, 7)]
    assert views.select("dwell", "views").row(0) == pytest.approx((np.log(8) / 2 + np.log(601), 1.5))


@pytest.mark.parametrize(
    ("records", "complete", "sure"),
    [
        ([(1, 7, 7, T0)], True, True),
        ([(1, 7, 7, T0), (1, 7, 7, T0 + 5)], True, True),
        ([(1, 7, 7, T0), (1, 8, 7, T0 + 5)], True, False),
        ([(1, 7, 7, T0), (1, 7, 8, T0 + 5)], True, False),
        ([(1, 7, 7, T0), (1, None, None, T0 + 5)], True, False),
        ([(1, 7, 7, T0)], False, False),
        ([], True, True),
        ([], False, False),
        ([(2, 7, 7, T0), (2, 8, 8, T0)], True, True),
        ([(1, 7, 7, T0 + 10 * DAY_MS - 5000)], True, False),
    ],
)
def test_affinities_are_told_only_where_attributes_never_changed(
    records: Any, complete: bool, sure: bool
) -> None:
    """The event's record is written at T0 + 10 days; the item must have been there a while before."""
    known = users_of(event_frame([(1, 1, "click", T0 + 10 * DAY_MS, 0, 0)]), shown_frame([]))
    items = item_attributes(item_frame(records))
    for what in ("category", "creator"):
        assert known.affinities(items, what, T0, complete=complete)[1].tolist() == [sure]


@pytest.mark.parametrize(("after_s", "sure"), [(9, False), (11, False), (59, False), (61, True)])
def test_an_item_that_was_sent_on_may_have_come_later(after_s: int, sure: bool) -> None:
    written = T0 + 10 * DAY_MS  # the event's record
    known = users_of(event_frame([(1, 1, "click", written, 0, 0)]), shown_frame([]))
    items = item_attributes(item_frame([(1, 7, 7, written - 1000 * after_s)]).with_columns(sent_on=True))
    assert known.affinities(items, "category", T0, complete=True)[1].tolist() == [sure]


def test_more_categories_than_a_row_holds_are_not_compared() -> None:
    for n, sure in ((12, True), (13, False)):
        did = [(1, i, "click", T0, 0, 0) for i in range(1, n + 1)]
        known = users_of(event_frame(did), shown_frame([]))
        items = item_attributes(item_frame([(i, i, i, T0) for i in range(1, n + 1)]))
        assert known.affinities(items, "category", T0)[1].tolist() == [sure]
