"""Whether a topic keeps events of the past."""

from __future__ import annotations

import pytest

from headrace.console.imported.kept_long_enough import objection
from headrace.streams.settings import DAY_MS, Settings

SETTINGS = Settings()
NOW = 1_700_000_000_000


def said(age_days: float, **config: str) -> str:
    named = {name.replace("_", "."): value for name, value in config.items()}
    return objection(named, "events", NOW - round(age_days * DAY_MS), NOW, SETTINGS)


@pytest.mark.parametrize("name", ["retention_ms", "message_timestamp_before_max_ms"])
def test_a_limit_must_be_a_day_longer_than_the_oldest_event(name: str) -> None:
    limit = {name: str(7 * DAY_MS)}
    assert said(6, **limit) == ""
    assert f"{name.replace('_', '.')}={7 * DAY_MS}" in said(6.1, **limit)
    assert f"--add-config {name.replace('_', '.')}={(90 + 7) * DAY_MS}" in said(90, **limit)


def test_no_limit_and_what_the_broker_does_not_tell_are_right() -> None:
    assert said(4000) == said(4000, retention_ms="-1") == ""


def test_a_topic_with_the_time_of_the_broker_is_refused() -> None:
    assert "too late" in said(0.5, message_timestamp_type="LogAppendTime")
    assert said(0.5, message_timestamp_type="CreateTime") == ""


def test_the_old_setting_bounds_both_directions() -> None:
    assert "refuses" in said(2, message_timestamp_difference_max_ms=str(DAY_MS))
    assert said(0.5, message_timestamp_difference_max_ms=str(DAY_MS)) == ""
