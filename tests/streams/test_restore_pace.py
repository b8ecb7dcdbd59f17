"""When a recovery will be over."""

from __future__ import annotations

from headrace.streams.restore_pace import RestorePace


def test_the_time_to_go_is_what_is_left_at_the_pace_so_far() -> None:
    pace = RestorePace[str]()
    assert pace.seconds("a") is None
    pace.take({"a": 1000, "b": 50}, 10.0)
    assert pace.seconds("a") is None, "one reading has no pace"
    pace.take({"a": 800, "b": 50}, 12.0)
    assert pace.seconds("a") == 8.0
    assert pace.seconds("b") is None, "it stands still"
    pace.take({"a": 0, "b": 40}, 13.0)
    assert pace.seconds("a") == 0.0
    assert pace.seconds("b") == 40 * 3 / 10


def test_another_recovery_and_another_partition_begin_anew() -> None:
    pace = RestorePace[str]()
    pace.take({"a": 100}, 0.0)
    pace.take({"a": 50}, 1.0)
    pace.take({"a": 90}, 2.0)
    assert pace.seconds("a") is None
    pace.take({"a": 80}, 3.0)
    assert pace.seconds("a") == 8.0
    pace.take({}, 4.0)
    pace.take({"a": 10}, 5.0)
    assert pace.seconds("a") is None


def test_only_the_last_readings_count() -> None:
    pace = RestorePace[str]()
    for second in range(30):
        pace.take({"a": 3000 - 100 * min(second, 10) - max(0, second - 10)}, second)
    assert pace.seconds("a") == 2000 - 19
