"""`headrace dead-letters list` and `show`: what was refused, from the broker alone, safe for a terminal."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import run_headrace
from fresh_topics import make_topics
from installation import read_all

from headrace.console import dead_letters, letter_pages
from headrace.streams.clock import now_ms
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import dead_letter, read_dead_letter
from headrace.streams.topics.letter_reader import FoundLetter
from headrace.streams.topics.names import Topics
from headrace.streams.topics.redrives import MOST_TIMES, WHY
from headrace.streams.topics.sender import BatchSender

NOW = 1_700_000_000_000
UGLY = b'{"password": "hunter2", "deep": [{"api_key": "k"}], "title": "\\u001b[31mred\\u202e", "n": 1}'


def letter(
    value: bytes | None, *, key: bytes | None = b"user-1", reason: str = "invalid_field", **more: Any
) -> Any:
    original = SimpleNamespace(
        key=key, value=value, offset=42, timestamp=NOW, headers=more.pop("headers", ())
    )
    topic, agent = more.pop("topic", "events"), more.pop("agent", "track_users")
    return dead_letter(original, topic, 1, agent=agent, reason=reason, field="ts", **more)


def found(written: Any, offset: int = 7, written_ms: int = NOW, *, redriven: bool = False) -> FoundLetter:
    key, value, _, headers = written
    record = SimpleNamespace(key=key, value=value, headers=headers)
    return FoundLetter(3, offset, written_ms, read_dead_letter(record), redriven)


def test_times_that_people_write() -> None:
    assert letter_pages.time_of("--since", "2h", NOW) == NOW - 7_200_000
    assert letter_pages.time_of("--since", "1.5 min", NOW) == NOW - 90_000
    assert letter_pages.time_of("--since", "2023-11-14T22:13:20", 0) == NOW
    assert letter_pages.time_of("--since", "2023-11-15T00:13:20+02:00", 0) == NOW
    with pytest.raises(ConfigError, match="--until 'soon'"):
        letter_pages.time_of("--until", "soon", NOW)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (b"", ""),
        (b"\x1b]0;title\x07\xff\nline", "\\x1b]0;title\\x07\\xff\\nline"),
        ("caf\u00e9 \u202e".encode(), "caf\u00e9 \\u202e"),
        (b"17", "17"),
        (b'{"a": [1, null]}', {"a": [1, None]}),
        (b"[" * 100_000, "[" * 100_000),
        (
            b'{"token": "x", "a": {"Authorization": 1}}',
            {"token": "(hidden)", "a": {"Authorization": "(hidden)"}},
        ),
    ],
)
def test_bodies(value: bytes | None, shown: Any) -> None:
    assert letter_pages.body_of(value) == shown


def test_a_letter_as_a_page_breaks_no_terminal_and_tells_no_secret() -> None:
    headers = [("trace\x1b", b"\x00\xff"), ("Cookie", b"session=1")]
    about = letter_pages.whole(found(letter(UGLY, headers=headers, detail="at \x1b[2J", key=b"\x9b5")))
    text = letter_pages.letter_text(about)
    assert all(c.isprintable() or c == "\n" for c in text)
    for secret in ("hunter2", '"k"', "session"):
        assert secret not in text + json.dumps(about)
    assert re.search(r"reason +invalid_field ts\n", text)
    assert re.search(r"record +events-1 offset 42, 2023-11-14 22:13:20\n", text)
    assert '"title": "\\u001b[31mred\\u202e"' in text
    assert re.search(r"header trace\\x1b +\\x00\\xff\n", text)
    assert about["headers"]["Cookie"] == "(hidden)"


def test_a_lone_surrogate_and_a_long_body() -> None:
    assert letter_pages.letter_text(letter_pages.whole(found(letter(b'["\\ud800"]')))).isascii()
    text = letter_pages.letter_text(letter_pages.whole(found(letter(b"x" * 100_000))))
    assert text.endswith("... 34,464 characters more (--json has all)")


def test_counts_are_bounded_and_the_largest_come_first() -> None:
    counts = letter_pages.Counts()
    for n in range(letter_pages.MOST_GROUPS + 5):
        counts.add(found(letter(b"", reason=f"r{n}"), written_ms=NOW + n, redriven=n < 2))
    counts.add(found(letter(b"", reason="r7"), written_ms=NOW - 1))
    others, twice, *rest = counts.largest()
    assert (others.reason, others.count, others.redriven) == ("(others)", 5, 0)
    assert (twice.reason, twice.count, twice.first_ms, twice.last_ms) == ("r7", 2, NOW - 1, NOW + 7)
    assert len(rest) == letter_pages.MOST_GROUPS - 1


def test_the_last_letters_are_kept() -> None:
    latest = letter_pages.Latest(3)
    for n in (5, 1, 4, 2, 3):
        latest.add(found(letter(b""), offset=n, written_ms=NOW + n))
    assert [line["place"] for line in latest.lines()] == ["3-3", "3-4", "3-5"]


def test_the_option_has_the_default_of_the_rules() -> None:
    assert inspect.signature(dead_letters.redrive).parameters["most_times"].default == MOST_TIMES


@pytest.mark.broker
def test_the_commands(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    topics, now = Topics(settings), now_ms()

    async def make() -> dict[bytes | None, str]:
        await make_topics(settings)
        sender = BatchSender(settings)
        await sender.start()
        old = (
            b"old",
            b"{}",
            None,
            [("reason", b"too_large"), ("agent", b"track_users")],
        )  # of an older version
        letters = [letter(UGLY, topic=topics.events, key=b"u%d" % n) for n in range(3)]
        bad = letter(b"\x1b[2J[red]", topic=topics.items, reason="undecodable", key=b"i1")
        await sender.send_keyed(topics.dead_letters, [*letters, bad, old])
        await sender.stop()
        return {r.key: f"{r.partition}-{r.offset}" for r in await read_all(settings, topics.dead_letters)}

    def printed(code: int, *arguments: str) -> str:
        assert run_headrace(monkeypatch, "dead-letters", *arguments) == code
        return capsys.readouterr().out

    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("HEADRACE_BROKERS", settings.brokers)
    places = asyncio.run(make())
    table = printed(0, "list")
    assert re.search(rf"invalid_field +ts +{topics.events} +track_users +3 +0 +20", table)
    assert re.search(r"too_large +track_users +1 +0 +20", table)
    groups = json.loads(printed(0, "list", "--json"))
    assert [(g["reason"], g["topic"], g["count"]) for g in groups] == [
        ("invalid_field", topics.events, 3), ("too_large", "", 1), ("undecodable", topics.items, 1)
    ]  # fmt: skip
    assert [g["count"] for g in json.loads(printed(0, "list", "--json", "--topic", "items"))] == [1]
    lines = json.loads(printed(0, "list", "--json", "--each", "--agent", "track_users"))
    assert {line["place"] for line in lines} == set(places.values())
    assert len(json.loads(printed(0, "list", "--json", "--each", "--limit", "2"))) == 2
    assert all(now - 60_000 < line["written_ms"] for line in lines)
    assert "u1" in printed(0, "list", "--each", "--key", "u1")
    assert printed(0, "list", "--since", "2100-01-01") == "no dead letters\n"
    assert printed(0, "list", "--until", "2h") == "no dead letters\n"
    page = printed(0, "show", places[b"i1"])
    assert "\\x1b[2J[red]" in page
    assert "\x1b" not in page
    assert "hunter2" not in printed(0, "show", places[b"u1"], "--json")
    assert re.search(r"reason +too_large\n", printed(0, "show", places[b"old"]))
    assert printed(1, "show", "3-999") == "there is no letter 3-999\n"
    plan = printed(0, "redrive")
    assert plan.splitlines() == [
        f"would be written again: 1 (1 to {topics.items})",
        f"left out: 3 (too_old: {WHY['too_old']})",
        f"left out: 1 (no_origin: {WHY['no_origin']})",
        "nothing was written: with --yes they are",
    ]
