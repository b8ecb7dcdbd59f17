"""Which letters are redriven, what the notes say, and what is written again. Without a broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.dead_letters import (
    NOTE,
    REDRIVEN,
    dead_letter,
    fitting,
    is_letter,
    read_dead_letter,
)
from headrace.streams.topics.names import FORWARDED
from headrace.streams.topics.redrives import (
    WHY,
    Newest,
    Note,
    Progress,
    Rules,
    Source,
    Wanted,
    redriven_record,
    source_of,
    written_over,
)

NOW = 1_700_000_000_000
S = [Source("events", 1, offset, NOW) for offset in range(4)]


def record(key: bytes | None = b"user-1", value: bytes | None = b"{}", **more: Any) -> SimpleNamespace:
    values = {"headers": (), "offset": 42, "timestamp": NOW, **more}
    return SimpleNamespace(key=key, value=value, **values)


def buried(original: Any, topic: str = "events", agent: str = "track_users", most: int = 2**20) -> Any:
    """Return the record of the letter about a record."""
    letter = dead_letter(original, topic, 1, agent=agent, reason="too_large")
    key, value, _, headers = fitting(letter, most)
    return record(key, value, headers=headers, offset=7)


def verdict(of: Any, **rules: Any) -> str:
    values = {"most_times": 3, "now_ms": NOW + 1000, **rules}
    return Rules(Settings(), **values).verdict(read_dead_letter(of))


@pytest.mark.parametrize("topic", ["events", "items", "users"])
def test_what_producers_sent_is_redriven(topic: str) -> None:
    assert verdict(buried(record(), topic)) == ""
    assert verdict(buried(record(value=None), topic)) == ""


@pytest.mark.parametrize(
    ("letter", "code"),
    [
        (record(headers=[("reason", b"undecodable")]), "no_origin"),
        (buried(record(), "rec-requests", "recommend"), "request"),
        (buried(record(), "impressions", "join_outcomes"), "internal"),
        (buried(record(), "item-events", "aggregate_items"), "internal"),
        (buried(record(), "events", "learn"), "internal"),
        (buried(record(value=b"x" * 9000), most=5000), "incomplete"),
        (buried(record(headers=[("h", b"x" * 40_000)])), "incomplete"),
        (buried(record(key=None)), "no_key"),
        (buried(record(headers=[(REDRIVEN, b"1-2/3")])), "too_often"),
        (buried(record(timestamp=NOW - 8 * DAY_MS)), "too_old"),
    ],
)
def test_what_is_not_redriven(letter: Any, code: str) -> None:
    assert verdict(letter) == code
    assert code in WHY


def test_items_are_kept_for_ever_and_a_loop_may_be_gone_on_with() -> None:
    assert verdict(buried(record(timestamp=NOW - 800 * DAY_MS), "items")) == ""
    assert verdict(buried(record(headers=[(REDRIVEN, b"1-2/3")])), most_times=4) == ""


def test_the_record_comes_back_with_the_headers_of_its_producer_alone() -> None:
    given = [("trace", b"\x00\xff"), (FORWARDED, b"events/2/5"), (REDRIVEN, b"0-3/1")]
    letter = read_dead_letter(buried(record(key=b"k", value=b"\xff{", headers=given)))
    assert (letter.origin_letter, letter.redriven) == ("0-3", 1)
    assert redriven_record(letter, "2-7") == (
        *(b"k", b"\xff{", NOW),
        [("trace", b"\x00\xff"), (REDRIVEN, b"2-7/2")],
    )
    assert redriven_record(read_dead_letter(buried(record(value=None))), "2-7")[1] is None


def test_a_record_of_a_producer_cannot_pose_as_redriven() -> None:
    letter = read_dead_letter(buried(record(headers=[(REDRIVEN, b"forged"), ("redriven", b"9")])))
    assert (letter.origin_letter, letter.redriven) == ("", 0)
    assert is_letter(buried(record(headers=[(NOTE, b"begin")])))


def note(group: str, *letters: int, begin: bool = True, unsure: tuple[int, ...] = ()) -> Any:
    pairs, doubtful = ([(offset, S[offset]) for offset in some] for some in (letters, unsure))
    key, value, _, headers = Note(group, begin, pairs, [("events", 1, 5)], doubtful).record()
    return record(key, value, headers=headers)


def progress(*notes: Any) -> Progress:
    out = Progress()
    for each in notes:
        assert not is_letter(each)
        out.read(each)
    return out


def test_notes_say_what_was_redriven() -> None:
    cut_off = progress(note("a", 0, 1), note("a", 0, 1, begin=False), note("b", 2))
    assert [cut_off.verdict(s) for s in S] == ["redriven", "redriven", "unfinished", ""]
    assert cut_off.open is not None
    assert cut_off.open.ends == [("events", 1, 5)]
    ended = progress(note("b", 2, 3), note("b", 2, begin=False, unsure=(3,)))
    assert [ended.verdict(s) for s in S] == ["", "", "redriven", "unsure"]


def test_the_first_to_begin_has_the_partition() -> None:
    both = progress(note("a", 0), note("b", 1))
    assert both.open is not None
    assert both.open.group == "a"
    after = progress(note("a", 0), note("b", 1), note("a", 0, begin=False))
    assert (after.open, after.verdict(S[1])) == (None, "")


def test_a_late_end_counts_and_what_is_no_note_does_not() -> None:
    assert progress(note("a", 0, begin=False)).verdict(S[0]) == "redriven"
    assert progress(record(value=b"\x00", headers=[(NOTE, b"end")])) == Progress()


def test_two_letters_of_one_record_have_one_source() -> None:
    assert source_of(read_dead_letter(buried(record()))) == Source("events", 1, 42, NOW)


def test_a_newer_record_of_the_key_overtakes() -> None:
    def newest(offset: int, timestamp: int) -> Newest:
        out = Newest()
        out.add("items", record(offset=offset, timestamp=timestamp))
        return out

    letter = read_dead_letter(buried(record(offset=42, timestamp=100), "items"))  # it was in partition 1
    assert not Newest().overtakes(letter, 1)
    assert not newest(42, 100).overtakes(letter, 1)
    assert not newest(41, 500).overtakes(letter, 1)
    assert newest(43, 50).overtakes(letter, 1)
    assert newest(3, 100).overtakes(letter, 2)
    assert not newest(300, 99).overtakes(letter, 2)


def test_newer_records_that_ours_came_after_are_written_again() -> None:
    first, ours, other = (
        record(b"a", b"new", offset=5),
        record(b"a", b"old", offset=6),
        record(b"b", offset=7),
    )
    assert written_over([first, ours, other], {6}) == [first]
    again = record(b"a", b"new", offset=8)
    assert written_over([first, ours, other, again], {6}) == [], "it is there again"
    assert written_over([ours, again], {6}) == [], "it came after ours"


def test_what_is_meant() -> None:
    letter = read_dead_letter(buried(record()))
    assert Wanted().fits(letter, 5)
    good = Wanted("too_large", "track_users", "events", b"user-1", 5, 6)
    assert good.fits(letter, 5)
    assert not good.fits(letter, 6)
    assert not good.fits(letter, 4)
    for other in (Wanted(reason="r"), Wanted(agent="a"), Wanted(topic="t"), Wanted(key=b"")):
        assert not other.fits(letter, 5)
