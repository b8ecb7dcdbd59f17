from __future__ import annotations

import pytest

from headrace.demo.stack import environment, of_process
from headrace.streams.settings import Settings


def test_a_worker_reads_exactly_the_settings_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_BROKERS", "production:9092")
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", "prod-")
    given = Settings(brokers="127.0.0.1:5", topic_prefix="", reply_topics=("a*", "b"), candidates=250)
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    assert Settings() == given


def test_every_worker_serves_its_metrics_on_its_own_port() -> None:
    served = Settings(metrics_port=9464)
    assert [of_process(served, n).metrics_port for n in range(3)] == [9464, 9465, 9466]
    assert of_process(Settings(), 2) == Settings()
