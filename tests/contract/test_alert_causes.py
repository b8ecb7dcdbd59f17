"""Every alert has a test in which its real cause happens: the series of alerts_test.yml are written by hand.

In ``test_alerts_whole.py`` and ``test_alerts_hour.py`` the rules themselves are asked. The other tests show
that the cause moves the metric that the rule asks for; that the rule fires then, alerts_test.yml shows.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from project import ROOT

WHOLE, HOUR = "tests/monitor/test_alerts_whole.py", "tests/demo/accelerated/test_alerts_hour.py"
#: Alert -> file, and the function in which it is provoked.
CAUSES = {
    "HeadraceWorkerDown": (WHOLE, "ingest_frozen"),
    "HeadraceRoleMissing": (WHOLE, "ingest_frozen"),
    "HeadraceLagOld": ("tests/streams/test_app_metrics.py", "test_the_lag_of_an_agent_that_waits_is_seen"),
    "HeadraceAgentStalled": (
        "tests/streams/test_app_metrics.py", "test_the_lag_of_an_agent_that_waits_is_seen"
    ),
    "HeadraceConsumerRestarted": (
        "tests/streams/test_watchdog.py",
        "test_a_consumer_that_does_not_read_joins_again_and_loses_and_repeats_nothing",
    ),
    "HeadraceBulkStalled": (
        "tests/agents/test_bulk.py", "test_no_list_is_made_while_a_request_waits_or_is_answered"
    ),
    "HeadraceCommitsFail": (WHOLE, "a_worker_comes_and_goes"),
    "HeadraceDeadLetters": (WHOLE, "poisoned_records"),
    "HeadraceCanarySilent": (WHOLE, "broker_frozen"),
    "HeadraceFreshnessBurnsFast": (WHOLE, "ingest_frozen"),
    "HeadraceFreshnessBurns": (WHOLE, "ingest_frozen"),
    "HeadraceFreshnessBurnsSlowly": (WHOLE, "ingest_frozen"),
    "HeadraceRepliesSlow": (WHOLE, "redis_frozen"),
    "HeadraceRepliesDegraded": (WHOLE, "redis_frozen"),
    "HeadraceOverloaded": (WHOLE, "too_many_requests"),
    "HeadraceGatewayFails": (WHOLE, "serve_frozen"),
    "HeadracePartLeftOut": (HOUR, "test_silent_for_an_hour_until_something_breaks"),
    "HeadraceRecallLow": (HOUR, "test_silent_for_an_hour_until_something_breaks"),
    "HeadraceIndexOld": (HOUR, "test_silent_for_an_hour_until_something_breaks"),
    "HeadraceSkew": (HOUR, "test_silent_for_an_hour_until_something_breaks"),
    "HeadraceFeaturesMoved": (
        "tests/agents/test_trainer.py", "test_what_is_served_is_watched_for_drift_from_the_live_ranker"
    ),
    "HeadraceModelOld": (HOUR, "test_silent_for_an_hour_until_something_breaks"),
    "HeadraceTrainingFails": (WHOLE, "trainings_killed"),
    "HeadraceRolloutBack": (
        "tests/agents/test_rollout.py", "test_a_candidate_that_is_worse_goes_and_the_reason_is_kept"
    ),
    "HeadraceMlflowFails": (
        "tests/agents/stage/test_mlflow_mirror.py",
        "test_mlflow_that_is_away_is_counted_told_once_and_made_up_for",
    ),
    "HeadraceRedisFails": (WHOLE, "redis_frozen"),
    "HeadraceRowsOld": (WHOLE, "ingest_frozen"),
    "HeadraceLoopHeld": (WHOLE, "a_held_loop"),
    "HeadraceCpuShort": (WHOLE, "others_take_the_machine"),
}  # fmt: skip
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "ops/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]


def test_every_alert_has_a_cause() -> None:
    assert [rule["alert"] for rule in RULES] == list(CAUSES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_the_test_of_a_cause_is_there_and_about_it(rule: dict[str, Any]) -> None:
    """It names the alert where rules are asked, else a metric that the rule asks for."""
    file, function = CAUSES[rule["alert"]]
    text = (ROOT / file).read_text("utf-8")
    assert re.search(rf"^(async )?def {function}\(", text, re.MULTILINE)
    if file in {WHOLE, HOUR}:
        assert f'"{rule["alert"]}"' in text
    else:
        told = re.findall(r"headrace_\w+", rule["expr"])
        assert any(name in text or name.removesuffix("_total") in text for name in told) or (
            "headrace_lag_{what}" in text
        )
