"""Neighbour rows: oracle and live code agree on any history, and a changed value is found."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_history import did as any_event
from oracle_stories import Story, did, told
from strategies import T0

from headrace.console.verification.live_neighbours import LiveNeighbours
from headrace.models.state.neighbours import Neighbours as LiveState
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.neighbours import ROWS, WEIGHTS, compare_neighbours
from headrace.oracle.features.pairs import PAIR, SLOTS, Neighbours, neighbour_weights
from headrace.streams.messages.columns import ITEM_EVENT, KIND
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import DAY_MS, MINUTE_MS

NO_ITEMS = pl.Series("item", [], pl.UInt64)


@given(
    st.lists(any_event, min_size=1, max_size=80),
    st.lists(st.integers(0, 100), max_size=4),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 3)), max_size=2, unique_by=lambda f: f[1]),
)
@settings(max_examples=60)
def test_the_live_code_and_the_oracle_agree(history: Any, cuts: list[int], forgotten: list[Any]) -> None:
    """Events in any batches; some users are forgotten once, at any moment."""
    story = Story()
    gone = {at % len(history): f"user-{user}" for at, user in forgotten}
    edges = sorted({0, len(history), *(c % len(history) for c in cuts), *gone})
    for a, b in pairwise(edges):
        if a in gone:
            story.forget(gone[a])
        story.events(*history[a:b])
    findings = story.compare_neighbours()
    assert told(findings) == []
    cut = set()  # only clicks with one on the other side of the tombstone may be left out
    for at, name in gone.items():
        clicked = [(i < at, item) for i, (user, kind, item, *_) in enumerate(history)
                   if kind == "click" and name == f"user-{user}"]  # fmt: skip
        cut |= {item for before, item in clicked if any(other != before for other, _ in clicked)}
    assert findings.left_out[ROWS] <= len(cut)


def test_a_session_makes_the_pairs_that_it_should() -> None:
    """user 0: items 1 2 3, after 40 minutes 4; the late click on 5 was between 1 and 2."""
    story = Story().events(did(0, 1), did(0, 2), did(0, 3), did(0, 4, step=40 * MINUTE_MS))
    late = (0, "click", 5, 0, 41 * MINUTE_MS + 30_000, 0, "", 30, False)
    story.events(late)
    assert told(story.compare_neighbours()) == []
    table = story.live.neighbours.table
    row = table.data[table.row(hash64("item-1"))]
    others = {
        int(row["other"][k]): (float(row["seq"][k]), float(row["co"][k]))
        for k in np.flatnonzero(row["other"])
    }
    kept = np.exp2(-MINUTE_MS / (7 * DAY_MS))  # a minute before the pair of 1 and 3
    assert others == {
        hash64("item-2"): pytest.approx((kept, kept)),
        hash64("item-3"): pytest.approx((0.5, 1.0)),
        hash64("item-5"): pytest.approx((kept**2, kept**2)),
    }


@pytest.mark.parametrize(
    ("field", "feature"),
    [
        ("seq_total", "total next"),
        ("co_total", "total together"),
        ("updated", "newest pair, minutes"),
        ("seq", "next with"),
        ("co", "together with"),
        ("other", "together with"),
    ],
)
def test_a_changed_value_is_found(field: str, feature: str) -> None:
    story = Story().events(*(did(user, 1 + (user + k) % 6) for k in range(4) for user in range(3)))
    assert told(story.compare_neighbours()) == []
    table = story.live.neighbours.table
    row, by = table.row(hash64("item-2")), MINUTE_MS if field == "updated" else 1
    values = table.data[field]
    if values.ndim > 1:
        values[row, 0] += by
    else:
        values[row] += by
    findings = story.compare_neighbours()
    assert {d.row for d in findings.first} == {"item item-2"}
    assert any(d.feature.startswith(feature) for d in findings.first), findings.first


def test_a_missing_row_and_an_extra_one_are_found() -> None:
    story = Story().events(did(0, 1), did(0, 2))
    story.live.neighbours.table.drop(np.array([hash64("item-1")], np.uint64))
    extra = story.live.neighbours.table.take(np.array([77], np.uint64))
    story.live.neighbours.table.data["co_total"][extra] = 1
    assert {d.row for d in story.compare_neighbours().first} == {"item item-1", "item 000000000000004d"}


def add_pair(story: Story, item: int, other: int) -> None:
    """Count a pair that a worker has sent before it was killed."""
    sent = np.zeros(1, ITEM_EVENT)
    sent["item"], sent["other"], sent["kind"] = hash64(f"item-{item}"), hash64(f"item-{other}"), KIND["pair"]
    sent["ts"], sent["seq_weight"], sent["amount"] = T0 + 43 * MINUTE_MS, 1, 1
    story.live.neighbours.apply(sent, np.array([10**6]))


def test_only_pairs_that_a_tombstone_has_cut_are_left_out() -> None:
    """1 2 . . 3 | 4 . . 5 6    ". ." is a new session: the tombstone has cut the pair of 3 and 4 alone."""
    new = 40 * MINUTE_MS
    story = Story().events(did(0, 1), did(0, 2), did(0, 3, step=new)).forget("user-0")
    story.events(did(0, 4), did(0, 5, step=new), did(0, 6), did(1, 3), did(1, 7), did(1, 4))
    findings = story.compare_neighbours()
    assert told(findings) == []
    assert (findings.by_kind[ROWS], findings.left_out[ROWS]) == (5, 2), "3 and 4 are left out"
    add_pair(story, 3, 4)
    assert told(story.compare_neighbours()) == [], "a worker may have sent it before it was killed"
    add_pair(story, 2, 3)
    assert {d.row for d in story.compare_neighbours().first} == {"item item-2"}


def test_a_cut_moves_the_weights_of_a_late_click() -> None:
    """1 at 12:10 | 2 at 12:05, late, 3 at 12:15: the tombstone makes 2 the click right before 3."""
    story = Story().events(did(0, 1)).forget("user-0")
    late = (0, "click", 2, 0, 5 * MINUTE_MS, 0, "", 30, False)
    story.events(late, did(0, 3, step=5 * MINUTE_MS), did(0, 4), did(1, 5), did(1, 6))
    findings = story.compare_neighbours()
    assert told(findings) == []
    assert (findings.by_kind[ROWS], findings.left_out[ROWS]) == (2, 3), "2 3 4 are left out, 5 6 compared"


def test_of_a_user_forgotten_twice_clicks_after_the_last_time_are_compared() -> None:
    new = 40 * MINUTE_MS
    story = Story().events(did(0, 1), did(0, 2)).forget("user-0").events(did(0, 3), did(0, 4))
    story.forget("user-0").events(did(0, 5, step=new), did(0, 6))
    findings = story.compare_neighbours()
    assert told(findings) == []
    assert (findings.by_kind[ROWS], findings.left_out[ROWS]) == (2, 4)


def test_without_the_old_records_of_users_a_row_tells_that_its_user_was_forgotten() -> None:
    """`users` is compacted: there may have been other tombstones before the click that the row names."""
    new = 40 * MINUTE_MS
    story = Story().events(did(0, 1), did(0, 2)).forget("user-0").profile("user-0")
    story.events(did(0, 5, step=new), did(0, 6), did(1, 3), did(1, 4))
    findings = story.compare_neighbours(story.stories(whole=False, compacted=[0]))
    assert told(findings) == []
    assert (findings.by_kind[ROWS], findings.left_out[ROWS]) == (4, 2)


def test_items_of_a_user_who_was_forgotten_twice_are_left_out() -> None:
    """Between which clicks the first time was, no topic says. Items 5 and 6 are of somebody else."""
    story = Story().events(did(0, 1), did(0, 2)).forget("user-0").events(did(0, 3)).forget("user-0")
    story.events(did(1, 5), did(1, 6))
    findings = story.compare_neighbours()
    assert told(findings) == []
    assert (findings.by_kind[ROWS], findings.left_out[ROWS]) == (2, 2)


def a_hub(others: int) -> tuple[Neighbours, LiveState]:
    """Return the neighbours of an item 1 that was clicked before each of ``others`` items, one a minute."""
    items = np.arange(2, 2 + others)
    ts = T0 + MINUTE_MS * np.arange(others)
    events = np.zeros(others, ITEM_EVENT)
    events["item"], events["other"], events["ts"], events["kind"] = 1, items, ts, KIND["pair"]
    events["seq_weight"] = events["amount"] = 1
    live = LiveState()
    live.apply(events, np.arange(others))
    frame = pl.DataFrame({"item": [1] * others, "other": items, "ts": ts, "back": [0] * others}, PAIR)
    known = Neighbours.of([neighbour_weights(frame)])
    return Neighbours(known.weights.filter(pl.col("item") == 1)), live


@pytest.mark.parametrize("others", [SLOTS, SLOTS + 1, 3 * SLOTS])
def test_a_full_row_has_neighbours_that_are_known_with_weights_that_are_not_larger(others: int) -> None:
    known, live = a_hub(others)

    def compare() -> Findings:
        findings = Findings()
        names = pl.DataFrame(schema={"item": pl.UInt64, "name": pl.String})
        compare_neighbours(
            findings, known, LiveNeighbours(live.table.data[live.table.rows()]), names, NO_ITEMS
        )
        return findings

    findings = compare()
    assert told(findings) == []
    assert (findings.by_kind[WEIGHTS], findings.left_out[WEIGHTS]) == (SLOTS, others - SLOTS)
    row = live.table.data[live.table.row(1)]
    row["co"][7] += 0.01
    assert [d.feature[:8] for d in compare().first] == ["together"]
    row["co"][7] -= 0.02
    assert compare().differences == (others == SLOTS), "smaller is right in a full row: its start may be lost"
    row["other"][9] = 10**6
    assert any(d.expected == 0 for d in compare().first)


def test_totals_of_a_busy_item_are_within_the_rounding_of_float32() -> None:
    """60,000 pairs of one item over ten days: the live totals round at every one of them."""
    n = 60_000
    ts = T0 + np.arange(n) * (10 * DAY_MS // n)
    events = np.zeros(n, ITEM_EVENT)
    events["item"], events["other"], events["kind"], events["ts"] = 1, 2 + np.arange(n) % 5, KIND["pair"], ts
    back = np.arange(n) % 5
    events["seq_weight"], events["amount"] = 1 / (back + 1), 1
    live = LiveState()
    live.apply(events, np.arange(n))
    frame = pl.DataFrame({"item": [1] * n, "other": events["other"], "ts": ts, "back": back}, PAIR)
    weights = neighbour_weights(frame).filter(pl.col("item") == 1)
    findings = Findings()
    names = pl.DataFrame(schema={"item": pl.UInt64, "name": pl.String})
    compare_neighbours(
        findings, Neighbours(weights), LiveNeighbours(live.table.data[live.table.rows()]), names, NO_ITEMS
    )
    assert told(findings) == []
