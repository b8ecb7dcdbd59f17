from __future__ import annotations

import pytest

from headrace.demo.stack import environment
from headrace.streams.settings import Settings


def test_a_worker_reads_exactly_the_settings_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "production:9092")
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", "prod-")
    given = Settings(brokers="127.0.0.1:5", topic_prefix="", reply_topics=("a*", "b"), candidates=250)
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    assert Settings() == given
