"""When so many requests wait that even the cheapest lists take too long, late ones are refused."""

from __future__ import annotations

from headrace.serving.requests.overload import Overload


def slow(limit_s: float = 2.0, each: float = 0.01) -> Overload:
    """Return one that has seen answers of 10 ms."""
    overload = Overload(limit_s)
    for _ in range(20):
        overload.took(16, 16 * each, 0.0)
    return overload


def test_nothing_is_refused_before_the_cost_of_an_answer_is_known() -> None:
    overload = Overload(2.0)
    overload.behind(0, 10**6, 0.0)
    assert overload.retry_after_s(1000, 0.0) == 0


def test_a_short_queue_is_answered_and_a_long_one_is_not() -> None:
    overload = slow()
    assert overload.retry_after_s(100, 0.0) == 0
    assert 2.0 < overload.retry_after_s(210, 0.0) < 2.6, "as long as it takes to answer those that wait"
    overload.behind(0, 150, 0.0)
    assert overload.retry_after_s(10, 0.0) == 0
    assert overload.retry_after_s(60, 0.0) > 2.0


def test_all_partitions_of_the_worker_count_while_they_are_read() -> None:
    overload = slow()
    overload.behind(0, 110, 0.0)
    overload.behind(1, 110, 0.0)
    assert overload.retry_after_s(0, 0.0) > 2.0
    overload.behind(1, 0, 0.0)
    assert overload.retry_after_s(0, 0.0) == 0
    overload.behind(1, 110, 1.0)
    overload.took(1, 0.01, 12.0)
    assert overload.drain_s(0, 12.0) == 0, "another worker may have them by now"


def test_the_cost_is_forgotten_so_that_lists_are_tried_again() -> None:
    overload, now = slow(), 0.0
    while overload.retry_after_s(1000, now):
        now += 1.0
        overload.behind(0, 0, now)
    assert 5 < now < 60
    overload.took(16, 0.16, now)
    assert overload.retry_after_s(1000, now) > 2.0


def test_an_error_asks_for_a_minute_at_most() -> None:
    assert slow().retry_after_s(10**7, 0.0) == 60.0


def test_zero_refuses_nothing() -> None:
    assert slow(limit_s=0.0).retry_after_s(10**6, 0.0) == 0
