"""What users were shown: a changed row is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from oracle_frames import event_frame, shown_frame
from strategies import T0, record

from headrace.console.verification.live_shown import LiveShown
from headrace.models.state.shown import ShownState
from headrace.oracle.compare.findings import Findings
from headrace.oracle.compare.shown import ITEMS, ROWS, compare_shown
from headrace.oracle.features.since import Stories
from headrace.oracle.records.frames import raw_records
from headrace.oracle.records.profiles import read_users
from headrace.streams.settings import DAY_MS

#: user, items, time, country. User 3 is shown more items than a row has.
SHOWN: list[Any] = [
    (1, [5, 6, 7], T0, 0),
    (2, [5, 6], T0 + 9000, 0),
    (1, [6, 8], T0 - 3000, 0),
    (3, list(range(100, 400)), T0, 0),
    (2, [7], T0 + 10_000, 0),
    (4, [], T0, 0),
]


class Story:
    """Impressions, and a tombstone of user 2 between its two."""

    def __init__(self) -> None:
        self.live = ShownState()
        self.apply(SHOWN[:3], 0)
        self.gone = record(None, key=b"user-2", offset=1, timestamp=T0 + 77)
        self.live.forget(2, 1, T0 + 77)
        self.apply(SHOWN[3:], 3)
        self.users = {2: 1}  # shown_since of rows of users

    def apply(self, shown: list[Any], first: int) -> None:
        self.live.apply(
            np.array([user for user, *_ in shown], np.uint64),
            np.array([len(items) for _, items, *_ in shown], np.int64),
            np.array([item for _, items, *_ in shown for item in items], np.uint64),
            np.array([ts for *_, ts, _ in shown], np.int64),
            np.arange(first, first + len(shown)),
        )

    def row(self, user: int) -> Any:
        return self.live.table.data[self.live.table.find(np.array([user], np.uint64))]

    def set(self, user: int, field: str, value: Any, place: int | None = None) -> None:
        table = self.live.table
        at = table.find(np.array([user], np.uint64))[0]
        table.data[field][(at,) if place is None else (at, place)] = value

    def drop(self, user: int) -> None:
        self.live.table.drop(np.array([user], np.uint64))

    def compare(self, *, now: int = T0 + DAY_MS, covered_from: int = 0, **changes: Any) -> Findings:
        users = read_users(raw_records("users", 0, [self.gone]), max_bytes=99)
        users = users.with_columns(user=pl.lit(2, pl.UInt64))  # the frames here number users
        told = {"shown": shown_frame(SHOWN), "users": users, **changes}
        stories = Stories(event_frame([]), **told)
        table, findings = self.live.table, Findings(100)
        of_users = pl.DataFrame(
            list(self.users.items()), {"user": pl.UInt64, "shown_since": pl.Int64}, orient="row"
        )
        compare_shown(
            findings,
            stories,
            LiveShown(table.data[table.rows()].copy()),
            of_users,
            now=now,
            ttl_ms=90 * DAY_MS,
            covered_from=covered_from,
        )
        return findings


def said(findings: Findings) -> list[tuple[str, str]]:
    return [(d.row, d.feature.removeprefix("shown lately: ")) for d in findings.first]


def test_the_rows_are_what_the_impressions_say() -> None:
    findings = Story().compare()
    assert findings.first == []
    assert findings.by_kind == {ROWS: 4, ITEMS: 4 + 1 + 200}


@pytest.mark.parametrize(
    ("user", "field", "place", "value", "expected"),
    [
        (1, "items", 0, 9, ["item 1"]),
        (1, "times", 1, T0 // 1000 + 1, ["item 2"]),
        (1, "counts", 2, 3, ["item 3"]),
        (3, "counts", 199, 2, ["item 200"]),
        (1, "count", None, 3, ["item 4"]),
        (4, "count", None, 1, ["item 1"]),
        (1, "offset", None, 3, ["offset"]),
        (1, "updated", None, T0 - 1, ["updated"]),
        (2, "updated", None, T0 + 77, ["updated"]),
        (1, "since", None, 0, ["forgotten", "item 2", "item 3", "item 4"]),
        (2, "since", None, 2, ["since"]),
        (2, "forgotten", None, 0, ["forgotten"]),
        (2, "forgotten", None, -1, ["forgotten"]),
    ],
)
def test_a_changed_value_is_found(
    user: int, field: str, place: int | None, value: int, expected: list[str]
) -> None:
    story = Story()
    story.set(user, field, value, place)
    found = said(story.compare())
    assert {row for row, _ in found} == {f"user user-{user}"}
    assert [feature for _, feature in found if feature in expected] == expected


def test_what_a_forgotten_user_was_shown_before_is_found() -> None:
    story = Story()
    story.drop(2)
    story.apply([SHOWN[1], SHOWN[4]], 1)
    story.set(2, "offset", 4)
    assert said(story.compare()) == [("user user-2", "forgotten")]


def test_a_row_that_is_missing_or_nobodys_is_found() -> None:
    story = Story()
    story.drop(1)
    story.apply([(77, [5], T0, 0)], 9)
    found = said(story.compare())
    assert ("user user-1", "row") in found
    assert (f"user {77:016x}", "row") in found
    assert {row for row, _ in found} == {"user user-1", f"user {77:016x}"}


def test_a_row_that_expired_is_not_missed_nor_what_the_topics_lost() -> None:
    story = Story()
    story.drop(1)
    later = [*SHOWN, (3, [], T0 + 91 * DAY_MS, 0)]
    story.set(3, "offset", 6)
    story.set(3, "updated", T0 + 91 * DAY_MS)
    findings = story.compare(now=T0 + 92 * DAY_MS, shown=shown_frame(later))
    assert said(findings) == []
    assert said(story.compare(now=T0 + 92 * DAY_MS)) != []
    findings = story.compare(covered_from=T0)
    assert (said(findings), findings.left_out[ROWS]) == ([], 3)


def test_offsets_of_a_topic_that_lost_its_end_are_known() -> None:
    story = Story()
    story.set(2, "forgotten", 0)
    assert said(story.compare(users_base=1)) == []
    story.set(2, "forgotten", 1)
    assert said(story.compare(users_base=1)) == []
