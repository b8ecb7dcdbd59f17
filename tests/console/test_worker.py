from __future__ import annotations

import re
import socket

import pytest
from command_line import run_headrace

from headrace.streams.settings import Settings


def test_the_web_port_is_for_one_role(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    async def run_worker(_settings: Settings, roles: list[str]) -> None:
        ran.append(roles)

    monkeypatch.setattr("headrace.agents.roles.run_worker", run_worker)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("HEADRACE_WEB_PORT", port)
        for args, text in (
            (["worker", "ingest,learn"], "one role.*ingest, learn"),
            (["worker", "serve"], "in use"),
            (["demo"], "demo"),
        ):
            assert run_headrace(monkeypatch, *args) == 2
            err = capsys.readouterr().err
            assert re.fullmatch(rf"headrace: HEADRACE_WEB_PORT={port}.*{text}.*\n", err), err
        assert ran == []
    assert run_headrace(monkeypatch, "worker", "log,trainer") == 0  # the trainer has no web server
    monkeypatch.setenv("HEADRACE_WEB_PORT", "0")
    assert run_headrace(monkeypatch, "worker", "ingest,learn") == 0
    assert ran == [["log", "trainer"], ["ingest", "learn"]]
