"""HEADRACE_BROKERS: addresses as clients write them, and what is none."""

from __future__ import annotations

import re

import pytest
from command_line import run_headrace

from headrace.console.options import read_settings
from headrace.streams.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "brokers"),
    [
        ("kafka-1.example.com:9092", "kafka-1.example.com:9092"),
        ("a:1, b:2 ,c:3,", "a:1,b:2,c:3"),
        ("kafka", "kafka"),
        ("10.0.0.1:9092", "10.0.0.1:9092"),
        ("[::1]:9092", "[::1]:9092"),
        ("my_broker:9092", "my_broker:9092"),
    ],
)
def test_addresses(given: str, brokers: str) -> None:
    assert read_settings(given).brokers == brokers


@pytest.mark.parametrize(
    "given",
    [
        "kafka://host:9092", "PLAINTEXT://host:9092", "a:1,kafka://b:2", "a:1;b:2", "host:port", "", ",",
        "host:9092/topic", "user@host:9092", "http://host", "a b:1", "::1:9092",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^HEADRACE_BROKERS: write host:port, comma-separated, without kafka"
    ):
        read_settings(given)


@pytest.mark.parametrize("command", [["topics", "check"], ["lag"], ["recommend", "u"], ["worker", "log"]])
def test_a_command_says_it_in_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "kafka://broker:9092")
    assert run_headrace(monkeypatch, *command) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"headrace: HEADRACE_BROKERS: write host:port.*'kafka://broker:9092'\)\n", err), err
