"""The dashboard for Grafana asks for metrics and labels that exist, and is wired to Prometheus."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from project import ROOT

from headrace.serving.monitor.figures import READ
from headrace.streams.metrics import DECLARED

FOLDER = ROOT / "ops" / "grafana"
PANELS: list[dict[str, Any]] = json.loads((FOLDER / "dashboards" / "headrace.json").read_text("utf-8"))[
    "panels"
]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
PROCESS = {"process_cpu_seconds_total": {"job"}, "process_resident_memory_bytes": {"job"}}


def series() -> dict[str, set[str]]:
    """Return the labels of every time series of a worker."""
    out: dict[str, set[str]] = dict(PROCESS)
    for d in DECLARED:
        ends = ("_bucket", "_count", "_sum") if d.kind in {"histogram", "spread"} else ("",)
        out |= {d.name + end: {*d.labels, *(["le"] if end == "_bucket" else [])} for end in ends}
    return out


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_asks_for_what_exists(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        asked = set(re.findall(r"\b(?:headrace|process)_\w+", target["expr"]))
        assert asked
        assert asked <= set(series())
        labels = set().union(*(series()[name] for name in asked)) | {"instance"}
        for group in re.findall(r"\bby \(([^)]*)\)", target["expr"]):
            assert {label.strip() for label in group.split(",")} <= labels
        assert set(re.findall(r"(\w+)=\"", target["expr"])) <= labels
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels


def test_panels_do_not_overlap() -> None:
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in PANELS]
    assert len(set(places)) == len(PANELS)
    assert len({p["id"] for p in PANELS}) == len(PANELS)


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (source,) = yaml.safe_load(
        (FOLDER / "provisioning" / "datasources" / "prometheus.yml").read_text("utf-8")
    )["datasources"]
    assert all(panel["datasource"]["uid"] == source["uid"] for panel in PANELS)
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()  # type: ignore[union-attr]
    assert f"127.0.0.1:{port}:{port}" in COMPOSE["services"][host]["ports"]
    grafana = COMPOSE["services"]["grafana"]
    assert grafana["profiles"] == ["grafana", "full"]
    (provider,) = yaml.safe_load(
        (FOLDER / "provisioning" / "dashboards" / "headrace.yml").read_text("utf-8")
    )["providers"]
    mounted = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert mounted["./ops/grafana/dashboards"] == provider["options"]["path"]
    assert "./ops/grafana/provisioning" in mounted


def test_the_dashboard_of_the_monitor_reads_metrics_that_exist() -> None:
    assert set(READ) <= {d.name for d in DECLARED} | set(PROCESS)


def test_the_monitor_of_compose_reads_every_role() -> None:
    services = COMPOSE["services"]
    targets = services["monitor"]["environment"]["HEADRACE_MONITOR_TARGETS"].split(",")
    ours = {n for n, s in services.items() if s.get("command", [])[:2] == ["headrace", "worker"]}
    assert {target.split(":")[0] for target in targets} == ours - {
        "monitor",
        "gateway",
        "workers",
    }  # workers: small
    assert {target.split(":")[1] for target in targets} == {
        services["serve"]["environment"]["HEADRACE_METRICS_PORT"]
    }
