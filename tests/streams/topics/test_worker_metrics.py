"""The metrics of workers, as ``headrace why-lag`` reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import generate_latest

from headrace.agents.roles import measuring
from headrace.demo.embedded import free_port
from headrace.streams.errors import ConfigError
from headrace.streams.metrics import Metrics
from headrace.streams.settings import Settings
from headrace.streams.topics.worker_metrics import Scrape, Worker, checked_url, parse, scrape


def test_it_reads_what_a_worker_writes() -> None:
    metrics = Metrics()
    metrics.count("headrace_redis_errors_total", 'a"b\\c', by=3)
    metrics.observe("headrace_batch_seconds", 0.25, "recommend", "requests")
    seen = Scrape(0.0, parse(generate_latest(metrics.registry).decode()))
    assert seen.sum("headrace_batch_seconds_sum", agent="recommend") == 0.25
    assert seen.sum("headrace_batch_seconds_count") == 1
    assert seen.sum("headrace_batch_seconds_sum", agent="learn") is None
    assert list(seen.values("headrace_redis_errors_total", "call").values()) == [3.0]
    assert seen.sum("process_cpu_seconds_total") is not None


def test_what_is_no_sample_is_passed_over() -> None:
    assert parse("<html>\n# HELP x y\nx\nx{a=1 2\nx one\n") == ()
    assert parse("x 1 1700000000\n")[0].value == 1


def test_counters_of_a_process_that_began_anew_count_from_nothing() -> None:
    def seen(at_s: float, began: int, count: int) -> Scrape:
        return Scrape(at_s, parse(f'process_start_time_seconds {began}\nn_total{{a="b"}} {count}\n'))

    same = Worker("http://w", seen(0.0, 1, 5), seen(4.0, 1, 7))
    assert (same.seconds, same.restarted, same.grown("n_total"), same.grown_by("n_total", "a")) == (
        4.0, False, 2.0, {"b": 2.0},
    )  # fmt: skip
    again = Worker("http://w", seen(0.0, 1, 5), seen(4.0, 2, 1))
    assert (again.restarted, again.grown("n_total"), again.grown_by("n_total", "a")) == (
        True,
        1.0,
        {"b": 1.0},
    )
    away = Worker("http://w", seen(0.0, 1, 5), None)
    assert (away.answers, away.restarted, away.grown("n_total"), away.seconds) == (False, False, None, 0.0)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("serve:9464", "http://serve:9464/metrics"),
        ("http://serve:9464/", "http://serve:9464/metrics"),
        ("https://x/other", "https://x/other"),
    ],
)
def test_a_worker_is_named_by_host_and_port_or_its_url(text: str, url: str) -> None:
    assert checked_url(text) == url


@pytest.mark.parametrize("text", ["file:///etc/passwd", "http://", "ftp://x/metrics", "http://u:p@x/metrics"])
def test_what_is_no_url_of_metrics_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--metrics"):
        checked_url(text)


async def test_workers_are_asked_and_one_that_is_away_has_no_answer(
    make_settings: Callable[..., Any],
) -> None:
    settings: Settings = make_settings(metrics_port=free_port())
    services = measuring(settings, Metrics(), ["serve", "log"])
    for service in services:
        await service.start()
    here, away = checked_url(f"127.0.0.1:{settings.metrics_port}"), checked_url(f"127.0.0.1:{free_port()}")
    found = await scrape([here, away], 7.0)
    for service in services:
        await service.stop()
    assert found[away] is None
    seen = found[here]
    assert seen is not None
    assert (seen.at_s, seen.roles) == (7.0, ("log", "serve"))
