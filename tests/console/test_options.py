from __future__ import annotations

import re

import pytest
from command_line import run_headrace

from headrace.console.options import read_settings


def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HEADRACE_PARTITIONS", "none")
    assert run_headrace(monkeypatch, "topics", "check") == 2
    assert "HEADRACE_PARTITIONS" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["topics", "check"], ["demo"], ["worker", "log"]])
def test_a_setting_that_cannot_be_read_is_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_REPLY_TOPICS", '["rec-replies*"')
    assert run_headrace(monkeypatch, *command) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"headrace: HEADRACE_REPLY_TOPICS: .*rec-replies.*\n", err), err


def test_variables_that_do_not_exist_are_named_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BROKER", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_XYZZY", "1")
    monkeypatch.setenv("HEADRACE_TEST_BROKER", "127.0.0.1:1")
    monkeypatch.setenv("headrace_candidates", "250")
    assert read_settings().candidates == 250
    assert capsys.readouterr() == (
        "",
        "headrace: there is no setting HEADRACE_BROKER; it is ignored (did you mean HEADRACE_BROKERS?)\n"
        "headrace: there is no setting HEADRACE_XYZZY; it is ignored\n",
    )


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "a:1")
    monkeypatch.setenv("HEADRACE_REDIS_URL", "redis://a:2")
    assert read_settings().brokers == "a:1"
    both = read_settings("b:3", "redis://b:4")
    assert (both.brokers, both.redis_url) == ("b:3", "redis://b:4")
