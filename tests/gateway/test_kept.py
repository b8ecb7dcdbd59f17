"""Rows of users and items as readable messages: names behind hashes, weights, what rests."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.serving.gateway.kept import ItemNames, Named, Names, hashes_of, kept_item, kept_user
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Item

NOW = 1_750_000_000_000


def user_row() -> np.void:
    rows = np.array([user_state.BLANK])
    rows["key"] = hash64("u")
    for field, texts in (("recent", ["i1", "i2"]), ("cat", ["sport", "music"]), ("hidden", ["i3"])):
        rows[field][0, : len(texts)] = [hash64(text) for text in texts]
    rows["recent_ts"][0, :2] = [NOW - 2000, NOW - 1000]
    rows["n_clicks"], rows["updated"], rows["home"] = 2, NOW - 1000, hash64("DE")
    rows["cat_w"][0, :2] = [-1.0, 4.0]
    rows["cat_ts"] = NOW - user_state.AFFINITY_HALF_LIFE_MS
    return rows[0]


def shown_row() -> np.void:
    rows = np.array([shown_state.BLANK])
    rows["count"] = 2
    rows["items"][0, :2] = [hash64("i1"), hash64("i2")]
    rows["times"][0, :2] = [(NOW - 3_600_000) // 1000, (NOW - 60_000) // 1000]
    rows["counts"][0, :2] = [3, 1]
    return rows[0]


def test_a_user_is_readable() -> None:
    names = Names(hashes_of(user_row(), shown_row()))
    names.items(
        [ItemNames("i1", "one", "sport"), ItemNames("i2", "two", "music"), ItemNames("other", "x", "y")]
    )
    kept = kept_user(
        "u", user_row(), shown_row(), None, names, complete=True, now=NOW, rest_ms=600_000, most_shown=10
    )  # fmt: skip
    assert [(c.item, c.ts) for c in kept.recent_clicks] == [
        (Named(id="i2", title="two"), NOW - 1000),
        (Named(id="i1", title="one"), NOW - 2000),
    ]
    assert [(t.of.id, t.weight) for t in kept.categories] == [("music", 2.0), ("sport", -0.5)]
    assert kept.country == Named(id="DE")
    assert kept.hidden_items == [Named(hash=f"{hash64('i3'):016x}")]
    assert [(s.item.id, s.times, s.rests) for s in kept.shown] == [("i2", 1, True), ("i1", 3, False)]
    assert kept.session_clicks == 0


def test_an_item_shown_often_rests_however_long_ago() -> None:
    names = Names(hashes_of(None, shown_row()))
    kept = kept_user("u", None, shown_row(), None, names, complete=False, now=NOW, rest_ms=0, most_shown=3)
    assert [s.rests for s in kept.shown] == [False, True]
    assert kept.recent_clicks == []
    assert kept.country is None


def test_names_are_complete_when_all_were_found() -> None:
    names = Names([hash64("i1"), hash64("DE"), 0])
    assert not names.complete, "codes of countries are known, items are not"
    names.items([ItemNames("i2")])
    assert not names.complete
    names.items([ItemNames("i1", "first")])
    assert names.complete
    names.items([ItemNames("i1", "second")])
    assert names.of(hash64("i1")) == Named(id="i1", title="second"), "the last record of an item counts"


@pytest.mark.parametrize("wanted", [[], [0]])
def test_who_wants_no_names_has_all(wanted: list[int]) -> None:
    assert Names(wanted).complete


def test_an_item_without_a_row_has_counts_of_zero() -> None:
    kept = kept_item("i", Item("i", NOW), None, NOW)
    assert set(kept.totals.values()) == {0}
    assert set(kept.windows) == {"1h", "24h", "7d"}
