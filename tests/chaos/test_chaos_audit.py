"""The audit finds missing and surplus records in topics and output."""

from __future__ import annotations

import os
from pathlib import Path

from chaos_crew import alive_with
from chaos_found import Found
from chaos_output import rebalances, troubles


def test_generations_are_counted_once_a_group(tmp_path: Path) -> None:
    line = (
        "2026-11-23 21:14:49,103 INFO headrace.streams.transport.consumer: "
        "Assigned {} partitions (generation {})\n"
    )
    (tmp_path / "ingest-0.log").write_text(line.format(2, 2) + line.format(4, 3), "utf-8")
    (tmp_path / "ingest-1.log").write_text(line.format(2, 2) + line.format(0, 10), "utf-8")
    (tmp_path / "serve-0.log").write_text("nothing\n", "utf-8")
    assert rebalances(tmp_path.glob("*.log")) == {"ingest": 3, "serve": 0}


def test_errors_are_put_together_without_their_numbers(tmp_path: Path) -> None:
    lines = [f"2026-11-23 21:14:4{i} ERROR agents.x: lost {i} rows\n" for i in range(3)]
    (tmp_path / "log-0.log").write_text("".join(lines) + "2026 INFO agents.x: fine\n", "utf-8")
    assert troubles(tmp_path.glob("*.log")) == {"log: agents.x: lost # rows": 3}


def test_dead_letters_must_be_the_bad_records_and_no_others() -> None:
    bad, good, lost = ("events", 0, 1), ("events", 0, 2), ("rec-requests", 1, 3)
    letters = {bad: "track_users: too_late ts ", lost: "recommend: reply_undeliverable reply_to "}
    found = Found(bad={bad}, buried=letters)
    found.asked_at = {b"c-1": lost}
    assert found.missing_letters() == []
    assert found.unexpected_letters() == []
    found.buried = {good: "track_users: internal  "}
    assert found.missing_letters() == [bad]
    assert [origin for origin, _ in found.unexpected_letters()] == [good]


def test_a_request_is_answered_by_a_reply_or_lost_with_a_letter() -> None:
    at = {f"c-{i}".encode(): ("rec-requests", 0, i) for i in range(3)}
    found = Found(asked=dict.fromkeys(at, 1000), asked_at=at, answered={b"c-0": 1040})
    found.buried[at[b"c-1"]] = "recommend: reply_undeliverable  "
    assert found.unanswered() == [b"c-2"]
    assert found.waits_ms() == [40]


def test_requests_in_bulk_must_be_answered_and_may_wait() -> None:
    at = {f"c-{i}".encode(): ("rec-requests-bulk", 0, i) for i in range(3)}
    found = Found(asked=dict.fromkeys(at, 1000), asked_at=at, answered={b"c-0": 1040, b"c-1": 90_000})
    found.in_bulk = {b"c-1", b"c-2"}
    assert found.unanswered() == [b"c-2"]
    assert found.waits_ms() == [40]
    figures = found.figures()
    names = ("requests", "answered", "bulk_requests", "bulk_answered", "unanswered")
    assert [figures[name] for name in names] == [1, 1, 2, 1, 1]


def test_every_slot_shown_is_labelled_once_and_logged() -> None:
    found = Found(shown={("u", "r-1", 5): 2, ("u", "r-2", 6): 1})
    found.slots.update({("u", "r-1", 5, 0): 1, ("u", "r-1", 5, 1): 2, ("u", "r-1", 7, 0): 1})
    assert found.unlabelled() == [("u", "r-2", 6, 0)]
    assert found.labelled_twice() == [(("u", "r-1", 5, 1), 2)]
    assert found.never_shown() == [("u", "r-1", 7, 0)]
    found.examples, found.logged = {(0, 1, "r-1", 0), (1, 1, "r-1", 1)}, {(0, 1, "r-1", 0), (1, 1, "r-9", 1)}
    assert found.unlogged() == [(1, 1, "r-1", 1)]  # the same offset of a topic that was made again is another


def test_a_record_in_a_wrong_partition_is_sent_on_to_the_right_one() -> None:
    here, there, bad = ("events", 0, 1), ("events", 2, 7), ("events", 0, 2)
    found = Found(misplaced={here, bad}, bad={bad}, buried={bad: "track_users: too_late ts "})
    assert found.stuck() == [here]
    found.copies[there] = here
    assert found.stuck() == []
    assert found.problems() == []


def test_records_of_a_topic_that_was_made_again_are_sent_on_under_numbers_that_go_on() -> None:
    first, second, other = ("events", 0, 3), ("events", 0, 9), ("events", 1, 4)
    found = Found(misplaced={first, second, other})
    found.copies = {("events", 2, 0): ("events", 0, 1003), ("events", 2, 1): ("events", 1, 4)}
    found.rebase()
    assert found.copies == {("events", 2, 0): first, ("events", 2, 1): other}
    assert found.stuck() == [second]


def test_processes_are_found_by_their_environment() -> None:
    assert alive_with("HEADRACE_TEST_NOBODY", str(os.getpid())) == []
