from __future__ import annotations

import math

import pytest
from lag_rows import row
from prometheus_client.exposition import generate_latest

from headrace.agents.stage.lag_figures import lag_point, lag_table
from headrace.models.learning.outcome_counts import MOST, OutcomeCounts
from headrace.serving.monitor import figures
from headrace.streams.metrics import Metrics, Sample
from headrace.streams.scraping import Samples, grown, read_samples, summed
from headrace.streams.topics.lag_verdict import Verdict


def samples(metrics: Metrics) -> Samples:
    return read_samples(generate_latest(metrics.registry).decode(), figures.READ)


def test_the_lag_of_a_role_is_that_of_its_worst_topic() -> None:
    rows = [
        row("ingest", 0, 5, 2.0),
        row("ingest", 1, 7, 9.0),
        row("learn", 0, 3, None, verdict=Verdict.STOP),
    ]
    assert lag_point(rows) == {"lag_records:ingest": 12, "lag:ingest": 9.0, "lag_records:learn": 3}
    table = lag_table(rows, [("log", "examples")])
    assert table["verdict"] == "STOP"
    assert [r["seconds"] for r in table["rows"]] == [9.0, None]
    assert table["missing"] == ["log reads examples, which does not exist"]
    assert lag_table([], [])["verdict"] == "OK"


def test_a_point_has_what_the_workers_said_and_nothing_else() -> None:
    """Two workers, before and now; what neither of them has is absent."""
    one, two = Metrics(), Metrics()
    for metrics in (one, two):
        metrics.count("headrace_records_total", "ingest", "track_users", "events", by=100)
    one.read(lambda: [Sample("headrace_index_recall_ratio", 0.9), Sample("headrace_index_items", 10)])
    two.read(lambda: [Sample("headrace_index_recall_ratio", 0.8), Sample("headrace_index_items", 30)])
    before = [samples(one), samples(two)]
    one.count("headrace_records_total", "ingest", "track_users", "events", by=30)
    two.count("headrace_records_total", "ingest", "track_users", "impressions", by=10)
    two.count("headrace_dead_letters_total", "learn", "not_json", by=4)
    for _ in range(99):
        one.observe("headrace_reply_seconds", 0.004, "home")
    two.observe("headrace_reply_seconds", 4.0, "home")
    now = [samples(one), samples(two)]
    more = summed(grown(b, n) for b, n in zip(before, now, strict=True))
    point = figures.metric_point(now, more, 2.0)
    assert point.pop("reply:half") == pytest.approx(0.0035, abs=0.0015)
    assert point.pop("reply:slowest 1 %") == pytest.approx(0.005, rel=0.01)
    assert point == {
        "records:track_users": 20.0, "letters:not_json": 2.0, "recall:lowest": 0.8, "index:index": 30.0,
    }  # fmt: skip
    assert figures.metric_point([], {}, 2.0) == {}
    total = summed(now)
    assert figures.letters_table(total) == [{"agent": "learn", "reason": "not_json", "letters": 4}]
    assert [r["recall"] for r in figures.index_table({"a": now[0], "b": now[1]})] == [0.9, 0.8]
    assert figures.index_table({"a": {}}) == []


@pytest.mark.parametrize(
    ("clicks", "shown", "low", "high"),
    # Of the Wilson interval, from statsmodels' proportion_confint(method="wilson").
    [(0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (90, 1000, 0.07378, 0.10935), (10, 10, 0.72247, 1.0)],
)
def test_the_interval_of_a_click_rate(clicks: int, shown: int, low: float, high: float) -> None:
    found = figures.rate_interval(clicks, shown)
    assert found is not None
    assert found == pytest.approx((clicks / shown, low, high), abs=1e-4)


def test_no_click_rate_without_a_slot() -> None:
    assert figures.rate_interval(0, 0) is None
    assert figures.clicks_table({}) == []


def test_click_rates_are_of_the_last_points() -> None:
    clicks, metrics, counts = figures.Clicks(), Metrics(), OutcomeCounts()
    metrics.read(counts.read)
    assert clicks.add({}) == {}
    key = "headrace_outcomes_total"

    def more(shown: float, clicked: float) -> Samples:
        labels = (("outcome", "shown"), ("ranker", "r")), (("outcome", "clicked"), ("ranker", "r"))
        return {(key, labels[0]): shown, (key, labels[1]): clicked}

    assert clicks.add(more(100, 10)) == {"clicks:r": 0.1}
    assert clicks.add(more(100, 30)) == {"clicks:r": 0.2}
    for _ in range(figures.CLICK_POINTS):
        found = clicks.add(more(10, 5))
    assert found == {"clicks:r": 0.5}
    (told,) = figures.clicks_table(more(1000, 90))
    assert (told["ranker"], told["shown"], told["clicked"]) == ("r", 1000, 90)
    assert math.isclose(told["rate"], 0.09)
    assert MOST >= 2
