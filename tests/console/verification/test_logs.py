"""Topics made again or with lost records: what rows count, the topics may no longer have."""

from __future__ import annotations

import struct

import numpy as np
import polars as pl
import pytest
from oracle_history import rows_of
from oracle_stories import Story, did, told
from strategies import T0

from headrace.console.verification.live import LiveUsers
from headrace.console.verification.logs import bases, cut_off, known_from
from headrace.oracle.features.since import Stories
from headrace.oracle.times import MAX_TS
from headrace.streams.settings import MINUTE_MS, Settings
from headrace.streams.topics.growths import Growth, Growths

BASE = {"events": 100, "shown": 0, "users": 0}


def lifted(story: Story, by: int) -> Story:
    """Let the rows say that they have applied records with offsets larger by ``by``."""
    data = story.live.users.table.data
    data["offset"] += np.where(data["offset"] >= 0, by, 0)
    return story


def marks(story: Story) -> pl.DataFrame:
    return LiveUsers(rows_of(story.live.users.table)).marks


def some_stories(base: int) -> tuple[Story, Stories]:
    story = Story().events(did(0, 1), did(1, 2), did(0, 3)).profile("user-0", country="BR")
    return story, story.stories().effective({**BASE, "events": base})


def test_bases_are_read_from_meta_records() -> None:
    s = Settings(topic_prefix="p-")
    place = struct.pack("<qqqqIi16s", 7, 100, 6, T0, 1, 2, b"")
    meta = {b"place-in:p-events": place, b"place-in:p-users": b"", b"m:1": place}
    assert bases(s, meta) == {"events": 100, "shown": 0, "users": 0, "items": 0}


def test_a_topic_made_again_is_known_from_its_first_record_on() -> None:
    story, stories = some_stories(100)
    lifted(story, 100)
    assert known_from(stories, marks(story), BASE, 5) == T0 + MINUTE_MS + 5
    assert told(story.compare(stories)) == []
    assert known_from(stories, marks(story), {**BASE, "events": 0}, 5) == 0


def test_a_partition_that_lost_the_log_of_its_parent_is_known_from_its_own_first_record_on() -> None:
    s = Settings(topic_prefix="p-")
    growth = Growth(2, 4, {topic: [9, 5] for topic in ("p-events", "p-impressions", "p-users", "p-items")})
    now = Growths((growth,)).in_logs([{"p-events": [9, 0], "p-users": [3, 5]}])
    lost = [cut_off(s, now, number) for number in range(4)]
    assert lost == [{"users"}, {"events"}, {"users"}, {"events"}]
    story, stories = some_stories(0)
    none = {**BASE, "events": 0}
    assert known_from(stories, marks(story), none, 5, lost[3]) == T0 + MINUTE_MS + 5
    assert known_from(stories, marks(story), none, 5, lost[2]) == 0


def test_of_a_topic_that_lost_its_end_nobody_knows_what_was_lost() -> None:
    story, stories = some_stories(100)
    assert known_from(stories, marks(story), BASE, 5) == MAX_TS


@pytest.mark.parametrize(("row", "differences"), [(0, 0), (7, 0), (3, 1)])
def test_a_profile_from_before_or_after_the_loss_has_the_offset_of_its_time(
    row: int, differences: int
) -> None:
    story, _ = some_stories(0)
    story.set("user-0", "profile_offset", row)
    stories = story.stories().effective({"events": 0, "shown": 0, "users": 7})
    assert len(told(story.compare(stories))) == differences
