"""The formulas, on constants that are easy to compute with: each is 1, but where a test says so."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import capacity_constants as made
import numpy as np
import pytest

from headrace.console.sizing import state
from headrace.console.sizing.constants import Constants, parsed, shipped
from headrace.console.sizing.distinct import different_items, different_users
from headrace.console.sizing.estimate import as_json, estimate
from headrace.console.sizing.load import Load
from headrace.console.sizing.roles import SHARING
from headrace.serving.mirrored_items import IDLE_MS, MOST_IDLE_ITEMS, MOST_ITEM_ROWS
from headrace.serving.mirrors import MOST_COUNTRY_ROWS
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings
from headrace.streams.topics import flow

SETTINGS = Settings.model_validate({})
LOAD = Load(users=1000, active_users=100, items=200, events_per_s=50, requests_per_s=2)
DAY_S = 86_400


def constants(**values: Any) -> Constants:
    """Return constants that are all 1, and curves at 1, but for those that are given."""
    run = {"command": "make x", "commit": "c0ffee", "date": "2026-11-27", "machine": "2 cores"}
    out = {}
    for name, pick in made.PICKS.items():
        value = values.pop(name, [[1, 1.0]] if pick.at.startswith("curves.") else 1.0)
        if name.startswith("idle_cores_"):
            value = 1e-9
        out[name] = {"value": value, "unit": pick.unit, "meaning": "m", "run": "x", "at": pick.at}
    assert not values, f"no such constants: {values}"
    return parsed(json.dumps({"runs": {"x": run}, "constants": out}).encode())


def value(of: str, what: str, load: Load = LOAD, settings: Settings = SETTINGS, **values: Any) -> float:
    return estimate(load, settings, constants(**values)).value(of, what)


# --- workers ---


def test_workers_follow_from_the_cpu_of_events_and_lists() -> None:
    load = dataclasses.replace(LOAD, events_per_s=100_000, requests_per_s=1000, busy=0.5)
    cost = {"ingest_us_per_event": 20.0, "ingest_us_per_list": 400.0}
    assert value("ingest", "cores", load, **cost) == pytest.approx(2.4)
    assert value("ingest", "workers", load, **cost) == 5


def test_workers_follow_from_memory_where_that_asks_for_more() -> None:
    load = dataclasses.replace(LOAD, worker_gb=1.0)
    # 2 copies of 100 whole rows of 1e8 bytes, beside a process of 5e8.
    big = {"user_row_memory_bytes": 1e8, "base_bytes_ingest": 5e8}
    assert value("ingest", "workers", load, **big) == 41  # 20 GB and a little in pieces of 0.5
    assert value("ingest", "memory of a worker", load, **big) <= 1e9


def test_one_may_fail_and_some_roles_are_alone() -> None:
    found = estimate(LOAD, SETTINGS, constants())
    assert {role.role: role.workers for role in found.roles} == {
        **dict.fromkeys(SHARING, 2), "trainer": 1, "index": 1, "canary": 1, "monitor": 1,
    }  # fmt: skip
    assert found.limits == ()


def test_partitions_have_room_to_grow_and_are_a_power_of_two() -> None:
    assert value("kafka", "partitions") == 4
    load = dataclasses.replace(LOAD, requests_per_s=990, busy=0.5)
    assert value("serve", "workers", load, serve_us_per_list=5000.0) == 10
    assert value("kafka", "partitions", load, serve_us_per_list=5000.0) == 32


def test_a_worker_of_serve_reads_every_row_of_items() -> None:
    found = estimate(LOAD, SETTINGS, constants())
    rows = sum(found.topics[name].records_per_s for name in ("item_features", "item_countries"))
    cores = value("serve", "cores", serve_us_per_item_row=1000.0) - value("serve", "cores")
    assert cores == pytest.approx(2 * rows * 999e-6, rel=1e-3)


def test_what_cannot_work_is_said() -> None:
    found = estimate(LOAD, SETTINGS, constants(serve_us_per_item_row=1e5))
    assert any(text.startswith("serve: every process would use") for text in found.limits)
    found = estimate(LOAD, SETTINGS, constants(base_bytes_log=9e9))
    assert any(text.startswith("log: every process needs 9.0 GB") for text in found.limits)
    many = dataclasses.replace(LOAD, users=5e8, active_users=4e8)
    found = estimate(many, SETTINGS, constants(user_row_memory_bytes=1e-3))
    assert any("HEADRACE_MEMORY_ROWS" in text for text in found.limits)


# --- bytes ---


def test_topics_keep_what_their_retention_says() -> None:
    load = dataclasses.replace(LOAD, replication=3)
    assert value("events", "kept", load, event_bytes=40.0) == pytest.approx(3 * 50 * 40 * 7 * DAY_S)
    assert value("replies", "kept", load, reply_bytes=4000.0) == pytest.approx(3 * 2 * 4000 * DAY_S)
    shorter = dataclasses.replace(load, retention_days=1.0)
    assert value("events", "kept", shorter, event_bytes=40.0) == pytest.approx(3 * 50 * 40 * DAY_S)
    assert value("replies", "kept", shorter, reply_bytes=4000.0) == pytest.approx(3 * 2 * 4000 * DAY_S)


@pytest.mark.parametrize("per_s", [0.01, 1.0, 100.0])
def test_a_record_is_as_large_where_there_are_few(per_s: float) -> None:
    load = dataclasses.replace(LOAD, events_per_s=per_s, requests_per_s=0.0)
    made = estimate(load, SETTINGS, constants(item_event_bytes=60.0, item_shown_bytes=20.0))
    assert made.topics["item_events"].record_bytes == pytest.approx(60)


def test_where_nothing_happens_nothing_is_written() -> None:
    load = dataclasses.replace(LOAD, events_per_s=0.0, requests_per_s=0.0)
    assert value("item_events", "written", load, item_event_bytes=60.0) == 0


def test_examples_are_slots_and_a_sample_of_what_was_not_shown() -> None:
    settings = SETTINGS.model_copy(update={"unshown_share": 0.5, "unshown_next": 6, "unshown_random": 4})
    written = value("examples", "written", settings=settings, example_bytes=100.0)
    assert written == pytest.approx(LOAD.replication * 2 * (20 + 5) * 100 * 30 * DAY_S)


def test_rows_of_active_users_are_larger() -> None:
    curve = [[1, 100.0], [8, 100.0], [1e5, 1000.0]]
    load = dataclasses.replace(LOAD, events_per_s=100, active_users=100)  # 2.6 million events each in a month
    assert value("redis", "user rows", load, redis_user_bytes=curve) == 100 * 1000 + 900 * 100
    kept = value("user_state", "kept", load, user_state_bytes=curve)
    assert kept == 3 * 2 * (100 * 1000 + 900 * 100)


def test_redis_is_the_sum_of_its_rows() -> None:
    found = estimate(LOAD, SETTINGS, constants())
    parts = [f.value for f in found.redis if f.what != "memory"]
    assert len(parts) == 4
    assert found.value("redis", "memory") == sum(parts) == 2 * 1000 + 2 * 200


def test_each_role_moves_what_its_agents_declare() -> None:
    found = estimate(LOAD, SETTINGS, constants())
    month = 30 * DAY_S
    topics = {name: topic.bytes_per_s * month for name, topic in found.topics.items()}
    assert found.value("log", "read") == pytest.approx(topics["examples"])
    assert found.value("log", "written") == 0
    assert found.value("learn", "written") == pytest.approx(topics["examples"])
    assert found.value("serve", "written") == pytest.approx(
        topics["replies"] + topics["impressions"] + topics["traces"]
    )
    # Its two workers each read all rows and items.
    tails = topics["item_features"] + topics["item_countries"] + topics["items"]
    assert found.value("serve", "read") == pytest.approx(topics["requests"] + 2 * tails)
    changelogs = topics["item_features"] + topics["item_countries"] + topics["neighbours"]
    assert found.value("aggregate", "read") == pytest.approx(topics["item_events"] + changelogs)
    assert found.value("aggregate", "written") == pytest.approx(changelogs)


def test_more_of_anything_never_needs_less() -> None:
    before = estimate(LOAD, SETTINGS, constants())
    for name in ("users", "items", "events_per_s", "requests_per_s"):
        more = dataclasses.replace(LOAD, **{name: 10 * getattr(LOAD, name)})
        after = estimate(more, SETTINGS, constants())
        for of, what in (("kafka", "kept"), ("kafka", "written"), ("redis", "memory")):
            assert after.value(of, what) >= before.value(of, what), (name, of, what)
        for role in before.roles:
            assert after.value(role.role, "cores") >= role.figures[1].value, (name, role.role)


# --- every figure says where it is from ---


def test_every_figure_names_its_formula_and_its_constants() -> None:
    known = set(made.PICKS)
    for figure in estimate(LOAD, SETTINGS, constants()).figures():
        assert figure.how
        assert set(figure.constants) <= known
        assert math.isfinite(figure.value)
        if figure.value and (figure.of, figure.what) != ("canary", "read"):
            assert figure.constants, figure
    used = {name for f in estimate(LOAD, SETTINGS, constants()).figures() for name in f.constants}
    assert known - used == set(), "a constant that nothing uses need not be measured"


def test_a_figure_changes_with_the_constants_that_it_names_and_with_no_others() -> None:
    load = dataclasses.replace(LOAD, events_per_s=100_000, requests_per_s=5000, users=1e6, active_users=1e5)
    before = {(f.of, f.what): f for f in estimate(load, SETTINGS, constants()).figures()}
    for name, pick in made.PICKS.items():
        if name.startswith("idle_cores_"):
            continue
        curve = pick.at.startswith("curves.")
        changed = constants(**{name: [[1, 77.0]] if curve else 77.0})
        for figure in estimate(load, SETTINGS, changed).figures():
            old = before[figure.of, figure.what]
            if figure.value != old.value:
                assert name in figure.constants, (name, figure.of, figure.what)


def test_the_json_has_the_provenance_of_what_is_used() -> None:
    found = as_json(estimate(LOAD, SETTINGS, shipped()), shipped())
    assert {c for figure in found["figures"] for c in figure["constants"]} == set(found["constants"])
    for one in found["constants"].values():
        assert set(found["runs"][one["run"]]) == {"command", "commit", "date", "machine"}
    assert found["load"]["users"] == 1000
    json.dumps(found)


# --- what is asked for ---


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"users": -1}, "users"), ({"events_per_s": math.inf}, "events-per-s"), ({"busy": 0}, "busy"),
        ({"busy": 1.5}, "busy"), ({"active_users": 2000}, "active-users"), ({"slots": 0}, "slots"),
        ({"countries": 0}, "countries"),
        ({"requests_per_s": math.nan}, "requests-per-s"), ({"worker_gb": 0}, "memory"),
    ],
)  # fmt: skip
def test_a_load_that_makes_no_sense_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        dataclasses.replace(LOAD, **wrong).checked()


def test_one_user_in_fifty_is_active_unless_it_is_said() -> None:
    assert dataclasses.replace(LOAD, active_users=0.0).checked().active_users == 20


# --- how many different ones ---


@pytest.mark.parametrize(("events", "items"), [(100, 1000), (5000, 1000), (20_000, 20_000), (3, 10)])
def test_different_items_are_those_of_a_drawing(events: int, items: int) -> None:
    weights = 1 / (np.arange(items) + 10.0)
    rng = np.random.default_rng(1)
    drawn = [
        len(np.unique(rng.choice(items, events, p=weights / weights.sum())))
        for _ in range(20 if events > 100 else 400)
    ]
    assert different_items(events, items) == pytest.approx(np.mean(drawn), rel=0.06)


def test_different_users_are_those_of_a_drawing() -> None:
    rng = np.random.default_rng(1)
    drawn = [len(np.unique(rng.integers(0, 500, 700))) for _ in range(200)]
    assert different_users(700, 500) == pytest.approx(np.mean(drawn), rel=0.02)


def test_there_are_never_more_different_ones_than_events_or_items() -> None:
    for events in (0, 0.5, 1, 10, 1e6):
        assert 0 <= different_items(events, 100) <= min(events, 100)
        assert 0 <= different_users(events, 100) <= min(events, 100) + 1e-9


def test_serving_keeps_as_much_as_the_code_says() -> None:
    assert state.ACTIVE_S * 1000 == IDLE_MS
    assert (state.MOST_ITEM_ROWS, state.MOST_IDLE_ITEMS) == (MOST_ITEM_ROWS, MOST_IDLE_ITEMS)
    assert state.MOST_COUNTRY_ROWS == MOST_COUNTRY_ROWS
    assert set(SHARING) == set(flow.group_reads())
