"""A dead letter has the whole record, the error, and the origin of the record."""

from __future__ import annotations

from types import SimpleNamespace

from headrace.streams.topics.dead_letters import MAX_DETAIL, MAX_HEADER_BYTES, dead_letter, read_dead_letter


def record(key=b"user-1", value=b"{", headers=(), offset=42, timestamp=1_700_000_000_123):
    return SimpleNamespace(key=key, value=value, headers=headers, offset=offset, timestamp=timestamp)


def round_trip(original, **why):
    why = {"agent": "track_users", "reason": "undecodable", **why}
    key, value, _, headers = dead_letter(original, "events", 3, **why)
    return read_dead_letter(record(key, value, headers, offset=7, timestamp=9))


def test_everything_comes_back():
    original = record(headers=[("reply_to", b"rec-replies"), ("trace", b"\x00\xff")])
    letter = round_trip(original, field="dwell_ms", detail="Expected `int`, got `str`")
    assert (letter.key, letter.value) == (b"user-1", b"{")
    assert (letter.reason, letter.field, letter.detail) == (
        "undecodable", "dwell_ms", "Expected `int`, got `str`",
    )  # fmt: skip
    assert letter.agent == "track_users"
    assert (letter.topic, letter.partition, letter.offset) == ("events", 3, 42)
    assert letter.timestamp == 1_700_000_000_123
    assert letter.headers == (("reply_to", b"rec-replies"), ("trace", b"\x00\xff"))


def test_header_names_are_the_contract():
    headers = dead_letter(record(), "events", 3, agent="a", reason="r")[3]
    assert [name for name, _ in headers] == [
        "reason", "field", "detail", "agent",
        "origin-topic", "origin-partition", "origin-offset", "origin-timestamp",
    ]  # fmt: skip


def test_a_letter_is_dated_when_written():
    assert dead_letter(record(), "events", 3, agent="a", reason="r")[2] is None


def test_null_is_not_empty():
    assert round_trip(record(value=None)).value is None
    assert round_trip(record(value=b"")).value == b""
    assert round_trip(record(key=None, value=None)).key is None


def test_long_texts_and_headers_are_bounded():
    letter = round_trip(record(headers=[("big", b"x" * MAX_HEADER_BYTES)]), detail="é" * 5000)
    assert len(letter.detail) == MAX_DETAIL
    assert letter.headers == ()


def test_a_header_of_the_record_cannot_pose_as_ours():
    letter = round_trip(record(headers=[("reason", b"forged"), ("origin-topic", b"forged")]))
    assert letter.reason == "undecodable"
    assert letter.topic == "events"


def test_null_header_values():
    assert round_trip(record(headers=[("flag", None)])).headers == (("flag", b""),)


def test_foreign_letters_can_be_read():
    letter = read_dead_letter(record(headers=[("origin-offset", b"not a number"), ("reason", b"\xff")]))
    assert letter.offset == -1
    assert letter.partition == -1
    assert letter.reason == "\ufffd"
