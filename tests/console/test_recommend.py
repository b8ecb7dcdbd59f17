from __future__ import annotations

import json

import pytest
from command_line import run_headrace

from headrace.console import recommend as command
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.schemas import (
    AnyNone,
    ErrorInfo,
    Filters,
    ListRequest,
    ModelInfo,
    RecItem,
    RecList,
    RecReply,
    RecRequest,
)

REPLY = RecReply(
    "r1",
    [
        RecItem("item-1", 0.25, {"click": 0.25}, ["hot", "trending"], False, 0.98, ["you like [tea]"]),
        RecItem("item-2", 0.125, {"click": 0.125}, ["country"], True, 0.001),
    ],
    ModelInfo("abc", "def", ""),
    ["ranker", "ranker"],
    12.4,
)


def recommend(monkeypatch: pytest.MonkeyPatch, reply: RecReply | type[Exception], *args: str) -> int:
    asked = []

    async def ask(_settings: object, request: object, _timeout: float) -> RecReply:
        asked.append(request)
        if isinstance(reply, RecReply):
            return reply
        raise reply

    monkeypatch.setattr(command, "ask", ask)
    return run_headrace(monkeypatch, "recommend", "u1", *args)


def test_recommend_prints_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(monkeypatch, REPLY) == 0
    out = capsys.readouterr().out
    for text in ("item-1", "item-2", "0.250", "0.98", "you like [tea]", "ranker abc", "degraded: ranker"):
        assert text in out
    assert "\x1b" not in out


def test_recommend_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(monkeypatch, REPLY, "--json") == 0
    assert json.loads(capsys.readouterr().out)["items"][1]["item_id"] == "item-2"


def test_every_field_of_a_request_has_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def ask(_settings: object, request: RecRequest, _timeout: float) -> RecReply:
        asked.append(request)
        return REPLY

    monkeypatch.setattr(command, "ask", ask)
    args = "--candidate a --candidate b --seen c --category tea --category !milk --tag hot --creator !me"
    more = "--language de --published-after 1790000000000 --list home --list related:5:x:y --list digest:3"
    last = "--at-least 1.e3-17 --caller shop"
    assert run_headrace(monkeypatch, "recommend", "u1", *args.split(), *more.split(), *last.split()) == 0
    (request,) = asked
    assert (request.at_least, request.caller) == ("1.e3-17", "shop")
    assert (request.candidates, request.seen) == (["a", "b"], ["c"])
    assert request.filters == Filters(
        AnyNone(["tea"], ["milk"]), AnyNone([], ["me"]), AnyNone(["de"]), AnyNone(["hot"]), 1_790_000_000_000
    )
    assert request.lists == [
        ListRequest("home"), ListRequest("related", 5, "x:y"), ListRequest("digest", 3)
    ]  # fmt: skip


def test_a_refusal_says_when_to_ask_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ErrorInfo("rate_limited", "more than 5 lists in a second by this caller", retry_after_ms=140)
    assert recommend(monkeypatch, RecReply("r1", error=error)) == 1
    assert "again in 140 ms" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("text", ["house", "home:many", "home:-1", ":3"])
def test_a_list_that_is_none_is_named(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(monkeypatch, REPLY, "--list", text) == 2
    assert "SURFACE[:N[:ITEM]]" in capsys.readouterr().err


def test_recommend_prints_every_list_of_a_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = [RecList("r1/1", REPLY.items[:1]), RecList("r1/2", REPLY.items[1:])]
    page = RecReply("r1", [], REPLY.model, ["ranker"], 12.4, lists=lists)
    assert recommend(monkeypatch, page, "--list", "home:1", "--list", "digest:1") == 0
    out = capsys.readouterr().out
    for text in ("r1/1", "(home)", "item-1", "r1/2", "(digest)", "item-2", "degraded: ranker"):
        assert text in out


def test_recommend_says_what_was_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = RecReply("r", error=ErrorInfo("invalid_field", "Expected `int` <= 500", "n"))
    assert recommend(monkeypatch, refusal, "--n", "1000") == 1
    assert "field n" in capsys.readouterr().err


def test_recommend_without_a_worker_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(monkeypatch, TimeoutError) == 1
    assert "worker serve" in capsys.readouterr().err
    assert recommend(monkeypatch, UnavailableError) == 2
