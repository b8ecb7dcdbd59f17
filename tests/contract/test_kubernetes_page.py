"""What docs/kubernetes.md tells people to write is built, and does what the page says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kustomized import built, built_beside, faults, of_kind, pods_of
from project import ROOT

PAGE = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
OVERLAY, WITHOUT_KEDA = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_what_keda_scales_is_not_set_back_by_each_apply() -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind("full", "ScaledObject")}
    fixed = {
        one["metadata"]["name"]
        for one in of_kind("full", "Deployment", "StatefulSet")
        if "replicas" in one["spec"]
    }
    assert fixed == {"trainer", "canary", "gateway", "monitor"}
    assert not scaled & fixed
    assert [one["spec"]["replicas"] for one in of_kind("small", "Deployment", "StatefulSet")] == [1, 1]


def test_the_overlay_of_the_page_moves_everything_to_its_brokers(tmp_path: Path) -> None:
    found = built_beside(tmp_path / "ops", OVERLAY)
    assert [faults(one) for one in found if faults(one)] == []
    asked = [
        trigger["metadata"]["bootstrapServers"]
        for one in found
        if one["kind"] == "ScaledObject"
        for trigger in one["spec"]["triggers"]
        if trigger["type"] == "kafka"
    ]
    assert asked == ["kafka.example.com:9093"] * 4
    (settings,), (job,) = of_kind("full", "ConfigMap"), of_kind("full", "Job")
    assert job["spec"]["ttlSecondsAfterFinished"] == 60, "the page says a minute"
    everything = json.dumps(found)
    assert settings["data"]["HEADRACE_BROKERS"] not in everything
    assert '"HEADRACE_BROKERS": "kafka.example.com:9093"' in everything
    assert '"image": "headrace:' not in everything


def test_without_keda_as_the_page_says(tmp_path: Path) -> None:
    found = built_beside(tmp_path / "ops", OVERLAY + WITHOUT_KEDA)
    assert [faults(one) for one in found if faults(one)] == []

    def named(objects: tuple[dict[str, Any], ...]) -> set[tuple[str, str]]:
        return {
            (one["kind"], one["metadata"]["name"])
            for one in objects
            if one["kind"] not in {"ConfigMap", "ScaledObject", "TriggerAuthentication"}
        }

    assert {one["kind"] for one in built("full")} - {one["kind"] for one in found} == {
        "ScaledObject",
        "TriggerAuthentication",
    }
    assert named(found) == named(built("full"))
    assert {
        one["metadata"]["name"]: one["spec"]["replicas"]
        for one in found
        if one["kind"] in {"Deployment", "StatefulSet"}
    } == {one["metadata"]["name"]: pods_of(one) for one in of_kind("full", "Deployment", "StatefulSet")}
