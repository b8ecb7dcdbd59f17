from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rollout_counts import at, counts

from headrace.models.learning import pointers
from headrace.models.learning.kinds import KINDS, RANKER, SETTINGS
from headrace.models.learning.shelf import Shelf
from headrace.serving.monitor.models_table import models_table

ALPHAS = dict.fromkeys(KINDS, 0.05)


def shelf(**records: bytes) -> Shelf:
    out = Shelf()
    out.apply([SimpleNamespace(key=name.encode(), value=value) for name, value in records.items()])
    return out


def table(found: Shelf, **fields: Any) -> dict[str, Any]:
    rankers, settings = models_table({RANKER: found, SETTINGS: Shelf(SETTINGS)}, fields, ALPHAS)
    assert (settings["kind"], settings["versions"], settings["stage"]) == ("settings", [], "")
    return rankers


def test_nothing_is_in_use_yet() -> None:
    found = table(Shelf())
    assert (found["versions"], found["stage"], found["arms"]) == ([], "", [])


def test_a_rollout_has_its_arms_with_intervals() -> None:
    found = shelf(pointers=pointers.encode(at(10)))
    told, _ = models_table(
        {RANKER: found, SETTINGS: Shelf(SETTINGS)}, {RANKER: counts(10, 0.1, 0.15)}, ALPHAS
    )
    assert [(v["version"], v["use"], v["auc"]) for v in told["versions"]] == [
        ("live", "live", None),
        ("new", "candidate, 10 %", None),
    ]
    assert told["stage"] == "10 %"
    live, new = told["arms"]
    assert (live["arm"], new["arm"]) == ("live", "candidate")
    assert live["low"] < live["rate"] < live["high"] < new["low"]
    assert new["rate"] == pytest.approx(0.15, rel=0.02)
    assert told["differences"]["clicks"]["low"] > 0.3


def test_counts_of_another_stage_are_not_shown() -> None:
    found = shelf(pointers=pointers.encode(at(50)))
    told, _ = models_table(
        {RANKER: found, SETTINGS: Shelf(SETTINGS)}, {RANKER: counts(10, 0.1, 0.15)}, ALPHAS
    )
    assert (told["stage"], told["arms"]) == ("50 %", [])
