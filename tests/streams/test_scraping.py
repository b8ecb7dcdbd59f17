from __future__ import annotations

import pytest
from prometheus_client.exposition import generate_latest

from headrace.streams.errors import ConfigError
from headrace.streams.metrics import Metrics
from headrace.streams.scraping import Target, by_label, grown, quantile, read_samples, summed, targets_of


def page(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def test_targets() -> None:
    assert targets_of(["ingest:9464", "[::1]:80"]) == [Target("ingest", 9464), Target("::1", 80)]
    for bad in ("ingest", "http://ingest:9464", "a:0", "a:99999", "a b:1", ""):
        with pytest.raises(ConfigError, match="HEADRACE_MONITOR_TARGETS"):
            targets_of([bad])


def test_only_what_is_wanted_is_read() -> None:
    metrics = Metrics()
    metrics.count("headrace_dead_letters_total", "track_users", 'a "strange" reason\n')
    metrics.observe("headrace_loop_late_seconds", 0.1)
    samples = read_samples(page(metrics), ("headrace_dead_letters_total",))
    assert samples == {
        ("headrace_dead_letters_total", (("agent", "track_users"), ("reason", 'a "strange" reason\n'))): 1.0
    }
    with pytest.raises(ValueError, match=r"\S"):
        read_samples("headrace_x{a=", ("headrace_",))


def test_what_has_grown_and_what_was_restarted() -> None:
    a, b, c = ("n", (("k", "a"),)), ("n", (("k", "b"),)), ("n", (("k", "c"),))
    assert grown(None, {a: 5.0}) == {}  # nothing is known of the time before
    assert grown({a: 5.0, b: 7.0}, {a: 8.0, b: 2.0, c: 1.0}) == {a: 3.0, b: 2.0, c: 1.0}
    assert summed([{a: 1.0, b: 1.0}, {a: 2.0}]) == {a: 3.0, b: 1.0}
    assert by_label({a: 3.0, b: 1.0, ("m", ()): 9.0}, "n", "k") == {"a": 3.0, "b": 1.0}


def test_a_quantile_is_that_of_the_observations() -> None:
    metrics = Metrics()
    for ms in range(1, 1001):
        metrics.observe("headrace_reply_seconds", ms / 1000, "home" if ms % 2 else "digest")
    samples = read_samples(page(metrics), ("headrace_reply_seconds",))
    for q in (0.1, 0.5, 0.99):
        assert quantile(samples, "headrace_reply_seconds", q) == pytest.approx(q, rel=0.02)
    assert quantile(samples, "headrace_reply_seconds", 0.5, surface="home") == pytest.approx(0.5, rel=0.02)
    assert quantile(samples, "headrace_reply_seconds", 0.5, surface="none") is None
    metrics.observe("headrace_redis_seconds", 60.0, "get")  # over the last bound
    over = read_samples(page(metrics), ("headrace_redis_seconds",))
    assert quantile(over, "headrace_redis_seconds", 0.5) == 1.0
