from __future__ import annotations

import json

import pytest
from command_line import run_headrace

from headrace.console import recommend as command
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.schemas import ErrorInfo, ModelInfo, RecItem, RecReply

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
